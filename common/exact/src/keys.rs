//! Keys: what decrypts, what a querier registers once, and what the coordinator makes of it.

use crate::codec::{self, CodecError, Kind, Reader, Writer};
use crate::parameters::{KEY_BITS, ParameterSet};
use galen_core::random::{self, RandomError};
use galen_core::{Digest, Transcript};
use std::fmt;
use tfhe::core_crypto::commons::generators::DeterministicSeeder;
use tfhe::core_crypto::commons::math::random::{CompressionSeed, Seed};
use tfhe::core_crypto::prelude::*;
use zeroize::{Zeroize, Zeroizing};

pub(crate) type Generator = DefaultRandomGenerator;

/// Seeds from the operating system's generator.
pub(crate) fn seeder() -> Result<DeterministicSeeder<Generator>, RandomError> {
    let seed = random::bytes::<16>()?;
    Ok(DeterministicSeeder::new(Seed(u128::from_le_bytes(seed))))
}

/// The modulus 2^64.
pub(crate) fn modulus() -> CiphertextModulus<u64> {
    CiphertextModulus::new_native()
}

/// A querier's secret key: all of it follows from 128 random bits.
#[derive(Clone)]
pub struct ClientKey {
    set: ParameterSet,
    seed: u128,
    id: Digest,
    pub(crate) small: LweSecretKeyOwned<u64>,
    pub(crate) glwe: GlweSecretKeyOwned<u64>,
    pub(crate) big: LweSecretKeyOwned<u64>,
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey")
            .field("set", &self.set.name())
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Drop for ClientKey {
    fn drop(&mut self) {
        self.seed.zeroize();
        self.small.as_mut_view().into_container().zeroize();
        self.glwe.as_mut_view().into_container().zeroize();
        self.big.as_mut_view().into_container().zeroize();
    }
}

impl ClientKey {
    /// A fresh key.
    pub fn generate(set: &ParameterSet) -> Result<Self, RandomError> {
        let seed = Zeroizing::new(random::bytes::<16>()?);
        Ok(Self::from_seed(set, u128::from_le_bytes(*seed)))
    }

    /// From what [`ClientKey::secret_bytes`] wrote.
    pub fn from_secret_bytes(set: &ParameterSet, bytes: &[u8]) -> Option<Self> {
        let seed = Zeroizing::new(<[u8; 16]>::try_from(bytes).ok()?);
        Some(Self::from_seed(set, u128::from_le_bytes(*seed)))
    }

    /// The 16 bytes from which the key follows, to be stored encrypted.
    pub fn secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.seed.to_le_bytes().to_vec())
    }

    fn from_seed(set: &ParameterSet, seed: u128) -> Self {
        let mut seeder = DeterministicSeeder::<Generator>::new(Seed(seed));
        let mut generator = SecretRandomGenerator::<Generator>::new(seeder.seed());
        let small = LweSecretKey::generate_new_binary(LweDimension(set.lwe_dimension()), &mut generator);
        let glwe = GlweSecretKey::generate_new_binary(
            GlweDimension(1),
            PolynomialSize(set.polynomial_size()),
            &mut generator,
        );
        let big = glwe.clone().into_lwe_secret_key();
        let bits = |words: &[u64]| Zeroizing::new(words.iter().map(|&bit| bit as u8).collect::<Vec<u8>>());
        let id = Transcript::new("galen exact key id v1")
            .field(&set.digest().0)
            .field(&bits(small.as_ref()))
            .field(&bits(big.as_ref()))
            .digest();
        Self {
            set: *set,
            seed,
            id,
            small,
            glwe,
            big,
        }
    }

    /// The parameter set.
    pub fn parameters(&self) -> &ParameterSet {
        &self.set
    }

    /// What names the key in public: a hash of its 2,800 bits or more.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// What the coordinator needs, once. Always the same bytes for the same secret key.
    pub fn serving_key(&self) -> ServingKey {
        let mut seeder = DeterministicSeeder::<Generator>::new(Seed(self.seed));
        // The first seed made the secret key.
        let _ = seeder.seed();
        let seeds = [(); 3].map(|()| seeder.seed().0);
        let mut key = ServingKey::empty(&self.set, self.id, seeds);
        par_generate_seeded_lwe_bootstrap_key(
            &self.small,
            &self.glwe,
            &mut key.bootstrap,
            self.set.glwe_noise(),
            &mut seeder,
        );
        for word in key.bootstrap.as_mut() {
            *word = shortened(*word);
        }
        generate_seeded_lwe_keyswitch_key(
            &self.big,
            &self.small,
            &mut key.keyswitch,
            self.set.lwe_noise(),
            &mut seeder,
        );
        generate_seeded_lwe_compact_public_key(
            &self.big,
            &mut key.public,
            self.set.glwe_noise(),
            &mut seeder,
        );
        key
    }
}

/// What a querier registers once, compressed: bootstrapping and key-switching key, and the public key under which answers are
/// re-randomised. None of them decrypts anything.
#[derive(Clone, Debug, PartialEq)]
pub struct ServingKey {
    set: ParameterSet,
    id: Digest,
    /// From which the masks of the three keys follow.
    seeds: [u128; 3],
    bootstrap: SeededLweBootstrapKeyOwned<u64>,
    keyswitch: SeededLweKeyswitchKeyOwned<u64>,
    public: SeededLweCompactPublicKeyOwned<u64>,
}

