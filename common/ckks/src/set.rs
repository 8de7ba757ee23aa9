//! Sets of ciphertexts that are written and read one after the other, so that memory holds one of them at a time.
//!
//! | bytes | |
//! |---|---|
//! | 4 | magic `GCST` |
//! | 2 | version |
//! | 32 | digest of the preset |
//! | 32 | digest of the key |
//! | 4 | number of ciphertexts |
//! | 4 + length, each | length, and the ciphertext as [`Ciphertext::to_bytes`] writes it |
//!
//! Numbers are little-endian. [`SetWriter`] writes to anything that can be written to, [`SetReader`] reads from anything
//! that can be read, both in one pass: a file, a pipe, a connection. Give them a buffered writer or reader; each field is its own
//! call. A reader takes no more memory than one ciphertext of the preset can need, whatever the bytes say. Packing and
//! unpacking take longer than a disk does, so both do blocks of ciphertexts in the current rayon pool too.

use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::error::CkksError;
use crate::keys::KeyDigest;
use crate::preset::PresetDigest;
use rayon::prelude::*;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use thiserror::Error;

const MAGIC: [u8; 4] = *b"GCST";
const VERSION: u16 = 1;

/// Most ciphertexts in one streamed set.
pub const MAX_STREAMED: usize = 1 << 24;

