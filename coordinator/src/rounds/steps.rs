//! The transitions of the study around its attempts: consent, announcing, publishing, abandoning, release.

use super::state::{Attempt, Closed, EarlierAttempt, Published, Rules, StudyState};
use super::{bisect, blame};
use galen_core::study::Release;
use galen_core::{Digest, PartyId};
use galen_net::protocol::AttemptPhase;
use std::collections::BTreeSet;

/// What the study needs next, apart from what the attempt under way decides for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These parties have not signed.
    AwaitConsent(Vec<PartyId>),
    /// Custodians introduce themselves and vouch for each other, so that the next round has all of them.
    AwaitCustodians,
    /// Announce this round attempt.
    Announce {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Digest of the state from which contributors start.
        base: Digest,
    },
    /// An attempt is under way.
    Attempt,
    /// All rounds are published; contributors release the model.
    AwaitRelease,
    /// Contributors agreed on this model, whose blob is stored.
    Serve(Digest),
    /// All rounds are published and nothing is released.
    Complete,
    /// The model is served.
    Serving,
    /// The study is over.
    Closed,
}

/// The time on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds since the epoch, for records.
    pub wall_ms: u64,
    /// Milliseconds on the steady clock, for measuring stand-still.
    pub steady_ms: u64,
}

/// The constants of a study that [`StudyState::next`] needs.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Everybody.
    pub parties: Vec<PartyId>,
    /// Number of rounds.
    pub rounds: u32,
    /// Number of the first round under this study: those before were published under its predecessors.
    pub first: u32,
    /// Digest of the state before the first round.
    pub initial: Digest,
    /// Where the model goes.
    pub release: Release,
}

