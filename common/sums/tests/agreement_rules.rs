//! The rules of agreement (docs/sums-proof.md, section 6) as a model of two attempts of a round, searched exhaustively in small
//! federations: whatever a coordinator does in whatever order, with as many cheating custodians as the rules allow, an attempt has at
//! most one certificate, and a certified attempt knows what was certified before it. And each rule is needed: without it the search
//! finds a contradiction.
//!
//! The model knows custodians that announce, endorse and abandon, records that name the custodians whose keys they hold, and
//! one custodian that may be put back to an earlier state. It knows no cryptography: signatures are what was signed.

use std::collections::HashSet;

/// Rules to search under.
#[derive(Clone, Copy)]
struct Rules {
    custodians: usize,
    agreement: usize,
    cheating: usize,
    /// Who endorsed a set in the first attempt endorses in the second only under a record that names this set, or shows that the
    /// attempt was given up.
    remember: bool,
    /// Who abandons an attempt has seen a record of it.
    record_first: bool,
    /// How a custodian that was put back comes in again; `None` if none is put back.
    restore: Option<Return>,
}

/// What a custodian that was put back does before it signs again.
#[derive(Clone, Copy)]
enum Return {
    /// It draws a nonce, and goes on with what its state allows.
    Trusting,
    /// It asks so many others for the newest attempt that they announced, and leaves out the round if they or it took part.
    Asking(usize),
}

/// What a record says about the attempt before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// There is none.
    Nothing,
    /// It was given up, with the signatures.
    GivenUp,
    /// This set may be open.
    Standing(usize),
}

/// Something to endorse: a set, under a record.
struct Choice {
    /// Whose keys the record holds, cheating custodians first.
    holds: Vec<bool>,
    before: Before,
    set: usize,
}

/// What a custodian remembers.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Ledger {
    /// Attempts announced so far: the newest, plus one.
    newest: usize,
    /// For each attempt: nothing, given up, or the choice endorsed (plus two).
    said: [usize; ATTEMPTS],
    /// Nothing is said in this round any more.
    out: bool,
}

const ATTEMPTS: usize = 2;
const NOTHING: usize = 0;
const GIVEN_UP: usize = 1;
const FIRST_CHOICE: usize = 2;

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// Of the custodians that do not cheat. The last one is the one that may be put back.
    ledgers: Vec<Ledger>,
    /// What the coordinator has of them: for each attempt, bits of everything that was said, and whether a key was announced.
    signed: Vec<[u64; ATTEMPTS]>,
    announced: Vec<[bool; ATTEMPTS]>,
    /// A copy of the last one's ledger, while it may still be used.
    backup: Option<Ledger>,
}

struct Search {
    rules: Rules,
    choices: [Vec<Choice>; ATTEMPTS],
}

impl Search {
    fn new(rules: Rules) -> Self {
        // Records of more than g custodians only ask for more announcements.
        let records = || {
            (0u32..1 << rules.custodians)
                .filter(|mask| mask.count_ones() as usize == rules.agreement)
                .map(|mask| (0..rules.custodians).map(|c| mask >> c & 1 == 1).collect())
        };
        let all = |options: &[(Before, usize)]| {
            records()
                .flat_map(|holds: Vec<bool>| {
                    options.iter().map(move |&(before, set)| Choice {
                        holds: holds.clone(),
                        before,
                        set,
                    })
                })
                .collect()
        };
        let second = [Before::GivenUp, Before::Standing(0), Before::Standing(1)].map(|before| (before, 0));
        Self {
            rules,
            choices: [all(&[(Before::Nothing, 0), (Before::Nothing, 1)]), all(&second)],
        }
    }

    fn start(&self) -> State {
        let ledger = Ledger {
            newest: 0,
            said: [NOTHING; ATTEMPTS],
            out: false,
        };
        let honest = self.rules.custodians - self.rules.cheating;
        State {
            backup: self.rules.restore.map(|_| ledger.clone()),
            ledgers: vec![ledger; honest],
            signed: vec![[0; ATTEMPTS]; honest],
            announced: vec![[false; ATTEMPTS]; honest],
        }
    }

