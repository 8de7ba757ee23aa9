//! Whole federations as separate processes: the quickstart and the multi-node tests.
