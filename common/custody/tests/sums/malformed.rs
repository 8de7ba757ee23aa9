//! Blobs that must be refused.

use crate::federation::*;
use crate::refusals::federation;
use galen_rns::poly::{Coeff, Poly};
use galen_sums::blob::{BlobReader, BlobWriter, HEADER_LEN, Subject};
use galen_sums::{BlobError, SumsError, check_blob};

#[test]
fn malformed_blobs_of_every_kind_are_refused() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(5000, 1 << 40)]);
    let attempt = federation.announce_all(1, 0);
    let good = attempt.contribute(0, &[3; 5000]).blob;
    let plan = attempt.round.plan();
    assert_eq!(plan.primes.len(), 2);
    let refuse = |blob: &[u8]| match check_blob(&attempt.round, &name(0), blob).unwrap_err() {
        SumsError::Blob { source, .. } => source,
        other => panic!("{other}"),
    };
    assert!(check_blob(&attempt.round, &name(0), good.as_slice()).is_ok());

    for length in (0..HEADER_LEN).chain([HEADER_LEN, HEADER_LEN + 1, good.len() / 2, good.len() - 1]) {
        assert!(
            matches!(refuse(&good[..length]), BlobError::Truncated),
            "{length}"
        );
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(refuse(&longer), BlobError::TooLong));
    let changed = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        refuse(&bad)
    };
    assert!((0..8).all(|at| matches!(changed(at), BlobError::Magic)));
    assert!(matches!(changed(8), BlobError::Version(0)));
    assert!(matches!(changed(9), BlobError::Version(257)));
    assert!((10..12).all(|at| matches!(changed(at), BlobError::Kind { expected: 1, .. })));
    assert!((12..44).all(|at| matches!(changed(at), BlobError::Record)));
    assert!((44..76).all(|at| matches!(changed(at), BlobError::Subject)));
    // All ones is not below any prime of its width, for the first and the last residue of each prime of each block. (Blocks
    // of 4096 residues end on a byte whatever the width, so there is no padding.)
    let mut at = HEADER_LEN;
    for block in 0..plan.blocks() {
        for modulus in attempt.round.ring().moduli() {
            let length = 512 * modulus.bits() as usize;
            for start in [at, at + length - 8] {
                let mut bad = good.clone();
                bad[start..start + 8].fill(0xff);
                assert!(matches!(refuse(&bad), BlobError::Residues { block: b, .. } if b == block));
            }
            at += length;
        }
    }
    assert_eq!(at, good.len());
    // Another contributor's blob, and a sum in the place of a contribution.
    let other = attempt.contribute(1, &[3; 5000]).blob;
    assert!(matches!(refuse(&other), BlobError::Subject));
    let all: Vec<_> = (0..3).map(|i| attempt.contribute(i, &[1; 5000])).collect();
    assert!(matches!(
        refuse(&attempt.propose(&all).sum),
        BlobError::Kind {
            found: 2,
            expected: 1
        }
    ));
}

#[test]
fn a_blob_takes_exactly_its_blocks() {
    let federation = federation();
    let attempt = federation.announce_all(1, 0);
    let subject = Subject::Contribution(name(0));
    let zero = Poly::<Coeff>::zero(attempt.round.ring());
    let empty = BlobWriter::new(&attempt.round, &subject, Vec::new()).unwrap();
    assert!(matches!(empty.finish(), Err(BlobError::Blocks { .. })));
    let mut writer = BlobWriter::new(&attempt.round, &subject, Vec::new()).unwrap();
    writer.write_block(&zero).unwrap();
    assert!(matches!(writer.write_block(&zero), Err(BlobError::Blocks { .. })));
    let blob = attempt.contribute(0, &[0; 20]).blob;
    let reader = BlobReader::new(&attempt.round, &subject, blob.as_slice()).unwrap();
    assert!(matches!(reader.finish(), Err(BlobError::Blocks { .. })));
}
