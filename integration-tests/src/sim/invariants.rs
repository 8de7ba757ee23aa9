//! What must hold when a schedule is over.

use super::record::Candidate;
use super::shape::MIN_CONTRIBUTORS;
use super::span;
use super::world::World;
use galen_core::PartyId;
use galen_party::sealed::OpenedSum;
use galen_sums::audit::Culprit;
use galen_sums::{AuditEvent, Round};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was found.
    pub detail: String,
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No sum over fewer than `min_contributors` is ever opened.
    EnoughContributors,
    /// Of each round one sum is opened; if there are more, they tell nothing about fewer than `min_contributors` together.
    OpenedOnce,
    /// Every opened sum is the sum of the values that its contributions encrypt.
    EqualsOracle,
    /// A contribution that was acknowledged is counted, and once.
    CountedOnce,
    /// Nothing secret is readable when its round is over.
    Erased,
    /// The study ends, published or closed with a reason.
    Ends,
    /// A study is given up only in a round for which it has lost more parties than it stands.
    Completes,
    /// A process ends with an error only when its machine fails.
    Runs,
    /// Nobody is named as a culprit who does not cheat.
    Named,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.detail)
    }
}

/// What a schedule is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whether the study must end, and every process go on: not where the coordinator cheats.
    pub liveness: bool,
    /// Whether it must be completed unless too many are lost: not when sums are spoilt.
    pub completion: bool,
    /// Whether custodians answer for one set in each round: not when sums are spoilt, for then others are collected.
    pub one_set: bool,
}

struct Checker<'a, 'w> {
    world: &'a World<'w>,
    found: Vec<Violation>,
}

/// Everything that does not hold.
pub fn check(world: &World<'_>, held: Held) -> Vec<Violation> {
    let mut checker = Checker {
        world,
        found: Vec::new(),
    };
    checker.candidates(held);
    checker.parties(held);
    if held.liveness {
        checker.end(held);
        checker.named();
    }
    checker.found
}

impl Checker<'_, '_> {
    fn fail(&mut self, invariant: Invariant, detail: impl Into<String>) {
        self.found.push(Violation {
            invariant,
            detail: detail.into(),
        });
    }

    /// The sums that custodians made readable, or partly so.
    fn candidates(&mut self, held: Held) {
        let recorder = &self.world.recorder;
        let cheaters = self.world.cheaters();
        let mut readable: BTreeMap<u32, BTreeSet<&Candidate>> = BTreeMap::new();
        let mut partly: BTreeMap<u32, BTreeSet<&Candidate>> = BTreeMap::new();
        for (id, candidate, complete) in recorder.candidates(&cheaters) {
            partly.entry(id.round).or_default().insert(candidate);
            if complete {
                readable.entry(id.round).or_default().insert(candidate);
            }
        }
        for (round, candidates) in &readable {
            // Attempts of a round encrypt the same values, and so do the sums.
            let sets: Vec<BTreeSet<PartyId>> = candidates.iter().map(|c| self.members(c)).collect();
            if let Some(fewest) = span::fewest(&sets)
                && fewest.len() < MIN_CONTRIBUTORS
            {
                self.fail(
                    Invariant::OpenedOnce,
                    format!("round {round}: the sums over {sets:?} tell about {fewest:?}"),
                );
            }
        }
        for (round, candidates) in partly.iter().filter(|_| held.one_set) {
            if candidates.len() > 1 {
                let attempts: Vec<_> = candidates
                    .iter()
                    .map(|c| {
                        (
                            recorder.round(&c.record).map(|round| round.id().attempt),
                            self.members(c),
                        )
                    })
                    .collect();
                self.fail(
                    Invariant::OpenedOnce,
                    format!("round {round}: custodians answered for {attempts:?}"),
                );
            }
        }
        for (round, candidates) in &readable {
            for candidate in candidates {
                let members = self.members(candidate);
                if members.len() < MIN_CONTRIBUTORS {
                    self.fail(
                        Invariant::EnoughContributors,
                        format!("round {round}: a sum over {members:?}"),
                    );
                }
                let missing: Vec<_> = recorder
                    .acknowledged(&candidate.record)
                    .into_iter()
                    .filter(|party| !members.contains(party))
                    .collect();
                if held.liveness && !missing.is_empty() {
                    self.fail(
                        Invariant::CountedOnce,
                        format!("round {round}: {missing:?} were acknowledged and are not in {members:?}"),
                    );
                }
            }
        }
    }

    fn members(&self, candidate: &Candidate) -> BTreeSet<PartyId> {
        let members = self.world.recorder.members(&candidate.set);
        let sham = self.world.sham();
        let names = members.into_iter().flat_map(|members| members.keys());
        names.filter(|name| Some(*name) != sham).cloned().collect()
    }

