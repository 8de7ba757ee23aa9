//! Encrypted sums under one-round keys, public half: planner, round records, contributions and adding.
