//! Freezing a study and reading it back.

use super::check::Problem;
use super::plan::Study;
use super::successor::Predecessor;
use crate::config::{self, ConfigError};
use crate::hash::digest_of;
use crate::id::{Digest, PartyId, StudyDigest};
use crate::sign::PublicKey;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Signature domain of a party's consent: it signs the study digest.
pub const STUDY_SIGNATURE: &str = "galen study consent v1";

/// The public identity of a party or of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Name; `coordinator` for the coordinator.
    pub name: PartyId,
    /// SHA-256 of the TLS certificate (DER).
    pub certificate: Digest,
    /// Ed25519 key that signs this one's statements.
    pub signing: PublicKey,
    /// X25519 key to which opened key sums are sealed (32 bytes); the coordinator's is unused and zero.
    pub sealing: Digest,
}

/// A study whose members are known by their keys.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenStudy {
    study: Study,
    coordinator: Card,
    cards: Vec<Card>,
    predecessor: Option<Predecessor>,
    digest: StudyDigest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FrozenFile {
    digest: StudyDigest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    predecessor: Option<Predecessor>,
    coordinator: Card,
    card: Vec<Card>,
    study: Study,
}

/// A study that cannot be frozen or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudyError {
    /// The file cannot be read or parsed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The study contradicts itself.
    #[error("the study has {} problem(s):\n{}", .0.len(), .0.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
    /// A member has no card.
    #[error(
        "no identity card for party \"{0}\": ask that hospital for the card file that `party init` wrote"
    )]
    CardMissing(PartyId),
    /// A card belongs to nobody in the study.
    #[error("the card of \"{0}\" belongs to no party of the study")]
    CardUnknown(PartyId),
    /// Two cards share a name or a key.
    #[error("the cards of \"{0}\" and \"{1}\" share a name, a certificate or a key")]
    CardRepeated(PartyId, PartyId),
    /// The digest in the file is not that of its contents.
    #[error("{file}: the file says digest {said}, its contents have {found}: it was changed after freezing")]
    Digest {
        /// The file.
        file: String,
        /// Digest written in the file.
        said: StudyDigest,
        /// Digest of the contents.
        found: StudyDigest,
    },
    /// The study cannot be written.
    #[error("the study cannot be encoded: {0}")]
    Encoding(String),
}

impl FrozenStudy {
    /// Joins a study with the cards of its members; cards may come in any order.
    pub fn freeze(study: Study, coordinator: Card, cards: Vec<Card>) -> Result<Self, StudyError> {
        Self::join(study, coordinator, cards, None)
    }

    pub(super) fn join(
        study: Study,
        coordinator: Card,
        cards: Vec<Card>,
        predecessor: Option<Predecessor>,
    ) -> Result<Self, StudyError> {
        let problems = study.check();
        if !problems.is_empty() {
            return Err(StudyError::Problems(problems));
        }
        if let Some(stranger) = cards
            .iter()
            .find(|card| study.party.iter().all(|m| m.name != card.name))
        {
            return Err(StudyError::CardUnknown(stranger.name.clone()));
        }
        let mut ordered = Vec::with_capacity(study.party.len());
        for member in &study.party {
            let card = cards.iter().find(|card| card.name == member.name);
            ordered.push(
                card.ok_or_else(|| StudyError::CardMissing(member.name.clone()))?
                    .clone(),
            );
        }
        let everyone: Vec<&Card> = cards.iter().chain([&coordinator]).collect();
        for (i, a) in everyone.iter().enumerate() {
            for b in &everyone[..i] {
                if a.name == b.name
                    || a.certificate == b.certificate
                    || a.signing == b.signing
                    || a.sealing == b.sealing
                {
                    return Err(StudyError::CardRepeated(b.name.clone(), a.name.clone()));
                }
            }
        }
        let digest = digest(&study, &coordinator, &ordered, predecessor.as_ref())?;
        Ok(Self {
            study,
            coordinator,
            cards: ordered,
            predecessor,
            digest,
        })
    }

    /// Reads a frozen study and checks its digest and its contents.
    pub fn load(path: &Path) -> Result<Self, StudyError> {
        Self::read(path, config::load(path)?)
    }

    /// The same from text that came from `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, StudyError> {
        Self::read(path, config::parse(path, text)?)
    }

    fn read(path: &Path, file: FrozenFile) -> Result<Self, StudyError> {
        let frozen = Self::join(file.study, file.coordinator, file.card, file.predecessor)?;
        if frozen.digest != file.digest {
            let file_name = path.display().to_string();
            return Err(StudyError::Digest {
                file: file_name,
                said: file.digest,
                found: frozen.digest,
            });
        }
        Ok(frozen)
    }

    /// The text of the frozen file.
    pub fn to_toml(&self) -> Result<String, StudyError> {
        let file = FrozenFile {
            digest: self.digest,
            predecessor: self.predecessor.clone(),
            coordinator: self.coordinator.clone(),
            card: self.cards.clone(),
            study: self.study.clone(),
        };
        toml::to_string_pretty(&file).map_err(|error| StudyError::Encoding(error.to_string()))
    }

    /// The plan.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// The digest that the parties compare and sign.
    pub fn digest(&self) -> StudyDigest {
        self.digest
    }

    /// What this study goes on from; `None` for the first version.
    pub fn predecessor(&self) -> Option<&Predecessor> {
        self.predecessor.as_ref()
    }

    /// The coordinator's identity.
    pub fn coordinator(&self) -> &Card {
        &self.coordinator
    }

    /// The parties' identities, in the order of the study.
    pub fn cards(&self) -> &[Card] {
        &self.cards
    }

    /// A party's identity.
    pub fn card(&self, party: &PartyId) -> Option<&Card> {
        self.cards.iter().find(|card| &card.name == party)
    }

    /// The party that holds a TLS certificate.
    pub fn by_certificate(&self, fingerprint: &Digest) -> Option<&Card> {
        self.cards.iter().find(|card| &card.certificate == fingerprint)
    }
}

/// A study with a predecessor is hashed under a domain of its own, and so is one that says what the first version of the format could not,
/// so that no form can pass for another. The encoding of the latter names its fields, for some are left out where they are not used.
fn digest(
    study: &Study,
    coordinator: &Card,
    cards: &[Card],
    predecessor: Option<&Predecessor>,
) -> Result<StudyDigest, StudyError> {
    if !study.is_simple() {
        let plan = serde_json::to_vec(study).map_err(|e| StudyError::Encoding(e.to_string()))?;
        return digest_of(
            "galen extended study v1",
            &(plan, coordinator, cards, predecessor),
        )
        .map_err(|e| StudyError::Encoding(e.to_string()));
    }
    match predecessor {
        None => digest_of("galen frozen study v1", &(study, coordinator, cards)),
        Some(before) => digest_of("galen successor study v1", &(study, coordinator, cards, before)),
    }
    .map_err(|e| StudyError::Encoding(e.to_string()))
}
