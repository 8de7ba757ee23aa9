//! Adding in passes and groups.

use crate::federation::*;
use galen_core::Code;
use galen_sums::adder::{Bytes, GROUP, PASS_BYTES};
use galen_sums::blob::{ArrivingBlob, HEADER_LEN, Subject};
use galen_sums::{BlobError, ContributionSet, Round, Source, SumsError, add, check_blob, check_header};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many readers are open, and how many there were at most and in all.
#[derive(Default)]
struct Count {
    open: AtomicUsize,
    most: AtomicUsize,
    total: AtomicUsize,
}

struct Counted<'a> {
    bytes: &'a [u8],
    count: &'a Count,
}

struct Reader<'a>(&'a [u8], &'a Count);

impl<'a> Bytes for Counted<'a> {
    type Reader = Reader<'a>;

    fn open_at(&self, offset: u64) -> io::Result<Reader<'a>> {
        let open = self.count.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.count.most.fetch_max(open, Ordering::SeqCst);
        self.count.total.fetch_add(1, Ordering::SeqCst);
        Ok(Reader(self.bytes.open_at(offset)?, self.count))
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.1.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn sources<'a>(
    round: &Round,
    contributions: &'a [Contribution],
    count: &'a Count,
) -> Vec<Source<Counted<'a>>> {
    let source = |contribution: &'a Contribution| Source {
        contributor: contribution.header.author.clone(),
        digest: check_header(round, &contribution.header).unwrap().ciphertext,
        blob: Counted {
            bytes: &contribution.blob,
            count,
        },
    };
    contributions.iter().map(source).collect()
}

#[test]
fn many_long_contributions_are_added_with_few_of_them_open() {
    let contributors = 2 * GROUP + 1;
    // A little more than one pass of two primes.
    let values = PASS_BYTES / 16 + 4097;
    let federation = Federation::new(
        Sharing(3, 2, 2),
        contributors,
        vec![range(values as u32, 1 << 40)],
    );
    let mut attempt = federation.announce_all(1, 0);
    assert_eq!(attempt.round.plan().primes.len(), 2);
    let all: Vec<Vec<i64>> = (0..contributors as i64)
        .map(|i| (0..values as i64).map(|at| at * 31 - i * 1_000_003).collect())
        .collect();
    let mut contributions: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(index, values)| attempt.contribute(index, values))
        .collect();
    let opened = attempt.finish(&attempt.custodians(), &contributions).unwrap();
    assert_eq!(opened.values, plain_sum(&all));

    // The same sum whatever the order, and never more than a group for each thread is open.
    let expected = attempt.propose(&contributions);
    contributions.reverse();
    let count = Count::default();
    let sources = sources(&attempt.round, &contributions, &count);
    let mut sum = Vec::new();
    let digest = add(&attempt.round, &expected.set, &sources, &mut sum).unwrap();
    assert!(digest == expected.digest && sum == expected.sum);
    assert_eq!(count.total.into_inner(), 2 * contributors);
    let most = count.most.into_inner();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(most <= GROUP * threads.max(1) && most <= contributors, "{most}");
    assert_eq!(count.open.into_inner(), 0);
}

/// Damage is found wherever it is, and its owner is named.
#[test]
fn damage_in_any_pass_names_the_contributor() {
    let values = PASS_BYTES / 8 + 4097;
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(values as u32, 1 << 10)]);
    let attempt = federation.announce_all(1, 0);
    assert_eq!(attempt.round.plan().primes.len(), 1);
    let contributions: Vec<_> = (0..3).map(|i| attempt.contribute(i, &vec![5; values])).collect();
    let headers: Vec<_> = contributions.iter().map(|c| c.header.clone()).collect();
    let set = ContributionSet::new(&attempt.round, &headers).unwrap();
    let length = contributions[1].blob.len();
    type Damage = (fn(&mut Vec<u8>, usize), Code);
    let changes: [Damage; 5] = [
        (|blob, _| blob[100] ^= 1, Code::BlobMismatch),
        (|blob, length| blob[length - 5000] ^= 1, Code::BlobMismatch),
        (|blob, length| blob.truncate(length - 1), Code::BlobTruncated),
        (|blob, _| blob.truncate(200), Code::BlobTruncated),
        (|blob, _| blob.push(0), Code::BlobTooLarge),
    ];
    for (index, (change, code)) in changes.into_iter().enumerate() {
        let mut damaged = contributions.clone();
        change(&mut damaged[1].blob, length);
        let count = Count::default();
        let sources = sources(&attempt.round, &damaged, &count);
        let refused = add(&attempt.round, &set, &sources, io::sink()).unwrap_err();
        assert_eq!(refused.code(), code, "change {index}: {refused}");
        assert!(refused.to_string().contains("h1"), "{refused}");
    }
}

