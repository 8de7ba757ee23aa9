//! Contributors that cheat: what they send in the place of what they computed.
//!
//! A cheating contributor runs the real program; what it has encrypted is replaced on its disk before it is sent, so that the program
//! stands by it: it sends it again after a crash, and signs its fingerprint. It may spoil every contribution, or some of them, which
//! is how it would try to have another one blamed. As a custodian it is honest.

use super::choice::Choice;
use super::shape::Shape;
use galen_core::{Digest, PartyId, SigningKey};
use galen_party::vault::Vault;
use galen_rns::poly::{Coeff, Poly};
use galen_sums::authored::{CONTRIBUTION, FINGERPRINT};
use galen_sums::blob::{BlobReader, BlobWriter, HEADER_LEN, Subject};
use galen_sums::round::common_coefficients;
use galen_sums::{Authored, ContributionHeader, FingerprintStatement, Round};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A contribution that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoil {
    /// Whose.
    pub party: usize,
    /// Which of its contributions, counted from 1: it makes one for each attempt that it is asked in.
    pub contribution: u64,
    /// What is wrong with it.
    pub deed: Deed,
}

/// What is wrong with a contribution. `which` selects among what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Ciphertexts of the right form that encrypt nothing.
    Garbage,
    /// The hash of a piece's seed is another.
    Hash {
        /// Which piece.
        which: u64,
    },
    /// What is sealed to some custodians does not open.
    Sealed {
        /// To whom: a bit for each.
        which: u64,
    },
    /// Ciphertexts and seeds of an earlier contribution, its own or another's.
    Replay {
        /// Which.
        which: u64,
    },
    /// A value out of range is encrypted: beyond what all contributors together may have, or just beyond its own range.
    Range {
        /// Which value, which way, how far.
        which: u64,
    },
    /// The fingerprint that it signs is another.
    Fingerprint,
}

impl Deed {
    /// Whether the contribution itself is as it should be.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::Fingerprint)
    }
}

/// A contributor makes no more contributions than these, attempts included.
const CONTRIBUTIONS: u64 = 16;

/// What the cheating contributors of a seed do: mostly there is one, and mostly it spoils everything in the same way.
pub fn spoils(choice: &Choice, shape: &Shape) -> Vec<Spoil> {
    let cheaters = 1 + u64::from(choice.percent("second cheater", 0, 15));
    let mut spoils: Vec<Spoil> = Vec::new();
    for cheater in 0..cheaters {
        let party = choice.below("cheat", cheater, shape.parties as u64) as usize;
        if spoils.iter().any(|other| other.party == party) {
            continue;
        }
        let always = choice.percent("always", cheater, 55);
        let favourite = deed(choice, cheater);
        for contribution in 1..=CONTRIBUTIONS {
            let number = 1000 * (cheater + 1) + contribution;
            let same = always || choice.percent("same", number, 70);
            if always || choice.percent("spoils", number, 45) {
                let deed = if same { favourite } else { deed(choice, number) };
                spoils.push(Spoil {
                    party,
                    contribution,
                    deed,
                });
            }
        }
    }
    spoils
}

fn deed(choice: &Choice, number: u64) -> Deed {
    let which = choice.below("deed which", number, 1 << 20);
    match choice.below("deed", number, 100) {
        0..=24 => Deed::Garbage,
        25..=34 => Deed::Hash { which },
        35..=49 => Deed::Sealed { which },
        50..=64 => Deed::Replay { which },
        65..=84 => Deed::Range { which },
        _ => Deed::Fingerprint,
    }
}

/// A contribution as it stands on a contributor's disk.
pub struct Parcel {
    /// Its signed header.
    pub header: Authored,
    /// Its ciphertexts.
    pub ciphertext: Arc<[u8]>,
}

/// A contributor that cheats.
pub struct Cheat<'a> {
    /// Its number.
    pub party: usize,
    /// Its name.
    pub name: &'a PartyId,
    /// Its key.
    pub signing: &'a SigningKey,
}

