//! The operator's daemon: collects encrypted contributions, adds them, and evaluates encrypted queries.
