#include "sieve.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("primes " VERSION);
        return 0;
    }
    char *end;
    unsigned long limit = argc == 2 ? strtoul(argv[1], &end, 10) : 0;
    if (argc != 2 || *end || limit > 100000000) {
        fprintf(stderr, "usage: primes LIMIT\n");
        return 2;
    }
    char *composite = sieve(limit);
    if (!composite)
        return 1;
    for (unsigned number = 2; number <= limit; number++)
        if (!composite[number])
            printf("%u\n", number);
    free(composite);
    return 0;
}
