//! What a custodian does in a round: give out a one-round key, check contributions, endorse one set, answer for it.
//!
//! The only secret that a custodian stores is its [`OneRoundSecret`]: the seeds stay sealed in the contributions'
//! headers and are opened in memory when they are needed. So erasing that one small file, when the round is over,
//! erases every seed.

use crate::contribute::seeds_context;
use crate::error::CustodyError;
use crate::key_sum::{KeySum, encoding_digest};
use crate::ledger::{LedgerError, LedgerState, Vouch};
use crate::seal::{Context, KeyPair};
use crate::seeds::Seeds;
use galen_core::{Digest, PartyId, SigningKey, StudyDigest};
use galen_sums::authored::{ANSWER, CHECKED, CONFIRMATION, ENDORSEMENT, INCARNATION, STALE};
use galen_sums::record::{OneRoundKey, RoundId};
use galen_sums::{
    Abandoned, AnswerHeader, Authored, Certificate, Confirmation, ContributionSet, Endorsement, Incarnation,
    Round, SealedStatement, SealedTexts, SetFault, Stale, SumsError, check_header,
};
use std::collections::BTreeMap;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const SECRET_VERSION: u8 = 1;
const SECRET_LEN: usize = 1 + 4 + 4 + 32;

/// A custodian's HPKE key pair for one attempt of one round. Overwritten on drop; Debug prints the public half only.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
pub struct OneRoundSecret {
    #[zeroize(skip)]
    round: RoundId,
    pair: KeyPair,
}

impl OneRoundSecret {
    /// Draws a key pair.
    ///
    /// # Errors
    /// [`CustodyError::Random`].
    pub fn generate(round: RoundId) -> Result<Self, CustodyError> {
        Ok(Self {
            round,
            pair: KeyPair::generate()?,
        })
    }

    /// For which round and attempt.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// The public half.
    pub fn public(&self) -> &[u8; 32] {
        self.pair.public()
    }

    /// Bytes for storing the secret, in a file of its own that is erased when the round is over.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(SECRET_LEN));
        out.push(SECRET_VERSION);
        out.extend_from_slice(&self.round.round.to_le_bytes());
        out.extend_from_slice(&self.round.attempt.to_le_bytes());
        self.pair.write(&mut out);
        out
    }

    /// Reads [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`CustodyError::Key`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CustodyError> {
        let unreadable = || CustodyError::Key("one-round secret");
        let (&[version, a, b, c, d, e, f, g, h], key) = bytes.split_first_chunk().ok_or_else(unreadable)?;
        if version != SECRET_VERSION {
            return Err(unreadable());
        }
        let round = RoundId {
            round: u32::from_le_bytes([a, b, c, d]),
            attempt: u32::from_le_bytes([e, f, g, h]),
        };
        Ok(Self {
            round,
            pair: KeyPair::read(key).ok_or_else(unreadable)?,
        })
    }

    /// The signed statement that gives out the public half, if the ledger has announced it.
    ///
    /// # Errors
    /// [`CustodyError::Ledger`].
    pub fn statement(
        &self,
        ledger: &LedgerState,
        custodian: &PartyId,
        key: &SigningKey,
        study: &StudyDigest,
    ) -> Result<Authored, CustodyError> {
        ledger.allows_key(self.round, self.public())?;
        let statement = OneRoundKey {
            round: self.round,
            custodian: custodian.clone(),
            key: *self.public(),
            incarnation: *ledger.incarnation().ok_or(LedgerError::NoIncarnation)?,
            seq: ledger.seq(),
        };
        Ok(statement.sign(key, study)?)
    }
}

/// The seeds of one contributor that a custodian holds, checked against their hashes.
#[derive(Debug)]
pub struct OpenedSeeds {
    seeds: Seeds,
    header: Digest,
}

impl OpenedSeeds {
    /// Whose seeds they are.
    pub fn contributor(&self) -> &PartyId {
        self.seeds.contributor()
    }

    /// Digest of the signed header that they came in.
    pub fn header(&self) -> &Digest {
        &self.header
    }

    pub(crate) fn seeds(&self) -> &Seeds {
        &self.seeds
    }
}

