//! What can go wrong at a party, each with a stable code, a hint and an exit status.

use galen_core::study::StudyError;
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_custody::LedgerError;
use galen_net::NetError;
use galen_sums::RoundId;
use galen_sums::audit::json_lines::FileError;
use galen_sums::audit::{AuditError, Finding};
use galen_training::LoadError;
use std::path::PathBuf;

/// Why a command or the daemon could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartyError {
    /// A configuration or identity file that cannot be used.
    #[error(transparent)]
    Config(#[from] galen_core::config::ConfigError),
    /// A folder that is not what the command needs.
    #[error("{}: {problem}", path.display())]
    Home {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Keys that cannot be made, read, or do not belong together.
    #[error("{}: {problem}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A backup that cannot be made, read or restored.
    #[error(transparent)]
    Backup(#[from] crate::backup::BackupError),
    /// A study file that cannot be used.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// A study that this party must not or cannot sign.
    #[error("{0}")]
    Consent(String),
    /// The hospital's table does not fit the study. The text names the cell, not its value.
    #[error("{}", crate::data::discreet(.0))]
    Data(#[from] galen_training::DataError),
    /// A data set does not fit its schema. The text names the place, not what stands there.
    #[error(transparent)]
    Dataset(#[from] galen_data::DatasetError),
    /// Images that fit their schema, but not the study. The text names the place, not the value.
    #[error(transparent)]
    Samples(#[from] galen_training::SamplesError),
    /// Values that a model does not take. The text names the first one's place, not the value nor the patient.
    #[error(
        "{}: patient {patient} of the file, {feature}: outside the range that the model takes; so are {values} values of {patients} patients in all",
        path.display()
    )]
    Outside {
        /// The data.
        path: PathBuf,
        /// Number of the first patient in the file, from 1.
        patient: usize,
        /// The feature, or the place in the image.
        feature: String,
        /// Values outside.
        values: usize,
        /// Patients who have any.
        patients: usize,
    },
    /// Network, recipe and data do not fit each other, or training failed.
    #[error(transparent)]
    Training(#[from] galen_training::FitError),
    /// A file of a network, weights or a model that cannot be used.
    #[error("{}: {problem}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The training device cannot be used.
    #[error("{0}")]
    Device(String),
    /// Stored state that cannot be read or written.
    #[error("stored state: {0}")]
    Store(#[from] galen_store::StoreError),
    /// An object that is not what it should be, or cannot be read. What is stored or arrived here is at fault, not what others said.
    #[error("{0}")]
    Spoilt(String),
    /// The coordinator cannot be reached, or refused something.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The coordinator or another member said something that does not verify.
    #[error("{0}")]
    Untrue(String),
    /// The coordinator's audit log does not extend the copy that is kept here, or does not lead to the head in its record: it was cut, changed
    /// or forked.
    #[error("the coordinator's audit log is not the one that was seen before{}: {source}", in_attempt(.id))]
    Forked {
        /// The attempt whose record was looked at.
        id: Option<RoundId>,
        /// What is wrong, and with which line.
        source: AuditError,
    },
    /// An audit log that does not verify.
    #[error("{0}")]
    Audit(FileError),
    /// An audit log whose lines are genuine but tell what the study's rules forbid.
    #[error("{}", in_lines(.0))]
    Inconsistent(Vec<Finding>),
    /// As a custodian, the party takes no part in an attempt, because of what it has done in the same round before.
    #[error("{0}")]
    StandsAside(LedgerError),
    /// This party derived another state than the one that was published.
    #[error(
        "round {round}: the state published as {published} is not the one derived here from the opened sum, {derived}"
    )]
    Mismatch {
        /// The round.
        round: u32,
        /// Digest that the coordinator published.
        published: Digest,
        /// Digest derived here.
        derived: Digest,
    },
    /// What was asked is of another kind than the study's data.
    #[error("{0}")]
    Mismatched(String),
    /// What was asked of this party is not possible now.
    #[error("{0}")]
    NotYet(String),
    /// The party lacks the role.
    #[error("\"{party}\" is not a {role} of the study")]
    Role {
        /// The party.
        party: PartyId,
        /// The role that it would need.
        role: &'static str,
    },
    /// An encrypted query failed. The cause is not told apart (design: one uniform error whatever went wrong).
    #[error("the answer is not usable")]
    Answer,
    /// The coordinator takes no batch under this party's evaluation key any more, since it registered a later one. It never takes the place back.
    #[error(
        "another evaluation key of this party took the place of the one here: `party query --new-key` makes a new one"
    )]
    StaleKey,
    /// The study ended without being completed.
    #[error("the study is closed: {0}")]
    Closed(String),
    /// A computation on checked data failed.
    #[error("internal: {0}")]
    Internal(String),
}

/// Exit status of the process for each kind of failure; `party --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Anything not named below.
    Failure = 1,
    /// Folder, configuration, keys, study or a model's file.
    Setup = 3,
    /// The hospital's table or images.
    Data = 4,
    /// The coordinator cannot be reached or refused.
    Network = 5,
    /// Something does not verify.
    Untrue = 6,
    /// The study is closed without completion.
    Closed = 7,
}

