//! Naming the custodian that sent a wrong key sum.
//!
//! A receiver that finds a bad remainder knows that some contribution or some answer was wrong, and not which. Every piece has
//! `n - t + 1` holders, so custodians can be held against each other. When they are asked, each posts one signed [`KeyCheck`]:
//! for every piece T that it holds a digest of `K_T`, the sum of that piece alone over the certified set, and for the pieces that it
//! answered for the polynomials `K_T` themselves, sealed to the receivers. [`find_liars`] then compares, as one receiver:
//!
//! 1. The polynomials must be those of the custodian's own digests and add up to the polynomial that it answered with. If not, it
//!    contradicts itself: [`Finding::Contradiction`].
//! 2. Holders of one piece must have the same digest. If one digest has more holders behind it than any other, the others are named:
//!    [`Finding::Outvoted`]; otherwise all of them: [`Finding::Disputed`]. A piece of which only one holder spoke is
//!    [`Finding::Unconfirmed`], so with t = n every piece is.
//! 3. With no finding the answers are what the custodians hold, and the fault is elsewhere: some contributor's ciphertexts do not fit the
//!    seeds that it dealt, or its values are out of range; or, if the fingerprints do not add up, the coordinator served another sum.
//!
//! A contradiction is proof to the receiver that found it, not to others: what is sealed to a receiver only it can open. A majority
//! is right if most of those holders of the piece that spoke are honest.
//!
//! # Why a check is safe to give
//! A custodian gives a check only where its ledger has it answer: in the same attempt, for the certified set and sum, and no other. The
//! receivers see some `K_T` one by one that they have seen in sums. The security argument grants them every `K_T` of the
//! certified set: whoever may open gets all of them, in sums chosen by which custodians are alive, down to single pieces, and the
//! argument is for the worst case of that (docs/sums-proof.md). The check has them over the same set, from the same seeds, and
//! expands nothing else, so it adds no equation that the single `K_T` do not give. Digests are seen by the coordinator too.
//! Together with t - 1 custodians it lacks one `K_T`, a polynomial of thousands of Gaussian coefficients; a digest lets it confirm a
//! guess of it and nothing more, as does the digest in every answer.

use crate::custodian::{OpenedSeeds, answer_context, check_set, pieces_context, seal_to_receivers, terms};
use crate::error::CustodyError;
use crate::identity::ReceiverKey;
use crate::key_sum::{KeySum, encoding_digest};
use crate::ledger::LedgerState;
use crate::seal::Context;
use galen_core::{Digest, PartyId, SigningKey, Transcript};
use galen_sums::authored::KEY_CHECK;
use galen_sums::key_check::check_answered;
use galen_sums::{
    AnswerHeader, Authored, Certificate, ContributionSet, Endorsement, KeyCheck, Round, SealedStatement,
    SealedTexts, SumsError, check_answer, check_key_check,
};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// What a receiver found when it compared checks and answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Finding {
    /// A custodian whose check does not fit itself or the answer that it gave.
    Contradiction {
        /// The custodian.
        custodian: PartyId,
        /// What does not fit.
        what: &'static str,
    },
    /// A custodian whose digest of a piece is not the one that more of the piece's holders have than any other.
    Outvoted {
        /// The custodian.
        custodian: PartyId,
        /// The piece.
        piece: u32,
    },
    /// Holders of a piece that disagree, with no majority: at least one of them lied.
    Disputed {
        /// All that spoke.
        custodians: BTreeSet<PartyId>,
        /// The piece.
        piece: u32,
    },
    /// A custodian that answered and posted no check.
    Silent {
        /// The custodian.
        custodian: PartyId,
    },
    /// Pieces for which only this custodian's word is there: it may have lied without a trace.
    Unconfirmed {
        /// The custodian.
        custodian: PartyId,
        /// The pieces, ascending.
        pieces: Vec<u32>,
    },
}

impl Finding {
    /// The custodian that is certainly at fault in the eyes of this receiver, or outvoted; nobody for a dispute, a silence
    /// or an unconfirmed piece.
    pub fn liar(&self) -> Option<&PartyId> {
        match self {
            Self::Contradiction { custodian, .. } | Self::Outvoted { custodian, .. } => Some(custodian),
            _ => None,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Contradiction { custodian, what } => write!(f, "custodian \"{custodian}\" {what}"),
            Self::Outvoted { custodian, piece } => {
                write!(
                    f,
                    "custodian \"{custodian}\" differs from the other holders of piece {piece}"
                )
            }
            Self::Disputed { custodians, piece } => {
                let names: Vec<&str> = custodians.iter().map(PartyId::as_str).collect();
                write!(f, "the holders of piece {piece} disagree: {}", names.join(", "))
            }
            Self::Silent { custodian } => write!(f, "custodian \"{custodian}\" answered and posted no check"),
            Self::Unconfirmed { custodian, pieces } => write!(
                f,
                "nobody but custodian \"{custodian}\" vouches for {} of its pieces",
                pieces.len()
            ),
        }
    }
}

