//! HE-friendly model specifications, their plaintext evaluator, metrics and the fixed-point update codec.