/// What can go wrong with a streamed set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetError {
    /// Writing or reading failed.
    #[error("ciphertext {index}: {source}")]
    Io {
        /// Index of the ciphertext that was written or read, or of the next one.
        index: usize,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes end before the header does.
    #[error("the header is incomplete")]
    TruncatedHeader,
    /// The bytes end within a ciphertext, or before all that were announced.
    #[error("the bytes end at ciphertext {index} of {count}")]
    Truncated {
        /// Index of the first ciphertext that is not complete.
        index: usize,
        /// Number announced.
        count: usize,
    },
    /// They do not begin as a set does.
    #[error("not a set of ciphertexts")]
    Magic,
    /// Another format version.
    #[error("format version {version} is not supported")]
    Version {
        /// The version found.
        version: u16,
    },
    /// The set belongs to another preset.
    #[error("the set belongs to another preset")]
    Preset,
    /// More ciphertexts than allowed, or none.
    #[error("{count} ciphertexts, expected 1..={max}")]
    Count {
        /// The number found or given.
        count: usize,
        /// The largest number.
        max: usize,
    },
    /// A length that no ciphertext of this preset has.
    #[error("ciphertext {index} has {length} bytes, at most {max} are allowed")]
    Length {
        /// Its index.
        index: usize,
        /// The length stated.
        length: usize,
        /// The largest length.
        max: usize,
    },
    /// A ciphertext of another key than the set's.
    #[error("ciphertext {index} belongs to another key")]
    ForeignKey {
        /// Its index.
        index: usize,
    },
    /// A ciphertext that does not conform to the preset, or could not be computed with.
    #[error("ciphertext {index}: {source}")]
    Ciphertext {
        /// Its index.
        index: usize,
        /// Why.
        source: CkksError,
    },
    /// An operation on the set failed.
    #[error(transparent)]
    Ckks(#[from] CkksError),
    /// Not as many ciphertexts as announced, when finished.
    #[error("{done} of {count} ciphertexts are done")]
    Incomplete {
        /// Number written or read.
        done: usize,
        /// Number announced.
        count: usize,
    },
    /// Bytes follow the last ciphertext.
    #[error("bytes follow the last ciphertext")]
    Trailing,
}

/// Writes a set, one ciphertext after the other.
#[derive(Debug)]
pub struct SetWriter<W: Write> {
    out: W,
    header: Header,
    written: usize,
}

/// What a set begins with.
#[derive(Debug, Clone, Copy)]
struct Header {
    preset: PresetDigest,
    key: KeyDigest,
    count: usize,
}

impl<W: Write> SetWriter<W> {
    /// Writes the header of a set of `count` (1 to [`MAX_STREAMED`]) ciphertexts of one preset and key.
    ///
    /// # Errors
    /// [`SetError::Count`], [`SetError::Io`].
    pub fn new(mut out: W, context: &Context, key: KeyDigest, count: usize) -> Result<Self, SetError> {
        check_count(count)?;
        let preset = *context.digest();
        let header = [
            MAGIC.as_slice(),
            &VERSION.to_le_bytes(),
            &preset.0,
            &key.0,
            &(count as u32).to_le_bytes(),
        ];
        out.write_all(&header.concat())
            .map_err(|source| SetError::Io { index: 0, source })?;
        Ok(Self {
            out,
            header: Header { preset, key, count },
            written: 0,
        })
    }

    /// Writes the next ciphertext. After an error the set is spoilt.
    ///
    /// # Errors
    /// [`SetError::Count`] for more than were announced, [`SetError::Preset`], [`SetError::ForeignKey`], [`SetError::Io`].
    pub fn push(&mut self, ciphertext: &Ciphertext) -> Result<(), SetError> {
        let bytes = self.header.pack(self.written, ciphertext)?;
        self.write(&bytes)
    }

    /// Writes the next ciphertexts, packed in parallel, in their order: the same bytes as one [`Self::push`] after the other. Memory
    /// holds all of them packed.
    ///
    /// # Errors
    /// Those of [`Self::push`].
    pub fn push_block(&mut self, ciphertexts: &[Ciphertext]) -> Result<(), SetError> {
        let (header, written) = (self.header, self.written);
        let packed = ciphertexts
            .par_iter()
            .enumerate()
            .map(|(at, ciphertext)| header.pack(written + at, ciphertext))
            .collect::<Result<Vec<_>, _>>()?;
        packed.iter().try_for_each(|bytes| self.write(bytes))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SetError> {
        let index = self.written;
        self.out
            .write_all(&(bytes.len() as u32).to_le_bytes())
            .and_then(|()| self.out.write_all(bytes))
            .map_err(|source| SetError::Io { index, source })?;
        self.written += 1;
        Ok(())
    }

    /// Flushes, and gives back what was written to.
    ///
    /// # Errors
    /// [`SetError::Incomplete`] if fewer were written than announced, [`SetError::Io`].
    pub fn finish(mut self) -> Result<W, SetError> {
        if self.written != self.header.count {
            return Err(SetError::Incomplete {
                done: self.written,
                count: self.header.count,
            });
        }
        self.out.flush().map_err(|source| SetError::Io {
            index: self.written,
            source,
        })?;
        Ok(self.out)
    }
}

impl Header {
    /// The bytes of the `index`-th ciphertext.
    fn pack(&self, index: usize, ciphertext: &Ciphertext) -> Result<Vec<u8>, SetError> {
        if index >= self.count {
            return Err(SetError::Count {
                count: index + 1,
                max: self.count,
            });
        }
        if ciphertext.preset != self.preset {
            return Err(SetError::Preset);
        }
        if ciphertext.key != self.key {
            return Err(SetError::ForeignKey { index });
        }
        ciphertext
            .to_bytes()
            .map_err(|source| SetError::Ciphertext { index, source })
    }
}

/// Reads a set, one ciphertext after the other: an iterator, which ends after the last one or the first error.
#[derive(Debug)]
pub struct SetReader<R: Read> {
    input: R,
    context: Arc<Context>,
    header: Header,
    read: usize,
    failed: bool,
    /// The bytes of one ciphertext.
    bytes: Vec<u8>,
}

impl<R: Read> SetReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`SetError`] for whatever [`SetWriter::new`] does not write under this preset.
    pub fn new(mut input: R, context: &Arc<Context>) -> Result<Self, SetError> {
        let mut header = [0; 4 + 2 + 32 + 32 + 4];
        input
            .read_exact(&mut header)
            .map_err(|source| match source.kind() {
                ErrorKind::UnexpectedEof => SetError::TruncatedHeader,
                _ => SetError::Io { index: 0, source },
            })?;
        let (magic, rest) = header.split_at(4);
        let (version, rest) = rest.split_at(2);
        let (preset, rest) = rest.split_at(32);
        let (key_bytes, count) = rest.split_at(32);
        if magic != MAGIC {
            return Err(SetError::Magic);
        }
        let version = u16::from_le_bytes([version[0], version[1]]);
        if version != VERSION {
            return Err(SetError::Version { version });
        }
        if preset != context.digest().0 {
            return Err(SetError::Preset);
        }
        let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]) as usize;
        check_count(count)?;
        let mut key = KeyDigest([0; 32]);
        key.0.copy_from_slice(key_bytes);
        Ok(Self {
            input,
            context: Arc::clone(context),
            header: Header {
                preset: *context.digest(),
                key,
                count,
            },
            read: 0,
            failed: false,
            bytes: Vec::new(),
        })
    }

    /// Number of ciphertexts in the set, as announced.
    #[must_use]
    pub fn total(&self) -> usize {
        self.header.count
    }

    /// The key of the ciphertexts.
    #[must_use]
    pub fn key_digest(&self) -> KeyDigest {
        self.header.key
    }

    /// Checks that all ciphertexts were read and nothing follows, and gives back what was read from.
    ///
    /// # Errors
    /// [`SetError::Incomplete`], [`SetError::Trailing`], [`SetError::Io`].
    pub fn finish(mut self) -> Result<R, SetError> {
        if self.read != self.header.count {
            return Err(SetError::Incomplete {
                done: self.read,
                count: self.header.count,
            });
        }
        let mut byte = [0];
        loop {
            match self.input.read(&mut byte) {
                Ok(0) => return Ok(self.input),
                Ok(_) => return Err(SetError::Trailing),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(SetError::Io {
                        index: self.read,
                        source,
                    });
                }
            }
        }
    }

    /// The next `count` ciphertexts, or as many as there are, unpacked in parallel; none after the last or an error. The
    /// same ciphertexts and errors as from iterating. Memory holds all of them packed and unpacked.
    ///
    /// # Errors
    /// That of the first ciphertext that is refused; those before it in the block are lost.
    pub fn read_block(&mut self, count: usize) -> Result<Vec<Ciphertext>, SetError> {
        if self.failed {
            return Ok(Vec::new());
        }
        let from = self.read;
        let mut packed = Vec::new();
        // What cannot be read comes after what was read and may be refused.
        let mut unread = Ok(());
        for index in from..self.header.count.min(from.saturating_add(count)) {
            let mut bytes = Vec::new();
            unread = self.read_bytes(index, &mut bytes);
            if unread.is_err() {
                break;
            }
            packed.push(bytes);
        }
        let (context, header) = (&self.context, self.header);
        let ciphertexts = packed
            .par_iter()
            .enumerate()
            .map(|(at, bytes)| header.unpack(context, from + at, bytes))
            .collect::<Vec<_>>();
        let block = ciphertexts
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .and_then(|block| unread.map(|()| block));
        match &block {
            Ok(block) => self.read += block.len(),
            Err(_) => self.failed = true,
        }
        block
    }

    fn read_next(&mut self) -> Result<Ciphertext, SetError> {
        let mut bytes = core::mem::take(&mut self.bytes);
        let read = self
            .read_bytes(self.read, &mut bytes)
            .and_then(|()| self.header.unpack(&self.context, self.read, &bytes));
        self.bytes = bytes;
        self.read += usize::from(read.is_ok());
        read
    }

    /// Reads the bytes of the `index`-th ciphertext, which is the next.
    fn read_bytes(&mut self, index: usize, bytes: &mut Vec<u8>) -> Result<(), SetError> {
        let count = self.header.count;
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::UnexpectedEof => SetError::Truncated { index, count },
            _ => SetError::Io { index, source },
        };
        let mut length = [0; 4];
        self.input.read_exact(&mut length).map_err(failed)?;
        let length = u32::from_le_bytes(length) as usize;
        let max = Ciphertext::max_bytes(&self.context);
        if length > max {
            return Err(SetError::Length { index, length, max });
        }
        bytes.resize(length, 0);
        self.input.read_exact(bytes).map_err(failed)
    }
}

impl Header {
    /// The `index`-th ciphertext of a set that begins like this.
    fn unpack(&self, context: &Arc<Context>, index: usize, bytes: &[u8]) -> Result<Ciphertext, SetError> {
        let ciphertext = Ciphertext::from_bytes(context, bytes)
            .map_err(|source| SetError::Ciphertext { index, source })?;
        if ciphertext.key != self.key {
            return Err(SetError::ForeignKey { index });
        }
        Ok(ciphertext)
    }
}

impl<R: Read> Iterator for SetReader<R> {
    type Item = Result<Ciphertext, SetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.read == self.header.count {
            return None;
        }
        let next = self.read_next();
        self.failed = next.is_err();
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let rest = if self.failed {
            0
        } else {
            self.header.count - self.read
        };
        (usize::from(rest > 0), Some(rest))
    }
}

impl<R: Read> core::iter::FusedIterator for SetReader<R> {}

fn check_count(count: usize) -> Result<(), SetError> {
    if (1..=MAX_STREAMED).contains(&count) {
        return Ok(());
    }
    Err(SetError::Count {
        count,
        max: MAX_STREAMED,
    })
}