/// Checks a contribution as its custodian: everything public, and that the sealed seeds open and fit their hashes.
///
/// # Errors
/// [`CustodyError::Seeds`], which names the contributor; [`CustodyError::OtherSecret`]; those of
/// [`galen_sums::check_header`].
pub fn check_contribution(
    round: &Round,
    custodian: &PartyId,
    secret: &OneRoundSecret,
    authored: &Authored,
) -> Result<OpenedSeeds, CustodyError> {
    if secret.round != round.id() || round.custodians().get(custodian) != Some(secret.public()) {
        return Err(CustodyError::OtherSecret(round.id()));
    }
    let header = check_header(round, authored)?;
    let contributor = &header.contributor;
    let bad = |what| CustodyError::Seeds {
        contributor: contributor.clone(),
        what,
    };
    let sealed = header.sealed.get(custodian).ok_or_else(|| bad("are missing"))?;
    let context = seeds_context(round, contributor, custodian);
    let bytes = secret
        .pair
        .open(&context, sealed)
        .ok_or_else(|| bad("do not open"))?;
    let seeds = Seeds::read(round, contributor, round.held_by(custodian), bytes)
        .ok_or_else(|| bad("are not those of the custodian's pieces"))?;
    if seeds
        .hashes()
        .any(|(piece, hash)| header.seed_hashes.get(piece as usize) != Some(&hash))
    {
        return Err(bad("do not fit their hashes"));
    }
    Ok(OpenedSeeds {
        seeds,
        header: authored.digest(),
    })
}

/// Checks that a set may be opened: enough distinct members, one record and one base, and exactly the contributions whose
/// seeds were opened. (Each of `opened` has passed [`check_contribution`], which checks signature, record and base.)
///
/// No contribution can be in two certificates: it names its record, a record one attempt, and the ledger one set per attempt.
///
/// # Errors
/// [`SumsError::Set`].
pub fn check_set(round: &Round, set: &ContributionSet, opened: &[OpenedSeeds]) -> Result<(), CustodyError> {
    set.check(round)?;
    let mut members = set.members.clone();
    for seeds in opened {
        let fault = |fault: fn(PartyId) -> SetFault| Err(fault(seeds.contributor().clone()).into());
        if seeds.seeds.record() != round.digest() {
            return fault(SetFault::Contribution);
        }
        match members.remove(seeds.contributor()) {
            Some(header) if header == seeds.header => {}
            _ => return fault(SetFault::Contribution),
        }
    }
    match members.pop_first() {
        Some((missing, _)) => Err(SetFault::Contribution(missing).into()),
        None => Ok(()),
    }
}

/// Says that the seeds of a proposed set fit. Binds nobody: a set of which some seeds fit nobody's hashes is found out before
/// any custodian is bound to it.
///
/// # Errors
/// Those of [`check_set`].
pub fn report_checked(
    round: &Round,
    custodian: &PartyId,
    key: &SigningKey,
    set: &ContributionSet,
    opened: &[OpenedSeeds],
    sum: Digest,
) -> Result<Authored, CustodyError> {
    check_set(round, set, opened)?;
    let statement = Endorsement::of(set, sum);
    let study = round.roster().study();
    Ok(Authored::sign(key, custodian, CHECKED, study, &statement)?)
}

/// Gives an attempt up. The ledger must stand at abandoned.
///
/// # Errors
/// [`CustodyError::Ledger`].
pub fn abandon(
    round: RoundId,
    custodian: &PartyId,
    key: &SigningKey,
    ledger: &LedgerState,
    study: &StudyDigest,
) -> Result<Authored, CustodyError> {
    ledger.allows_abandoning(round)?;
    Ok(Abandoned { round }.sign(key, custodian, study)?)
}

/// The signed word about another custodian's incarnation; nothing for one that was replaced before.
///
/// # Errors
/// [`CustodyError::Sums`] if it cannot be encoded.
pub fn vouch(
    said: &Incarnation,
    vouch: &Vouch,
    custodian: &PartyId,
    key: &SigningKey,
    study: &StudyDigest,
) -> Result<Option<Authored>, CustodyError> {
    let (of, nonce) = (said.custodian.clone(), said.nonce);
    let statement = match vouch {
        Vouch::Confirmed(newest) => {
            let word = Confirmation {
                custodian: of,
                nonce,
                newest: *newest,
            };
            Authored::sign(key, custodian, CONFIRMATION, study, &word)?
        }
        Vouch::Stale(newest) => {
            let word = Stale {
                custodian: of,
                nonce,
                newest: newest.clone(),
            };
            Authored::sign(key, custodian, STALE, study, &word)?
        }
        Vouch::Retired => return Ok(None),
    };
    Ok(Some(statement))
}

/// The own incarnation, signed.
///
/// # Errors
/// [`CustodyError::Ledger`] if none was begun.
pub fn incarnation(
    custodian: &PartyId,
    key: &SigningKey,
    ledger: &LedgerState,
    study: &StudyDigest,
) -> Result<Authored, CustodyError> {
    let said = Incarnation {
        custodian: custodian.clone(),
        nonce: *ledger.incarnation().ok_or(LedgerError::NoIncarnation)?,
        seq: ledger.began(),
    };
    Ok(Authored::sign(key, custodian, INCARNATION, study, &said)?)
}

