//! A federation in memory: parties with keys, and the steps of a round as daemons would take them.

use galen_core::study::Purpose;
use galen_core::{Digest, PartyId, SigningKey};
use galen_custody::{
    CustodyError, LedgerState, OneRoundSecret, Opened, OpenedSeeds, ReceiverKey, Vote, answer,
    check_contribution, encrypt, endorse, open_answers, open_sum, rehearsal,
};
use galen_sums::plan::padded;
use galen_sums::round::Assignments;
use galen_sums::{
    Abandoned, Authored, Certificate, ContributionHeader, ContributionSet, Earlier, PlanInputs, Roster,
    RosterMember, RosterParts, Round, RoundId, RoundRecord, SealedStatement, Source, SumPlan, ValueRange,
    add, check_blob, check_certificate, check_header,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) struct Party {
    pub(crate) name: PartyId,
    pub(crate) signing: SigningKey,
    pub(crate) receiver: ReceiverKey,
}

pub(crate) struct Federation {
    pub(crate) roster: Arc<Roster>,
    pub(crate) parties: Vec<Party>,
    pub(crate) coordinator: SigningKey,
    pub(crate) inputs: PlanInputs,
}

/// n, t, g.
#[derive(Clone, Copy)]
pub(crate) struct Sharing(pub(crate) u32, pub(crate) u32, pub(crate) u32);

pub(crate) fn name(index: usize) -> PartyId {
    PartyId::new(format!("h{index}")).unwrap()
}

pub(crate) fn range(count: u32, max_abs: u64) -> ValueRange {
    ValueRange {
        count,
        max_abs,
        fraction_bits: 0,
    }
}

impl Federation {
    /// The first parties are the custodians, and the first `contributors` parties contribute.
    pub(crate) fn new(sharing: Sharing, contributors: usize, ranges: Vec<ValueRange>) -> Self {
        let Sharing(n, t, g) = sharing;
        let parties: Vec<Party> = (0..contributors.max(n as usize))
            .map(|index| Party {
                name: name(index),
                signing: SigningKey::generate().unwrap(),
                receiver: ReceiverKey::generate().unwrap(),
            })
            .collect();
        let coordinator = SigningKey::generate().unwrap();
        let member = |(index, party): (usize, &Party)| RosterMember {
            name: party.name.clone(),
            signing: party.signing.public(),
            sealing: *party.receiver.public(),
            contributor: index < contributors,
            custodian: index < n as usize,
        };
        let roster = Roster::new(RosterParts {
            study: Digest::of(b"study"),
            coordinator: coordinator.public(),
            members: parties.iter().enumerate().map(member).collect(),
            threshold: t,
            agreement: g,
            min_contributors: 3,
        });
        let roster = Arc::new(roster.unwrap());
        let values: u64 = ranges.iter().map(|range| u64::from(range.count)).sum();
        let inputs = PlanInputs::for_roster(&roster, ranges, 100 * padded(values));
        Self {
            roster,
            parties,
            coordinator,
            inputs,
        }
    }

    pub(crate) fn party(&self, name: &PartyId) -> &Party {
        self.parties.iter().find(|party| party.name == *name).unwrap()
    }

