//! The one extendable-output function of Galen: HKDF-SHA256 (RFC 5869) into a ChaCha20 stream (RFC 8439 block
//! function with a 64-bit counter, zero nonce).

use crate::error::RnsError;
use chacha20::ChaCha20Legacy;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use pulp::bytemuck;
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, Zeroizing};

/// The name of the construction below. It is the HKDF salt, so that another version gives another stream, and
/// whoever hashes seeds hashes this name with them.
pub const XOF_NAME: &str = "galen-xof-1";

/// Bytes made at a time for short reads: a few blocks, which the cipher makes together.
const BUFFER: usize = 512;

/// A deterministic stream of bytes from a 32-byte seed and a domain.
///
/// The ChaCha20 key is `HKDF-SHA256(salt = XOF_NAME, ikm = seed, info = domain fields, 32 bytes)`, each field
/// preceded by its length in bytes (64 bits, little-endian). Values are read in little-endian order. The state is
/// overwritten on drop.
pub struct Xof {
    stream: ChaCha20Legacy,
    /// What of the stream has been made and not read: everything from `read` on.
    made: [u8; BUFFER],
    read: usize,
}

impl core::fmt::Debug for Xof {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Xof").finish_non_exhaustive()
    }
}

impl Drop for Xof {
    fn drop(&mut self) {
        // The cipher wipes itself.
        self.made.zeroize();
    }
}

impl Xof {
    /// The stream of this seed and domain. Different domains give independent streams.
    #[must_use]
    pub fn new(seed: &[u8; 32], domain: &[&[u8]]) -> Self {
        let mut info = Vec::with_capacity(domain.iter().map(|field| 8 + field.len()).sum());
        for field in domain {
            info.extend_from_slice(&(field.len() as u64).to_le_bytes());
            info.extend_from_slice(field);
        }
        let mut key = Zeroizing::new([0u8; 32]);
        #[expect(
            clippy::expect_used,
            reason = "RFC 5869 allows 255 * 32 bytes of output; 32 are asked for"
        )]
        hkdf::Salt::new(hkdf::HKDF_SHA256, XOF_NAME.as_bytes())
            .extract(seed)
            .expand(&[&info], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *key))
            .expect("32 bytes of HKDF output");
        // Domains may carry key material of a caller.
        info.zeroize();
        Self {
            stream: ChaCha20Legacy::new((&*key).into(), &[0; 8].into()),
            made: [0; BUFFER],
            read: BUFFER,
        }
    }

    /// The next bytes.
    ///
    /// A read is rounded up to whole 32-bit words, so that the stream is defined by the sequence of reads; samplers read
    /// whole 64-bit words.
    pub fn fill(&mut self, out: &mut [u8]) {
        let made = &self.made[self.read..];
        let (head, rest) = out.split_at_mut(made.len().min(out.len()));
        head.copy_from_slice(&made[..head.len()]);
        self.read += head.len();
        let (whole, tail) = rest.split_at_mut(rest.len() / BUFFER * BUFFER);
        self.stream.write_keystream(whole);
        if !tail.is_empty() {
            self.stream.write_keystream(&mut self.made);
            tail.copy_from_slice(&self.made[..tail.len()]);
            self.read = tail.len();
        }
        self.read = self.read.next_multiple_of(4);
    }

    /// The next eight bytes, little-endian.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// The next `8 * out.len()` bytes as little-endian words.
    pub(crate) fn fill_words(&mut self, out: &mut [u64]) {
        self.fill(bytemuck::cast_slice_mut(out));
        out.iter_mut().for_each(|word| *word = u64::from_le(*word));
    }
}

/// 32 fresh bytes from the operating system.
///
/// # Errors
/// [`RnsError::Randomness`].
pub fn random_seed() -> Result<[u8; 32], RnsError> {
    let mut seed = [0u8; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| RnsError::Randomness)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use ring::hmac;

    fn read(seed: &[u8; 32], domain: &[&[u8]], count: usize) -> Vec<u8> {
        let mut out = vec![0; count];
        Xof::new(seed, domain).fill(&mut out);
        out
    }

    #[test]
    fn known_answer() {
        let seed: [u8; 32] = core::array::from_fn(|i| i as u8);
        assert_eq!(hex::encode(read(&seed, &[b"known", b"answer"], 48)), KNOWN);
        let mut xof = Xof::new(&seed, &[b"known", b"answer"]);
        assert_eq!(xof.next_u64().to_le_bytes(), hex::decode(KNOWN).unwrap()[..8]);
    }

    const KNOWN: &str =
        "27b43e30050bd3b1e73b63dc5d9e7a84c3ce27b4a1c0a8e0b9072309c66db732d3a1fef66c7d1a24f8fad2dfdde1d43e";

    /// The key written out with HMAC as RFC 5869 has it: extract, then one block of expand.
    #[test]
    fn key_derivation_is_as_documented() {
        let seed = [7u8; 32];
        let prk = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, XOF_NAME.as_bytes()), &seed);
        let info = [
            &3u64.to_le_bytes()[..],
            b"abc",
            &0u64.to_le_bytes(),
            &1u64.to_le_bytes(),
            b"d",
            &[1],
        ]
        .concat();
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, prk.as_ref()), &info);
        let mut expected = [0; 100];
        ChaCha20Rng::from_seed(key.as_ref().try_into().unwrap()).fill_bytes(&mut expected);
        assert_eq!(read(&seed, &[b"abc", b"", b"d"], 100), expected);
    }

    /// However a stream is read, it goes on where the last whole word ended.
    #[test]
    fn reads_of_any_length_continue_the_stream() {
        let whole = read(&[3; 32], &[b"reads"], 40_000);
        let mut xof = Xof::new(&[3; 32], &[b"reads"]);
        let mut at = 0;
        for length in [
            8, 1, 3, 500, 512, 0, 513, 1024, 7, 4096, 505, 2, 511, 1531, 20_000,
        ] {
            let mut out = vec![0; length];
            xof.fill(&mut out);
            assert_eq!(out, whole[at..at + length], "{length} bytes at {at}");
            at = (at + length).next_multiple_of(4);
        }
        let mut words = [0; 100];
        xof.fill_words(&mut words);
        for word in words {
            assert_eq!(word.to_le_bytes(), whole[at..at + 8]);
            at += 8;
        }
        assert_eq!(xof.next_u64().to_le_bytes(), whole[at..at + 8]);
    }

    #[test]
    fn fields_do_not_run_together() {
        let seed = [1; 32];
        let domains: [&[&[u8]]; 6] = [&[], &[b""], &[b"ab"], &[b"a", b"b"], &[b"", b"ab"], &[b"ab", b""]];
        let streams: Vec<_> = domains.iter().map(|d| read(&seed, d, 32)).collect();
        for i in 0..streams.len() {
            assert!(!streams[..i].contains(&streams[i]), "{i}");
        }
        assert_ne!(read(&[2; 32], &[], 32), streams[0]);
    }

    #[test]
    fn fresh_seeds_differ() {
        assert_ne!(random_seed().unwrap(), random_seed().unwrap());
    }
}
