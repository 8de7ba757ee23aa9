//! Durable state: encrypted sled repositories, blob files and keys that can be erased.
