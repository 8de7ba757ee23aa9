//! Objects of encrypted evaluation. A coordinator reads ciphertexts, public and evaluation keys of queriers; a querier reads answers.
//!
//! Rings of degree 16 without any security: every field of every format is there, and an object has a few hundred bytes.

use crate::memory::bounded;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::codec::CiphertextSet;
use galen_ckks::context::{Context, Target};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::keys::{PublicKey, RelinKey, SecretKey};
use galen_ckks::preset::{Preset, PresetSpec};
use galen_ckks::set::{SetError, SetReader, SetWriter};
use galen_inference::ServingKey;
use galen_rns::ring::RingKind;
use std::sync::{Arc, LazyLock};

/// One context with everything that its keys' owner has.
pub struct World {
    pub context: Arc<Context>,
    pub secret: SecretKey,
    pub public: PublicKey,
    pub relin: RelinKey,
    pub galois: GaloisKeys,
    evaluator: Evaluator,
}

/// One world per kind of ring. Bytes name their preset by digest, so each input is of one world at most.
pub static WORLDS: LazyLock<Vec<World>> = LazyLock::new(|| {
    let like = *Preset::by_name("n8192_q50_3x38_p1x50").unwrap().spec();
    let tiny = PresetSpec {
        degree: 16,
        levels: 2,
        ..like
    };
    let real = PresetSpec {
        ring: RingKind::ConjugateInvariant,
        ..tiny
    };
    vec![World::new(tiny), World::new(real)]
});

impl World {
    fn new(spec: PresetSpec) -> Self {
        let context = Context::new(&Preset::insecure_for_tests(spec).unwrap()).unwrap();
        let secret = SecretKey::from_seed(&context, &[7; 32]).unwrap();
        Self {
            public: secret.public_key().unwrap(),
            relin: secret.relin_key().unwrap(),
            galois: secret.galois_keys(&[1, -2]).unwrap(),
            evaluator: Evaluator::new(&context).with_min_precision(-1000.0),
            secret,
            context,
        }
    }

    /// Whatever was read goes through every operation that a reader of it performs: each gives a result or an error.
    fn evaluate(&self, ct: &Ciphertext) {
        let ev = &self.evaluator;
        let doubled = ev.add(ct, ct);
        let _ = ev.sub(ct, doubled.as_ref().unwrap_or(ct));
        let _ = ev.neg(ct);
        let _ = ev.add_scalar(ct, -0.25);
        let _ = ev.drop_level(ct, 0);
        let _ = ev.mac_scalars(&[ct, ct], &[0.5, -3.0], wider(ct));
        if let Ok(plaintext) = self.context.encode_at(&[0.5, -1.0], 1.0, ct.level(), ct.scale()) {
            let _ = ev.add_plain(ct, &plaintext);
            let _ = ev.mul_plain(ct, &plaintext);
        }
        let down = ev.rescale(ct);
        if let Ok(square) = ev.square(ct) {
            let _ = ev.rescale(&square);
            if let Ok(linear) = ev.relinearise(&square, &self.relin) {
                let _ = ev.rescale(&linear);
            }
            let _ = ev.relin_rescale(&square, &self.relin);
        }
        let _ = ev.rotate(ct, 1, &self.galois);
        let _ = ev.rotate_hoisted(ct, &[-2, 0, 1], &self.galois);
        let _ = ev.aligned(&self.relin).square(ct);
        let _ = ev.multiply(ct, down.as_ref().unwrap_or(ct));
        if ct.degree() == 2 {
            let _ = ev.relinearise(ct, &self.relin);
        }
        let _ = self.public.rerandomise(ct, 8);
        if let Ok(plaintext) = self.secret.decrypt(ct) {
            let _ = self.context.decode(&plaintext);
            let _ = self.context.decode_rounded(&plaintext, 10);
        }
    }
}

/// A scale at which weights have ten bits.
fn wider(ct: &Ciphertext) -> Target {
    Target {
        level: ct.level(),
        scale: ct.scale() * 1024.0,
    }
}

/// What one object may hold while it is read, beside a multiple of its input: tables of transforms are in the context already.
const FIXED: usize = 1 << 16;

/// [`Ciphertext::from_bytes`].
pub fn ciphertext(data: &[u8]) {
    for world in WORLDS.iter() {
        if let Ok(ct) = bounded(data, FIXED, 8, || Ciphertext::from_bytes(&world.context, data)) {
            assert_eq!(ct.to_bytes().unwrap(), data);
            assert!(data.len() <= Ciphertext::max_bytes(&world.context));
            world.evaluate(&ct);
        }
    }
}

