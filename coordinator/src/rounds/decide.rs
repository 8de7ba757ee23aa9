//! What the coordinator does next with an attempt: pure functions of state and time.
//!
//! Failure is lack of progress: an attempt that moves is never given up, however long it takes. One that stands still for the study's
//! patience goes on without the missing, where it may; where it may not, it waits until the study itself is given up.

use super::state::{Assignment, Attempt, Rules, Standing};
use super::transition::Decision;
use galen_core::{Digest, PartyId};
use galen_net::protocol::AttemptPhase as Phase;
use galen_sums::atoms::smallest_atom;
use galen_sums::statement::OpeningFault;
use std::collections::{BTreeMap, BTreeSet};

impl Attempt {
    /// What to do next.
    pub fn decide(&self, rules: &Rules, standing: &Standing, now_ms: u64) -> Decision {
        let still_ms = now_ms.saturating_sub(self.progress_ms);
        let stalled = still_ms >= rules.patience_ms;
        let decision = match self.phase {
            Phase::Announced => self.decide_announced(rules, standing, stalled),
            Phase::Collecting => self.decide_collecting(rules, standing, stalled),
            Phase::Proposed => self.decide_proposed(rules, stalled),
            Phase::Endorsing => self.decide_endorsing(rules, stalled),
            Phase::Certified => self.decide_certified(rules, stalled),
            Phase::Opening => self.decide_opening(rules, stalled),
            Phase::Disputed => self.decide_disputed(stalled),
            Phase::Judging => self.decide_judging(rules, stalled),
            Phase::Abandoning => self.decide_abandoning(rules, stalled),
            Phase::Published | Phase::Abandoned => return Decision::Wait,
        };
        if decision == Decision::Wait && still_ms >= rules.give_up_ms {
            let awaited = self.awaiting(rules, standing);
            let names: Vec<&str> = awaited.iter().map(PartyId::as_str).collect();
            return Decision::Fail(format!(
                "round {} attempt {} ({:?}) stood still for {} s; waited for: {}",
                self.round,
                self.attempt,
                self.phase,
                still_ms / 1000,
                if names.is_empty() {
                    "nobody".into()
                } else {
                    names.join(", ")
                }
            ));
        }
        decision
    }

    fn decide_announced(&self, rules: &Rules, standing: &Standing, stalled: bool) -> Decision {
        let usable = self.usable_keys(standing);
        let all = rules.custodians().iter().all(|c| usable.contains(c));
        let enough = usable.len() >= rules.agreement && rules.assign(&usable).is_some();
        if all || (stalled && enough) {
            Decision::FixRecord
        } else {
            Decision::Wait
        }
    }

    fn decide_collecting(&self, rules: &Rules, standing: &Standing, stalled: bool) -> Decision {
        let expected = self.expected(rules, standing);
        if expected.len() < rules.min_contributors {
            return Decision::Fail(format!(
                "only {} contributors are left that were not found at fault, {} are needed",
                expected.len(),
                rules.min_contributors
            ));
        }
        let received: BTreeSet<_> = self
            .contributions
            .keys()
            .filter(|c| expected.contains(*c))
            .cloned()
            .collect();
        let quorum = rules.quorum.min(expected.len());
        // Where other sums of the round may be open, what is left of a group might be too close to them.
        let apart = || {
            let sets = standing.open.iter().chain(std::iter::once(&received));
            smallest_atom(sets) >= Some(rules.min_contributors)
        };
        let enough = received.len() >= quorum.max(rules.min_contributors.min(expected.len()));
        if received == expected || (stalled && enough && apart()) {
            Decision::Sum(received)
        } else {
            Decision::Wait
        }
    }

    fn decide_proposed(&self, rules: &Rules, stalled: bool) -> Decision {
        if let Some(reason) = &self.abandoned {
            return Decision::GiveUp(reason.clone());
        }
        let spoke = |c: &PartyId| self.checked.contains_key(c) || self.refused.contains_key(c);
        let over = stalled || self.custodians.iter().all(spoke);
        let (have, need) = (self.checked.len(), rules.agreement);
        // One custodian's complaint alone keeps no contributor out: those that found nothing wrong are enough to open the sum.
        if over && have >= need && rules.assign(self.checked.keys()).is_some() {
            return Decision::Bind;
        }
        let impossible = self.custodians.len() - self.refused.len() < need;
        if let Some((custodian, contributor)) = self.refused.iter().next()
            && (over || impossible)
        {
            return Decision::GiveUp(format!(
                "custodian {custodian} found that the seeds of {contributor} do not fit"
            ));
        }
        if stalled {
            return Decision::GiveUp(format!("{have} custodians checked the set, {need} are needed"));
        }
        Decision::Wait
    }

    fn certify(&self, rules: &Rules) -> Option<Decision> {
        let enough = self.endorsements.len() >= rules.agreement;
        let assignments = enough.then(|| rules.assign(self.endorsements.keys()));
        assignments.flatten().map(Decision::Certify)
    }

