//! The rules of round attempts: which may begin, what is added, what may open, how they end.

use super::{Checker, Inconsistency, Verdict};
use crate::abandon::Abandoned;
use crate::audit::chain::AuditLine;
use crate::audit::report::Opening;
use crate::authored::{ABANDONED, Authored, ENDORSEMENT};
use crate::record::RoundId;
use crate::roster::Roster;
use crate::set::{ContributionSet, Endorsement};
use galen_core::study::Purpose;
use galen_core::{Digest, PartyId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the lines so far say of an attempt.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    record: Option<(Digest, Purpose, Digest)>,
    /// Sets of earlier attempts that the record says may be open.
    standing: Vec<BTreeSet<PartyId>>,
    contributions: BTreeMap<PartyId, (Digest, Digest)>,
    proposal: Option<(Digest, Digest, BTreeSet<PartyId>)>,
    certificate: Option<BTreeSet<PartyId>>,
    /// Custodians that endorsed after the certificate.
    later: BTreeSet<PartyId>,
    abandoned: bool,
    /// Published, or given up without a certificate of that.
    ended: bool,
    opened: bool,
    reads: BTreeMap<PartyId, Digest>,
}

impl Attempt {
    /// The contributors in the proposed set; none before.
    fn members(&self) -> BTreeSet<PartyId> {
        let members = self.proposal.as_ref().map(|(_, _, members)| members.clone());
        members.unwrap_or_default()
    }

    /// Digest of the record.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.record.map(|(record, _, _)| record)
    }

    /// What was endorsed, if a set was proposed.
    pub(super) fn fixed(&self) -> Option<Endorsement> {
        let (set, sum, _) = self.proposal.as_ref()?;
        Some(Endorsement {
            record: self.digest()?,
            set: *set,
            sum: *sum,
        })
    }

    /// Digest of the signed header of a contribution that was received.
    pub(super) fn header(&self, contributor: &PartyId) -> Option<Digest> {
        self.contributions.get(contributor).map(|(header, _)| *header)
    }
}

impl Checker {
    pub(super) fn record(
        &mut self,
        id: RoundId,
        purpose: Purpose,
        (record, base): (Digest, Digest),
        standing: &BTreeMap<u32, BTreeSet<PartyId>>,
    ) -> Vec<Verdict> {
        let published = self.rounds();
        let order = if id.round == published {
            Ok(())
        } else {
            Err(Inconsistency::Order { id, published })
        };
        // Each of them: an attempt that was skipped could hold a certificate.
        let earlier = self.attempts.range(RoundId { attempt: 0, ..id }..id);
        let accounted = earlier.filter(|(before, attempt)| {
            let said = standing.get(&before.attempt);
            attempt.abandoned || said == Some(&attempt.members())
        });
        let abandoned = if accounted.count() == id.attempt as usize {
            Ok(())
        } else {
            Err(Inconsistency::NotAbandoned { id })
        };
        let last = self.published.last().map(|(_, state)| *state).or(self.before.1);
        let of_round = self.attempts.range(RoundId { attempt: 0, ..id }..id);
        let mut of_round = of_round
            .filter_map(|(_, attempt)| attempt.record)
            .map(|(_, _, base)| base);
        let expected = last.or_else(|| of_round.next()).unwrap_or(base);
        let based = if expected == base {
            Ok(())
        } else {
            Err(Inconsistency::Base {
                id,
                found: base,
                expected,
            })
        };
        let active = if self.active {
            Ok(())
        } else {
            Err(Inconsistency::NotActive)
        };
        let attempt = self.attempts.entry(id).or_default();
        let once = once(id, "record", attempt.record.is_some());
        attempt.record.get_or_insert((record, purpose, base));
        attempt.standing = standing.values().cloned().collect();
        vec![self.open(), active, order, abandoned, based, once]
    }

    pub(super) fn contribution(
        &mut self,
        id: RoundId,
        contributor: &PartyId,
        header: Digest,
        blob: Digest,
    ) -> Verdict {
        self.contributor(contributor)?;
        let attempt = self.announced(id)?;
        let known = attempt.contributions.entry(contributor.clone());
        if *known.or_insert((header, blob)) == (header, blob) {
            return Ok(());
        }
        Err(Inconsistency::SecondContribution {
            id,
            contributor: contributor.clone(),
        })
    }