impl StudyState {
    /// What comes next. `stored` tells whether a model blob is stored whole.
    pub fn next(&self, frame: &Frame, rules: &Rules, now_ms: u64, stored: impl Fn(&Digest) -> bool) -> Step {
        if self.closed.is_some() {
            return Step::Closed;
        }
        let missing: Vec<_> = frame
            .parties
            .iter()
            .filter(|p| !self.consents.contains(*p))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Step::AwaitConsent(missing);
        }
        let round = self.published.len() as u32;
        match &self.attempt {
            Some(attempt) if attempt.phase == AttemptPhase::Abandoned => {
                return Step::Announce {
                    round,
                    attempt: attempt.attempt + 1,
                    base: attempt.base,
                };
            }
            Some(_) => return Step::Attempt,
            None => {}
        }
        if round < frame.rounds {
            // Whoever is confirmed after others have given out keys sits out the round: also one that came back during the last one.
            let first = round == frame.first;
            let known = if first {
                rules.custodians().len()
            } else {
                self.incarnations.len()
            };
            let all = self.standing(rules).confirmed.len() >= known;
            let stalled = now_ms.saturating_sub(self.introduced_ms) >= rules.patience_ms;
            if !all && !stalled {
                return Step::AwaitCustodians;
            }
            let base = self.published.last().map_or(frame.initial, |last| last.result);
            return Step::Announce {
                round,
                attempt: 0,
                base,
            };
        }
        match (frame.release, self.serving) {
            (Release::Contributors, _) => Step::Complete,
            (Release::Coordinator, Some(_)) => Step::Serving,
            (Release::Coordinator, None) => {
                let agreed = self.agreed_release(rules.min_contributors);
                agreed
                    .filter(|model| stored(model))
                    .map_or(Step::AwaitRelease, Step::Serve)
            }
        }
    }

    /// The model that at least `needed` contributors agreed to release.
    fn agreed_release(&self, needed: usize) -> Option<Digest> {
        let count = |model: &Digest| self.releases.values().filter(|m| *m == model).count();
        self.releases
            .values()
            .find(|model| count(model) >= needed)
            .copied()
    }

    /// Announces an attempt. One that follows a sum that did not open asks only part of the contributors.
    pub fn announce(&mut self, round: u32, attempt: u32, base: Digest, now: Now) {
        // A group that was chosen to stay apart from others is asked until one of its attempts is opened.
        let asked = self.attempt.as_mut().and_then(|earlier| {
            let chosen = earlier.asked_next.take().or_else(|| earlier.asked.take());
            chosen.filter(|_| earlier.round == round)
        });
        let announced_ms = self
            .attempt
            .as_ref()
            .map_or(now.wall_ms, |earlier| earlier.announced_ms);
        let mut next = Attempt::announce(round, attempt, base, announced_ms, now.steady_ms);
        next.asked = asked;
        self.attempt = Some(next);
    }

    /// Records the published attempt and makes room for the next round.
    pub fn publish(&mut self, result: Digest, now: Now) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let answers = attempt.answers();
        if let Some(proposal) = attempt.proposal {
            let attempt_set = proposal.set.clone();
            self.published.push(Published {
                attempt: attempt.attempt,
                set: proposal.set,
                sum: proposal.sum,
                answers,
                result,
                announced_ms: attempt.announced_ms,
                published_ms: now.wall_ms,
            });
            self.excluded.clear();
            self.earlier.clear();
            let set = attempt_set.into_iter().collect();
            self.suspects = bisect::after_success(&self.suspects, &set);
        }
    }

    /// Takes note of an attempt that was given up by certificate: whoever was named is left out of this round, and a round that was
    /// attempted too often closes the study.
    pub fn note_abandoned(&mut self, rules: &Rules) {
        let Some(attempt) = &self.attempt else { return };
        self.excluded.extend(attempt.refused.values().cloned());
        self.earlier.push(EarlierAttempt::Abandoned);
        self.close_if_last(rules);
    }

    /// Takes note of an attempt that can neither be certified nor given up: the same contributors are asked again, and nobody else, for
    /// their sum may be open.
    pub fn note_repeat(&mut self, rules: &Rules) {
        let Some(attempt) = &mut self.attempt else { return };
        let set: BTreeSet<PartyId> = attempt
            .proposal
            .iter()
            .flat_map(|p| p.set.iter().cloned())
            .collect();
        if !set.is_empty() {
            attempt.asked_next = Some(set.clone());
        }
        self.earlier.push(EarlierAttempt::Standing(set));
        self.close_if_last(rules);
    }

    /// Takes note of an attempt whose sum did not open because of a contributor: part of its set is asked next. Where no part can be,
    /// the study is closed.
    pub fn note_unopened(&mut self, rules: &Rules) {
        let Some(attempt) = &mut self.attempt else { return };
        let set: BTreeSet<PartyId> = attempt
            .proposal
            .iter()
            .flat_map(|p| p.set.iter().cloned())
            .collect();
        self.suspects = bisect::after_failure(&self.suspects, &set);
        self.in_all_spoilt = Some(blame::in_all(self.in_all_spoilt.as_ref(), &set));
        self.earlier.push(EarlierAttempt::Standing(set));
        let standing: Vec<_> = self
            .earlier
            .iter()
            .filter_map(EarlierAttempt::standing)
            .cloned()
            .collect();
        let next = bisect::next_group(&standing, &self.suspects, rules.min_contributors);
        let round = attempt.round;
        attempt.asked_next = next;
        if attempt.asked_next.is_none() {
            let names: Vec<&str> = self.suspects.iter().map(PartyId::as_str).collect();
            let reason = format!(
                "one of {} spoiled the sum of round {round}, and they are too few to find out who without opening sums over fewer than {}",
                names.join(", "),
                rules.min_contributors
            );
            self.close(false, reason);
            return;
        }
        self.close_if_last(rules);
    }

    fn close_if_last(&mut self, rules: &Rules) {
        let Some(attempt) = &self.attempt else { return };
        if attempt.attempt + 1 >= rules.max_attempts {
            let last = attempt.abandoned.as_deref().unwrap_or("unknown");
            let reason = format!(
                "round {} was abandoned {} times; the last time because {last}",
                attempt.round, rules.max_attempts
            );
            self.close(false, reason);
        }
    }

    /// Ends the study.
    pub fn close(&mut self, completed: bool, reason: impl Into<String>) {
        self.closed = Some(Closed {
            completed,
            reason: reason.into(),
        });
    }
}