    /// Announces an attempt with these custodians taking part.
    pub(crate) fn announce(
        &self,
        round: RoundId,
        custodians: impl IntoIterator<Item = usize>,
    ) -> Attempt<'_> {
        let mut secrets = BTreeMap::new();
        let mut ledgers = BTreeMap::new();
        let mut keys = Vec::new();
        for index in custodians {
            let party = &self.parties[index];
            let secret = OneRoundSecret::generate(round).unwrap();
            // As a daemon does: the secret and the ledger go to disk and come back.
            let secret = OneRoundSecret::from_bytes(&secret.to_bytes()).unwrap();
            let ledger = self.fresh_ledger(&party.name);
            let ledger = ledger.announce(round, secret.public()).unwrap();
            keys.push(
                secret
                    .statement(&ledger, &party.name, &party.signing, self.roster.study())
                    .unwrap(),
            );
            secrets.insert(party.name.clone(), secret);
            ledgers.insert(party.name.clone(), ledger);
        }
        let record = self.record(round, keys);
        let signed = record.sign(&self.coordinator).unwrap();
        let round = Round::open(&self.roster, &signed, &self.inputs).unwrap();
        Attempt {
            federation: self,
            round,
            secrets,
            ledgers,
        }
    }

    pub(crate) fn announce_all(&self, round: u32, attempt: u32) -> Attempt<'_> {
        self.announce(RoundId { round, attempt }, 0..self.roster.custodians().len())
    }

    /// A ledger in its first incarnation; the nonce follows from the name.
    pub(crate) fn fresh_ledger(&self, name: &PartyId) -> LedgerState {
        rehearsal::fresh_ledger(Digest::of(name.as_str().as_bytes()))
    }

    /// Every custodian's word for every other one's incarnation, as `keys` have them.
    pub(crate) fn confirmations(&self, keys: &[Authored]) -> Vec<Authored> {
        let custodians = self.roster.custodians().iter();
        let custodians = custodians.map(|name| (name, &self.party(name).signing));
        rehearsal::confirmations(custodians, keys, self.roster.study()).unwrap()
    }

    /// Every custodian's word that it gave an attempt up.
    pub(crate) fn abandon(&self, round: RoundId) -> Vec<Authored> {
        let sign = |name: &PartyId| {
            let key = &self.party(name).signing;
            Abandoned { round }.sign(key, name, self.roster.study()).unwrap()
        };
        self.roster.custodians().iter().map(sign).collect()
    }

    pub(crate) fn record(&self, round: RoundId, custodians: Vec<Authored>) -> RoundRecord {
        let earlier = (0..round.attempt)
            .map(|attempt| Earlier::Abandoned(self.abandon(RoundId { attempt, ..round })))
            .collect();
        RoundRecord {
            study: *self.roster.study(),
            purpose: Purpose::Training,
            round,
            plan: SumPlan::new(&self.inputs).unwrap(),
            base: Digest::of(b"base"),
            confirmations: self.confirmations(&custodians),
            custodians,
            audit: galen_sums::AuditHead::default(),
            earlier,
        }
    }
}

/// One contribution as it lies at the coordinator.
#[derive(Clone)]
pub(crate) struct Contribution {
    pub(crate) header: Authored,
    pub(crate) blob: Vec<u8>,
}

/// One attempt of a round.
pub(crate) struct Attempt<'f> {
    pub(crate) federation: &'f Federation,
    pub(crate) round: Round,
    pub(crate) secrets: BTreeMap<PartyId, OneRoundSecret>,
    pub(crate) ledgers: BTreeMap<PartyId, LedgerState>,
}

/// What is fixed once the coordinator has added.
pub(crate) struct Proposal {
    pub(crate) set: ContributionSet,
    pub(crate) sum: Vec<u8>,
    pub(crate) digest: Digest,
}

