//! Streamed sets: what is written is read, and everything else is refused, with the index where it went wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test result")]

mod common;

use common::{tiny, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::error::Malformed;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use galen_ckks::linear::LinearMap;
use galen_ckks::set::{SetError, SetReader, SetWriter};
use std::io::{self, Read, Write};
use std::sync::Arc;

const HEADER: usize = 4 + 2 + 32 + 32 + 4;

/// Seeded, full, of degree 2, and at a lower level.
fn ciphertexts(context: &Arc<Context>, key: &SecretKey) -> Vec<Ciphertext> {
    let ev = Evaluator::new(context);
    let plain = context.encode(&values(9, 1), 1.0).unwrap();
    let seeded = key.encrypt(&plain).unwrap();
    let full = key.public_key().unwrap().encrypt(&plain).unwrap();
    vec![
        seeded.clone(),
        full.clone(),
        ev.square(&full).unwrap(),
        ev.drop_level(&seeded, 0).unwrap(),
        seeded,
    ]
}

fn write(context: &Context, key: &SecretKey, cts: &[Ciphertext]) -> Vec<u8> {
    let mut writer = SetWriter::new(Vec::new(), context, key.digest(), cts.len()).unwrap();
    cts.iter().for_each(|ct| writer.push(ct).unwrap());
    writer.finish().unwrap()
}

/// One after the other, and in blocks, with the same outcome.
fn read(context: &Arc<Context>, bytes: &[u8]) -> Result<Vec<Ciphertext>, SetError> {
    let one_by_one = || {
        let mut reader = SetReader::new(bytes, context)?;
        let cts = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        Ok::<_, SetError>(cts)
    };
    let expected = one_by_one();
    for size in [1, 2, 7] {
        let in_blocks = || {
            let mut reader = SetReader::new(bytes, context)?;
            let mut cts = Vec::new();
            loop {
                match reader.read_block(size) {
                    Ok(block) if block.is_empty() => break,
                    Ok(block) => cts.extend(block),
                    Err(error) => {
                        assert!(reader.next().is_none());
                        assert!(reader.read_block(1).unwrap().is_empty());
                        return Err(error);
                    }
                }
            }
            reader.finish()?;
            Ok::<_, SetError>(cts)
        };
        match (&expected, in_blocks()) {
            (Ok(expected), Ok(cts)) => assert!(cts == *expected),
            (Err(expected), Err(error)) => assert_eq!(error.to_string(), expected.to_string()),
            (expected, got) => panic!("{expected:?} {got:?}"),
        }
    }
    expected
}

/// Gives one byte at a time, and is interrupted in between.
struct Trickle<'a> {
    bytes: &'a [u8],
    interrupted: bool,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = buffer.len().min(1);
        self.bytes.read(&mut buffer[..count])
    }
}

/// Takes some bytes, then fails.
struct Full {
    room: usize,
}

