//! Bytes that must be the same on every platform and in every version: a change here breaks stored objects.

#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

use galen_rns::modulus::Modulus;
use galen_rns::ntt::Ntt;
use galen_rns::packing::pack;
use galen_rns::primes::ntt_primes;
use galen_rns::sampling::{Gaussian, gaussian, ternary, uniform};
use galen_rns::xof::Xof;
use ring::digest::{SHA256, digest};

fn hash(words: &[u64]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|x| x.to_le_bytes()).collect();
    hex::encode(digest(&SHA256, &bytes))
}

fn xof(domain: &str) -> Xof {
    Xof::new(&[5; 32], &[domain.as_bytes()])
}

#[test]
fn primes() {
    assert_eq!(ntt_primes(4096, 36, 2, &[]).unwrap(), PRIMES_4096);
    assert_eq!(ntt_primes(32768, 50, 2, &[]).unwrap(), PRIMES_32768);
}

const PRIMES_4096: [u64; 2] = [68_719_403_009, 68_719_230_977];
const PRIMES_32768: [u64; 2] = [1_125_899_904_679_937, 1_125_899_903_827_969];

#[test]
fn transforms() {
    for (degree, bits, expected) in [(16, 20, NTT_16), (4096, 50, NTT_4096), (16384, 45, NTT_16384)] {
        let m = Modulus::new(ntt_primes(degree, bits, 1, &[]).unwrap()[0]).unwrap();
        let mut values: Vec<u64> = (0..degree as u64).map(|i| m.pow(3, i)).collect();
        Ntt::new(degree, m).unwrap().forward(&mut values);
        assert_eq!(hash(&values), expected, "degree {degree}");
    }
}

/// Streams and samples were confirmed by a second implementation (HMAC, ChaCha20 and samplers from their definitions).
#[test]
fn samples() {
    let m = Modulus::new(ntt_primes(4096, 36, 1, &[]).unwrap()[0]).unwrap();
    let mut residues = vec![0; 1000];
    uniform(&m, &mut xof("uniform"), &mut residues);
    assert_eq!(hash(&residues), UNIFORM);
    let mut signs = vec![0; 1000];
    ternary(&mut xof("ternary"), &mut signs);
    assert_eq!(
        hash(&signs.iter().map(|&x| x as u64).collect::<Vec<_>>()),
        TERNARY
    );
    for (distribution, expected) in [
        (Gaussian::SIGMA_3_19, GAUSSIAN_3_19),
        (Gaussian::SIGMA_4_6, GAUSSIAN_4_6),
    ] {
        let mut errors = vec![0; 1000];
        gaussian(&distribution, &mut xof("gaussian"), &mut errors);
        assert_eq!(
            hash(&errors.iter().map(|&x| x as u64).collect::<Vec<_>>()),
            expected
        );
    }
}

#[test]
fn packing() {
    let mut out = Vec::new();
    pack(&[1, 2, 3, 1023, 0, 512], 10, &mut out).unwrap();
    assert_eq!(hex::encode(out), "010830c0ff000008");
}

const NTT_16: &str = "aeae0acfe247a21e5e88f8125d15c3cf8aaacf4e1a1bf2bb5e303fd479badccf";
const NTT_4096: &str = "1302b1c375a91b8eb05031b5354ebe3523b5b946e1f8e0dd6355c77e42763e3e";
const NTT_16384: &str = "f6abc25db9f65367b7978f1d5e4a6c04e783b14b1de7bc48aeedd33efe5d33ef";
const UNIFORM: &str = "fcaa8e000988e42bcafe8212a65cc79cb9892ddd48f6bfb544749ddf72f962fd";
const TERNARY: &str = "fad689b4acee0735ff26cb49f1ce582fcc7f53d764378fa17c68fc9c609513dc";
const GAUSSIAN_3_19: &str = "48920b47656a55c805b2e76e3a54f0e7abb951313a9a2b36159a931e1d13c2c2";
const GAUSSIAN_4_6: &str = "427e68ecabd184709f752eb1c0f92385af136e8e6010a0a21cfd9ac81afe27ec";
