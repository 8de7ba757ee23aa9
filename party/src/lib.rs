//! A hospital's daemon: trains on local data, sends encrypted contributions, keeps key pieces and queries the model.