    /// Custodians that do not cheat and said this.
    fn sayers(&self, state: &State, attempt: usize, what: usize) -> usize {
        state
            .signed
            .iter()
            .filter(|signed| signed[attempt] >> what & 1 == 1)
            .count()
    }

    /// Whether g custodians gave the first attempt up; those that cheat say everything.
    fn given_up(&self, state: &State) -> bool {
        self.sayers(state, 0, GIVEN_UP) + self.rules.cheating >= self.rules.agreement
    }

    fn certified<'s>(&'s self, state: &State, attempt: usize) -> Vec<&'s Choice> {
        let enough = |&(index, choice): &(usize, &Choice)| {
            let cheating = choice.holds[..self.rules.cheating].iter().filter(|h| **h).count();
            cheating + self.sayers(state, attempt, FIRST_CHOICE + index) >= self.rules.agreement
        };
        let choices = self.choices[attempt].iter().enumerate().filter(enough);
        choices.map(|(_, choice)| choice).collect()
    }

    /// Two certificates of one attempt, or one of the second attempt that does not name the set certified in the first.
    fn contradicts(&self, state: &State) -> bool {
        let [first, second] = [0, 1].map(|attempt| self.certified(state, attempt));
        let hidden = first.iter().any(|first| {
            second
                .iter()
                .any(|second| second.before != Before::Standing(first.set))
        });
        first.len() > 1 || second.len() > 1 || hidden
    }

    /// Choices of the attempt whose record can exist, as anybody sees it.
    fn open(&self, state: &State, attempt: usize) -> Vec<usize> {
        let cheating = self.rules.cheating;
        let exists = |choice: &Choice| {
            let announced = |other: usize| state.announced[other][attempt];
            let holds = &choice.holds[cheating..];
            (0..state.ledgers.len()).all(|other| !holds[other] || announced(other))
                && (choice.before != Before::GivenUp || self.given_up(state))
        };
        let choices = self.choices[attempt].iter().enumerate();
        choices
            .filter(|(_, choice)| exists(choice))
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether a custodian may endorse this choice, by what it remembers of the first attempt.
    fn fits(&self, ledger: &Ledger, attempt: usize, choice: &Choice) -> bool {
        if attempt == 0 || !self.rules.remember {
            return true;
        }
        match ledger.said[0].checked_sub(FIRST_CHOICE) {
            Some(own) => {
                [Before::GivenUp, Before::Standing(self.choices[0][own].set)].contains(&choice.before)
            }
            None => true,
        }
    }

    fn steps(&self, state: &State) -> Vec<State> {
        let mut next = Vec::new();
        for (who, ledger) in state.ledgers.iter().enumerate().filter(|(_, ledger)| !ledger.out) {
            for attempt in ledger.newest..ATTEMPTS {
                let mut after = state.clone();
                after.ledgers[who].newest = attempt + 1;
                after.announced[who][attempt] = true;
                next.push(after);
            }
            let Some(attempt) = ledger.newest.checked_sub(1) else {
                continue;
            };
            if ledger.said[attempt] != NOTHING {
                continue;
            }
            let mut say = |what: usize| {
                let mut after = state.clone();
                after.ledgers[who].said[attempt] = what;
                after.signed[who][attempt] |= 1 << what;
                next.push(after);
            };
            let open = self.open(state, attempt);
            // Giving the last attempt up leads nowhere here.
            if attempt == 0 && !(self.rules.record_first && open.is_empty()) {
                say(GIVEN_UP);
            }
            for index in open {
                let choice = &self.choices[attempt][index];
                if choice.holds[self.rules.cheating + who] && self.fits(ledger, attempt, choice) {
                    say(FIRST_CHOICE + index);
                }
            }
        }
        if let (Some(back), Some(backup)) = (self.rules.restore, &state.backup) {
            let last = state.ledgers.len() - 1;
            // A newer backup is made, or the one that there is goes back, once.
            if state.ledgers[last] != *backup {
                let mut after = state.clone();
                after.backup = Some(state.ledgers[last].clone());
                next.push(after);
                let mut after = state.clone();
                after.backup = None;
                after.ledgers[last] = self.returned(state, backup, back);
                next.push(after);
            }
        }
        next
    }

    fn returned(&self, state: &State, backup: &Ledger, back: Return) -> Ledger {
        let mut ledger = backup.clone();
        match back {
            // The newest attempt may be announced afresh.
            Return::Trusting => ledger.newest = ledger.newest.saturating_sub(1),
            Return::Asking(others) => {
                // The coordinator picks whom it asks: those that cheat, then those that know least.
                let mut known: Vec<usize> = state.ledgers[..state.ledgers.len() - 1]
                    .iter()
                    .map(|other| other.newest)
                    .collect();
                known.sort_unstable();
                let told = others
                    .saturating_sub(self.rules.cheating)
                    .checked_sub(1)
                    .map_or(0, |last| known[last]);
                ledger.out = ledger.newest.max(told) > 0;
            }
        }
        ledger
    }

    /// Whether some order of steps leads to a contradiction.
    fn finds_a_contradiction(&self) -> bool {
        let mut seen = HashSet::from([self.start()]);
        let mut open = vec![self.start()];
        while let Some(state) = open.pop() {
            if self.contradicts(&state) {
                return true;
            }
            for after in self.steps(&state) {
                if seen.insert(after.clone()) {
                    open.push(after);
                }
            }
        }
        eprintln!("{} states", seen.len());
        false
    }
}

