//! Adding ciphertexts: all that the coordinator does with them, and all that it can do.
//!
//! The contributions stay where they are and are opened when their turn comes. Blocks are added in passes over all contributions, as
//! many blocks in one pass as fit in [`PASS_BYTES`] of sums; within a pass the contributions are taken in groups of
//! [`GROUP`], which are read in lockstep, one block of each at a time, and divided among the threads of the pool. So memory and
//! open files are those of one group and one pass for each thread, whatever the length and the number of the contributions; a
//! contribution itself costs the state of its hash between passes, where it is hashed. The order of the contributions does not change the sum.

use crate::blob::{BlobReader, BlobWriter, Paused, Subject};
use crate::error::{SetFault, SumsError};
use crate::round::Round;
use crate::set::ContributionSet;
use galen_core::{Digest, PartyId};
use galen_rns::poly::{Coeff, Poly};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::ops::Range;

/// Contributions that one thread has open at a time.
pub const GROUP: usize = 8;
/// Bytes of sums that one thread holds at a time; at least one block.
pub const PASS_BYTES: usize = 2 << 20;

/// Bytes that can be read from any place on.
pub trait Bytes {
    /// Whether these bytes are known to have the digest under which they are given: a store that took them in only with it, and
    /// authenticates them when it gives them back, need not have them hashed again.
    const AUTHENTIC: bool = false;
    /// What reads them.
    type Reader: Read;

    /// Opens them at an offset.
    ///
    /// # Errors
    /// What the system says.
    fn open_at(&self, offset: u64) -> io::Result<Self::Reader>;
}

impl<'a> Bytes for &'a [u8] {
    type Reader = &'a [u8];

    fn open_at(&self, offset: u64) -> io::Result<Self::Reader> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        Ok(rest.unwrap_or_default())
    }
}

/// One contribution to add.
#[derive(Clone, Debug)]
pub struct Source<B> {
    /// Whose it is.
    pub contributor: PartyId,
    /// Digest of its blob, from its checked header.
    pub digest: Digest,
    /// Its blob, which is opened once per pass.
    pub blob: B,
}

/// Adds the contributions of a set, writes the sum blob and returns its digest. What was written is to be thrown away on an
/// error: digests are known only at the end.
///
/// # Errors
/// [`SumsError::Set`] if the sources are not exactly the set, [`SumsError::Blob`] for a blob that does not conform, is
/// not the announced one, or cannot be opened.
pub fn add<B: Bytes + Sync>(
    round: &Round,
    set: &ContributionSet,
    sources: &[Source<B>],
    out: impl Write,
) -> Result<Digest, SumsError> {
    set.check(round)?;
    check_sources(set, sources)?;
    let of_sum = |error| SumsError::blob("the sum", error);
    let mut writer = BlobWriter::new(round, &Subject::Sum(set.digest()), out).map_err(of_sum)?;

    let mut positions: Vec<Option<Paused>> = sources.iter().map(|_| None).collect();
    let groups = sources.len().div_ceil(GROUP);
    let per_thread = groups.div_ceil(rayon::current_num_threads().max(1)).max(1) * GROUP;
    let block_bytes = round.ring().degree() * round.ring().moduli().len() * size_of::<u64>();
    let per_pass = (PASS_BYTES / block_bytes).clamp(1, round.plan().blocks() as usize);
    let mut sums: Vec<Sums> = (0..sources.len().div_ceil(per_thread))
        .map(|_| Sums::new(round, per_pass))
        .collect();

    let blocks = round.plan().blocks();
    for start in (0..blocks).step_by(per_pass) {
        let pass = start..blocks.min(start + per_pass as u32);
        let parts = sources
            .par_chunks(per_thread)
            .zip(positions.par_chunks_mut(per_thread));
        let results: Vec<Result<(), SumsError>> = parts
            .zip(&mut sums)
            .map(|((sources, positions), sums)| {
                sums.clear();
                let groups = sources.chunks(GROUP).zip(positions.chunks_mut(GROUP));
                for (sources, positions) in groups {
                    add_group(round, sources, positions, &pass, sums)?;
                }
                Ok(())
            })
            .collect();
        // The first in the order of the sources, whichever thread was faster.
        results.into_iter().collect::<Result<(), _>>()?;
        for at in 0..pass.len() {
            let (first, others) = sums.split_at_mut(1);
            let Some(total) = first.first_mut().and_then(|sums| sums.blocks.get_mut(at)) else {
                continue;
            };
            for other in others {
                total.add_assign(&other.blocks[at])?;
            }
            writer.write_block(total).map_err(of_sum)?;
        }
    }
    writer.finish().map_err(of_sum)
}

/// The sources must be exactly the set.
fn check_sources<B>(set: &ContributionSet, sources: &[Source<B>]) -> Result<(), SetFault> {
    let mut seen = BTreeSet::new();
    for source in sources {
        if !set.members.contains_key(&source.contributor) {
            return Err(SetFault::Stranger(source.contributor.clone()));
        }
        if !seen.insert(&source.contributor) {
            return Err(SetFault::Repeated(source.contributor.clone()));
        }
    }
    match set.members.keys().find(|name| !seen.contains(name)) {
        Some(missing) => Err(SetFault::Contribution(missing.clone())),
        None => Ok(()),
    }
}

/// What one thread has added of a pass.
struct Sums {
    blocks: Vec<Poly<Coeff>>,
    /// Where a block of a contribution is read to.
    read: Poly<Coeff>,
}

impl Sums {
    fn new(round: &Round, blocks: usize) -> Self {
        let zero = Poly::<Coeff>::zero(round.ring());
        Self {
            blocks: vec![zero.clone(); blocks],
            read: zero,
        }
    }

    fn clear(&mut self) {
        self.blocks.iter_mut().for_each(|block| block.data_mut().fill(0));
    }
}

/// Adds the blocks of a pass of a few contributions, which are open meanwhile.
fn add_group<B: Bytes>(
    round: &Round,
    sources: &[Source<B>],
    positions: &mut [Option<Paused>],
    pass: &Range<u32>,
    sums: &mut Sums,
) -> Result<(), SumsError> {
    let refused = |source: &Source<B>, error| SumsError::blob(&source.contributor, error);
    let mut readers = Vec::with_capacity(sources.len());
    for (source, position) in sources.iter().zip(&mut *positions) {
        let opened = match position.take() {
            None => {
                let subject = Subject::Contribution(source.contributor.clone());
                source
                    .blob
                    .open_at(0)
                    .map_err(Into::into)
                    .and_then(|from| match B::AUTHENTIC {
                        true => BlobReader::of_authentic(round, &subject, from),
                        false => BlobReader::new(round, &subject, from),
                    })
            }
            Some(paused) => source
                .blob
                .open_at(paused.offset(round))
                .map_err(Into::into)
                .map(|from| BlobReader::resume(round, paused, from)),
        };
        readers.push(opened.map_err(|error| refused(source, error))?);
    }
    for sum in sums.blocks.iter_mut().take(pass.len()) {
        for (source, reader) in sources.iter().zip(&mut readers) {
            reader
                .read_block(&mut sums.read)
                .map_err(|error| refused(source, error))?;
            sum.add_assign(&sums.read)?;
        }
    }
    let last = pass.end == round.plan().blocks();
    for ((source, position), reader) in sources.iter().zip(positions).zip(readers) {
        if last {
            reader
                .finish_with(&source.digest)
                .map_err(|error| refused(source, error))?;
        } else {
            *position = Some(reader.pause());
        }
    }
    Ok(())
}
