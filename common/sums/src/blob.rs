//! The large objects: ciphertexts of one contributor, and their sum. One format, read and written a block at a time.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `GALENSUM` |
//! | 2 | format version, little-endian: 1 |
//! | 2 | kind, little-endian: 1 contribution, 2 sum |
//! | 32 | digest of the round record |
//! | 32 | subject: hash of the contributor's name, or digest of the set |
//! | rest | for each block and each prime, the coefficients' residues in `ceil(log2 q)` bits each |
//!
//! The length follows from the plan, and every reader refuses any other.

use crate::error::BlobError;
use crate::round::Round;
use galen_core::{Digest, PartyId, Transcript};
use galen_rns::modulus::Modulus;
use galen_rns::packing::{pack, packed_len, unpack_residues};
use galen_rns::poly::{Coeff, Poly};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"GALENSUM";
const VERSION: u16 = 1;
/// Bytes before the first block.
pub const HEADER_LEN: usize = 8 + 2 + 2 + 32 + 32;

/// What a blob holds, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The ciphertexts of one contributor.
    Contribution(PartyId),
    /// The sum over the set with this digest.
    Sum(Digest),
}

impl Subject {
    fn kind(&self) -> u16 {
        match self {
            Self::Contribution(_) => 1,
            Self::Sum(_) => 2,
        }
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Contribution(name) => Transcript::new("galen sums contributor v1")
                .field(name.as_str().as_bytes())
                .digest(),
            Self::Sum(set) => *set,
        }
    }
}

/// The bytes before the first block.
fn header(round: &Round, subject: &Subject) -> Vec<u8> {
    [
        &MAGIC[..],
        &VERSION.to_le_bytes(),
        &subject.kind().to_le_bytes(),
        &round.digest().0,
        &subject.digest().0,
    ]
    .concat()
}

/// SHA-256 over bytes as they pass.
struct Hash(ring::digest::Context);

impl Hash {
    fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    fn digest(self) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        Digest(out)
    }
}

/// Writes a blob. Nothing is buffered beyond one block.
pub struct BlobWriter<'r, W> {
    round: &'r Round,
    out: W,
    hash: Hash,
    packed: Vec<u8>,
    written: u32,
}

impl<'r, W: Write> BlobWriter<'r, W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn new(round: &'r Round, subject: &Subject, out: W) -> Result<Self, BlobError> {
        let mut writer = Self {
            round,
            out,
            hash: Hash::new(),
            packed: Vec::new(),
            written: 0,
        };
        writer.packed = header(round, subject);
        writer.flush_packed()?;
        Ok(writer)
    }

    /// Writes the next block.
    ///
    /// # Errors
    /// [`BlobError::Blocks`] after the last, [`BlobError::Residues`] for a block of another ring, [`BlobError::Io`].
    pub fn write_block(&mut self, block: &Poly<Coeff>) -> Result<(), BlobError> {
        let blocks = self.round.plan().blocks();
        if self.written >= blocks {
            return Err(BlobError::Blocks {
                blocks,
                at: self.written,
            });
        }
        let at = self.written;
        let residues = |source| BlobError::Residues { block: at, source };
        if block.ring() != self.round.ring() {
            return Err(residues(galen_rns::RnsError::RingMismatch));
        }
        for (index, modulus) in self.round.ring().moduli().iter().enumerate() {
            pack(block.residues(index), modulus.bits(), &mut self.packed).map_err(residues)?;
        }
        self.flush_packed()?;
        self.written += 1;
        Ok(())
    }

    /// Flushes, and returns the digest of everything written.
    ///
    /// # Errors
    /// [`BlobError::Blocks`] if blocks are missing, [`BlobError::Io`].
    pub fn finish(mut self) -> Result<Digest, BlobError> {
        let blocks = self.round.plan().blocks();
        if self.written != blocks {
            return Err(BlobError::Blocks {
                blocks,
                at: self.written,
            });
        }
        self.out.flush()?;
        Ok(self.hash.digest())
    }

    fn flush_packed(&mut self) -> Result<(), BlobError> {
        self.hash.0.update(&self.packed);
        self.out.write_all(&self.packed)?;
        self.packed.clear();
        Ok(())
    }
}

