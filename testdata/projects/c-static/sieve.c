#include "sieve.h"
#include <stdlib.h>

char *sieve(unsigned limit) {
    char *composite = calloc(limit + 1, 1);
    if (!composite)
        return NULL;
    for (unsigned p = 2; (unsigned long)p * p <= limit; p++)
        if (!composite[p])
            for (unsigned multiple = p * p; multiple <= limit; multiple += p)
                composite[multiple] = 1;
    return composite;
}