    pub(super) fn proposed(
        &mut self,
        id: RoundId,
        members: &BTreeMap<PartyId, Digest>,
        set: Digest,
        sum: Digest,
    ) -> Vec<Verdict> {
        let (min, open) = (self.roster.min_contributors(), self.open());
        let attempt = match self.announced(id) {
            Ok(attempt) => attempt,
            Err(missing) => return vec![open, Err(missing)],
        };
        let mut verdicts = vec![open, once(id, "proposal", attempt.proposal.is_some())];
        if members.len() < min {
            let members = members.len();
            verdicts.push(Err(Inconsistency::TooFew { id, members, min }));
        }
        let received = |name: &PartyId| attempt.contributions.get(name).map(|(header, _)| header);
        let foreign = members
            .iter()
            .find(|(name, header)| received(name) != Some(*header));
        if let Some((contributor, _)) = foreign {
            let contributor = contributor.clone();
            verdicts.push(Err(Inconsistency::NotReceived { id, contributor }));
        }
        let said = ContributionSet {
            record: attempt.record.map(|(record, _, _)| record).unwrap_or_default(),
            members: members.clone(),
        };
        if said.digest() != set {
            verdicts.push(Err(Inconsistency::SetDigest { id }));
        }
        let names = members.keys().cloned().collect();
        attempt.proposal.get_or_insert((set, sum, names));
        verdicts
    }

    pub(super) fn certified(
        &mut self,
        id: RoundId,
        set: Digest,
        sum: Digest,
        endorsements: &[Authored],
    ) -> Vec<Verdict> {
        let roster = Arc::clone(&self.roster);
        let open = self.open();
        let attempt = match self.announced(id) {
            Ok(attempt) => attempt,
            Err(missing) => return vec![open, Err(missing)],
        };
        let record = attempt.record.map(|(record, _, _)| record).unwrap_or_default();
        let mut verdicts = vec![open, once(id, "certificate", attempt.certificate.is_some())];
        if attempt.abandoned {
            verdicts.push(Err(Inconsistency::BothCertificates { id }));
        }
        let same = attempt
            .proposal
            .as_ref()
            .is_some_and(|(known, of, _)| (*known, *of) == (set, sum));
        if !same {
            verdicts.push(Err(Inconsistency::OtherSet { id }));
        }
        let expected = Endorsement { record, set, sum };
        let (signers, mut signed) = signers(&roster, id, endorsements, |authored| {
            authored
                .open::<Endorsement>(&roster, ENDORSEMENT)
                .is_ok_and(|said| said == expected)
        });
        verdicts.append(&mut signed);
        attempt.certificate = Some(signers);
        let min = roster.min_contributors();
        let smallest = self.smallest_group(id);
        if smallest < min {
            verdicts.push(Err(Inconsistency::Subtractable { id, smallest, min }));
        }
        let Some(attempt) = self.attempts.get(&id) else {
            return verdicts;
        };
        let members = attempt.proposal.as_ref().map(|(_, _, members)| members);
        let contributions: Vec<_> = members
            .into_iter()
            .flatten()
            .filter_map(|name| Some((name.clone(), *attempt.contributions.get(name)?)))
            .collect();
        for (contributor, (header, blob)) in contributions {
            if let Some(earlier) = self.headers.insert(header, id) {
                verdicts.push(Err(Inconsistency::CertifiedTwice {
                    id,
                    contributor,
                    earlier,
                }));
            } else if let Some(earlier) = self.blobs.insert(blob, id) {
                verdicts.push(Err(Inconsistency::CopiedContribution {
                    id,
                    contributor,
                    earlier,
                }));
            }
        }
        verdicts
    }