/// Reads a blob and checks that it conforms to the plan.
pub struct BlobReader<'r, R> {
    round: &'r Round,
    from: R,
    /// Nothing if the bytes are known to have their digest.
    hash: Option<Hash>,
    read: u32,
    packed: Vec<u8>,
}

/// How far a blob was read and checked, without what it was read from. A few hundred bytes.
pub struct Paused {
    hash: Option<Hash>,
    read: u32,
}

impl Paused {
    /// Where the next block begins.
    pub fn offset(&self, round: &Round) -> u64 {
        let block: usize = block_parts(round).map(|(_, len)| len).sum();
        HEADER_LEN as u64 + u64::from(self.read) * block as u64
    }
}

/// The parts of a block: a modulus, and the bytes that its residues take.
fn block_parts(round: &Round) -> impl Iterator<Item = (&Modulus, usize)> {
    let degree = round.ring().degree();
    let moduli = round.ring().moduli().iter();
    moduli.map(move |modulus| (modulus, packed_len(degree, modulus.bits())))
}

impl<'r, R: Read> BlobReader<'r, R> {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// What does not fit, or [`BlobError::Io`].
    pub fn new(round: &'r Round, subject: &Subject, from: R) -> Result<Self, BlobError> {
        Self::begin(round, subject, from, Some(Hash::new()))
    }

    /// The same for bytes from a store that took them in only with their digest and authenticates them when it gives them back. They are not
    /// hashed again.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_authentic(round: &'r Round, subject: &Subject, from: R) -> Result<Self, BlobError> {
        Self::begin(round, subject, from, None)
    }

    fn begin(round: &'r Round, subject: &Subject, from: R, hash: Option<Hash>) -> Result<Self, BlobError> {
        let mut reader = Self {
            round,
            from,
            hash,
            read: 0,
            packed: Vec::new(),
        };
        let mut header = [0; HEADER_LEN];
        fill(&mut reader.from, &mut header)?;
        reader.pass(&header);
        if &header[..8] != MAGIC {
            return Err(BlobError::Magic);
        }
        let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        if number(8) != VERSION {
            return Err(BlobError::Version(number(8)));
        }
        if number(10) != subject.kind() {
            return Err(BlobError::Kind {
                found: number(10),
                expected: subject.kind(),
            });
        }
        if header[12..44] != round.digest().0 {
            return Err(BlobError::Record);
        }
        if header[44..] != subject.digest().0 {
            return Err(BlobError::Subject);
        }
        Ok(reader)
    }

    fn pass(&mut self, bytes: &[u8]) {
        if let Some(hash) = &mut self.hash {
            hash.0.update(bytes);
        }
    }

    /// Stops between two blocks, and lets go of what was read from.
    pub fn pause(self) -> Paused {
        Paused {
            hash: self.hash,
            read: self.read,
        }
    }

    /// Goes on where reading was paused; `from` begins at [`Paused::offset`].
    pub fn resume(round: &'r Round, paused: Paused, from: R) -> Self {
        Self {
            round,
            from,
            hash: paused.hash,
            read: paused.read,
            packed: Vec::new(),
        }
    }

    /// Reads the next block into `block`, which is of the round's ring.
    ///
    /// # Errors
    /// [`BlobError::Blocks`] after the last, [`BlobError::Truncated`], [`BlobError::Residues`], [`BlobError::Io`].
    pub fn read_block(&mut self, block: &mut Poly<Coeff>) -> Result<(), BlobError> {
        let (blocks, at) = (self.round.plan().blocks(), self.read);
        if at >= blocks {
            return Err(BlobError::Blocks { blocks, at });
        }
        let residues = |source| BlobError::Residues { block: at, source };
        if block.ring() != self.round.ring() {
            return Err(residues(galen_rns::RnsError::RingMismatch));
        }
        for (index, (modulus, len)) in block_parts(self.round).enumerate() {
            self.packed.resize(len, 0);
            fill(&mut self.from, &mut self.packed)?;
            if let Some(hash) = &mut self.hash {
                hash.0.update(&self.packed);
            }
            unpack_residues(&self.packed, modulus, block.residues_mut(index)).map_err(residues)?;
        }
        self.read += 1;
        Ok(())
    }

    /// Checks that nothing follows, and returns the digest of everything read; none of bytes that were authentic.
    ///
    /// # Errors
    /// [`BlobError::Blocks`] if blocks were left unread, [`BlobError::TooLong`], [`BlobError::Io`].
    pub fn finish(mut self) -> Result<Option<Digest>, BlobError> {
        let blocks = self.round.plan().blocks();
        if self.read != blocks {
            return Err(BlobError::Blocks {
                blocks,
                at: self.read,
            });
        }
        match fill(&mut self.from, &mut [0]) {
            Err(BlobError::Truncated) => Ok(self.hash.map(Hash::digest)),
            Err(other) => Err(other),
            Ok(()) => Err(BlobError::TooLong),
        }
    }

    /// [`Self::finish`], refusing any digest but the announced one.
    ///
    /// # Errors
    /// Those of [`Self::finish`], and [`BlobError::Digest`].
    pub fn finish_with(self, announced: &Digest) -> Result<(), BlobError> {
        match self.finish()? {
            Some(found) if found != *announced => Err(BlobError::Digest {
                found,
                announced: *announced,
            }),
            _ => Ok(()),
        }
    }
}