    /// What the parties opened and what they still hold.
    fn parties(&mut self, held: Held) {
        let mut opened: BTreeMap<u32, BTreeMap<PartyId, OpenedSum>> = BTreeMap::new();
        for (name, hospital, gone) in self.world.hospitals() {
            // A machine that is off, or lost for ever, is looked at as whoever finds its disk would.
            hospital.disk.start();
            let (vault, sums) = match hospital.look(&self.world.cast.study) {
                Ok(found) => found,
                Err(error) => {
                    self.fail(Invariant::Runs, format!("the disk of {name}: {error:#}"));
                    continue;
                }
            };
            for sum in sums {
                opened.entry(sum.round).or_default().insert(name.clone(), sum);
            }
            if gone || !held.liveness {
                continue;
            }
            match vault.oldest() {
                Ok((None, None)) => {}
                oldest => self.fail(
                    Invariant::Erased,
                    format!("{name} still reads secrets when the study is over: {oldest:?}"),
                ),
            }
        }
        for (round, opened) in opened {
            for (name, sum) in &opened {
                self.sum(round, name, sum);
            }
            let results: BTreeSet<_> = opened.values().map(|sum| sum.result).collect();
            if results.len() > 1 {
                self.fail(
                    Invariant::EqualsOracle,
                    format!("round {round}: receivers derived different states"),
                );
            }
        }
    }

    fn sum(&mut self, round: u32, name: &PartyId, sum: &OpenedSum) {
        let recorder = &self.world.recorder;
        let members: BTreeSet<PartyId> = sum.contributors.iter().cloned().collect();
        if members.len() < MIN_CONTRIBUTORS || members.len() != sum.contributors.len() {
            self.fail(
                Invariant::EnoughContributors,
                format!("round {round}: {name} opened a sum over {:?}", sum.contributors),
            );
        }
        let cheaters = self.world.cheaters();
        let found = recorder
            .candidates(&cheaters)
            .find(|(id, candidate, complete)| {
                (id.round, id.attempt) == (sum.round, sum.attempt) && candidate.sum == sum.sum && *complete
            })
            .and_then(|(_, candidate, _)| {
                let range = recorder.round(&candidate.record).map(plaintexts);
                Some((recorder.members(&candidate.set)?, range?))
            });
        let Some((headers, range)) = found else {
            self.fail(
                Invariant::EqualsOracle,
                format!("round {round}: {name} opened a sum that custodians did not make readable"),
            );
            return;
        };
        let mut expected = vec![0_i64; sum.values.len()];
        for member in &members {
            let encrypted = headers.get(member).and_then(|header| recorder.encrypted(header));
            let Some(encrypted) = encrypted else {
                self.fail(
                    Invariant::EqualsOracle,
                    format!("round {round}: {member} is in the sum and contributed nothing"),
                );
                return;
            };
            for (total, value) in expected.iter_mut().zip(encrypted) {
                *total = total.wrapping_add(*value);
            }
        }
        // A cheater's value that is beyond all plaintexts counts as the one that it is congruent to.
        let cheated = self.world.is_spoilt();
        let differ = |(a, b): &(&i64, &i64)| {
            let by = i128::from(**a) - i128::from(**b);
            by != 0 && !(cheated && by % range == 0)
        };
        let wrong = expected.iter().zip(&sum.values).filter(differ).count();
        if wrong > 0 || expected.len() != sum.values.len() {
            self.fail(
                Invariant::EqualsOracle,
                format!(
                    "round {round}: {wrong} of {} values that {name} opened differ",
                    expected.len()
                ),
            );
        }
    }

    fn end(&mut self, held: Held) {
        let state = self.world.coordinator.state();
        // A study that somebody left without having signed it never begins, and there is nothing to end.
        let begins = state.as_ref().is_none_or(|state| {
            let mut left = self.world.hospitals().filter(|(_, _, gone)| *gone);
            left.all(|(name, _, _)| state.consents.contains(name))
        });
        if !self.world.is_over() && begins {
            let at = state.and_then(|state| state.attempt).map(|attempt| {
                format!(
                    "round {}, attempt {}: {:?}",
                    attempt.round, attempt.attempt, attempt.phase
                )
            });
            self.fail(
                Invariant::Ends,
                format!("after {} turns the study is not over: {at:?}", self.world.turn),
            );
        }
        if let Some((false, reason)) = self.world.closed()
            && held.completion
            && self.world.can_go_on()
        {
            self.fail(Invariant::Completes, reason);
        }
        for (party, stop) in &self.world.stops {
            // What becomes of a cheater's process is its own affair.
            if !party.is_some_and(|party| self.world.spoils(party)) {
                self.found.push(Violation {
                    invariant: Invariant::Runs,
                    detail: stop.clone(),
                });
            }
        }
    }

    /// Whom the audit log names. That a custodian did not answer in time is no reproach: it may have lost its power; nor is a suspicion. And who
    /// alone was in every spoilt sum need not have spoilt one if several do.
    fn named(&mut self) {
        let culprits = self.world.culprits();
        let is_reproach = |culprit: Culprit| match culprit {
            Culprit::RefusedAnswer | Culprit::Suspected => false,
            Culprit::BadCiphertext => culprits.len() < 2,
            _ => true,
        };
        let lines = self.world.coordinator.audit().unwrap_or_default();
        for line in lines {
            if let AuditEvent::Named {
                id,
                party,
                culprit,
                text,
                ..
            } = line.event
                && is_reproach(culprit)
                && !culprits.contains(&&party)
            {
                self.fail(
                    Invariant::Named,
                    format!(
                        "round {}, attempt {}: {party} is named ({culprit:?}): {text}",
                        id.round, id.attempt
                    ),
                );
            }
        }
    }
}

/// How many plaintexts there are: values that differ by a multiple of this number have the same ciphertexts.
fn plaintexts(round: &Round) -> i128 {
    let modulus: i128 = round
        .plan()
        .primes
        .iter()
        .map(|prime| i128::from(*prime))
        .product();
    modulus / i128::from(round.plan().delta)
}