impl Write for Full {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = buffer.len().min(self.room);
        self.room -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_written_is_read() {
    let context = tiny(2, 1);
    let key = SecretKey::from_seed(&context, &[1; 32]).unwrap();
    let cts = ciphertexts(&context, &key);
    let bytes = write(&context, &key, &cts);
    assert!(read(&context, &bytes).unwrap() == cts);
    let mut writer = SetWriter::new(Vec::new(), &context, key.digest(), cts.len()).unwrap();
    writer.push(&cts[0]).unwrap();
    writer.push_block(&cts[1..]).unwrap();
    assert_eq!(writer.finish().unwrap(), bytes);

    let trickle = Trickle {
        bytes: &bytes,
        interrupted: false,
    };
    let mut reader = SetReader::new(trickle, &context).unwrap();
    assert_eq!((reader.total(), reader.key_digest()), (cts.len(), key.digest()));
    for (index, ct) in cts.iter().enumerate() {
        assert_eq!(reader.size_hint(), (1, Some(cts.len() - index)));
        assert!(reader.next().unwrap().unwrap() == *ct);
    }
    assert!(reader.next().is_none());
    assert!(reader.finish().unwrap().bytes.is_empty());
}

/// Every prefix is refused, and its error names the first ciphertext that is not whole.
#[test]
fn truncated_sets() {
    let context = tiny(2, 1);
    let key = SecretKey::from_seed(&context, &[1; 32]).unwrap();
    let cts = ciphertexts(&context, &key);
    let bytes = write(&context, &key, &cts);
    let mut ends = vec![HEADER];
    for ct in &cts {
        ends.push(ends[ends.len() - 1] + 4 + ct.to_bytes().unwrap().len());
    }
    assert_eq!(ends[cts.len()], bytes.len());
    for length in 0..bytes.len() {
        match read(&context, &bytes[..length]) {
            Err(SetError::TruncatedHeader) => assert!(length < HEADER, "{length}"),
            Err(SetError::Truncated { index, count }) => {
                assert_eq!(count, cts.len());
                assert!(
                    (ends[index]..ends[index + 1]).contains(&length),
                    "{length} {index}"
                );
            }
            other => panic!("{length}: {other:?}"),
        }
    }
    // The ciphertexts before are read, and after the error the iterator has ended.
    let mut reader = SetReader::new(&bytes[..ends[2] + 7], &context).unwrap();
    assert!(reader.next().unwrap().is_ok() && reader.next().unwrap().is_ok());
    assert!(matches!(
        reader.next(),
        Some(Err(SetError::Truncated { index: 2, .. }))
    ));
    assert!(reader.next().is_none());
    assert!(matches!(
        reader.finish(),
        Err(SetError::Incomplete { done: 2, count: 5 })
    ));
}

#[test]
fn corrupt_sets() {
    let context = tiny(2, 1);
    let key = SecretKey::from_seed(&context, &[1; 32]).unwrap();
    let cts = ciphertexts(&context, &key);
    let bytes = write(&context, &key, &cts);
    let spoilt = |at: usize, with: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        read(&context, &bytes)
    };
    assert!(matches!(spoilt(0, b"X"), Err(SetError::Magic)));
    assert!(matches!(spoilt(4, &[9]), Err(SetError::Version { version: 9 })));
    assert!(matches!(spoilt(6, &[!bytes[6]]), Err(SetError::Preset)));
    assert!(matches!(
        spoilt(HEADER - 4, &[0; 4]),
        Err(SetError::Count { count: 0, .. })
    ));
    assert!(matches!(
        spoilt(HEADER - 4, &[255; 4]),
        Err(SetError::Count { .. })
    ));
    // Announced more, or fewer, than there are.
    assert!(matches!(
        spoilt(HEADER - 4, &[6, 0, 0, 0]),
        Err(SetError::Truncated { index: 5, count: 6 })
    ));
    assert!(matches!(
        spoilt(HEADER - 4, &[4, 0, 0, 0]),
        Err(SetError::Trailing)
    ));
    // Another key in the header than in the ciphertexts.
    assert!(matches!(
        spoilt(6 + 32, &[!bytes[6 + 32]]),
        Err(SetError::ForeignKey { index: 0 })
    ));
    let second = HEADER + 4 + cts[0].to_bytes().unwrap().len();
    let max = Ciphertext::max_bytes(&context);
    match spoilt(second, &[255; 4]) {
        Err(SetError::Length {
            index: 1,
            length,
            max: limit,
        }) => assert_eq!((length, limit), (u32::MAX as usize, max)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        spoilt(second, &[7, 0, 0, 0]),
        Err(SetError::Ciphertext {
            index: 1,
            source: CkksError::Malformed(Malformed::Truncated { .. })
        })
    ));
    assert!(matches!(
        spoilt(second + 4, b"X"),
        Err(SetError::Ciphertext {
            index: 1,
            source: CkksError::Malformed(Malformed::Magic)
        })
    ));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(read(&context, &longer), Err(SetError::Trailing)));
    let other = tiny(3, 1);
    assert!(matches!(read(&other, &bytes), Err(SetError::Preset)));
}

