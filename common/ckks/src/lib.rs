//! Levelled RNS-CKKS: presets, encoding, keys, ciphertexts, evaluation, noise budget and codecs.