fn in_attempt(id: &Option<RoundId>) -> String {
    id.map_or_else(String::new, |id| format!(", and nothing is done in {id}"))
}

fn in_lines(findings: &[Finding]) -> String {
    let lines = findings
        .iter()
        .map(|finding| format!("line {}: {}", finding.line, finding.text));
    lines.collect::<Vec<_>>().join("; ")
}

impl From<LoadError> for PartyError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Table(error) => error.into(),
            LoadError::Dataset(error) => error.into(),
            LoadError::Samples(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl PartyError {
    /// A stable code: `G....` where the wire protocol has one, else `P...`.
    pub fn code(&self) -> String {
        if let Some(code) = self.wire_code() {
            return code.to_string();
        }
        let number = match self {
            Self::Config(_) => 101,
            Self::Home { .. } => 102,
            Self::File { .. } => 103,
            Self::Keys { .. } => 104,
            Self::Study(_) => 105,
            Self::Consent(_) => 106,
            Self::Device(_) => 107,
            Self::Backup(error) => error.number(),
            Self::Data(_) => 201,
            Self::Model { .. } => 202,
            Self::Dataset(_) => 203,
            Self::Training(_) => 204,
            Self::Outside { .. } => 205,
            Self::Samples(_) => 206,
            Self::Mismatched(_) => 207,
            Self::Store(_) => 301,
            Self::Spoilt(_) => 302,
            Self::Net(_) => 401,
            Self::Untrue(_) => 501,
            Self::Mismatch { .. } => 502,
            Self::StandsAside(_) => 503,
            Self::Forked { .. } => 504,
            Self::Audit(_) => 505,
            Self::Inconsistent(_) => 506,
            Self::NotYet(_) => 601,
            Self::Role { .. } => 602,
            Self::Answer => 603,
            Self::StaleKey => 604,
            Self::Closed(_) => 701,
            Self::Internal(_) => 901,
        };
        format!("P{number}")
    }

    fn wire_code(&self) -> Option<Code> {
        match self {
            Self::Net(error) => error.code(),
            Self::Forked { source, .. } => Some(source.code()),
            Self::Audit(error) => Some(error.code()),
            Self::Inconsistent(_) => Some(Code::AuditInconsistent),
            // What the coordinator would answer, had a batch been sent.
            Self::StaleKey => Some(Code::NoKey),
            _ => None,
        }
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> &'static str {
        if let Some(code) = self.wire_code() {
            return code.hint();
        }
        match self {
            Self::Config(_) => {
                "correct the named line; configs/party.toml and docs/models.md explain every field"
            }
            Self::Home { .. } => "`party init --dir DIR --name NAME` makes a party's folder",
            Self::File { .. } => "check that the path exists and that this user may read and write it",
            Self::Keys { .. } => {
                "`party keys restore FILE --dir NEW` brings the keys back from their backup; keys of a signed study cannot be replaced"
            }
            Self::Study(_) => "ask the operator for the frozen study file, unchanged",
            Self::Consent(_) => "compare the digest with the other parties by telephone before signing",
            Self::Backup(error) => error.hint(),
            Self::Device(_) => "set device = \"cpu\" in config.toml, or run a build that has the device",
            Self::Data(_) => "correct the named line of the table; the study file describes every column",
            Self::Training(_) => {
                "docs/training.md explains what recipes may say, and of which networks and data"
            }
            Self::Outside { .. } => {
                "correct the value, or leave the patient out; --clip takes the nearest value in the range, which is another patient's"
            }
            Self::Samples(_) => {
                "correct or leave out what is named; data.max_rows and data.range are the study's, and were agreed on"
            }
            Self::Dataset(_) => "correct what is named, or the schema; docs/data.md explains both",
            Self::Model { .. } => "docs/models.md tells what networks, weights and ONNX files may contain",
            Self::Store(_) => "check the disk and that no other `party serve` runs on this folder",
            Self::Spoilt(_) => {
                "it is fetched again by itself; if this repeats, check the disk and call the operator"
            }
            Self::StandsAside(_) => {
                "nothing to do: the others go on with the round; if too few custodians are left for it, the operator ends the study"
            }
            Self::Net(_) => "check `coordinator` in config.toml and that outgoing UDP to it is open",
            Self::Untrue(_)
            | Self::Mismatch { .. }
            | Self::Forked { .. }
            | Self::Audit(_)
            | Self::Inconsistent(_) => {
                "stop and call the operator and the other parties: somebody's software or somebody is at fault"
            }
            Self::Mismatched(_) => {
                "`party study sign` shows, before it asks, what a study's data are; docs/federated.md explains it"
            }
            Self::NotYet(_) => "`party status --dir DIR` tells where the study stands",
            Self::Role { .. } => "the study fixes each party's roles",
            Self::Answer => {
                "do not send the same patients again under the same key; `party query --new-key` makes another one"
            }
            Self::StaleKey => Code::NoKey.hint(),
            Self::Closed(_) => "ask the operator why; `coordinator status` tells",
            Self::Internal(_) => "report this with the log of `party serve`",
        }
    }

    /// The exit status.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::Home { .. }
            | Self::File { .. }
            | Self::Keys { .. }
            | Self::Study(_)
            | Self::Consent(_)
            | Self::Backup(_)
            | Self::Model { .. }
            | Self::Training(_)
            | Self::Device(_) => Exit::Setup,
            Self::Data(_)
            | Self::Dataset(_)
            | Self::Samples(_)
            | Self::Mismatched(_)
            | Self::Outside { .. } => Exit::Data,
            Self::Net(_) if self.is_succession() => Exit::Closed,
            Self::Net(_) | Self::StaleKey => Exit::Network,
            Self::Untrue(_)
            | Self::Mismatch { .. }
            | Self::Forked { .. }
            | Self::Audit(_)
            | Self::Inconsistent(_)
            | Self::Answer => Exit::Untrue,
            Self::Closed(_) => Exit::Closed,
            Self::Store(_)
            | Self::Spoilt(_)
            | Self::StandsAside(_)
            | Self::NotYet(_)
            | Self::Role { .. }
            | Self::Internal(_) => Exit::Failure,
        }
    }

    /// Whether it goes away by connecting again.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Net(error) if error.is_transient())
    }

    /// Whether the coordinator said that a successor took the place of the study.
    pub fn is_succession(&self) -> bool {
        self.refusal()
            .is_some_and(|refusal| refusal.code == Code::StudySucceeded)
    }

    /// The refusal of the other side, if that is what this is.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Net(NetError::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn home(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Home {
            path: path.into(),
            problem: problem.into(),
        }
    }

    pub(crate) fn keys(path: impl Into<PathBuf>, problem: impl std::fmt::Display) -> Self {
        Self::Keys {
            path: path.into(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_is_what_the_coordinator_would_refuse_and_its_remedy_is_named() {
        let refused = PartyError::from(NetError::Refused(Refusal::new(Code::NoKey, "stale")));
        let stale = PartyError::StaleKey;
        assert_eq!((stale.code(), stale.exit()), (refused.code(), refused.exit()));
        assert!(stale.to_string().contains("--new-key") && stale.hint().contains("--new-key"));
        assert!(!stale.is_transient(), "the query would wait for ever");
    }
}
