//! What must be shown of a member that is named as at fault.
//!
//! Signatures prove who said what. Who signs twice is shown to everybody by that. Of seeds, key sums and fingerprints a log shows that
//! somebody who can judge them says so, under its signature: what is sealed only its recipients can read, and ciphertexts are not in the
//! log. The fingerprint and the header that names the ciphertexts are, so that whoever has fetched those can judge as well. That no sum opens
//! with a contributor and others do without is in the log itself; so is an answer that is missing.

use super::attempts::Attempt;
use super::{Checker, Inconsistency, Verdict};
use crate::abandon::Abandoned;
use crate::audit::event::Culprit;
use crate::authored::{ABANDONED, Authored, CONTRIBUTION, ENDORSEMENT, FINGERPRINT};
use crate::contribution::ContributionHeader;
use crate::fingerprint::FingerprintStatement;
use crate::record::RoundId;
use crate::set::Endorsement;
use crate::statement::{
    FINGERPRINT_REFUSED, FingerprintRefused, JUDGED, Judged, SEEDS_REFUSED, SeedsRefused,
};
use galen_core::PartyId;
use std::collections::BTreeSet;

impl Checker {
    pub(super) fn accusation(
        &self,
        id: RoundId,
        party: &PartyId,
        culprit: Culprit,
        evidence: &[Authored],
    ) -> Verdict {
        let attempt = self.attempts.get(&id);
        let shown = attempt.is_some_and(|attempt| match culprit {
            Culprit::TwoSignatures => self.signed_twice(id, attempt, party, evidence),
            Culprit::BadSeeds => self.seeds_refused(attempt, party, evidence),
            Culprit::WrongKeySum => self.judged(attempt, party, evidence),
            Culprit::BadFingerprint => self.fingerprint_refused(attempt, party, evidence),
            Culprit::RefusedAnswer => self.endorsers(id).contains(party),
            Culprit::BadCiphertext | Culprit::Suspected => true,
        });
        if shown {
            return Ok(());
        }
        Err(Inconsistency::Unproven {
            id,
            party: party.clone(),
            culprit,
        })
    }

    /// Two valid, different, binding statements about one attempt.
    fn signed_twice(&self, id: RoundId, attempt: &Attempt, party: &PartyId, evidence: &[Authored]) -> bool {
        let binding = |authored: &&Authored| {
            let endorsed = authored.open::<Endorsement>(&self.roster, ENDORSEMENT);
            let abandoned = authored.open::<Abandoned>(&self.roster, ABANDONED);
            endorsed.is_ok_and(|said| attempt.digest() == Some(said.record))
                || abandoned.is_ok_and(|said| said.round == id)
        };
        let own = evidence.iter().filter(|authored| authored.author == *party);
        let shown: BTreeSet<&[u8]> = own.filter(binding).map(|said| said.statement.payload()).collect();
        shown.len() >= 2
    }

    /// A custodian's word.
    fn seeds_refused(&self, attempt: &Attempt, party: &PartyId, evidence: &[Authored]) -> bool {
        evidence.iter().any(|authored| {
            let said = authored.open::<SeedsRefused>(&self.roster, SEEDS_REFUSED);
            self.roster.custodian_index(&authored.author).is_some()
                && said.is_ok_and(|said| attempt.digest() == Some(said.record) && said.contributor == *party)
        })
    }

    /// A receiver's word.
    fn judged(&self, attempt: &Attempt, party: &PartyId, evidence: &[Authored]) -> bool {
        evidence.iter().any(|authored| {
            let said = authored.open::<Judged>(&self.roster, JUDGED);
            self.roster.receivers().contains(&authored.author)
                && said.is_ok_and(|said| attempt.digest() == Some(said.record) && said.liars.contains(party))
        })
    }

    /// The contribution's header, the fingerprint under the challenge of the fixed sum, and a receiver's word.
    fn fingerprint_refused(&self, attempt: &Attempt, party: &PartyId, evidence: &[Authored]) -> bool {
        let by = |authored: &&Authored| authored.author == *party;
        let header = evidence.iter().filter(by).any(|authored| {
            attempt.header(party) == Some(authored.digest())
                && authored
                    .open::<ContributionHeader>(&self.roster, CONTRIBUTION)
                    .is_ok()
        });
        let fingerprint = evidence.iter().filter(by).any(|authored| {
            let said = authored.open::<FingerprintStatement>(&self.roster, FINGERPRINT);
            said.is_ok_and(|said| {
                let (record, set, sum) = (said.record, said.set, said.sum);
                attempt.fixed() == Some(Endorsement { record, set, sum })
            })
        });
        let complaint = evidence.iter().any(|authored| {
            let said = authored.open::<FingerprintRefused>(&self.roster, FINGERPRINT_REFUSED);
            self.roster.receivers().contains(&authored.author)
                && said.is_ok_and(|said| attempt.digest() == Some(said.record) && said.contributor == *party)
        });
        header && fingerprint && complaint
    }
}