#[test]
fn writers_refuse_what_readers_would() {
    let context = tiny(2, 1);
    let key = SecretKey::from_seed(&context, &[1; 32]).unwrap();
    let cts = ciphertexts(&context, &key);
    for count in [0, usize::MAX] {
        assert!(matches!(
            SetWriter::new(Vec::new(), &context, key.digest(), count),
            Err(SetError::Count { .. })
        ));
    }
    let mut writer = SetWriter::new(Vec::new(), &context, key.digest(), 1).unwrap();
    let foreign = SecretKey::from_seed(&context, &[2; 32]).unwrap();
    let result = writer.push(&ciphertexts(&context, &foreign)[0]);
    assert!(matches!(result, Err(SetError::ForeignKey { index: 0 })));
    let other = tiny(3, 1);
    let elsewhere = SecretKey::from_seed(&other, &[1; 32]).unwrap();
    let result = writer.push(&ciphertexts(&other, &elsewhere)[0]);
    assert!(matches!(result, Err(SetError::Preset)));
    writer.push(&cts[0]).unwrap();
    assert!(matches!(
        writer.push(&cts[0]),
        Err(SetError::Count { count: 2, max: 1 })
    ));
    assert!(matches!(
        writer.push_block(&cts[..1]),
        Err(SetError::Count { count: 2, max: 1 })
    ));
    assert!(writer.finish().is_ok());
    let mut writer = SetWriter::new(Vec::new(), &context, key.digest(), 3).unwrap();
    let mixed = [cts[0].clone(), ciphertexts(&context, &foreign)[0].clone()];
    assert!(matches!(
        writer.push_block(&mixed),
        Err(SetError::ForeignKey { index: 1 })
    ));
    let mut writer = SetWriter::new(Vec::new(), &context, key.digest(), 2).unwrap();
    writer.push(&cts[0]).unwrap();
    assert!(matches!(
        writer.finish(),
        Err(SetError::Incomplete { done: 1, count: 2 })
    ));
    // A disk that is full: at the header, and at the second ciphertext.
    let full = |room| SetWriter::new(Full { room }, &context, key.digest(), 2);
    assert!(matches!(full(3), Err(SetError::Io { index: 0, .. })));
    let mut writer = full(HEADER + cts[0].to_bytes().unwrap().len() + 10).unwrap();
    writer.push(&cts[0]).unwrap();
    assert!(matches!(writer.push(&cts[1]), Err(SetError::Io { index: 1, .. })));
}

/// From a set to a set, and errors on either side come through.
#[test]
fn a_layer_from_set_to_set() {
    let context = tiny(2, 1);
    let key = SecretKey::from_seed(&context, &[1; 32]).unwrap();
    let ev = Evaluator::new(&context);
    let plain = context.encode(&values(9, 1), 1.0).unwrap();
    let inputs: Vec<Ciphertext> = (0..6).map(|_| key.encrypt(&plain).unwrap()).collect();
    let bytes = write(&context, &key, &inputs);
    let map = LinearMap::dense(6, values(18, 4)).unwrap();
    let target = context.product_target(2).unwrap();
    let run = |bytes: &[u8], room: usize| {
        let mut reader = SetReader::new(bytes, &context)?;
        let mut out = Full { room };
        let mut writer = SetWriter::new(&mut out, &context, reader.key_digest(), map.outputs())?;
        ev.stream(
            &map,
            target,
            4,
            reader.by_ref(),
            |_, sum| ev.rescale(&sum),
            |sum| writer.push(&sum),
        )?;
        reader.finish()?;
        writer.finish()?;
        Ok::<(), SetError>(())
    };
    run(&bytes, usize::MAX).unwrap();
    assert!(matches!(
        run(&bytes[..bytes.len() - 1], usize::MAX),
        Err(SetError::Truncated { index: 5, .. })
    ));
    assert!(matches!(run(&bytes, 100), Err(SetError::Io { index: 0, .. })));
    let five = write(&context, &key, &inputs[..5]);
    assert!(matches!(
        run(&five, usize::MAX),
        Err(SetError::Ckks(CkksError::Count { count: 5, .. }))
    ));

    let mut reader = SetReader::new(bytes.as_slice(), &context).unwrap();
    let mut writer = SetWriter::new(Vec::new(), &context, key.digest(), map.outputs()).unwrap();
    ev.stream(
        &map,
        target,
        4,
        reader.by_ref(),
        |_, sum| ev.rescale(&sum),
        |sum| writer.push(&sum),
    )
    .unwrap();
    let streamed = read(&context, &writer.finish().unwrap()).unwrap();
    let refs: Vec<&Ciphertext> = inputs.iter().collect();
    let expected = ev.apply(&map, &refs, target).unwrap();
    let expected: Vec<Ciphertext> = expected.iter().map(|sum| ev.rescale(sum).unwrap()).collect();
    assert!(streamed == expected);
}
