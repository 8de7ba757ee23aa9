//! The study of a schedule: a small one, with the numbers that matter drawn from the seed.

use super::choice::Choice;
use anyhow::Context;
use galen_core::study::{self, Card, FrozenStudy, Release, Role, STUDY_SIGNATURE, Study};
use galen_core::{Digest, PartyId, Signed, SigningKey};
use galen_custody::ReceiverKey;
use galen_party::data::Patients;
use galen_party::identity::Identity;
use galen_training::Table;
use std::sync::{Arc, OnceLock};

/// The small study of the parties' own tests; the numbers that matter here are set anew.
const STUDY: &str = include_str!("../../../party/src/testing/small.toml");

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// The numbers of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Hospitals, each of which contributes.
    pub parties: usize,
    /// How many of them keep pieces.
    pub custodians: usize,
    /// t.
    pub threshold: u32,
    /// g.
    pub agreement: u32,
    /// Contributions with which a stalled round may close.
    pub quorum: u32,
    /// Rounds of training.
    pub training: u32,
}

/// Smallest set in every simulated study.
pub const MIN_CONTRIBUTORS: usize = 3;

impl Shape {
    /// The shape of a seed: every hospital keeps pieces.
    pub fn of(choice: &Choice) -> Self {
        const POLICIES: [(usize, u32, u32); 7] = [
            (4, 2, 3),
            (4, 3, 3),
            (4, 3, 4),
            (5, 2, 4),
            (5, 3, 4),
            (5, 3, 4),
            (5, 4, 4),
        ];
        let &(parties, threshold, agreement) = choice.one("policy", 0, &POLICIES);
        Self {
            parties,
            custodians: parties,
            threshold,
            agreement,
            quorum: choice.between("quorum", 0, MIN_CONTRIBUTORS as u64, parties as u64 - 1) as u32,
            training: 1 + u32::from(choice.percent("training", 0, 20)),
        }
    }

    /// The shape of a seed with up to eight hospitals, of which four or five keep pieces: enough to find out which one spoils sums.
    pub fn of_crowd(choice: &Choice) -> Self {
        let few = Self::of(choice);
        let parties = choice.between("crowd", 0, few.custodians as u64, NAMES.len() as u64);
        Self {
            parties: parties as usize,
            quorum: choice.between("quorum", 1, MIN_CONTRIBUTORS as u64, parties - 1) as u32,
            training: choice.between("training", 1, 1, 3) as u32,
            ..few
        }
    }

    /// f = 2g - n - 1: how many custodians may cheat, if fewer than t do.
    pub fn cheaters(&self) -> usize {
        let f = (2 * self.agreement as usize).saturating_sub(self.custodians + 1);
        f.min(self.threshold as usize - 1)
    }

    /// How many parties may be lost without the study standing still for ever: enough custodians must endorse, enough contributors fill
    /// the quorum.
    pub fn spare(&self) -> usize {
        let custodians = self.custodians - self.agreement as usize;
        custodians.min(self.parties - self.quorum as usize)
    }
}

/// A study ready to run, with everybody's keys.
pub struct Cast {
    /// Its numbers.
    pub shape: Shape,
    /// The study.
    pub study: FrozenStudy,
    /// The parties, in the order of the study.
    pub members: Vec<Member>,
    coordinator: SigningKey,
}

/// A hospital.
pub struct Member {
    /// Its keys.
    pub identity: Arc<Identity>,
    /// Its signature of the study.
    pub consent: Signed,
    table: Table,
}

impl Member {
    /// Its name.
    pub fn name(&self) -> &PartyId {
        &self.identity.name
    }

    /// Its patients.
    pub fn patients(&self, study: &Study) -> Patients {
        Patients::split(&self.table, study, self.name())
    }
}

/// Keys are drawn once per process: making them takes longer than a small round, and which they are decides nothing.
fn keys() -> anyhow::Result<&'static (SigningKeyBytes, Vec<Arc<Identity>>)> {
    static KEYS: OnceLock<(SigningKeyBytes, Vec<Arc<Identity>>)> = OnceLock::new();
    if let Some(keys) = KEYS.get() {
        return Ok(keys);
    }
    let coordinator = SigningKey::generate()?.to_pkcs8().to_vec();
    let mut identities = Vec::new();
    for name in NAMES {
        identities.push(Arc::new(Identity {
            name: PartyId::new(name)?,
            tls: galen_net::Identity::generate()?,
            signing: SigningKey::generate()?,
            sealing: ReceiverKey::generate()?,
        }));
    }
    Ok(KEYS.get_or_init(|| (coordinator, identities)))
}

type SigningKeyBytes = Vec<u8>;

impl Cast {
    /// The study of a shape.
    pub fn new(shape: Shape) -> anyhow::Result<Self> {
        let (coordinator, identities) = keys()?;
        let coordinator = SigningKey::from_pkcs8(coordinator)?;
        let identities = &identities[..shape.parties];
        let study = plan(&shape, identities)?;
        let cards = identities.iter().map(|identity| identity.card()).collect();
        let card = Card {
            name: PartyId::new("coordinator")?,
            certificate: Digest::of(b"certificate of the simulated coordinator"),
            signing: coordinator.public(),
            sealing: Digest::default(),
        };
        let study = FrozenStudy::freeze(study, card, cards).context("the simulated study")?;
        let member = |(index, identity): (usize, &Arc<Identity>)| -> anyhow::Result<Member> {
            let digest = study.digest();
            Ok(Member {
                identity: Arc::clone(identity),
                consent: identity.signing.sign(STUDY_SIGNATURE, &digest, &digest)?,
                table: table(index),
            })
        };
        let members = identities
            .iter()
            .enumerate()
            .map(member)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shape,
            study,
            members,
            coordinator,
        })
    }

    /// The coordinator's key.
    pub fn coordinator(&self) -> anyhow::Result<SigningKey> {
        Ok(SigningKey::from_pkcs8(self.coordinator.to_pkcs8())?)
    }

    /// The number of a party.
    pub fn index(&self, name: &PartyId) -> Option<usize> {
        self.members.iter().position(|member| member.name() == name)
    }
}

fn plan(shape: &Shape, identities: &[Arc<Identity>]) -> anyhow::Result<Study> {
    let mut plan: Study = toml::from_str(STUDY)?;
    let hospital = |(index, identity): (usize, &Arc<Identity>)| {
        let keeps = (index < shape.custodians).then_some(Role::Custodian);
        study::Member {
            name: identity.name.clone(),
            title: String::new(),
            roles: [Role::Contributor].into_iter().chain(keeps).collect(),
        }
    };
    plan.party = identities.iter().enumerate().map(hospital).collect();
    plan.sums.threshold = shape.threshold;
    plan.sums.agreement = shape.agreement;
    plan.sums.min_contributors = MIN_CONTRIBUTORS as u32;
    plan.sums.quorum = shape.quorum;
    plan.sums.give_up_s = 1200;
    plan.sums.max_attempts = 12;
    plan.training.rounds = shape.training;
    plan.training.local_epochs = 1;
    plan.serving.release = Release::Contributors;
    Ok(plan)
}

/// A hospital's table of ages and sexes: a dozen patients, sick when old.
fn table(hospital: usize) -> Table {
    let rows = 12 + 2 * hospital;
    let age = |row: usize| (30 + (row * 17 + hospital * 5) % 50) as f64;
    Table {
        features: (0..rows)
            .map(|row| vec![(row % 7 != 3).then(|| age(row)), Some((row % 2) as f64)])
            .collect(),
        labels: (0..rows).map(|row| age(row) + (row % 3) as f64 > 55.0).collect(),
    }
}
