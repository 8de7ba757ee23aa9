//! Stable error codes. A code never changes its meaning and is never used again for something else.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $hint:literal;)*) => {
        /// Why something was refused. `docs/errors.md` explains each code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in order of number.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The stable number.
            pub fn number(self) -> u16 {
                match self { $(Code::$name => $number,)* }
            }

            /// What the reader can do about it.
            pub fn hint(self) -> &'static str {
                match self { $(Code::$name => $hint,)* }
            }
        }
    };
}

codes! {
    /// A certificate that no member of the study holds.
    UnknownCertificate = 1001, "compare the certificate fingerprint with the one in the frozen study";
    /// A message that carries another study's digest.
    WrongStudy = 1002, "use the frozen study file that all parties signed";
    /// A message of a protocol version that is not spoken here.
    WrongVersion = 1003, "run the same Galen version on both sides";
    /// A member that does not hold the role for this request.
    RoleMissing = 1004, "the study fixes each party's roles";
    /// A frame longer than the limit of its kind.
    FrameTooLarge = 1101, "the limit is fixed; the sender is at fault";
    /// A frame that cannot be decoded.
    FrameMalformed = 1102, "the sender runs another version or is at fault";
    /// A statement longer than a record of the store may be.
    RecordTooLarge = 1103, "the limit is fixed; the sender is at fault";
    /// A blob stream that ended before its announced length.
    BlobTruncated = 1201, "send the rest; the part that arrived is kept";
    /// A blob whose bytes do not have the announced digest.
    BlobMismatch = 1202, "send it again from the start";
    /// A blob larger than its kind allows.
    BlobTooLarge = 1203, "the limit follows from the study; the sender is at fault";
    /// A blob that is not stored here.
    BlobUnknown = 1204, "send the blob first";
    /// A blob that the asker may not read.
    BlobForbidden = 1205, "only receivers and owners may read this object";
    /// A signature that does not fit.
    BadSignature = 1301, "the sender's key is not the one in the study";
    /// A statement for another round or attempt.
    WrongRound = 1401, "fetch the current round and answer that one";
    /// A statement that this phase of the round does not take.
    WrongPhase = 1402, "fetch the current round and see its phase";
    /// A second, different statement where one is final.
    Conflict = 1403, "only identical bytes may be sent again";
    /// A contribution that does not conform to the round's plan.
    NotConforming = 1404, "the sender is at fault";
    /// A contribution trained from another base model.
    WrongBase = 1405, "derive the model from the opened sums of this study";
    /// Sealed seeds that do not open or do not fit their hashes.
    BadSeeds = 1406, "the contributor named is at fault";
    /// A sum whose remainder is not small: some contribution was not an encryption of small values.
    BadRemainder = 1407, "somebody spoiled the sum; the audit log says who, once that is found out";
    /// A set of contributions that a custodian must not open.
    SetRefused = 1408, "the set is too small, repeats a member or names a stranger";
    /// An audit log that was changed, cut or forked: it does not extend what was seen of it before.
    AuditForked = 1409, "stop, keep the copy of the log, and compare its head with the other parties by telephone";
    /// An audit log whose lines are genuine but tell what the study's rules forbid.
    AuditInconsistent = 1410, "stop, and show the lines named to the operator and the other parties";
    /// A sum that the contributions do not add up to.
    WrongSum = 1411, "the coordinator served another sum than that of the set; the hospitals should ask its operator";
    /// More incarnations of one custodian than are taken in a study.
    TooManyIncarnations = 1412, "the custodian's daemon was started too often without finding its disk as it left it; find out why, and go on under a successor study";
    /// The study is not active.
    StudyInactive = 1501, "every party must sign the study first";
    /// A message of a study that a successor took the place of.
    StudySucceeded = 1502, "read and sign the successor that the operator sent: `party study sign FILE`";
    /// No model has been published for serving.
    NoModel = 1601, "wait until training has finished";
    /// An evaluation key that is not registered for this party, or that a later one took the place of.
    NoKey = 1602, "the query command registers a key that is missing: run it again; if a later key took its place, add `--new-key`";
    /// A query or key that does not conform to the preset of the program.
    BadQuery = 1603, "use the preset that the coordinator names";
    /// An evaluation that failed.
    EvaluationFailed = 1604, "see the operator's log; do not send the same batch again under the same key";
    /// A version of a model that is not kept here.
    UnknownModel = 1605, "`party query --list` shows what can be asked";
    /// More is under way than the service takes.
    Busy = 1701, "try again later";
    /// A transfer that was stopped midway because others wait for their turn.
    Interrupted = 1702, "ask again and go on where it stopped; what has arrived is kept";
    /// More than a party may ask in a time.
    OverQuota = 1703, "go on when the time that the detail names is over; nothing that was answered is lost";
    /// A fault of the answering side.
    Internal = 1901, "see the log of the answering side";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "G{}", self.number())
    }
}

/// A refusal as it crosses the network: the code decides, the detail is for people and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail} ({})", code.hint())]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What exactly was refused.
    pub detail: String,
}

impl Refusal {
    /// A refusal with its detail.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_rise() {
        assert!(
            Code::ALL
                .windows(2)
                .all(|pair| pair[0].number() < pair[1].number())
        );
    }

    #[test]
    fn every_code_is_documented_with_its_hint() {
        let page = include_str!("../../../docs/errors.md");
        for code in Code::ALL {
            let row = page.lines().find(|line| line.starts_with(&format!("| {code} |")));
            assert!(
                row.is_some_and(|row| row.to_lowercase().contains(&code.hint().to_lowercase())),
                "{code}"
            );
        }
    }

    #[test]
    fn a_refusal_tells_code_detail_and_hint() {
        let text = Refusal::new(Code::WrongStudy, "got ab12").to_string();
        assert!(text.contains("G1002") && text.contains("ab12") && text.contains("frozen study file"));
    }
}
