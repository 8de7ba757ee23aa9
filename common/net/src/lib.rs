//! QUIC between parties and coordinator: identity, pinned mutual TLS, frames, messages and resumable blobs.
