//! The set S of contributions that are opened together, its endorsement by custodians, and their answers.
//!
//! All messages pass through the coordinator, so nobody's own ledger proves what others were told. What holds is
//! counted: a custodian signs at most one of (record, set, sum) and "abandoned" ([`crate::abandon`]) per attempt, and two
//! certificates of g signatures each share at least 2g - n signers. So two sums of one attempt, or a sum of an attempt
//! that was given up, take at least 2g - n custodians that cheat; the study's summary prints f = 2g - n - 1.

use crate::authored::{ANSWER, Authored, ENDORSEMENT};
use crate::contribution::check_header;
use crate::error::{SetFault, SumsError};
use crate::round::Round;
use crate::sealed::SealedTexts;
use galen_core::{Digest, PartyId, Transcript};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The contributions that are added: for each contributor, the digest of its signed header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContributionSet {
    /// Digest of the round record.
    pub record: Digest,
    /// Digest of each contributor's signed header.
    pub members: BTreeMap<PartyId, Digest>,
}

impl ContributionSet {
    /// The set of these contributions, each of which is checked.
    ///
    /// # Errors
    /// Those of [`check_header`] and of [`Self::check`], and [`SetFault::Repeated`].
    pub fn new(round: &Round, headers: &[Authored]) -> Result<Self, SumsError> {
        let mut members = BTreeMap::new();
        for header in headers {
            check_header(round, header)?;
            if members.insert(header.author.clone(), header.digest()).is_some() {
                return Err(SetFault::Repeated(header.author.clone()).into());
            }
        }
        let set = Self {
            record: *round.digest(),
            members,
        };
        set.check(round)?;
        Ok(set)
    }

    /// Checks number and membership of a set that came from elsewhere; the headers are checked where they are read.
    ///
    /// # Errors
    /// [`SumsError::Set`].
    pub fn check(&self, round: &Round) -> Result<(), SumsError> {
        let (members, min) = (self.members.len(), round.roster().min_contributors());
        let max = round.plan().inputs.contributors as usize;
        if self.record != *round.digest() {
            return Err(SetFault::NotCertified.into());
        }
        if members < min {
            return Err(SetFault::TooFew { members, min }.into());
        }
        if members > max {
            return Err(SetFault::TooMany { members, max }.into());
        }
        match self
            .members
            .keys()
            .find(|name| !round.roster().is_contributor(name))
        {
            Some(stranger) => Err(SetFault::Stranger(stranger.clone()).into()),
            None => Ok(()),
        }
    }

    /// Digest of the set.
    pub fn digest(&self) -> Digest {
        let start = Transcript::new("galen sums set v1")
            .field(&self.record.0)
            .number(self.members.len() as u64);
        let add = |t: Transcript, (name, header): (&PartyId, &Digest)| {
            t.field(name.as_str().as_bytes()).field(&header.0)
        };
        self.members.iter().fold(start, add).digest()
    }

    /// Number of contributions.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// A custodian's word that it agrees to open this set with this sum, and no other in this attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endorsement {
    /// Digest of the round record.
    pub record: Digest,
    /// Digest of the set.
    pub set: Digest,
    /// Digest of the sum blob.
    pub sum: Digest,
}

impl Endorsement {
    /// The endorsement of a set with a sum.
    pub fn of(set: &ContributionSet, sum: Digest) -> Self {
        Self {
            record: set.record,
            set: set.digest(),
            sum,
        }
    }
}

/// g valid endorsements of one set and sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    endorsement: Endorsement,
    endorsers: BTreeSet<PartyId>,
}

impl Certificate {
    /// What is certified.
    pub fn endorsement(&self) -> &Endorsement {
        &self.endorsement
    }

    /// Who endorsed it.
    pub fn endorsers(&self) -> &BTreeSet<PartyId> {
        &self.endorsers
    }

