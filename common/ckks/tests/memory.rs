//! Sets larger than memory may be: a layer from one set to another holds a few ciphertexts at a time.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{tiny, values};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use galen_ckks::linear::LinearMap;
use galen_ckks::set::{SetError, SetReader, SetWriter};
use galen_measure::peak_bytes;
use std::io::{BufReader, BufWriter, Seek};

/// This binary has no other test, so that the process's memory is this one's.
#[test]
fn a_layer_over_streams_takes_the_memory_of_a_few_ciphertexts() {
    const COUNT: usize = 40_000;
    const BLOCK: usize = 64;
    let context = tiny(3, 1);
    let key = SecretKey::from_seed(&context, &[3; 32]).unwrap();
    let ev = Evaluator::new(&context);
    let plain = context.encode(&values(32, 1), 1.0).unwrap();
    let ct = key.public_key().unwrap().encrypt(&plain).unwrap();
    let residues: usize = ct.parts().iter().map(|part| 8 * part.data().len()).sum();

    let mut file = tempfile::tempfile().unwrap();
    let mut writer = SetWriter::new(BufWriter::new(&file), &context, key.digest(), COUNT).unwrap();
    (0..COUNT).for_each(|_| writer.push(&ct).unwrap());
    writer.finish().unwrap();
    file.rewind().unwrap();
    // Each output reads three inputs next to one another.
    let rows: Vec<Vec<(usize, f64)>> = (0..COUNT)
        .map(|i| (i..(i + 3).min(COUNT)).map(|k| (k, 0.5)).collect())
        .collect();
    let map = LinearMap::sparse(COUNT, &rows).unwrap();
    drop(rows);
    let before = peak_bytes().unwrap() as usize;

    let mut reader = SetReader::new(BufReader::new(&file), &context).unwrap();
    let out = tempfile::tempfile().unwrap();
    let mut writer = SetWriter::new(BufWriter::new(&out), &context, key.digest(), COUNT).unwrap();
    let target = context.product_target(3).unwrap();
    let then = |_, sum| ev.rescale(&sum);
    ev.stream(&map, target, BLOCK, reader.by_ref(), then, |sum| {
        writer.push(&sum)
    })
    .unwrap();
    reader.finish().unwrap();
    writer.finish().unwrap();

    let growth = peak_bytes().unwrap() as usize - before;
    let all = COUNT * residues;
    println!("{COUNT} ciphertexts of {residues} bytes: memory grew by {growth} bytes");
    assert!(growth < all / 10, "{growth} of {all}");

    // And it computed what it should: three halves of the values, but for the last two.
    let mut out = out;
    out.rewind().unwrap();
    let sums = SetReader::new(BufReader::new(&out), &context).unwrap();
    let expected = values(32, 1);
    let check = |(index, sum): (usize, Result<_, SetError>)| {
        let sum = sum.unwrap();
        if index % 1000 > 0 && index + 3 < COUNT {
            return;
        }
        let terms = (COUNT - index).min(3) as f64;
        let got = context.decode(&key.decrypt(&sum).unwrap()).unwrap();
        let bound = sum.noise_bound() / sum.scale();
        for (x, y) in got.iter().zip(&expected) {
            assert!((x - 0.5 * terms * y).abs() < bound, "{index}: {x} {y}");
        }
    };
    sums.enumerate().for_each(check);
}