impl ServingKey {
    /// The name of the secret key that it belongs to.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// As bytes; the parameter set fixes their number.
    pub fn to_bytes(&self) -> Vec<u8> {
        let total = codec::serving_key_bytes(&self.set);
        let mut writer = Writer::new(Kind::ServingKey, &self.set.digest(), &self.id, total);
        writer.seed(self.seeds[0]);
        writer.upper(self.bootstrap.as_ref());
        writer.seed(self.seeds[1]);
        writer.words(self.keyswitch.as_ref());
        writer.seed(self.seeds[2]);
        writer.words(self.public.get_body().as_ref());
        writer.finish()
    }

    /// From bytes. Refuses what has another length, version or parameter set before anything is read or allocated.
    pub fn from_bytes(set: &ParameterSet, bytes: &[u8]) -> Result<Self, CodecError> {
        let (mut reader, id) = Reader::new(Kind::ServingKey, &set.digest(), bytes)?;
        reader.length(codec::serving_key_bytes(set))?;
        let first = (reader.seed()?, reader.upper(codec::bootstrap_words(set))?);
        let second = (reader.seed()?, reader.words(codec::keyswitch_words(set))?);
        let third = (reader.seed()?, reader.words(set.polynomial_size())?);
        let seeds = [first.0, second.0, third.0];
        Ok(Self::from_bodies(set, id, seeds, first.1, second.1, third.1))
    }

    fn empty(set: &ParameterSet, id: Digest, seeds: [u128; 3]) -> Self {
        let bootstrap = vec![0; codec::bootstrap_words(set)];
        let keyswitch = vec![0; codec::keyswitch_words(set)];
        Self::from_bodies(
            set,
            id,
            seeds,
            bootstrap,
            keyswitch,
            vec![0; set.polynomial_size()],
        )
    }

    fn from_bodies(
        set: &ParameterSet,
        id: Digest,
        seeds: [u128; 3],
        bootstrap: Vec<u64>,
        keyswitch: Vec<u64>,
        public: Vec<u64>,
    ) -> Self {
        let [first, second, third] = seeds.map(|seed| CompressionSeed::from(Seed(seed)));
        let (base, level) = set.pbs_decomposition();
        let bootstrap = SeededLweBootstrapKey::from_container(
            bootstrap,
            GlweDimension(1).to_glwe_size(),
            PolynomialSize(set.polynomial_size()),
            base,
            level,
            first,
            modulus(),
        );
        let (base, level) = set.ks_decomposition();
        let small = LweDimension(set.lwe_dimension()).to_lwe_size();
        let keyswitch =
            SeededLweKeyswitchKey::from_container(keyswitch, base, level, small, second, modulus());
        let public = SeededLweCompactPublicKey::from_container(public, third, modulus());
        Self {
            set: *set,
            id,
            seeds,
            bootstrap,
            keyswitch,
            public,
        }
    }

    /// Expands the key for evaluation: several times its size, to be kept in memory while its owner asks.
    pub fn expand(self) -> EvaluationKey {
        let standard = self.bootstrap.par_decompress_into_lwe_bootstrap_key();
        let mut bootstrap = FourierLweBootstrapKey::new(
            standard.input_lwe_dimension(),
            standard.glwe_size(),
            standard.polynomial_size(),
            standard.decomposition_base_log(),
            standard.decomposition_level_count(),
        );
        par_convert_standard_lwe_bootstrap_key_to_fourier(&standard, &mut bootstrap);
        EvaluationKey {
            set: self.set,
            id: self.id,
            bootstrap,
            keyswitch: self.keyswitch.par_decompress_into_lwe_keyswitch_key(),
            public: self.public.decompress_into_lwe_compact_public_key(),
        }
    }
}

/// A serving key, expanded.
pub struct EvaluationKey {
    pub(crate) set: ParameterSet,
    pub(crate) id: Digest,
    pub(crate) bootstrap: FourierLweBootstrapKeyOwned,
    pub(crate) keyswitch: LweKeyswitchKeyOwned<u64>,
    pub(crate) public: LweCompactPublicKeyOwned<u64>,
}

impl EvaluationKey {
    /// The name of the secret key that it belongs to.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// Bytes that it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let bootstrap = self.bootstrap.as_view().data().len() * 16;
        bootstrap + 8 * (self.keyswitch.as_ref().len() + 2 * self.set.polynomial_size())
    }
}

impl fmt::Debug for EvaluationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvaluationKey")
            .field("set", &self.set.name())
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A body rounded to its upper [`KEY_BITS`].
fn shortened(word: u64) -> u64 {
    let dropped = u64::BITS - KEY_BITS;
    word.wrapping_add(1 << (dropped - 1)) >> dropped << dropped
}

/// Expands the masks of seeded ciphertexts.
pub(crate) fn expand_list(bodies: Vec<u64>, dimension: usize, seed: u128) -> Vec<Vec<u64>> {
    if bodies.is_empty() {
        return Vec::new();
    }
    let size = LweDimension(dimension).to_lwe_size();
    let list =
        SeededLweCiphertextList::from_container(bodies, size, CompressionSeed::from(Seed(seed)), modulus());
    let list = list.decompress_into_lwe_ciphertext_list();
    let words: &[u64] = list.as_ref();
    words.chunks_exact(size.0).map(<[u64]>::to_vec).collect()
}