fn rules(custodians: usize, agreement: usize, cheating: usize) -> Rules {
    Rules {
        custodians,
        agreement,
        cheating,
        remember: true,
        record_first: true,
        restore: None,
    }
}

/// 2g - n - 1.
fn tolerated(custodians: usize, agreement: usize) -> usize {
    2 * agreement - custodians - 1
}

const FEDERATIONS: [(usize, usize); 3] = [(3, 2), (4, 3), (5, 4)];

#[test]
fn what_is_certified_is_certified_once_and_known_later() {
    for (n, g) in [(3, 2), (3, 3), (4, 3), (4, 4), (5, 4)] {
        let found = Search::new(rules(n, g, tolerated(n, g))).finds_a_contradiction();
        assert!(!found, "n={n} g={g}");
    }
    // Nor with fewer that cheat.
    assert!(!Search::new(rules(4, 4, 1)).finds_a_contradiction());
}

#[test]
fn one_cheating_custodian_more_hides_a_set() {
    for (n, g) in FEDERATIONS {
        let found = Search::new(rules(n, g, tolerated(n, g) + 1)).finds_a_contradiction();
        assert!(found, "n={n} g={g}");
    }
}

#[test]
fn a_custodian_that_does_not_look_at_what_it_endorsed_before_hides_a_set() {
    for (n, g) in FEDERATIONS {
        let careless = Rules {
            remember: false,
            ..rules(n, g, tolerated(n, g))
        };
        assert!(Search::new(careless).finds_a_contradiction(), "n={n} g={g}");
    }
}

fn put_back(federation: (usize, usize), restore: Return, record_first: bool) -> Search {
    let (n, g) = federation;
    Search::new(Rules {
        restore: Some(restore),
        record_first,
        ..rules(n, g, tolerated(n, g))
    })
}

/// A custodian that was put back leaves the round out, if it asks as many others as an endorsement takes, and if nobody
/// abandons what has no record yet.
#[test]
fn a_custodian_that_was_put_back_is_harmless_if_it_asks_enough_others() {
    for (n, g) in [(3, 2), (4, 3)] {
        let found = |restore, record_first| put_back((n, g), restore, record_first).finds_a_contradiction();
        assert!(!found(Return::Asking(g), true), "n={n} g={g}");
        assert!(found(Return::Asking(g - 1), true), "n={n} g={g}");
        assert!(found(Return::Asking(g), false), "n={n} g={g}");
        assert!(found(Return::Trusting, true), "n={n} g={g}");
    }
}

#[test]
#[ignore = "millions of states"]
fn a_custodian_of_five_that_was_put_back_is_harmless_if_it_asks_enough_others() {
    assert!(!put_back((5, 4), Return::Asking(4), true).finds_a_contradiction());
}