    /// Whether a set is the certified one.
    ///
    /// # Errors
    /// [`SetFault::NotCertified`], or what makes it no set of this round.
    pub fn check_set(&self, round: &Round, set: &ContributionSet) -> Result<(), SumsError> {
        set.check(round)?;
        if self.endorsement.record != *round.digest() || self.endorsement.set != set.digest() {
            return Err(SetFault::NotCertified.into());
        }
        Ok(())
    }
}

/// Verifies endorsements: at least g distinct custodians of the round, all of the same set and sum.
///
/// # Errors
/// [`SumsError::Certificate`] for too few; any invalid or contradicting one is an error too.
pub fn check_certificate(round: &Round, endorsements: &[Authored]) -> Result<Certificate, SumsError> {
    let mut endorsers = BTreeSet::new();
    let mut agreed: Option<Endorsement> = None;
    for authored in endorsements {
        let author = &authored.author;
        if !round.custodians().contains_key(author) {
            return Err(SumsError::Role {
                party: author.clone(),
                role: "custodian",
            });
        }
        let endorsement: Endorsement = authored.open(round.roster(), ENDORSEMENT)?;
        if endorsement.record != *round.digest() {
            return Err(SumsError::Record {
                author: author.clone(),
            });
        }
        let contradicts = agreed.as_ref().is_some_and(|agreed| *agreed != endorsement);
        if contradicts || !endorsers.insert(author.clone()) {
            return Err(SumsError::Endorsement(author.clone()));
        }
        agreed = Some(endorsement);
    }
    let (found, needed) = (endorsers.len(), round.roster().agreement());
    match agreed {
        Some(endorsement) if found >= needed => Ok(Certificate {
            endorsement,
            endorsers,
        }),
        _ => Err(SumsError::Certificate { found, needed }),
    }
}

/// A custodian's answer to a certificate: one polynomial, the sum of its assigned pieces over the set, sealed to each receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerHeader {
    /// Digest of the round record.
    pub record: Digest,
    /// Digest of the set.
    pub set: Digest,
    /// Digest of the sum blob.
    pub sum: Digest,
    /// Who answers.
    pub custodian: PartyId,
    /// The pieces that the polynomial covers, ascending.
    pub pieces: Vec<u32>,
    /// Digest of the polynomial's encoding, by which a custodian that lies can be named.
    pub key_sum: Digest,
    /// The encoding, sealed to each receiver's long-term key.
    pub sealed: SealedTexts,
}

/// Checks what is public of an answer: signature, certificate, pieces and form.
///
/// # Errors
/// What does not hold, naming the custodian.
pub fn check_answer(
    round: &Round,
    certificate: &Certificate,
    authored: &Authored,
) -> Result<AnswerHeader, SumsError> {
    let author = &authored.author;
    if !round.custodians().contains_key(author) {
        return Err(SumsError::Role {
            party: author.clone(),
            role: "custodian",
        });
    }
    let answer: AnswerHeader = authored.open(round.roster(), ANSWER)?;
    let refuse = |what| {
        Err(SumsError::Header {
            kind: "answer",
            author: author.clone(),
            what,
        })
    };
    let certified = certificate.endorsement();
    if answer.custodian != *author {
        return refuse("it names another custodian than its signer");
    }
    if answer.record != *round.digest() {
        return Err(SumsError::Record {
            author: author.clone(),
        });
    }
    if (answer.record, answer.set, answer.sum) != (certified.record, certified.set, certified.sum) {
        return Err(SetFault::NotCertified.into());
    }
    let held: BTreeSet<u32> = round.held_by(author).iter().copied().collect();
    if answer.pieces.is_empty() || !answer.pieces.iter().all(|piece| held.contains(piece)) {
        return refuse("it covers no pieces, or pieces that the custodian does not hold");
    }
    if !answer.pieces.is_sorted_by(|a, b| a < b) {
        return refuse("its pieces are not in ascending order");
    }
    match answer.sealed.check(&round.roster().receivers().iter().collect()) {
        Ok(()) => Ok(answer),
        Err(what) => refuse(what),
    }
}
