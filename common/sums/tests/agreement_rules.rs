//! The rules of agreement (docs/sums-proof.md, section 6) as a model, searched exhaustively in small federations: whatever a
//! coordinator does in whatever order, with as many cheating custodians as the rules allow, at most one set of a round is
//! certified. And each rule is needed: without it the search finds two.
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
    /// Attempts of the round.
    attempts: usize,
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
    /// It asks so many others for the newest attempt that they announced, and takes part in later ones only.
    Asking(usize),
}

/// What a custodian remembers.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Ledger {
    /// Newest attempt announced, plus one.
    newest: usize,
    /// For each attempt: nothing, given up, or the record endorsed (plus two).
    said: Vec<usize>,
    /// Attempts below are not taken part in.
    floor: usize,
}

const NOTHING: usize = 0;
const GIVEN_UP: usize = 1;
const FIRST_RECORD: usize = 2;

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// Of the custodians that do not cheat. The last one is the one that may be put back.
    ledgers: Vec<Ledger>,
    /// What the coordinator has of them: for each attempt, bits of everything that was said, and whether a key was announced.
    signed: Vec<Vec<u64>>,
    announced: Vec<Vec<bool>>,
    /// A copy of the last one's ledger, while it may still be used.
    backup: Option<Ledger>,
}

struct Search {
    rules: Rules,
    /// Records of an attempt: which custodians' keys they hold, cheating ones first.
    records: Vec<Vec<bool>>,
}

impl Search {
    fn new(rules: Rules) -> Self {
        let records = (0u32..1 << rules.custodians)
            .filter(|mask| mask.count_ones() as usize >= rules.agreement)
            .map(|mask| (0..rules.custodians).map(|c| mask >> c & 1 == 1).collect())
            .collect();
        Self { rules, records }
    }

    fn start(&self) -> State {
        let attempts = self.rules.attempts;
        let ledger = Ledger {
            newest: 0,
            said: vec![NOTHING; attempts],
            floor: 0,
        };
        let honest = self.rules.custodians - self.rules.cheating;
        State {
            backup: self.rules.restore.map(|_| ledger.clone()),
            ledgers: vec![ledger; honest],
            signed: vec![vec![0; attempts]; honest],
            announced: vec![vec![false; attempts]; honest],
        }
    }

    fn holds(&self, record: usize, honest: usize) -> bool {
        self.records[record][self.rules.cheating + honest]
    }

    /// Whether g custodians gave an attempt up; those that cheat say everything.
    fn given_up(&self, state: &State, attempt: usize) -> bool {
        let honest = state
            .signed
            .iter()
            .filter(|s| s[attempt] >> GIVEN_UP & 1 == 1)
            .count();
        honest + self.rules.cheating >= self.rules.agreement
    }

    fn certified(&self, state: &State, attempt: usize, record: usize) -> bool {
        let cheating = (0..self.rules.cheating)
            .filter(|&c| self.records[record][c])
            .count();
        let honest = state
            .signed
            .iter()
            .filter(|s| s[attempt] >> (FIRST_RECORD + record) & 1 == 1)
            .count();
        honest + cheating >= self.rules.agreement
    }

    /// Number of attempts and records with a certificate.
    fn certificates(&self, state: &State) -> usize {
        let records = 0..self.records.len();
        (0..self.rules.attempts)
            .map(|attempt| {
                records
                    .clone()
                    .filter(|&record| self.certified(state, attempt, record))
                    .count()
            })
            .sum()
    }