/// The cheating contributors. They know every contribution that went over the network.
#[derive(Default)]
pub struct Spoiler {
    /// The records that each party contributed to, in this order.
    records: BTreeMap<usize, Vec<Digest>>,
    seen: Vec<(ContributionHeader, Arc<[u8]>)>,
    /// What spoilt contributions encrypt, by the digest of their headers; nothing where they are no encryption.
    truth: BTreeMap<Digest, Option<Vec<i64>>>,
}

impl Spoiler {
    /// What a party does to its contribution under a record, which is counted if it is new.
    fn deed(&mut self, spoils: &[Spoil], party: usize, record: &Digest) -> Option<Deed> {
        let records = self.records.entry(party).or_default();
        if !records.contains(record) {
            records.push(*record);
        }
        let number = records.iter().position(|known| known == record)? as u64 + 1;
        let theirs = |spoil: &&Spoil| (spoil.party, spoil.contribution) == (party, number);
        spoils.iter().find(theirs).map(|spoil| spoil.deed)
    }

    /// What a party sends in the place of a contribution that it is about to send; nothing if it sends that one. Of each record it is
    /// spoilt once: whatever is sent again is the same.
    pub fn contribution(
        &mut self,
        spoils: &[Spoil],
        cheat: &Cheat<'_>,
        round: &Round,
        honest: &Parcel,
        vault: &Vault,
    ) -> anyhow::Result<Option<Parcel>> {
        let header: ContributionHeader = honest.header.statement.read_unverified()?;
        let known = self.records.get(&cheat.party);
        let first = known.is_none_or(|known| !known.contains(&header.record));
        let deed = self.deed(spoils, cheat.party, &header.record);
        let spoilt = match deed.filter(|_| first) {
            Some(deed) => self.spoil(deed, cheat, round, &header, honest)?,
            None => None,
        };
        let Some((header, ciphertext, shift)) = spoilt else {
            self.seen.push((header, Arc::clone(&honest.ciphertext)));
            return Ok(None);
        };
        let study = round.roster().study();
        let authored = Authored::sign(cheat.signing, cheat.name, CONTRIBUTION, study, &header)?;
        let mut values = vault.values(round.id().round)?.map(|values| values.to_vec());
        match shift {
            Shift::None => {}
            Shift::By(at, by) => {
                if let Some(value) = values.as_mut().and_then(|values| values.get_mut(at)) {
                    *value += by;
                }
            }
            Shift::Nothing => values = None,
        }
        self.truth.insert(authored.digest(), values);
        Ok(Some(Parcel {
            header: authored,
            ciphertext: ciphertext.into(),
        }))
    }

    /// What a contribution encrypts, if it is a spoilt one.
    pub fn truth(&self, header: &Digest) -> Option<&Option<Vec<i64>>> {
        self.truth.get(header)
    }

    /// Another fingerprint than that of the contribution, if the party signs one.
    pub fn fingerprint(
        &mut self,
        spoils: &[Spoil],
        cheat: &Cheat<'_>,
        round: &Round,
        mut said: FingerprintStatement,
    ) -> anyhow::Result<Option<Authored>> {
        if self.deed(spoils, cheat.party, &said.record) != Some(Deed::Fingerprint) {
            return Ok(None);
        }
        // Twice a fingerprint is another one unless it is zero.
        let twice = said.values.clone();
        said.values.add(round, &twice)?;
        let study = round.roster().study();
        Ok(Some(Authored::sign(
            cheat.signing,
            cheat.name,
            FINGERPRINT,
            study,
            &said,
        )?))
    }

