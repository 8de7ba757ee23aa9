//! A coordinator that changes what it answers: other statements, other views, other bytes, for one party at a time.
//!
//! Behind it stands the real engine, so that the study goes on as far as it can and lies meet nodes in every state.

use super::choice::Choice;
use super::shape::Shape;
use super::wire::Answer;
use galen_core::{Digest, PartyId, Signed};
use galen_net::Response;
use galen_net::protocol::{AttemptPhase, Item, Request, View};
use std::collections::BTreeMap;

/// A lie: what is changed in one of the answers that a party gets, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lie {
    /// To whom.
    pub party: usize,
    /// In which answer.
    pub answer: u64,
    /// What.
    pub change: Change,
}

/// What is changed. `which` selects among what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A statement is left out.
    Drop {
        /// Which.
        which: u64,
    },
    /// A statement stands twice.
    Double {
        /// Which.
        which: u64,
    },
    /// A statement stands under another member's name as well, or in place of that member's.
    Rename {
        /// Which, and whose name.
        which: u64,
    },
    /// A byte of a statement, a view's digest or a blob is another.
    Flip {
        /// Which.
        which: u64,
    },
    /// What was answered for another attempt, or to another party.
    Replay {
        /// Which.
        which: u64,
    },
    /// The view says another phase.
    Phase {
        /// Which.
        which: u64,
    },
    /// The view says another attempt or round.
    Attempt {
        /// Which.
        which: u64,
    },
    /// The view asks this party for all pieces.
    Greed,
    /// The view has forgotten a published round, or names another result.
    Forget {
        /// Which.
        which: u64,
    },
    /// The study is said to be over.
    Close,
}

/// A party gets about this many answers.
const ANSWERS: u64 = 140;

/// The lies of a seed.
pub fn lies(choice: &Choice, shape: &Shape) -> Vec<Lie> {
    let count = choice.between("lies", 0, 1, 12);
    let lie = |number: u64| {
        let which = choice.below("lie which", number, 1 << 20);
        let change = match choice.below("lie kind", number, 100) {
            0..=12 => Change::Drop { which },
            13..=21 => Change::Double { which },
            22..=31 => Change::Rename { which },
            32..=44 => Change::Flip { which },
            45..=61 => Change::Replay { which },
            62..=73 => Change::Phase { which },
            74..=81 => Change::Attempt { which },
            82..=91 => Change::Greed,
            92..=97 => Change::Forget { which },
            _ => Change::Close,
        };
        Lie {
            party: choice.below("lie party", number, shape.parties as u64) as usize,
            answer: choice.between("lie answer", number, 1, ANSWERS),
            change,
        }
    };
    (0..count).map(lie).collect()
}

type Statements = Vec<(PartyId, Signed)>;

/// The liar. It remembers everything that it has said.
#[derive(Default)]
pub struct Liar {
    answers: BTreeMap<usize, u64>,
    said: BTreeMap<u8, Vec<Statements>>,
    views: Vec<View>,
    names: Vec<PartyId>,
}

