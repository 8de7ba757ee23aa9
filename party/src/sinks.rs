//! Where fetched blobs go.

use galen_core::{Code, Digest, Refusal};
use galen_net::BlobSink;
use galen_store::BlobWriter;
use std::sync::{Arc, Mutex, PoisonError};

/// Into the blob store, so that an interrupted transfer goes on where it stopped.
pub struct StoreSink {
    writer: BlobWriter,
    exact: u64,
}

impl StoreSink {
    /// A sink for a blob of exactly this length.
    pub fn new(writer: BlobWriter, exact: u64) -> Self {
        Self { writer, exact }
    }
}

impl BlobSink for StoreSink {
    fn offset(&self) -> u64 {
        self.writer.offset()
    }

    fn announce(&mut self, len: u64) -> Result<(), Refusal> {
        if len != self.exact {
            let code = if len > self.exact {
                Code::BlobTooLarge
            } else {
                Code::NotConforming
            };
            return Err(Refusal::new(
                code,
                format!("{len} bytes announced, {} expected", self.exact),
            ));
        }
        self.writer.expect_len(len).map_err(|e| e.refusal())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.writer.append(bytes).map_err(|e| e.refusal())
    }

    fn finish(self) -> Result<(), Refusal> {
        self.writer.finish().map(drop).map_err(|e| e.refusal())
    }
}

/// Into memory, up to a limit.
#[derive(Clone)]
pub struct MemorySink {
    digest: Digest,
    limit: u64,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl MemorySink {
    /// A sink for a blob of at most `limit` bytes.
    pub fn new(digest: Digest, limit: u64) -> Self {
        Self {
            digest,
            limit,
            bytes: Arc::default(),
        }
    }

    /// The bytes, after the transfer.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn len(&self) -> u64 {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

impl BlobSink for MemorySink {
    fn offset(&self) -> u64 {
        self.len()
    }

    fn announce(&mut self, len: u64) -> Result<(), Refusal> {
        if len > self.limit {
            return Err(Refusal::new(
                Code::BlobTooLarge,
                format!("{len} bytes announced, at most {} taken", self.limit),
            ));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.len() + bytes.len() as u64 > self.limit {
            return Err(Refusal::new(Code::BlobTooLarge, "more bytes than announced"));
        }
        self.bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self) -> Result<(), Refusal> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if Digest::of(&bytes) == self.digest {
            Ok(())
        } else {
            Err(Refusal::new(
                Code::BlobMismatch,
                "the bytes received do not have the digest asked for",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_takes_what_was_asked_for_and_no_more() {
        let digest = Digest::of(b"answer");
        let mut sink = MemorySink::new(digest, 6);
        assert_eq!(sink.announce(7).unwrap_err().code, Code::BlobTooLarge);
        sink.announce(6).unwrap();
        sink.write(b"ans").unwrap();
        assert_eq!(sink.offset(), 3);
        assert_eq!(sink.write(b"werx").unwrap_err().code, Code::BlobTooLarge);
        sink.write(b"wer").unwrap();
        let kept = sink.clone();
        sink.finish().unwrap();
        assert_eq!(kept.take(), b"answer");
        let mut other = MemorySink::new(digest, 6);
        other.write(b"anders").unwrap();
        assert_eq!(other.finish().unwrap_err().code, Code::BlobMismatch);
    }
}
