//! Compiles a model to a program for encrypted batches and runs it under CKKS.