    /// The spoilt header and ciphertexts, and what they encrypt.
    fn spoil(
        &self,
        deed: Deed,
        cheat: &Cheat<'_>,
        round: &Round,
        honest: &ContributionHeader,
        parcel: &Parcel,
    ) -> anyhow::Result<Option<(ContributionHeader, Vec<u8>, Shift)>> {
        let mut header = honest.clone();
        let mut ciphertext = parcel.ciphertext.to_vec();
        let pick = |which: u64, len: usize| (which % len.max(1) as u64) as usize;
        let mut shift = Shift::None;
        match deed {
            Deed::Fingerprint => return Ok(None),
            Deed::Garbage => {
                ciphertext = garbage(cheat.name, round)?;
                shift = Shift::Nothing;
            }
            Deed::Hash { which } => {
                let at = pick(which, header.seed_hashes.len());
                header.seed_hashes[at] = Digest::of(b"the hash of another seed");
            }
            Deed::Sealed { which } => {
                let custodians = header.sealed.len();
                // At least one, whatever the bits say.
                let chosen = |at: usize| (which >> at) & 1 == 1 || at == pick(which >> 8, custodians);
                for (_, sealed) in header
                    .sealed
                    .values_mut()
                    .enumerate()
                    .filter(|(at, _)| chosen(*at))
                {
                    if let Some(byte) = sealed.last_mut() {
                        *byte ^= 1;
                    }
                }
            }
            Deed::Replay { which } => {
                if self.seen.is_empty() {
                    return Ok(None);
                }
                let (old, bytes) = &self.seen[pick(which, self.seen.len())];
                header.seed_hashes.clone_from(&old.seed_hashes);
                for (custodian, sealed) in &mut header.sealed {
                    if let Some(old) = old.sealed.get(custodian) {
                        sealed.clone_from(old);
                    }
                }
                // Under the own name and this record, if it has the length that is asked for.
                if bytes.len() == ciphertext.len() {
                    ciphertext[HEADER_LEN..].copy_from_slice(&bytes[HEADER_LEN..]);
                }
                shift = Shift::Nothing;
            }
            Deed::Range { which } => {
                let bounds: Vec<u64> = round.plan().bounds().collect();
                let at = pick(which / 8, bounds.len());
                let all = round.roster().contributors().len() as i64;
                let bound = i64::try_from(bounds[at])?;
                let far = if which.is_multiple_of(2) {
                    2 * all * bound
                } else {
                    bound
                };
                let up = (which / 2).is_multiple_of(2);
                let by = if up { far + 1 } else { -far - 1 };
                ciphertext = shifted(cheat.name, round, &parcel.ciphertext, at, by)?;
                shift = Shift::By(at, by);
            }
        }
        header.ciphertext = Digest::of(&ciphertext);
        Ok(Some((header, ciphertext, shift)))
    }
}

/// What a spoilt contribution encrypts.
enum Shift {
    /// The values that were computed.
    None,
    /// One of them is off by this much.
    By(usize, i64),
    /// Nothing.
    Nothing,
}

fn garbage(name: &PartyId, round: &Round) -> anyhow::Result<Vec<u8>> {
    let mut blob = Vec::new();
    let mut writer = BlobWriter::new(round, &Subject::Contribution(name.clone()), &mut blob)?;
    for block in 0..round.plan().blocks() {
        let seed = Digest::of(format!("garbage of {name}").as_bytes());
        writer.write_block(&common_coefficients(&seed, block, round.ring()))?;
    }
    writer.finish()?;
    Ok(blob)
}

/// The ciphertexts with one value off: encryption is linear, so that adding to them adds to the value.
fn shifted(name: &PartyId, round: &Round, blob: &[u8], at: usize, by: i64) -> anyhow::Result<Vec<u8>> {
    let subject = Subject::Contribution(name.clone());
    let mut out = Vec::new();
    let mut reader = BlobReader::new(round, &subject, blob)?;
    let mut writer = BlobWriter::new(round, &subject, &mut out)?;
    let mut block = Poly::<Coeff>::zero(round.ring());
    let degree = round.plan().degree as usize;
    for index in 0..round.plan().blocks() {
        reader.read_block(&mut block)?;
        if index as usize == at / degree {
            for (prime, modulus) in round.ring().moduli().iter().enumerate() {
                let delta = modulus.reduce_u64(round.plan().delta);
                let added = modulus.mul_shoup(modulus.reduce_i64(by), delta, modulus.shoup(delta));
                let residue = &mut block.residues_mut(prime)[at % degree];
                *residue = modulus.add(*residue, added);
            }
        }
        writer.write_block(&block)?;
    }
    reader.finish()?;
    writer.finish()?;
    Ok(out)
}
