//! What really happened, written down from outside: what each contribution encrypts, what the coordinator acknowledged, and which
//! sums the custodians made readable. No node's word is taken for any of it.

use galen_core::{Digest, PartyId, Signed};
use galen_net::protocol::{Item, Request, Response, Statement};
use galen_party::rounds::Rounds;
use galen_sums::{AnswerHeader, Authored, ContributionHeader, ContributionSet, Round, RoundId};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// A set of contributions and its sum, in one attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Digest of the round record.
    pub record: Digest,
    /// Digest of the set.
    pub set: Digest,
    /// Digest of the sum blob.
    pub sum: Digest,
}

/// Everything that happened.
pub struct Recorder {
    rounds: Rounds,
    /// Round records that anybody was shown.
    records: BTreeMap<Digest, Round>,
    /// Members of the sets that anybody was shown, with the digests of their headers.
    sets: BTreeMap<Digest, BTreeMap<PartyId, Digest>>,
    /// Pieces that custodians gave out.
    answered: BTreeMap<Candidate, BTreeSet<u32>>,
    /// What contributions encrypt, by the digests of their headers.
    encrypted: BTreeMap<Digest, Vec<i64>>,
    /// Contributions that the coordinator acknowledged.
    acknowledged: BTreeSet<(PartyId, Digest)>,
}

fn read<T: DeserializeOwned>(signed: &Signed) -> Option<T> {
    signed.read_unverified().ok()
}

impl Recorder {
    /// Nothing has happened.
    pub fn new(rounds: Rounds) -> Self {
        Self {
            rounds,
            records: BTreeMap::new(),
            sets: BTreeMap::new(),
            answered: BTreeMap::new(),
            encrypted: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
        }
    }

    /// A party sends a request, whether or not it arrives: whoever sits in the network has it from now on. If it is a contribution,
    /// `encrypted` are the values in it.
    pub fn sent(&mut self, party: &PartyId, request: &Request, encrypted: Option<Vec<i64>>) {
        match request {
            Request::Post(Statement::Contribution(signed)) => {
                let authored = Authored {
                    author: party.clone(),
                    statement: signed.clone(),
                };
                if let Some(values) = encrypted {
                    self.encrypted.entry(authored.digest()).or_insert(values);
                }
            }
            Request::Post(Statement::Answer(signed)) => {
                if let Some(answer) = read::<AnswerHeader>(signed) {
                    let candidate = Candidate {
                        record: answer.record,
                        set: answer.set,
                        sum: answer.sum,
                    };
                    self.answered.entry(candidate).or_default().extend(answer.pieces);
                }
            }
            _ => {}
        }
    }

    /// A party gets the answer to a request.
    pub fn answered(&mut self, party: &PartyId, request: &Request, response: &Response) {
        match (request, response) {
            (Request::Post(Statement::Contribution(signed)), Response::Ok) => {
                if let Some(header) = read::<ContributionHeader>(signed) {
                    self.acknowledged.insert((party.clone(), header.record));
                }
            }
            (
                Request::Fetch {
                    round, attempt, item, ..
                },
                Response::Statements { found, .. },
            ) => {
                let id = RoundId {
                    round: *round,
                    attempt: *attempt,
                };
                match item {
                    Item::Record => {
                        for (_, signed) in found {
                            if let Ok(round) = self.rounds.open(id, signed) {
                                self.records.insert(*round.digest(), round);
                            }
                        }
                    }
                    Item::Headers => self.shown(id, found),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn shown(&mut self, id: RoundId, found: &[(PartyId, Signed)]) {
        let headers: Vec<Authored> = found
            .iter()
            .map(|(author, statement)| Authored {
                author: author.clone(),
                statement: statement.clone(),
            })
            .collect();
        for round in self.records.values().filter(|round| round.id() == id) {
            if let Ok(set) = ContributionSet::new(round, &headers) {
                self.sets.insert(set.digest(), set.members);
            }
        }
    }

    /// The rounds whose records somebody was shown.
    pub fn rounds(&self) -> impl Iterator<Item = &Round> {
        self.records.values()
    }

    /// The round of a record that somebody was shown.
    pub fn round(&self, record: &Digest) -> Option<&Round> {
        self.records.get(record)
    }

    /// Members of a set that somebody was shown, with the digests of their headers.
    pub fn members(&self, set: &Digest) -> Option<&BTreeMap<PartyId, Digest>> {
        self.sets.get(set)
    }

    /// The candidates of each round for which any custodian answered, and whether every piece was answered or is held by somebody who cheats,
    /// so that the receivers can read the sum.
    pub fn candidates(&self, cheaters: &[&PartyId]) -> impl Iterator<Item = (RoundId, &Candidate, bool)> {
        self.answered.iter().filter_map(move |(candidate, pieces)| {
            let round = self.records.get(&candidate.record)?;
            let mut known = pieces.clone();
            for cheater in cheaters {
                known.extend(round.held_by(cheater).iter().copied());
            }
            let all = round.roster().pieces().len();
            Some((round.id(), candidate, known.len() >= all))
        })
    }

    /// What a contribution encrypts, by the digest of its header.
    pub fn encrypted(&self, header: &Digest) -> Option<&[i64]> {
        self.encrypted.get(header).map(Vec::as_slice)
    }

    /// The contributors whose contributions under a record were acknowledged.
    pub fn acknowledged(&self, record: &Digest) -> BTreeSet<PartyId> {
        self.acknowledged
            .iter()
            .filter(|(_, known)| known == record)
            .map(|(party, _)| party.clone())
            .collect()
    }
}