    fn decide_endorsing(&self, rules: &Rules, stalled: bool) -> Decision {
        if let Some(certify) = self.certify(rules) {
            return certify;
        }
        let (have, need) = (self.endorsements.len(), rules.agreement);
        if !stalled {
            return Decision::Wait;
        }
        let reason = format!("{have} custodians endorsed the set, {need} are needed");
        // Whoever endorsed cannot give the attempt up any more.
        if self.custodians.len().saturating_sub(have) >= need {
            Decision::GiveUp(reason)
        } else {
            Decision::Repeat(reason)
        }
    }

    fn decide_abandoning(&self, rules: &Rules, stalled: bool) -> Decision {
        // An endorsement may have been on its way when the attempt was to be given up.
        if let Some(certify) = self.certify(rules) {
            return certify;
        }
        if self.abandons.len() >= rules.agreement {
            return Decision::Abandon(self.abandoned.clone().unwrap_or_default());
        }
        if stalled {
            return Decision::Repeat(self.abandoned.clone().unwrap_or_default());
        }
        Decision::Wait
    }

    fn silent(&self) -> BTreeSet<&PartyId> {
        let unanswered = self.assignments.iter().filter(|a| a.answer.is_none());
        unanswered.map(|a| &a.custodian).collect()
    }

    fn decide_certified(&self, rules: &Rules, stalled: bool) -> Decision {
        let silent = self.silent();
        if silent.is_empty() {
            let set = self
                .proposal
                .as_ref()
                .map(|p| p.set.as_slice())
                .unwrap_or_default();
            let all = set.iter().all(|member| self.fingerprints.contains_key(member));
            // Receivers fetch the contributions of members that are gone, and compute their fingerprints themselves.
            return if all || stalled {
                Decision::Open
            } else {
                Decision::Wait
            };
        }
        // Custodians that are all gone would be asked in turn for ever: each is asked anew twice at most, then those asked last are waited for.
        if !stalled || self.reassigned as usize >= 2 * self.endorsements.len() {
            return Decision::Wait;
        }
        // An attempt is not abandoned any more from here on. So where nobody else holds the pieces, the silent are waited for.
        match self.reassign(rules, &silent) {
            Some(assignments) => Decision::Reassign(assignments),
            None => Decision::Wait,
        }
    }

    /// Assignments with the pieces of `without` given to other endorsers, as far as they are not answered by others.
    fn reassign(&self, rules: &Rules, without: &BTreeSet<&PartyId>) -> Option<Vec<Assignment>> {
        let live = self
            .endorsements
            .keys()
            .filter(|c| !without.contains(c) && !self.liars.contains(*c));
        let assigned = rules.assign(live)?;
        let (kept, dropped): (Vec<_>, Vec<_>) = self
            .assignments
            .iter()
            .cloned()
            .partition(|a| a.answer.is_some() && !without.contains(&a.custodian));
        let missing: BTreeSet<u32> = dropped.iter().flat_map(|a| a.pieces.iter().copied()).collect();
        let mut assignments = kept;
        for mut extra in assigned {
            extra.pieces.retain(|piece| missing.contains(piece));
            if !extra.pieces.is_empty() {
                assignments.push(extra);
            }
        }
        Some(assignments)
    }

    /// A certified attempt is never given up for another set that could be subtracted from its own: somebody may have read its sum.
    fn decide_opening(&self, rules: &Rules, stalled: bool) -> Decision {
        let mut votes: BTreeMap<Digest, usize> = BTreeMap::new();
        for result in self.opened.values() {
            *votes.entry(*result).or_default() += 1;
        }
        let best = votes.iter().max_by_key(|(_, count)| **count);
        let remainder = self.failures.values().any(|f| f.fault == OpeningFault::Remainder);
        let mut faults = self.failures.values().map(|f| f.fault);
        let meaningless = !self.failures.is_empty() && faults.all(|fault| fault == OpeningFault::Meaning);
        if let Some((result, count)) = best
            && *count >= rules.min_contributors
        {
            // What opens for most and not for one may have been sealed wrongly to that one.
            return if remainder && !self.disputed {
                Decision::Dispute
            } else {
                Decision::Publish(*result)
            };
        }
        let silent = rules
            .contributors
            .len()
            .saturating_sub(self.opened.len() + self.failures.len());
        let possible = best.map_or(0, |(_, count)| *count) + silent >= rules.min_contributors;
        // Where nobody could open for such a reason, those that have not tried would not either.
        let known = remainder || (meaningless && self.failures.len() >= rules.min_contributors);
        let hopeless = stalled && best.is_none() && known;
        if possible && !hopeless {
            return Decision::Wait;
        }
        if remainder {
            return Decision::Dispute;
        }
        // The keys were right, since remainders are small: what makes no sense is what somebody contributed.
        if meaningless {
            return Decision::Recollect(format!(
                "the sum of round {} opens and means nothing under this study: a contributor spoiled it",
                self.round
            ));
        }
        match self.failures.iter().next() {
            Some((who, what)) => Decision::Fail(format!(
                "{} of {} receivers could not open the sum of round {}; {who}: {}",
                self.failures.len(),
                rules.contributors.len(),
                self.round,
                what.detail
            )),
            None => Decision::Fail(format!(
                "the receivers derived different states from round {}",
                self.round
            )),
        }
    }

