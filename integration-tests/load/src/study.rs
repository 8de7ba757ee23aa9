//! A study of simulated hospitals, and its coordinator's folder.

use anyhow::Context;
use galen_coordinator::home::Home;
use galen_core::study::{Card, FrozenStudy, Member, Release, Role, Study};
use galen_core::{Digest, PartyId, SigningKey};
use galen_custody::ReceiverKey;
use galen_models::agenda;
use galen_net::Identity;
use galen_sums::schedule::Schedule;
use galen_sums::{Roster, SumPlan};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Widths of the two hidden layers that give the network a million parameters.
const HIDDEN: [u32; 2] = [700, 680];

/// What a study is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) contributors: usize,
    pub(crate) custodians: usize,
    pub(crate) threshold: u32,
    pub(crate) agreement: u32,
    /// Stand-still after which the coordinator goes on without the missing.
    pub(crate) patience_s: u32,
    pub(crate) training_rounds: u32,
    /// Connections that the coordinator has at a time.
    pub(crate) connections: usize,
}

/// The keys of a hospital.
pub(crate) struct Keys {
    pub(crate) name: PartyId,
    pub(crate) tls: Identity,
    pub(crate) signing: SigningKey,
    pub(crate) receiver: ReceiverKey,
}

/// A frozen study with all keys and the coordinator's folder, laid out in a directory.
pub(crate) struct Scene {
    pub(crate) study: FrozenStudy,
    pub(crate) roster: Arc<Roster>,
    pub(crate) schedule: Schedule,
    pub(crate) keys: Vec<Keys>,
    pub(crate) address: SocketAddr,
    pub(crate) coordinator: PathBuf,
    pub(crate) dir: PathBuf,
}

impl Scene {
    /// The first parties are the custodians; all contribute.
    pub(crate) fn new(shape: Shape, dir: &Path) -> anyhow::Result<Self> {
        let keys = (0..shape.contributors)
            .map(|index| {
                Ok(Keys {
                    name: PartyId::new(format!("h{index}"))?,
                    tls: Identity::generate()?,
                    signing: SigningKey::generate()?,
                    receiver: ReceiverKey::generate()?,
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let cards = keys.iter().map(|keys| Card {
            name: keys.name.clone(),
            certificate: keys.tls.fingerprint(),
            signing: keys.signing.public(),
            sealing: Digest(*keys.receiver.public()),
        });
        let folder = dir.join("coordinator");
        let (home, card) = Home::init(&folder)?;
        let study = FrozenStudy::freeze(plan(shape, &keys)?, card, cards.collect())?;
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let mut config = home.config()?;
        config.listen = address;
        config.threads = 0;
        config.connections = shape.connections;
        std::fs::write(home.config_path(), toml::to_string(&config)?)?;
        let target = home.study_path(&config);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(target, study.to_toml()?)?;
        let roster = Arc::new(Roster::from_study(&study)?);
        let shapes = agenda::schedule_shapes(study.study())?;
        let schedule = Schedule::new(shapes, study.study().sums.max_attempts);
        Ok(Self {
            study,
            roster,
            schedule,
            keys,
            address,
            coordinator: folder,
            dir: dir.to_owned(),
        })
    }

    /// Parameters of a training round, in a line.
    pub(crate) fn describe(&self) -> anyhow::Result<String> {
        let inputs = self
            .schedule
            .inputs(&self.roster, 1)
            .context("no training round")?;
        let plan = SumPlan::new(&inputs)?;
        let sums = &self.study.study().sums;
        Ok(format!(
            "{} contributors, {} custodians, t = {}, g = {}, {} pieces; {} values, {} bytes per contribution, N = {}, log2 Q = {:.1} in {} \
             prime(s); 128-bit security allows {}",
            self.roster.contributors().len(),
            self.roster.custodians().len(),
            sums.threshold,
            sums.agreement,
            self.roster.pieces().len(),
            plan.values(),
            plan.blob_len(),
            plan.degree,
            plan.log2_q(),
            plan.primes.len(),
            plan.security_bound()
        ))
    }
}

/// The heart study's data and recipe, with other members and a large network.
fn plan(shape: Shape, keys: &[Keys]) -> anyhow::Result<Study> {
    let text = include_str!("../../../configs/studies/heart/study.toml");
    let mut study: Study = galen_core::config::parse(Path::new("heart/study.toml"), text)?;
    let member = |(index, keys): (usize, &Keys)| Member {
        name: keys.name.clone(),
        title: String::new(),
        roles: match index < shape.custodians {
            true => vec![Role::Contributor, Role::Custodian],
            false => vec![Role::Contributor],
        },
    };
    study.party = keys.iter().enumerate().map(member).collect();
    study.sums.threshold = shape.threshold;
    study.sums.agreement = shape.agreement;
    study.sums.quorum = shape.contributors as u32;
    study.sums.patience_s = shape.patience_s;
    study.model.hidden = HIDDEN.to_vec();
    study.training.rounds = shape.training_rounds;
    study.serving.release = Release::Contributors;
    Ok(study)
}
