//! Shared vocabulary: identifiers, digests, signatures, studies, error codes, clock, configuration and telemetry.