    /// The smallest group of contributors that the sums of a round tell of, if all that may be open are: those that lie in exactly the
    /// same sets. Every linear combination of the sums weighs the members of a group alike.
    fn smallest_group(&self, id: RoundId) -> usize {
        let round = RoundId { attempt: 0, ..id }..=RoundId {
            attempt: u32::MAX,
            ..id
        };
        let certified = self.attempts.range(round).filter_map(|(_, attempt)| {
            let members = attempt.proposal.as_ref().map(|(_, _, members)| members);
            members.filter(|_| attempt.certificate.is_some())
        });
        let standing = self.attempts.get(&id).map(|attempt| &attempt.standing);
        let sets: BTreeSet<&BTreeSet<PartyId>> = certified.chain(standing.into_iter().flatten()).collect();
        let mut groups: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let everybody: BTreeSet<&PartyId> = sets.iter().copied().flatten().collect();
        for party in everybody {
            let lies_in = (0..).zip(&sets).filter(|(_, set)| set.contains(party));
            *groups
                .entry(lies_in.map(|(index, _)| index).collect())
                .or_default() += 1;
        }
        groups.into_values().min().unwrap_or(0)
    }

    pub(super) fn abandoned(&mut self, id: RoundId, signatures: &[Authored]) -> Vec<Verdict> {
        let roster = Arc::clone(&self.roster);
        let attempt = self.attempts.entry(id).or_default();
        let (signers, mut verdicts) = signers(&roster, id, signatures, |authored| {
            authored
                .open::<Abandoned>(&roster, ABANDONED)
                .is_ok_and(|said| said.round == id)
        });
        attempt.abandoned = signers.len() >= roster.agreement();
        if attempt.certificate.is_some() {
            verdicts.push(Err(Inconsistency::BothCertificates { id }));
        }
        verdicts
    }

    /// An attempt that ended without a result, and not by certificate.
    pub(super) fn repeated(&mut self, id: RoundId, members: &BTreeSet<PartyId>) -> Vec<Verdict> {
        let open = self.open();
        let attempt = match self.announced(id) {
            Ok(attempt) => attempt,
            Err(missing) => return vec![open, Err(missing)],
        };
        let mut verdicts = vec![open, once(id, "end", attempt.ended || attempt.abandoned)];
        attempt.ended = true;
        if attempt.members() != *members {
            verdicts.push(Err(Inconsistency::OtherSet { id }));
        }
        verdicts
    }

    /// A custodian that endorsed what others had certified.
    pub(super) fn endorsed(&mut self, id: RoundId, endorsement: &Authored) -> Verdict {
        self.certificate(id)?;
        let roster = Arc::clone(&self.roster);
        let attempt = self.announced(id)?;
        let (signer, said) = (&endorsement.author, endorsement.open(&roster, ENDORSEMENT));
        let same = said.is_ok_and(|said: Endorsement| attempt.fixed() == Some(said));
        if roster.custodian_index(signer).is_none() || !same {
            let signer = signer.clone();
            return Err(Inconsistency::BadSignature { id, signer });
        }
        attempt.later.insert(signer.clone());
        Ok(())
    }

    pub(super) fn answered(&mut self, id: RoundId, custodian: &PartyId) -> Verdict {
        self.certificate(id)?;
        if self.endorsers(id).contains(custodian) {
            return Ok(());
        }
        Err(Inconsistency::AnsweredUnsigned {
            id,
            custodian: custodian.clone(),
        })
    }

    pub(super) fn opened(
        &mut self,
        line: &AuditLine,
        id: RoundId,
        receivers: &[PartyId],
        contributors: usize,
    ) -> Vec<Verdict> {
        let mut verdicts = vec![self.open(), self.certificate(id).map(|_| ())];
        verdicts.extend(receivers.iter().map(|party| self.receiver(party)));
        let attempt = self.attempts.entry(id).or_default();
        let members = attempt.proposal.as_ref().map(|(_, _, members)| members.clone());
        let members = members.unwrap_or_default();
        if members.len() != contributors {
            verdicts.push(Err(Inconsistency::Count {
                id,
                said: contributors,
                members: members.len(),
            }));
        }
        verdicts.push(once(id, "opening", attempt.opened));
        attempt.opened = true;
        let custodians = attempt.certificate.clone().unwrap_or_default();
        let quantity = attempt.record.map(|(_, purpose, base)| (purpose, base));
        if let Some((purpose, base)) = quantity {
            let earlier = *self.opened.entry((purpose.name(), base)).or_insert(id);
            // Further attempts of one round are looked at together, see `smallest_group`.
            if earlier.round != id.round {
                verdicts.push(Err(Inconsistency::OpenedBefore {
                    purpose,
                    base,
                    earlier,
                }));
            }
        }
        self.report.openings.push(Opening {
            line: line.number,
            time_ms: line.time_ms,
            id,
            purpose: quantity.map(|(purpose, _)| purpose),
            contributors: members.into_iter().collect(),
            receivers: receivers.to_vec(),
            custodians: custodians.into_iter().collect(),
            readers: BTreeSet::new(),
            failures: BTreeMap::new(),
            published_ms: None,
        });
        verdicts
    }