/// Endorses a set with its sum. The ledger must have committed to exactly this.
///
/// # Errors
/// Those of [`check_set`], and [`CustodyError::Ledger`].
pub fn endorse(
    round: &Round,
    custodian: &PartyId,
    key: &SigningKey,
    ledger: &LedgerState,
    set: &ContributionSet,
    opened: &[OpenedSeeds],
    sum: Digest,
) -> Result<Authored, CustodyError> {
    check_set(round, set, opened)?;
    let endorsement = Endorsement::of(set, sum);
    ledger.allows_endorsing(round.id(), &endorsement)?;
    Ok(Authored::sign(
        key,
        custodian,
        ENDORSEMENT,
        round.roster().study(),
        &endorsement,
    )?)
}

/// Answers a certificate for the assigned pieces (ascending): ONE polynomial, however many pieces and blocks there are,
/// sealed to every receiver and signed with the digests of what is sealed. The ledger must stand at answered for exactly this set and sum.
///
/// # Errors
/// [`CustodyError::Ledger`]; [`SumsError::Set`] for another set than the certified one; [`SumsError::Header`] for
/// pieces that this custodian does not hold.
#[allow(clippy::too_many_arguments)] // Each is a different thing that must agree; bundling them would hide that.
pub fn answer(
    round: &Round,
    custodian: &PartyId,
    key: &SigningKey,
    ledger: &LedgerState,
    certificate: &Certificate,
    set: &ContributionSet,
    opened: &[OpenedSeeds],
    pieces: &[u32],
) -> Result<SealedStatement, CustodyError> {
    certificate.check_set(round, set)?;
    check_set(round, set, opened)?;
    let certified = certificate.endorsement();
    ledger.allows_answering(round.id(), certified)?;
    let refuse = |what| SumsError::Header {
        kind: "answer",
        author: custodian.clone(),
        what,
    };
    let held = round.held_by(custodian);
    if pieces.is_empty() || !pieces.iter().all(|piece| held.contains(piece)) {
        return Err(refuse("it covers no pieces, or pieces that the custodian does not hold").into());
    }
    if !pieces.is_sorted_by(|a, b| a < b) {
        return Err(refuse("its pieces are not in ascending order").into());
    }
    let encoding = KeySum::of(round, opened, pieces)?.encode(terms(set, pieces))?;
    let texts = seal_to_receivers(round, &encoding, |receiver| {
        answer_context(certified, custodian, pieces, receiver)
    })?;
    let header = AnswerHeader {
        record: certified.record,
        set: certified.set,
        sum: certified.sum,
        custodian: custodian.clone(),
        pieces: pieces.to_vec(),
        key_sum: encoding_digest(round.digest(), &encoding),
        sealed: SealedTexts::of(&texts),
    };
    let said = Authored::sign(key, custodian, ANSWER, round.roster().study(), &header)?;
    Ok(SealedStatement { said, texts })
}

/// Number of seeds in a key sum.
pub(crate) fn terms(set: &ContributionSet, pieces: &[u32]) -> u64 {
    set.len() as u64 * pieces.len() as u64
}

/// What a sealed key sum belongs to.
pub(crate) fn answer_context(
    certified: &Endorsement,
    custodian: &PartyId,
    pieces: &[u32],
    receiver: &PartyId,
) -> Context {
    pieces_context(
        "galen sums sealed answer v1",
        certified,
        custodian,
        pieces,
        receiver,
    )
}

/// What key material of some pieces, sealed by a custodian to a receiver, belongs to.
pub(crate) fn pieces_context(
    label: &'static str,
    certified: &Endorsement,
    custodian: &PartyId,
    pieces: &[u32],
    receiver: &PartyId,
) -> Context {
    let pieces: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_le_bytes()).collect();
    let fields = [
        &certified.record.0[..],
        &certified.set.0,
        &certified.sum.0,
        custodian.as_str().as_bytes(),
        &pieces,
        receiver.as_str().as_bytes(),
    ];
    Context::new(label, &fields)
}

/// A text, sealed to the long-term key of every receiver of the study.
pub(crate) fn seal_to_receivers(
    round: &Round,
    text: &[u8],
    context: impl Fn(&PartyId) -> Context,
) -> Result<BTreeMap<PartyId, Vec<u8>>, CustodyError> {
    let mut sealed = BTreeMap::new();
    for receiver in round.roster().receivers() {
        let to = round
            .roster()
            .sealing(receiver)
            .ok_or_else(|| CustodyError::Seal(receiver.clone()))?;
        sealed.insert(receiver.clone(), context(receiver).seal(receiver, to, text)?);
    }
    Ok(sealed)
}
