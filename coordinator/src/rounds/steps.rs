//! The transitions of the study around its attempts: consent, announcing, publishing, abandoning, release.

use super::state::{Attempt, Closed, Published, Rules, StudyState};
use galen_core::study::Release;
use galen_core::{Digest, PartyId};
use galen_net::protocol::AttemptPhase;

/// What the study needs next, apart from what the attempt under way decides for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These parties have not signed.
    AwaitConsent(Vec<PartyId>),
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
    /// Digest of the state before the first round.
    pub initial: Digest,
    /// Where the model goes.
    pub release: Release,
}

impl StudyState {
    /// What comes next. `stored` tells whether a model blob is stored whole.
    pub fn next(&self, frame: &Frame, rules: &Rules, stored: impl Fn(&Digest) -> bool) -> Step {
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

    /// Announces an attempt.
    pub fn announce(&mut self, round: u32, attempt: u32, base: Digest, now: Now) {
        let announced_ms = self
            .attempt
            .as_ref()
            .map_or(now.wall_ms, |earlier| earlier.announced_ms);
        self.attempt = Some(Attempt::announce(
            round,
            attempt,
            base,
            announced_ms,
            now.steady_ms,
        ));
    }

    /// Records the published attempt and makes room for the next round.
    pub fn publish(&mut self, result: Digest, now: Now) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let answers = attempt.answers();
        if let Some(proposal) = attempt.proposal {
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
        }
    }

    /// Takes note of an abandoned attempt: whoever was named is left out of this round, and a round that was attempted too often
    /// closes the study.
    pub fn note_abandoned(&mut self, rules: &Rules) {
        let Some(attempt) = &self.attempt else { return };
        self.excluded.extend(attempt.culprit.iter().cloned());
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