/// Feeds a blob in pieces of one length; true if it conforms and is complete.
fn arrives(round: &Arc<Round>, contributor: usize, blob: &[u8], piece: usize) -> bool {
    let mut arriving = ArrivingBlob::new(round, &Subject::Contribution(name(contributor)));
    blob.chunks(piece).all(|bytes| arriving.take(bytes).is_ok()) && arriving.is_complete()
}

#[test]
fn what_conforms_is_recognised_while_it_arrives() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(5000, 1 << 40)]);
    let attempt = federation.announce_all(1, 0);
    let round = Arc::new(attempt.round.clone());
    let blob = attempt.contribute(0, &[3; 5000]).blob;
    for piece in [1, 7, HEADER_LEN, 4096, 64 << 10, blob.len()] {
        assert!(arrives(&round, 0, &blob, piece), "{piece}");
        // It ends early, goes on, is another contributor's, or has another header.
        assert!(!arrives(&round, 0, &blob[..blob.len() - 1], piece));
        assert!(!arrives(&round, 0, &[&blob[..], &[0]].concat(), piece));
        assert!(!arrives(&round, 1, &blob, piece));
        for at in [0, 9, 12, 50] {
            let mut other = blob.clone();
            other[at] ^= 1;
            assert!(!arrives(&round, 0, &other, piece));
        }
        // A residue above its modulus, in each prime of each block.
        let block = (blob.len() - HEADER_LEN) / 2;
        for at in [0, block / 2 + 100, block, 2 * block - 16] {
            let mut other = blob.clone();
            other[HEADER_LEN + at..HEADER_LEN + at + 16].fill(0xff);
            assert!(!arrives(&round, 0, &other, piece), "{at}");
            assert!(check_blob(&round, &name(0), other.as_slice()).is_err());
        }
    }
    let later = Arc::new(federation.announce_all(1, 1).round);
    assert!(!arrives(&later, 0, &blob, 100));
    assert!(!arrives(&round, 0, &[], 1));
}

/// Bytes that cannot be opened.
struct Gone;

impl Bytes for Gone {
    type Reader = io::Empty;

    fn open_at(&self, _: u64) -> io::Result<io::Empty> {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[test]
fn what_cannot_be_opened_is_an_error_of_its_own() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(5, 100)]);
    let attempt = federation.announce_all(1, 0);
    let contributions: Vec<_> = (0..3).map(|i| attempt.contribute(i, &[5; 5])).collect();
    let proposal = attempt.propose(&contributions);
    let count = Count::default();
    let sources: Vec<_> = sources(&attempt.round, &contributions, &count)
        .into_iter()
        .map(|source| Source {
            contributor: source.contributor,
            digest: source.digest,
            blob: Gone,
        })
        .collect();
    let refused = add(&attempt.round, &proposal.set, &sources, io::sink()).unwrap_err();
    assert!(matches!(
        refused,
        SumsError::Blob {
            source: BlobError::Io(_),
            ..
        }
    ));
    // And sources that are not the set.
    let fewer = add(&attempt.round, &proposal.set, &sources[..2], io::sink()).unwrap_err();
    assert_eq!(fewer.code(), Code::SetRefused);
}
