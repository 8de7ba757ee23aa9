//! Arithmetic of polynomials over RNS moduli: primes, NTT, basis conversion, sampling and bit packing.
