//! Encrypted sums under one-round keys, secret half: seeds and pieces, encryption, key sums, opening and erasure.
