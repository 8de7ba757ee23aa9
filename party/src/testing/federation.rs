//! Some parties and a coordinator's key in one process, passing statements by hand.

use crate::contribute::{Contributor, Parcel};
use crate::custody::anchor::Memory;
use crate::custody::{Custodian, Verdict};
use crate::home::Home;
use crate::identity::Identity;
use crate::opening::Evidence;
use crate::rounds::Rounds;
use crate::testing;
use crate::vault::Vault;
use galen_core::study::{Card, FrozenStudy, Purpose, Study};
use galen_core::{Digest, Signed, SigningKey};
use galen_custody::rehearsal;
use galen_store::Store;
use galen_sums::round::Assignments;
use galen_sums::{
    Authored, ContributionSet, Earlier, Round, RoundId, RoundRecord, SealedStatement, Source, SumPlan,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A party with its own store.
pub(crate) struct Member {
    pub(crate) identity: Arc<Identity>,
    pub(crate) custodian: Custodian,
    pub(crate) contributor: Contributor,
    pub(crate) vault: Vault,
}

/// The parties.
pub(crate) struct Federation {
    temp: tempfile::TempDir,
    pub(crate) coordinator: SigningKey,
    pub(crate) study: FrozenStudy,
    pub(crate) rounds: Rounds,
    identities: Vec<Arc<Identity>>,
    /// What each party's machine remembers beside its disk.
    pub(crate) memories: Vec<Memory>,
    pub(crate) members: Vec<Member>,
}

impl Federation {
    pub(crate) fn new() -> Self {
        Self::of(testing::study())
    }

    /// The parties of a study.
    pub(crate) fn of(plan: Study) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut identities = Vec::new();
        for member in &plan.party {
            let home = Home::create(&temp.path().join(member.name.as_str())).unwrap();
            identities.push(Arc::new(Identity::create(&home, member.name.clone()).unwrap()));
        }
        let coordinator = SigningKey::generate().unwrap();
        let mut cards: Vec<Card> = identities.iter().map(|identity| identity.card()).collect();
        cards.push(Card {
            name: testing::name("coordinator"),
            certificate: Digest::of(b"certificate"),
            signing: coordinator.public(),
            sealing: Digest::default(),
        });
        let study = testing::frozen_of(plan, &cards);
        let rounds = Rounds::of(&study).unwrap();
        let mut federation = Self {
            temp,
            coordinator,
            study,
            rounds,
            memories: identities.iter().map(|_| Memory::default()).collect(),
            identities,
            members: Vec::new(),
        };
        federation.restart();
        federation
    }

    /// Every party starts again from its disk, and the custodians introduce themselves.
    pub(crate) fn restart(&mut self) {
        self.start();
        self.introduce();
    }

    /// Every party starts again from its disk.
    fn start(&mut self) {
        self.members.clear();
        for (identity, memory) in self.identities.iter().zip(&self.memories) {
            let dir: PathBuf = self.temp.path().join(identity.name.as_str()).join("store");
            let store = Store::open(&dir).unwrap();
            let (anchor, study) = (Box::new(memory.clone()), self.study.digest());
            self.members.push(Member {
                custodian: Custodian::open(&store, study, Arc::clone(identity), anchor).unwrap(),
                contributor: Contributor::open(&store, Arc::clone(identity)).unwrap(),
                vault: Vault::open(&store).unwrap(),
                identity: Arc::clone(identity),
            });
        }
    }

    /// The members that keep pieces.
    pub(crate) fn custodians(&self) -> impl Iterator<Item = &Member> + Clone {
        let roster = self.rounds.roster();
        let keeps = |member: &&Member| roster.custodian_index(&member.identity.name).is_some();
        self.members.iter().filter(keeps)
    }

    /// Every custodian tells the others its incarnation, and they vouch for it. Returns the words for each.
    pub(crate) fn introduce(&self) -> Vec<Authored> {
        let incarnations: Vec<Authored> = self
            .custodians()
            .map(|member| member.custodian.incarnation().unwrap())
            .collect();
        let roster = self.rounds.roster();
        let mut words = Vec::new();
        for member in self.custodians() {
            for other in self
                .custodians()
                .filter(|other| other.identity.name != member.identity.name)
            {
                let nonce = other.custodian.standing().unwrap().unwrap().nonce;
                let (of, by) = (&other.identity.name, &member.custodian);
                if let Some((word, false)) = by.vouch(roster, &incarnations, of, &nonce).unwrap() {
                    words.push(word);
                }
            }
        }
        for member in self.custodians() {
            // Whom the others do not vouch for stays unconfirmed.
            let _ = member.custodian.take_confirmations(roster, &words);
        }
        words
    }

    /// A copy of what is on a party's disk; everybody is off meanwhile.
    pub(crate) fn image(&mut self, index: usize) -> tempfile::TempDir {
        self.members.clear();
        let image = tempfile::tempdir().unwrap();
        copy(&self.disk(index), image.path());
        self.restart();
        image
    }

    /// Puts a party's disk back to a copy. Whether its machine remembers what came after is up to [`Self::memories`].
    pub(crate) fn put_back(&mut self, index: usize, image: &tempfile::TempDir) {
        self.members.clear();
        let disk = self.disk(index);
        std::fs::remove_dir_all(&disk).unwrap();
        copy(image.path(), &disk);
        self.start();
    }

    fn disk(&self, index: usize) -> PathBuf {
        let name = self.identities[index].name.as_str();
        self.temp.path().join(name).join("store")
    }

    /// Every party starts again with an empty store.
    pub(crate) fn forget(&mut self) {
        self.members.clear();
        for identity in &self.identities {
            std::fs::remove_dir_all(self.temp.path().join(identity.name.as_str()).join("store")).unwrap();
        }
        self.restart();
    }

    /// The custodians' keys for an attempt.
    pub(crate) fn announce(&self, id: RoundId) -> Vec<Authored> {
        self.custodians()
            .map(|member| member.custodian.announce(id).unwrap())
            .collect()
    }

    /// A signed record as the coordinator makes it.
    pub(crate) fn record(&self, id: RoundId, base: Digest, purpose: Purpose, keys: Vec<Authored>) -> Signed {
        let inputs = self.rounds.inputs(id.round).unwrap();
        let earlier = |attempt| {
            let before = galen_sums::Abandoned {
                round: RoundId { attempt, ..id },
            };
            let sign = |identity: &Arc<Identity>| {
                let study = self.study.digest();
                before.sign(&identity.signing, &identity.name, &study).unwrap()
            };
            let keeps =
                |identity: &&Arc<Identity>| self.rounds.roster().custodian_index(&identity.name).is_some();
            Earlier::Abandoned(self.identities.iter().filter(keeps).map(sign).collect())
        };
        let signing = self
            .custodians()
            .map(|member| (&member.identity.name, &member.identity.signing));
        let study = self.study.digest();
        let record = RoundRecord {
            study: self.study.digest(),
            purpose,
            round: id,
            plan: SumPlan::new(&inputs).unwrap(),
            base,
            confirmations: rehearsal::confirmations(signing, &keys, &study).unwrap(),
            earlier: (0..id.attempt).map(earlier).collect(),
            custodians: keys,
            audit: galen_sums::AuditHead::default(),
        };
        record.sign(&self.coordinator).unwrap()
    }

    /// The round of an attempt at the statistics.
    pub(crate) fn statistics_round(&self, attempt: u32, base: Digest) -> Round {
        let id = RoundId { round: 0, attempt };
        let record = self.record(id, base, Purpose::Statistics, self.announce(id));
        self.rounds.open(id, &record).unwrap()
    }

    /// Everybody's contribution of the values that `values` gives for its index.
    pub(crate) fn contribute(&self, round: &Round, values: impl Fn(usize) -> Vec<i64>) -> Vec<Parcel> {
        let contribute = |(index, member): (usize, &Member)| {
            member.contributor.parcel(round, || Ok(values(index))).unwrap()
        };
        self.members.iter().enumerate().map(contribute).collect()
    }

    /// The sum blob and its digest.
    pub(crate) fn add(&self, round: &Round, parcels: &[Parcel]) -> (Vec<u8>, Digest) {
        let headers: Vec<Authored> = parcels.iter().map(|parcel| parcel.header.clone()).collect();
        let set = ContributionSet::new(round, &headers).unwrap();
        let mut blob = Vec::new();
        let mut sources: Vec<Source<&[u8]>> = Vec::new();
        for parcel in parcels {
            sources.push(Source {
                contributor: parcel.header.author.clone(),
                digest: parcel.digest,
                blob: &parcel.ciphertext,
            });
        }
        let digest = galen_sums::add(round, &set, &sources, &mut blob).unwrap();
        (blob, digest)
    }

    /// Everybody's endorsement.
    pub(crate) fn endorse(&self, round: &Round, headers: &[Authored], sum: Digest) -> Vec<Authored> {
        for member in self.custodians() {
            let verdict = member.custodian.check(round, headers, sum).unwrap();
            assert!(matches!(verdict, Some(Verdict::Checked(_))), "{verdict:?}");
        }
        let endorse = |member: &Member| member.custodian.endorse(round, headers, sum).unwrap().unwrap();
        self.custodians().map(endorse).collect()
    }

    /// The answers of the custodians that a fair division asks.
    pub(crate) fn answer(
        &self,
        round: &Round,
        headers: &[Authored],
        endorsements: &[Authored],
    ) -> Vec<SealedStatement> {
        let all = self
            .custodians()
            .map(|member| member.identity.name.clone())
            .collect();
        let assigned = round.assign(&all).unwrap();
        let evidence = Evidence {
            headers: headers.to_vec(),
            endorsements: endorsements.to_vec(),
            answers: Vec::new(),
            fingerprints: Vec::new(),
        };
        self.answer_as(round, &evidence, &assigned)
    }

    /// The answers of the custodians for the pieces assigned to them.
    pub(crate) fn answer_as(
        &self,
        round: &Round,
        evidence: &Evidence,
        assigned: &Assignments,
    ) -> Vec<SealedStatement> {
        let answer = |(name, pieces): (&galen_core::PartyId, &Vec<u32>)| {
            let member = self
                .members
                .iter()
                .find(|member| &member.identity.name == name)
                .unwrap();
            member
                .custodian
                .answer(round, &evidence.headers, &evidence.endorsements, pieces)
                .unwrap()
        };
        assigned.iter().map(answer).collect()
    }

    /// Everything that is signed about a round, its sum and the sum's digest.
    pub(crate) fn whole_round(&self, round: &Round, parcels: &[Parcel]) -> (Evidence, Vec<u8>, Digest) {
        let headers: Vec<Authored> = parcels.iter().map(|parcel| parcel.header.clone()).collect();
        let (blob, sum) = self.add(round, parcels);
        let endorsements = self.endorse(round, &headers, sum);
        let answers = self.answer(round, &headers, &endorsements);
        (
            Evidence {
                headers,
                endorsements,
                answers,
                fingerprints: Vec::new(),
            },
            blob,
            sum,
        )
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
