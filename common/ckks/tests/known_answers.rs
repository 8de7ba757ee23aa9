//! Bytes that must be the same on every platform and in every version of the format.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{preset, values};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use ring::digest::{SHA256, digest};

fn hash(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

#[test]
fn objects_from_fixed_seeds() {
    let context = preset("n8192_q50_3x38_p1x50");
    let ev = Evaluator::new(&context);
    assert_eq!(hex::encode(context.digest().0), PRESET);
    let plain = context.encode(&values(context.slots(), 7), 1.0).unwrap();
    let words: Vec<u8> = plain.poly().data().iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(hash(&words), ENCODING);

    let key = SecretKey::from_seed(&context, &[11; 32]).unwrap();
    assert_eq!(key.digest().to_string(), KEY);
    let (public, relin) = (key.public_key().unwrap(), key.relin_key().unwrap());
    assert_eq!(hash(&public.to_bytes().unwrap()), PUBLIC_KEY);
    assert_eq!(hash(&relin.to_bytes().unwrap()), RELIN_KEY);
    let seeded = key.encrypt_with_seed(&plain, &[12; 32]).unwrap();
    assert_eq!(hash(&seeded.to_bytes().unwrap()), SECRET_ENCRYPTION);
    let ct = public.encrypt_with_seed(&plain, &[13; 32]).unwrap();
    assert_eq!(hash(&ct.to_bytes().unwrap()), PUBLIC_ENCRYPTION);

    let square = ev
        .rescale(&ev.relinearise(&ev.square(&ct).unwrap(), &relin).unwrap())
        .unwrap();
    assert_eq!(hash(&square.to_bytes().unwrap()), SQUARE);
    let target = context.product_target(2).unwrap();
    let sum = ev.mac_scalars(&[&seeded, &square], &[0.3, -1.7], target).unwrap();
    assert_eq!(hash(&sum.to_bytes().unwrap()), WEIGHTED_SUM);
}

const PRESET: &str = "90c1dcbc4117368f97fdfbc9185f210136a0fe1ef2836954a8ad40ba7868a6ca";
const ENCODING: &str = "4dcc450302e0042a188d8ccf44506f12fcb68a2583b00b9d503fdec74641c7ef";
const KEY: &str = "b0ba105e7752b3d867f0b45c3591c378f548980391cbf8de61055a9267b2bad2";
const PUBLIC_KEY: &str = "b6a63a521ea55358ca0e2a7bf940a5ad3aefe4e5c13c0ead433fe0f16b9f6ae3";
const RELIN_KEY: &str = "61aa946f2c87c83dc8cb8cb4b98585b68280dcce58e061a94cbf713d45811e22";
const SECRET_ENCRYPTION: &str = "67a5932d4dceb09c7bef371062548d190660e03ab56ee50aad4c1f217db212b7";
const PUBLIC_ENCRYPTION: &str = "d1dfa362ee34a752c31c93bc688411db01d2cda95bd5e3a6ea39be0b17a9fbeb";
const SQUARE: &str = "a9f92915619b499ec7f66de9c6b41031bf882210dc58cc4d1a38bdd2be8a254b";
const WEIGHTED_SUM: &str = "bb97b7799cd6d824b68955c9549973f12ab3b624f4b775ece3d3f6f95a6a9a6c";
