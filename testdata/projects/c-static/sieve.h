/* Marks composite numbers up to and including `limit`; the caller frees the result. */
char *sieve(unsigned limit);