/// Makes a custodian's check. `answered` are the pieces that it answered for, ascending. The ledger must stand at answered for exactly
/// this set and sum: a custodian that was not asked for an answer takes that step first.
///
/// # Errors
/// [`crate::LedgerError`]; [`SumsError::Set`] for another set than the certified one; [`SumsError::Header`] for pieces that
/// this custodian does not hold.
#[allow(clippy::too_many_arguments)] // Each is a different thing that must agree; bundling them would hide that.
pub fn check_keys(
    round: &Round,
    custodian: &PartyId,
    key: &SigningKey,
    ledger: &LedgerState,
    certificate: &Certificate,
    set: &ContributionSet,
    opened: &[OpenedSeeds],
    answered: &[u32],
) -> Result<SealedStatement, CustodyError> {
    certificate.check_set(round, set)?;
    check_set(round, set, opened)?;
    let certified = certificate.endorsement();
    ledger.allows_answering(round.id(), certified)?;
    let held = round.held_by(custodian);
    check_answered(custodian, answered, held)?;
    let mut digests = Vec::with_capacity(held.len());
    let mut encodings = Vec::with_capacity(answered.len());
    for &piece in held {
        let encoding = KeySum::of(round, opened, &[piece])?.encode(terms(set, &[piece]))?;
        digests.push(piece_digest(certified, piece, &encoding));
        if answered.contains(&piece) {
            encodings.push(encoding);
        }
    }
    // It never grows, which would leave copies of key material behind.
    let length = encodings.iter().map(|encoding| encoding.len()).sum();
    let mut polynomials = Zeroizing::new(Vec::with_capacity(length));
    for encoding in encodings {
        polynomials.extend_from_slice(&encoding);
    }
    let texts = match answered {
        [] => BTreeMap::new(),
        answered => seal_to_receivers(round, &polynomials, |receiver| {
            check_context(certified, custodian, answered, receiver)
        })?,
    };
    let check = KeyCheck {
        record: certified.record,
        set: certified.set,
        sum: certified.sum,
        custodian: custodian.clone(),
        digests,
        answered: answered.to_vec(),
        sealed: SealedTexts::of(&texts),
    };
    let study = round.roster().study();
    let said = Authored::sign(key, custodian, KEY_CHECK, study, &check)?;
    Ok(SealedStatement { said, texts })
}

/// Compares the answers that opened nothing with the custodians' checks, as the receiver `me`. Findings are sorted; an empty list means
/// that every piece has at least two holders that agree, and that the fault is not a custodian's, as far as most of them are honest.
///
/// # Errors
/// Those of [`galen_sums::check_answer`], for answers that the coordinator should not have taken; [`SumsError::Endorsement`] for two
/// checks of one custodian; [`CustodyError::Carried`] for a sealed text that is not the one signed. A check that does not conform ([`check_key_check`]) counts as none.
pub fn find_liars(
    round: &Round,
    certificate: &Certificate,
    set: &ContributionSet,
    me: &PartyId,
    key: &ReceiverKey,
    answers: &[SealedStatement],
    checks: &[SealedStatement],
) -> Result<Vec<Finding>, CustodyError> {
    certificate.check_set(round, set)?;
    let mut checked: BTreeMap<PartyId, (KeyCheck, &Texts)> = BTreeMap::new();
    for given in checks {
        // What does not conform is no word at all: whoever sent it is silent.
        let Ok(check) = check_key_check(round, certificate, &given.said) else {
            continue;
        };
        if checked
            .insert(check.custodian.clone(), (check, &given.texts))
            .is_some()
        {
            return Err(SumsError::Endorsement(given.said.author.clone()).into());
        }
    }
    let receiver = Receiver {
        round,
        certified: certificate.endorsement(),
        set,
        me,
        key,
    };
    let mut findings = BTreeSet::new();
    for given in answers {
        let answer = check_answer(round, certificate, &given.said)?;
        let custodian = answer.custodian.clone();
        match checked.get(&custodian) {
            None => {
                findings.insert(Finding::Silent { custodian });
            }
            Some((check, texts)) => {
                let carried = || CustodyError::Carried {
                    custodian: custodian.clone(),
                };
                let answered = answer.sealed.own(me, &given.texts).ok_or_else(carried)?;
                let polynomials = match check.sealed.is_empty() {
                    true => &[],
                    false => check.sealed.own(me, texts).ok_or_else(carried)?,
                };
                if let Err(what) = receiver.compare(&answer, answered, check, polynomials) {
                    findings.insert(Finding::Contradiction { custodian, what });
                }
            }
        }
    }
    compare_holders(round, &checked, &mut findings);
    Ok(findings.into_iter().collect())
}

/// Sealed texts by receiver.
type Texts = BTreeMap<PartyId, Vec<u8>>;

