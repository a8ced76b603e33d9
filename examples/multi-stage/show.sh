#!/bin/sh
echo "primes: $(gunzip -c /data/primes.txt.gz | tr '\n' ' ')"