    fn steps(&self, state: &State) -> Vec<State> {
        let mut next = Vec::new();
        for (who, ledger) in state.ledgers.iter().enumerate() {
            for attempt in ledger.newest.max(ledger.floor)..self.rules.attempts {
                let mut after = state.clone();
                after.ledgers[who].newest = attempt + 1;
                after.announced[who][attempt] = true;
                next.push(after);
            }
            let Some(attempt) = ledger.newest.checked_sub(1).filter(|&a| a >= ledger.floor) else {
                continue;
            };
            if ledger.said[attempt] != NOTHING {
                continue;
            }
            // A record exists once the custodians in it have announced, and the attempt before was given up.
            let follows = attempt == 0 || self.given_up(state, attempt - 1);
            let mut say = |what: usize| {
                let mut after = state.clone();
                after.ledgers[who].said[attempt] = what;
                after.signed[who][attempt] |= 1 << what;
                next.push(after);
            };
            let exists = |record: &usize| {
                let announced = |other: usize| state.announced[other][attempt];
                (0..state.ledgers.len()).all(|other| !self.holds(*record, other) || announced(other))
            };
            let records: Vec<usize> = (0..self.records.len())
                .filter(|record| follows && exists(record))
                .collect();
            if !records.is_empty() || !self.rules.record_first {
                say(GIVEN_UP);
            }
            for record in records {
                if self.holds(record, who) {
                    say(FIRST_RECORD + record);
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
                ledger.floor = ledger.newest.max(told);
            }
        }
        ledger
    }

    /// The most certificates that any order of steps leads to, and the number of states; stops at two.
    fn run(&self) -> (usize, usize) {
        let mut seen = HashSet::from([self.start()]);
        let mut open = vec![self.start()];
        let mut most = 0;
        while let Some(state) = open.pop() {
            most = most.max(self.certificates(&state));
            if most > 1 {
                break;
            }
            for after in self.steps(&state) {
                if seen.insert(after.clone()) {
                    open.push(after);
                }
            }
        }
        (most, seen.len())
    }
}

fn rules(custodians: usize, agreement: usize, cheating: usize, attempts: usize) -> Rules {
    Rules {
        custodians,
        agreement,
        cheating,
        attempts,
        record_first: true,
        restore: None,
    }
}

/// 2g - n - 1.
fn tolerated(custodians: usize, agreement: usize) -> usize {
    2 * agreement - custodians - 1
}

#[test]
fn at_most_one_set_of_a_round_is_certified() {
    for (n, g) in [(3, 2), (3, 3), (4, 3), (4, 4), (5, 4)] {
        for cheating in 0..=tolerated(n, g) {
            // All that can differ is who says what; with more custodians that do not cheat, fewer attempts.
            let attempts = if n - cheating > 3 { 2 } else { 3 };
            if n - cheating > 4 || (n, cheating) == (5, 1) {
                continue;
            }
            let (most, states) = Search::new(rules(n, g, cheating, attempts)).run();
            eprintln!("n={n} g={g} cheating={cheating}: {states} states");
            assert_eq!(most, 1, "n={n} g={g} cheating={cheating}");
        }
    }
}

#[test]
fn one_cheating_custodian_more_certifies_two_sets() {
    for (n, g) in [(3, 2), (4, 3), (5, 4)] {
        let cheating = tolerated(n, g) + 1;
        assert_eq!(Search::new(rules(n, g, cheating, 2)).run().0, 2, "n={n} g={g}");
    }
}

#[test]
fn abandoning_an_attempt_that_never_had_a_record_certifies_two_sets() {
    for (n, g) in [(3, 2), (4, 3), (5, 4)] {
        let without = Rules {
            record_first: false,
            ..rules(n, g, tolerated(n, g), 3)
        };
        assert_eq!(Search::new(without).run().0, 2, "n={n} g={g}");
    }
}

/// A custodian that was put back signs in later attempts only, if it asks as many others as an endorsement takes.
#[test]
fn a_custodian_that_was_put_back_is_harmless_if_it_asks_enough_others() {
    for (n, g) in [(3, 2), (4, 3), (5, 4)] {
        let cheating = tolerated(n, g);
        let back = |restore| Rules {
            restore: Some(restore),
            ..rules(n, g, cheating, 2)
        };
        let (most, states) = Search::new(back(Return::Asking(g))).run();
        eprintln!("n={n} g={g}: {states} states");
        assert_eq!(most, 1, "n={n} g={g}");
        // One fewer is not enough, and going on by its own state is not.
        assert_eq!(Search::new(back(Return::Asking(g - 1))).run().0, 2, "n={n} g={g}");
        assert_eq!(Search::new(back(Return::Trusting)).run().0, 2, "n={n} g={g}");
        let unrecorded = Rules {
            record_first: false,
            ..back(Return::Asking(g))
        };
        assert_eq!(Search::new(unrecorded).run().0, 2, "n={n} g={g}");
    }
}