/// Checks that a blob conforms to the plan while its bytes arrive, in pieces of any length. It does not look at their digest.
pub struct ArrivingBlob {
    round: Arc<Round>,
    header: Vec<u8>,
    /// The bytes of the header or block that is not complete yet.
    pending: Vec<u8>,
    /// Complete blocks; `None` before the header is complete.
    blocks: Option<u32>,
    scratch: Vec<u64>,
}

impl ArrivingBlob {
    /// A blob of which nothing has arrived.
    pub fn new(round: &Arc<Round>, subject: &Subject) -> Self {
        Self {
            header: header(round, subject),
            pending: Vec::new(),
            blocks: None,
            scratch: vec![0; round.ring().degree()],
            round: Arc::clone(round),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`BlobError::Subject`] for another header than the expected one, [`BlobError::Residues`], [`BlobError::TooLong`].
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        let block: usize = block_parts(&self.round).map(|(_, len)| len).sum();
        while !bytes.is_empty() {
            let wanted = match self.blocks {
                None => HEADER_LEN,
                Some(blocks) if blocks < self.round.plan().blocks() => block,
                Some(_) => return Err(BlobError::TooLong),
            };
            let (now, later) = bytes.split_at(bytes.len().min(wanted - self.pending.len()));
            bytes = later;
            if now.len() == wanted {
                self.unit(now)?;
                continue;
            }
            self.pending.extend_from_slice(now);
            if self.pending.len() == wanted {
                let unit = std::mem::take(&mut self.pending);
                self.unit(&unit)?;
                self.pending = unit;
                self.pending.clear();
            }
        }
        Ok(())
    }

    /// Checks a complete header or block.
    fn unit(&mut self, unit: &[u8]) -> Result<(), BlobError> {
        let Some(block) = self.blocks else {
            self.blocks = Some(0);
            return match unit == self.header {
                true => Ok(()),
                false => Err(BlobError::Subject),
            };
        };
        let mut rest = unit;
        for (modulus, len) in block_parts(&self.round) {
            let part;
            (part, rest) = rest.split_at(len);
            unpack_residues(part, modulus, &mut self.scratch)
                .map_err(|source| BlobError::Residues { block, source })?;
        }
        self.blocks = Some(block + 1);
        Ok(())
    }

    /// Whether all blocks have arrived.
    pub fn is_complete(&self) -> bool {
        self.blocks == Some(self.round.plan().blocks())
    }
}

fn fill(from: &mut impl Read, out: &mut [u8]) -> Result<(), BlobError> {
    from.read_exact(out).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => BlobError::Truncated,
        _ => BlobError::Io(error),
    })
}