impl Attempt<'_> {
    pub(crate) fn contribute(&self, index: usize, values: &[i64]) -> Contribution {
        let party = &self.federation.parties[index];
        let mut blob = Vec::new();
        let header = encrypt(&self.round, &party.name, &party.signing, values, &mut blob).unwrap();
        let checked = check_header(&self.round, &header).unwrap();
        assert_eq!(
            check_blob(&self.round, &party.name, blob.as_slice()).unwrap(),
            checked.ciphertext
        );
        assert_eq!(checked.ciphertext_len, blob.len() as u64);
        Contribution { header, blob }
    }

    pub(crate) fn propose(&self, contributions: &[Contribution]) -> Proposal {
        let headers: Vec<Authored> = contributions.iter().map(|c| c.header.clone()).collect();
        let set = ContributionSet::new(&self.round, &headers).unwrap();
        let sources: Vec<_> = contributions
            .iter()
            .map(|contribution| Source {
                contributor: contribution.header.author.clone(),
                digest: check_header(&self.round, &contribution.header)
                    .unwrap()
                    .ciphertext,
                blob: contribution.blob.as_slice(),
            })
            .collect();
        let mut sum = Vec::new();
        let digest = add(&self.round, &set, &sources, &mut sum).unwrap();
        assert_eq!(digest, Digest::of(&sum));
        Proposal { set, sum, digest }
    }

    pub(crate) fn open_seeds(
        &self,
        custodian: &PartyId,
        contributions: &[Contribution],
    ) -> Result<Vec<OpenedSeeds>, CustodyError> {
        let secret = &self.secrets[custodian];
        contributions
            .iter()
            .map(|c| check_contribution(&self.round, custodian, secret, &c.header))
            .collect()
    }

    /// Every named custodian checks, commits and endorses.
    pub(crate) fn certify(
        &mut self,
        custodians: &BTreeSet<PartyId>,
        contributions: &[Contribution],
        proposal: &Proposal,
    ) -> Certificate {
        let mut endorsements = Vec::new();
        for custodian in custodians {
            let opened = self.open_seeds(custodian, contributions).unwrap();
            let vote = Vote::of(&self.round, &proposal.set, proposal.digest);
            let ledger = self.ledgers[custodian].sign(self.round.id(), &vote).unwrap();
            let signing = &self.federation.party(custodian).signing;
            let endorsed = endorse(
                &self.round,
                custodian,
                signing,
                &ledger,
                &proposal.set,
                &opened,
                proposal.digest,
            );
            endorsements.push(endorsed.unwrap());
            self.ledgers.insert(custodian.clone(), ledger);
        }
        check_certificate(&self.round, &endorsements).unwrap()
    }

    pub(crate) fn answer(
        &mut self,
        custodian: &PartyId,
        contributions: &[Contribution],
        certificate: &Certificate,
        proposal: &Proposal,
        pieces: &[u32],
    ) -> Result<SealedStatement, CustodyError> {
        let opened = self.open_seeds(custodian, contributions)?;
        let vote = Vote::of(&self.round, &proposal.set, certificate.endorsement().sum);
        let ledger = self.ledgers[custodian].sign(self.round.id(), &vote)?;
        let ledger = ledger.answer(self.round.id(), certificate.endorsement())?;
        self.ledgers.insert(custodian.clone(), ledger.clone());
        let signing = &self.federation.party(custodian).signing;
        let set = &proposal.set;
        answer(
            &self.round,
            custodian,
            signing,
            &ledger,
            certificate,
            set,
            &opened,
            pieces,
        )
    }

    pub(crate) fn answer_all(
        &mut self,
        assignments: &Assignments,
        contributions: &[Contribution],
        certificate: &Certificate,
        proposal: &Proposal,
    ) -> Vec<SealedStatement> {
        assignments
            .iter()
            .map(|(custodian, pieces)| {
                self.answer(custodian, contributions, certificate, proposal, pieces)
                    .unwrap()
            })
            .collect()
    }

    pub(crate) fn open(
        &self,
        receiver: usize,
        certificate: &Certificate,
        proposal: &Proposal,
        answers: &[SealedStatement],
    ) -> Result<Opened, CustodyError> {
        let party = &self.federation.parties[receiver];
        let (round, set) = (&self.round, &proposal.set);
        let key = open_answers(round, certificate, set, &party.name, &party.receiver, answers)?;
        open_sum(round, certificate, set, &key, proposal.sum.as_slice())
    }

    /// Certificate and opening by these custodians alone.
    pub(crate) fn finish(
        &mut self,
        custodians: &BTreeSet<PartyId>,
        contributions: &[Contribution],
    ) -> Result<Opened, CustodyError> {
        let proposal = self.propose(contributions);
        let certificate = self.certify(custodians, contributions, &proposal);
        let assignments = self.round.assign(custodians).unwrap();
        let answers = self.answer_all(&assignments, contributions, &certificate, &proposal);
        self.open(0, &certificate, &proposal, &answers)
    }

    pub(crate) fn custodians(&self) -> BTreeSet<PartyId> {
        self.secrets.keys().cloned().collect()
    }

    /// Signs a header again after the test has changed it: what a dishonest contributor can do.
    pub(crate) fn resign(
        &self,
        contribution: &Contribution,
        change: impl FnOnce(&mut ContributionHeader),
    ) -> Authored {
        let author = &contribution.header.author;
        let mut header: ContributionHeader = contribution.header.statement.read_unverified().unwrap();
        change(&mut header);
        let key = &self.federation.party(author).signing;
        let domain = galen_sums::authored::CONTRIBUTION;
        Authored::sign(key, author, domain, self.federation.roster.study(), &header).unwrap()
    }

    /// A contribution with another blob, under a fresh signature.
    pub(crate) fn with_blob(&self, contribution: &Contribution, blob: Vec<u8>) -> Contribution {
        let header = self.resign(contribution, |header| header.ciphertext = Digest::of(&blob));
        Contribution { header, blob }
    }
}

pub(crate) fn plain_sum(values: &[Vec<i64>]) -> Vec<i64> {
    (0..values[0].len())
        .map(|at| values.iter().map(|v| v[at]).sum())
        .collect()
}

pub(crate) fn names(indices: impl IntoIterator<Item = usize>) -> BTreeSet<PartyId> {
    indices.into_iter().map(name).collect()
}

/// All subsets of `0..n` of one size.
pub(crate) fn subsets(n: usize, size: usize) -> Vec<Vec<usize>> {
    (0u32..1 << n)
        .filter(|mask| mask.count_ones() as usize == size)
        .map(|mask| (0..n).filter(|i| mask >> i & 1 == 1).collect())
        .collect()
}