/// Who compares, and what about.
struct Receiver<'a> {
    round: &'a Round,
    certified: &'a Endorsement,
    set: &'a ContributionSet,
    me: &'a PartyId,
    key: &'a ReceiverKey,
}

impl Receiver<'_> {
    /// Whether a custodian's polynomials of single pieces fit its digests and its answer; otherwise what it did.
    fn compare(
        &self,
        answer: &AnswerHeader,
        answered: &[u8],
        check: &KeyCheck,
        polynomials: &[u8],
    ) -> Result<(), &'static str> {
        if !answer.pieces.iter().all(|piece| check.answered.contains(piece)) {
            return Err("left a piece that it answered for out of its check");
        }
        let context = answer_context(self.certified, &answer.custodian, &answer.pieces, self.me);
        let answered = self
            .open(&context, answered)
            .ok_or("sealed an answer that does not open")?;
        if encoding_digest(self.round.digest(), &answered) != answer.key_sum {
            return Err("answered with another polynomial than it signed");
        }
        let context = check_context(self.certified, &check.custodian, &check.answered, self.me);
        let polynomials = self
            .open(&context, polynomials)
            .ok_or("sealed polynomials that do not open")?;
        let held = self.round.held_by(&check.custodian);
        let degree = self.round.plan().degree as usize;
        let mut total = KeySum::zero(degree);
        let mut rest = &polynomials[..];
        for &piece in &check.answered {
            let encoding;
            (encoding, rest) = KeySum::split_encoding(degree, rest).ok_or("sealed polynomials of no form")?;
            let signed = held
                .binary_search(&piece)
                .ok()
                .and_then(|at| check.digests.get(at));
            if signed != Some(&piece_digest(self.certified, piece, encoding)) {
                return Err("sealed another polynomial than it signed");
            }
            if answer.pieces.contains(&piece) {
                let part = KeySum::decode(degree, terms(self.set, &[piece]), encoding)
                    .ok_or("sealed what is not a short polynomial")?;
                total.add(&part);
            }
        }
        if !rest.is_empty() {
            return Err("sealed more than the polynomials of its pieces");
        }
        let expected = KeySum::decode(degree, terms(self.set, &answer.pieces), &answered)
            .ok_or("answered with what is not a short polynomial")?;
        if total.is(&expected) {
            Ok(())
        } else {
            Err("answered with another polynomial than the sum of its pieces")
        }
    }

    fn open(&self, context: &Context, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.key.pair().open(context, sealed)
    }
}

/// Holds the holders of each piece against each other.
fn compare_holders(
    round: &Round,
    checked: &BTreeMap<PartyId, (KeyCheck, &Texts)>,
    findings: &mut BTreeSet<Finding>,
) {
    let mut alone: BTreeMap<&PartyId, Vec<u32>> = BTreeMap::new();
    for piece in 0..round.roster().pieces().len() as u32 {
        let mut sides: BTreeMap<Digest, Vec<&PartyId>> = BTreeMap::new();
        for (custodian, (check, _)) in checked {
            let at = round.held_by(custodian).binary_search(&piece);
            if let Some(digest) = at.ok().and_then(|at| check.digests.get(at)) {
                sides.entry(*digest).or_default().push(custodian);
            }
        }
        let spoke: Vec<&PartyId> = sides.values().flatten().copied().collect();
        if let [only] = spoke[..] {
            alone.entry(only).or_default().push(piece);
        }
        let largest = sides.values().map(Vec::len).max().unwrap_or(0);
        let leading = sides.values().filter(|side| side.len() == largest).count();
        if sides.len() < 2 {
            continue;
        }
        if leading > 1 {
            let custodians = spoke.into_iter().cloned().collect();
            findings.insert(Finding::Disputed { custodians, piece });
            continue;
        }
        for custodian in sides.into_values().filter(|side| side.len() < largest).flatten() {
            let custodian = custodian.clone();
            findings.insert(Finding::Outvoted { custodian, piece });
        }
    }
    findings.extend(alone.into_iter().map(|(custodian, pieces)| Finding::Unconfirmed {
        custodian: custodian.clone(),
        pieces,
    }));
}

/// Digest of the encoding of one piece's `K_T`: the same for every holder.
fn piece_digest(certified: &Endorsement, piece: u32, encoding: &[u8]) -> Digest {
    Transcript::new("galen sums single piece v1")
        .field(&certified.record.0)
        .field(&certified.set.0)
        .number(piece.into())
        .field(encoding)
        .digest()
}

/// What sealed polynomials of single pieces belong to.
fn check_context(
    certified: &Endorsement,
    custodian: &PartyId,
    answered: &[u32],
    receiver: &PartyId,
) -> Context {
    let label = "galen sums sealed key check v1";
    pieces_context(label, certified, custodian, answered, receiver)
}

#[cfg(test)]
mod tests;
