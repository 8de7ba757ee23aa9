//! Reading a blob as a stream.

use super::segments::{Buffer, FileId, SEGMENT_BYTES, Segments};
use crate::crypter::Crypter;
use crate::error::StoreError;
use crate::files::Files;
use std::io::{self, Read};
use std::path::Path;

/// Reads a blob, one decrypted and verified segment at a time. It reads on even if the blob is deleted meanwhile.
pub struct BlobReader {
    segments: Segments,
    len: u64,
    next: u64,
    segment: Buffer,
    taken: usize,
}

impl BlobReader {
    pub(super) fn open(
        files: &Files,
        crypter: &Crypter,
        path: &Path,
        id: &FileId,
        len: u64,
        offset: u64,
    ) -> Result<Self, StoreError> {
        let file = files.open(path).map_err(StoreError::io(path, "cannot open"))?;
        let damaged = || StoreError::BlobDamaged {
            path: path.to_owned(),
            segment: 0,
        };
        let mut segments = Segments::open(crypter, file, path)?
            .filter(|segments| segments.id() == *id)
            .ok_or_else(damaged)?;
        let offset = offset.min(len);
        let first = (offset / SEGMENT_BYTES as u64).min(last_segment(len));
        segments.seek(first)?;
        let mut reader = Self {
            segments,
            len,
            next: first,
            segment: Buffer::new(),
            taken: 0,
        };
        let skipped = usize::try_from(offset - first * SEGMENT_BYTES as u64).unwrap_or(usize::MAX);
        if skipped > 0 {
            reader.fill()?;
            reader.taken = skipped.min(reader.segment.len());
        }
        Ok(reader)
    }

    /// Length of the whole blob.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the blob has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rest of the current segment, or the next one; `None` at the end.
    pub(super) fn next_segment(&mut self) -> Result<Option<&[u8]>, StoreError> {
        if self.taken == self.segment.len() && !self.fill()? {
            return Ok(None);
        }
        let rest = self.segment.bytes().get(self.taken..).unwrap_or_default();
        self.taken = self.segment.len();
        Ok(Some(rest))
    }

    /// Decrypts the next segment; false at the end.
    fn fill(&mut self) -> Result<bool, StoreError> {
        let last = last_segment(self.len);
        if self.next > last {
            return Ok(false);
        }
        let len = if self.next == last {
            usize::try_from(self.len - last * SEGMENT_BYTES as u64).unwrap_or(usize::MAX)
        } else {
            SEGMENT_BYTES
        };
        self.taken = 0;
        if !self
            .segments
            .read(self.next, self.next == last, len, &mut self.segment)?
        {
            return Err(StoreError::BlobDamaged {
                path: self.segments.path().to_owned(),
                segment: self.next,
            });
        }
        self.next += 1;
        Ok(true)
    }
}

/// The index of the last segment of a blob; an empty blob has one empty segment.
fn last_segment(len: u64) -> u64 {
    len.saturating_sub(1) / SEGMENT_BYTES as u64
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.segment.len() && !self.fill().map_err(io::Error::other)? {
            return Ok(0);
        }
        let mut rest = self.segment.bytes().get(self.taken..).unwrap_or_default();
        let n = rest.read(out)?;
        self.taken += n;
        Ok(n)
    }
}