    fn decide_disputed(&self, stalled: bool) -> Decision {
        let all = self.endorsements.keys().all(|c| self.key_checks.contains_key(c));
        if all || (stalled && !self.key_checks.is_empty()) {
            Decision::Judge
        } else {
            Decision::Wait
        }
    }

    /// The state that enough receivers derived.
    fn agreed(&self, rules: &Rules) -> Option<Digest> {
        let count = |result: &Digest| self.opened.values().filter(|other| *other == result).count();
        let mut results = self.opened.values();
        results
            .find(|result| count(result) >= rules.min_contributors)
            .copied()
    }

    fn decide_judging(&self, rules: &Rules, stalled: bool) -> Decision {
        let all = rules
            .contributors
            .iter()
            .all(|receiver| self.judged.contains_key(receiver));
        if !all && (!stalled || self.judged.is_empty()) {
            return Decision::Wait;
        }
        // What is sealed to a receiver only it can read, and an opening checks itself. So whoever is named by anybody, or says nothing
        // about its answer, is replaced once, as far as others hold its pieces; whether it lied is another matter.
        let answered = self.assignments.iter().filter(|a| a.answer.is_some());
        let silent = answered
            .map(|a| &a.custodian)
            .filter(|c| !self.key_checks.contains_key(*c));
        let named = self
            .judged
            .values()
            .flat_map(|named| named.liars.iter().chain(&named.doubted));
        let doubted: BTreeSet<&PartyId> = silent.chain(named).filter(|c| !self.liars.contains(*c)).collect();
        let most = |name: &&PartyId| {
            let count = self
                .judged
                .values()
                .filter(|named| named.liars.contains(*name))
                .count();
            2 * count > self.judged.len()
        };
        let liars: BTreeSet<&PartyId> = doubted.iter().copied().filter(most).collect();
        for group in [&doubted, &liars] {
            if !group.is_empty()
                && let Some(assignments) = self.reassign(rules, group)
            {
                return Decision::Replace(group.iter().map(|name| (*name).clone()).collect(), assignments);
            }
        }
        if let Some(result) = self.agreed(rules) {
            return Decision::Publish(result);
        }
        if doubted.is_empty() {
            return Decision::Recollect(format!(
                "the sum of round {} does not open, and no custodian's answer is in doubt: a contributor spoiled it",
                self.round
            ));
        }
        let names: Vec<&str> = doubted.iter().map(|name| name.as_str()).collect();
        Decision::Fail(format!(
            "the sum of round {} does not open; the answers of {} are in doubt, and nobody else holds all of their pieces",
            self.round,
            names.join(", ")
        ))
    }

    /// Who is waited for, for people and for the view.
    pub fn awaiting(&self, rules: &Rules, standing: &Standing) -> Vec<PartyId> {
        let missing = |from: &mut dyn Iterator<Item = &PartyId>, have: &dyn Fn(&PartyId) -> bool| {
            from.filter(|name| !have(name)).cloned().collect()
        };
        match self.phase {
            Phase::Announced => {
                let usable = self.usable_keys(standing);
                missing(&mut rules.custodians().iter(), &|c| usable.contains(c))
            }
            Phase::Collecting => missing(&mut self.expected(rules, standing).iter(), &|c| {
                self.contributions.contains_key(c)
            }),
            Phase::Proposed => missing(&mut self.custodians.iter(), &|c| {
                self.checked.contains_key(c) || self.refused.contains_key(c)
            }),
            Phase::Endorsing => missing(&mut self.custodians.iter(), &|c| {
                self.endorsements.contains_key(c)
            }),
            Phase::Abandoning => missing(&mut self.custodians.iter(), &|c| {
                self.endorsements.contains_key(c) || self.abandons.contains_key(c)
            }),
            Phase::Certified => {
                let silent = self.silent();
                if !silent.is_empty() {
                    return silent.into_iter().cloned().collect();
                }
                let set = self.proposal.iter().flat_map(|p| p.set.iter());
                missing(&mut set.into_iter(), &|c| self.fingerprints.contains_key(c))
            }
            Phase::Opening => missing(&mut rules.contributors.iter(), &|c| self.opened.contains_key(c)),
            Phase::Disputed => missing(&mut self.endorsements.keys(), &|c| {
                self.key_checks.contains_key(c)
            }),
            Phase::Judging => missing(&mut rules.contributors.iter(), &|c| self.judged.contains_key(c)),
            Phase::Published | Phase::Abandoned => Vec::new(),
        }
    }
}