    pub(super) fn was_opened(&self, id: RoundId) -> Verdict {
        if self.attempts.get(&id).is_some_and(|attempt| attempt.opened) {
            return Ok(());
        }
        Err(Inconsistency::Missing {
            id,
            missing: "opening",
        })
    }

    pub(super) fn was_read(&mut self, id: RoundId, receiver: &PartyId, result: Digest) -> Verdict {
        if let Some(opening) = self.report.opening(id) {
            opening.readers.insert(receiver.clone());
            opening.failures.remove(receiver);
        }
        let verdict = self.was_opened(id);
        let attempt = self.attempts.entry(id).or_default();
        attempt.reads.insert(receiver.clone(), result);
        verdict
    }

    pub(super) fn published(
        &mut self,
        line: &AuditLine,
        id: RoundId,
        sum: Digest,
        result: Digest,
    ) -> Vec<Verdict> {
        let mut verdicts = vec![self.open(), self.was_opened(id)];
        let count = self.rounds();
        if id.round != count {
            verdicts.push(Err(Inconsistency::Order { id, published: count }));
        }
        let min = self.roster.min_contributors();
        let attempt = self.attempts.entry(id).or_default();
        if attempt
            .proposal
            .as_ref()
            .is_none_or(|(_, known, _)| *known != sum)
        {
            verdicts.push(Err(Inconsistency::OtherSet { id }));
        }
        let readers = attempt.reads.values().filter(|state| **state == result).count();
        if readers < min {
            verdicts.push(Err(Inconsistency::Unread { id, readers, min }));
        }
        attempt.ended = true;
        if let Some(opening) = self.report.opening(id) {
            opening.published_ms = Some(line.time_ms);
        }
        self.published.push((id, result));
        verdicts
    }

    /// Who endorsed what was certified, in the certificate or later.
    pub(super) fn endorsers(&self, id: RoundId) -> BTreeSet<&PartyId> {
        let attempt = self.attempts.get(&id);
        let signers = attempt.into_iter().flat_map(|attempt| {
            let certificate = attempt.certificate.iter().flatten();
            certificate.chain(&attempt.later)
        });
        signers.collect()
    }

    fn announced(&mut self, id: RoundId) -> Result<&mut Attempt, Inconsistency> {
        let attempt = self
            .attempts
            .get_mut(&id)
            .filter(|attempt| attempt.record.is_some());
        attempt.ok_or(Inconsistency::Missing {
            id,
            missing: "record",
        })
    }

    fn certificate(&self, id: RoundId) -> Result<&BTreeSet<PartyId>, Inconsistency> {
        let attempt = self.attempts.get(&id);
        attempt
            .and_then(|attempt| attempt.certificate.as_ref())
            .ok_or(Inconsistency::Missing {
                id,
                missing: "certificate",
            })
    }
}

fn once(id: RoundId, what: &'static str, before: bool) -> Verdict {
    if before {
        return Err(Inconsistency::Twice { id, what });
    }
    Ok(())
}

/// The distinct custodians whose statements hold, and what is wrong with the others or with their number.
fn signers(
    roster: &Roster,
    id: RoundId,
    statements: &[Authored],
    holds: impl Fn(&Authored) -> bool,
) -> (BTreeSet<PartyId>, Vec<Verdict>) {
    let (mut valid, mut verdicts) = (BTreeSet::new(), Vec::new());
    for authored in statements {
        let signer = &authored.author;
        let custodian = roster.custodian_index(signer).is_some();
        if !custodian || !holds(authored) || !valid.insert(signer.clone()) {
            let signer = signer.clone();
            verdicts.push(Err(Inconsistency::BadSignature { id, signer }));
        }
    }
    let needed = roster.agreement();
    if valid.len() < needed {
        let valid = valid.len();
        verdicts.push(Err(Inconsistency::TooFewSigners { id, valid, needed }));
    }
    (valid, verdicts)
}