impl Liar {
    /// A liar among these parties.
    pub fn new(names: Vec<PartyId>) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }

    /// The answer that a party gets instead, and whether it is another.
    pub fn change(
        &mut self,
        lies: &[Lie],
        party: usize,
        request: &Request,
        answer: Answer,
    ) -> (Answer, bool) {
        let count = self.answers.entry(party).or_default();
        *count += 1;
        let number = *count;
        let mut response = match answer {
            Ok(response) => response,
            refused => return (refused, false),
        };
        let honest = response.clone();
        self.remember(request, &honest);
        for lie in lies
            .iter()
            .filter(|lie| (lie.party, lie.answer) == (party, number))
        {
            match &mut response {
                Response::Statements { found, .. } => self.statements(request, found, lie.change),
                Response::View(view) => self.view(party, view, lie.change),
                _ => {}
            }
        }
        let changed = response != honest;
        (Ok(response), changed)
    }

    fn remember(&mut self, request: &Request, response: &Response) {
        match (request, response) {
            (Request::Fetch { item, .. }, Response::Statements { found, .. }) => {
                self.said.entry(kind(*item)).or_default().push(found.clone());
            }
            (_, Response::View(view)) => self.views.push(view.clone()),
            _ => {}
        }
    }

    fn statements(&self, request: &Request, found: &mut Statements, change: Change) {
        let pick = |which: u64, len: usize| (which % len.max(1) as u64) as usize;
        match change {
            Change::Drop { which } if !found.is_empty() => {
                found.remove(pick(which, found.len()));
            }
            Change::Double { which } if !found.is_empty() => {
                found.push(found[pick(which, found.len())].clone());
            }
            Change::Rename { which } if !found.is_empty() => {
                let (from, to) = (pick(which, found.len()), pick(which / 64, self.names.len()));
                let copy = (self.names[to].clone(), found[from].1.clone());
                if which.is_multiple_of(2) {
                    found.retain(|(author, _)| *author != copy.0);
                }
                found.push(copy);
            }
            Change::Flip { which } if !found.is_empty() => {
                let at = pick(which, found.len());
                if let Some(flipped) = flip(&found[at].1, which / 16) {
                    found[at].1 = flipped;
                }
            }
            Change::Replay { which } => {
                if let Request::Fetch { item, .. } = request
                    && let Some(earlier) = self.said.get(&kind(*item))
                {
                    *found = earlier[pick(which, earlier.len())].clone();
                }
            }
            _ => {}
        }
    }

    fn view(&self, party: usize, view: &mut View, change: Change) {
        const PHASES: [AttemptPhase; 6] = [
            AttemptPhase::Announced,
            AttemptPhase::Collecting,
            AttemptPhase::Proposed,
            AttemptPhase::Certified,
            AttemptPhase::Opening,
            AttemptPhase::Abandoned,
        ];
        match change {
            Change::Replay { which } => {
                let earlier = &self.views[(which % self.views.len().max(1) as u64) as usize];
                let version = view.version;
                *view = earlier.clone();
                view.version = version;
            }
            Change::Forget { which } => {
                if which.is_multiple_of(2) {
                    view.published.pop();
                    view.rounds = view.rounds.saturating_sub(1);
                } else if let Some(last) = view.published.last_mut() {
                    last.result = Digest::of(b"another state");
                }
            }
            Change::Close => {
                view.study = galen_net::protocol::StudyPhase::Closed {
                    completed: true,
                    reason: "so it is said".into(),
                };
            }
            _ => {
                let Some(attempt) = &mut view.attempt else { return };
                match change {
                    Change::Phase { which } => {
                        attempt.phase = PHASES[(which % PHASES.len() as u64) as usize];
                    }
                    Change::Attempt { which } => match which % 3 {
                        0 => attempt.attempt += 1,
                        1 => attempt.attempt = attempt.attempt.saturating_sub(1),
                        _ => attempt.round += 1,
                    },
                    Change::Flip { .. } => attempt.sum = Some(Digest::of(b"another sum")),
                    Change::Greed => {
                        attempt.phase = AttemptPhase::Certified;
                        attempt.assignments = vec![(self.names[party].clone(), (0..40).collect())];
                    }
                    _ => {}
                }
            }
        }
    }

    /// Changes a blob's bytes as the lies say for the answer that comes next.
    pub fn changes_blob(&mut self, lies: &[Lie], party: usize) -> Option<u64> {
        let count = self.answers.entry(party).or_default();
        *count += 1;
        let number = *count;
        lies.iter().find_map(|lie| match lie.change {
            Change::Flip { which } | Change::Drop { which } if (lie.party, lie.answer) == (party, number) => {
                Some(which)
            }
            _ => None,
        })
    }
}

fn kind(item: Item) -> u8 {
    item as u8
}

/// A statement with one byte changed, if that is still one.
fn flip(signed: &Signed, which: u64) -> Option<Signed> {
    let mut bytes = postcard::to_stdvec(signed).ok()?;
    let at = usize::try_from(which).ok()? % bytes.len();
    bytes[at] ^= 1 << (which % 8);
    postcard::from_bytes(&bytes).ok()
}