/// [`CiphertextSet::from_bytes`] and [`SetReader`], whose formats begin differently.
pub fn set(data: &[u8]) {
    for world in WORLDS.iter() {
        streamed(world, data);
        if let Ok(set) = bounded(data, FIXED, 16, || {
            CiphertextSet::from_bytes(&world.context, data)
        }) {
            assert_eq!(set.to_bytes().unwrap(), data);
            let all: Vec<&Ciphertext> = set.ciphertexts().iter().collect();
            let weights = vec![0.5; all.len()];
            let _ = world.evaluator.mac_scalars(&all, &weights, wider(all[0]));
            for pair in all.windows(2) {
                let _ = world.evaluator.add(pair[0], pair[1]);
                let _ = world.evaluator.multiply(pair[0], pair[1]);
            }
        }
    }
}

/// A set that is read one ciphertext after the other, or a block at a time.
fn streamed(world: &World, data: &[u8]) {
    let read = bounded(data, FIXED, 16, || {
        let mut reader = SetReader::new(data, &world.context)?;
        let key = reader.key_digest();
        let all = reader.by_ref().collect::<Result<Vec<Ciphertext>, _>>()?;
        reader.finish()?;
        Ok::<_, SetError>((key, all))
    });
    let in_blocks = SetReader::new(data, &world.context).and_then(|mut reader| {
        let total = reader.total();
        let mut all = reader.read_block(2)?;
        while all.len() < total {
            all.extend(reader.read_block(2)?);
        }
        reader.finish().map(|_| all)
    });
    let Ok((key, all)) = read else {
        assert!(in_blocks.is_err());
        return;
    };
    for (one, other) in all.iter().zip(&in_blocks.unwrap()) {
        assert_eq!(one.to_bytes().unwrap(), other.to_bytes().unwrap());
    }
    let mut writer = SetWriter::new(Vec::new(), &world.context, key, all.len()).unwrap();
    all.iter().for_each(|ct| writer.push(ct).unwrap());
    assert_eq!(writer.finish().unwrap(), data);
}

/// [`PublicKey::from_bytes`].
fn public_key(data: &[u8]) {
    for world in WORLDS.iter() {
        if let Ok(key) = bounded(data, FIXED, 8, || PublicKey::from_bytes(&world.context, data)) {
            assert_eq!(key.to_bytes().unwrap(), data);
            let plaintext = world.context.encode(&[0.5, -1.0], 1.0).unwrap();
            let ct = key.encrypt(&plaintext).unwrap();
            key.rerandomise(&ct, 8).unwrap();
        }
    }
}

/// [`RelinKey::from_bytes`].
fn relin_key(data: &[u8]) {
    for world in WORLDS.iter() {
        if let Ok(key) = bounded(data, FIXED, 8, || RelinKey::from_bytes(&world.context, data)) {
            assert_eq!(key.to_bytes().unwrap(), data);
            let plaintext = world.context.encode(&[0.5, -1.0], 1.0).unwrap();
            let square = world
                .secret
                .encrypt(&plaintext)
                .and_then(|ct| world.evaluator.square(&ct))
                .unwrap();
            let switched = world.evaluator.relinearise(&square, &key);
            assert_eq!(switched.is_ok(), key.digest() == world.secret.digest());
        }
    }
}

/// [`GaloisKeys::from_bytes`].
fn galois_keys(data: &[u8]) {
    for world in WORLDS.iter() {
        if let Ok(keys) = bounded(data, FIXED, 8, || GaloisKeys::from_bytes(&world.context, data)) {
            assert_eq!(keys.to_bytes().unwrap(), data);
            let plaintext = world.context.encode(&[0.5, -1.0], 1.0).unwrap();
            let ct = world.secret.encrypt(&plaintext).unwrap();
            for steps in keys.rotations() {
                let rotated = world.evaluator.rotate(&ct, steps as i64, &keys);
                assert_eq!(rotated.is_ok(), keys.digest() == world.secret.digest());
            }
            let _ = world.evaluator.conjugate(&ct, &keys);
        }
    }
}

/// [`ServingKey::from_bytes`]: a public key, then a relinearisation key, then those of rotations, if any.
fn serving_key(data: &[u8]) {
    for world in WORLDS.iter() {
        if let Ok(key) = bounded(data, FIXED, 8, || ServingKey::from_bytes(&world.context, data)) {
            assert_eq!(key.to_bytes().unwrap(), data);
            assert!(data.len() <= ServingKey::max_bytes(&world.context));
        }
    }
}

/// [`SecretKey::from_secret_bytes`].
fn secret_key(data: &[u8]) {
    for world in WORLDS.iter() {
        if let Ok(key) = bounded(data, 1 << 18, 8, || {
            SecretKey::from_secret_bytes(&world.context, data)
        }) {
            assert_eq!(key.to_secret_bytes().as_slice(), data);
        }
    }
}

/// Every key: the tag in its header says which one the bytes are, and each reader refuses the others'.
pub fn keys(data: &[u8]) {
    public_key(data);
    relin_key(data);
    galois_keys(data);
    serving_key(data);
    secret_key(data);
}
