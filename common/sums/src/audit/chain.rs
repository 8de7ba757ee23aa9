//! Numbers, links and signatures: the lines are the coordinator's, all of them, in this order.

use super::event::AuditEvent;
use galen_core::{Code, Digest, PublicKey, SignError, Signed, SigningKey, StudyDigest, Transcript};
use serde::{Deserialize, Serialize};

/// Signature domain of a line.
pub const AUDIT_LINE: &str = "galen audit line v1";

/// Where a chain stands: how many lines it has, and the digest over all of them. The default is the empty chain; a study is bound
/// to the digest from the first line on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AuditHead {
    /// Number of lines.
    pub lines: u64,
    /// Digest over all of them; zero for none.
    pub digest: Digest,
}

impl AuditHead {
    /// The head after one more line:
    /// `digest' = H("galen audit chain v1", study, lines + 1, digest, H(signed bytes, signature))`.
    #[must_use]
    pub fn after(&self, study: &StudyDigest, line: &Signed) -> Self {
        let lines = self.lines.saturating_add(1);
        let digest = Transcript::new("galen audit chain v1")
            .field(&study.0)
            .number(lines)
            .field(&self.digest.0)
            .field(&line.digest().0)
            .digest();
        Self { lines, digest }
    }
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Its number; the first line has number 1.
    pub number: u64,
    /// Digest over all lines before it.
    pub previous: Digest,
    /// When it was written, in milliseconds since the Unix epoch, by the coordinator's clock.
    pub time_ms: u64,
    /// What happened.
    pub event: AuditEvent,
}

/// What stands before the event in a line's bytes, so that an event that this version does not know is told apart from garbage.
type Preamble = (u64, Digest, u64);

impl AuditLine {
    /// Signs the line that follows a head; returns it with the head after it.
    ///
    /// # Errors
    /// If the event cannot be encoded.
    pub fn sign(
        coordinator: &SigningKey,
        study: &StudyDigest,
        head: &AuditHead,
        time_ms: u64,
        event: AuditEvent,
    ) -> Result<(Signed, AuditHead), SignError> {
        let line = Self {
            number: head.lines.saturating_add(1),
            previous: head.digest,
            time_ms,
            event,
        };
        let signed = coordinator.sign(AUDIT_LINE, study, &line)?;
        let head = head.after(study, &signed);
        Ok((signed, head))
    }
}

/// Why lines are not the log that they should be. Every error names the line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The coordinator did not sign these bytes for this study.
    #[error("line {line} is not signed by the coordinator of this study, or was changed after it was")]
    Signature {
        /// Number of the line.
        line: u64,
    },
    /// The signed bytes are no line.
    #[error("line {line} cannot be decoded")]
    Malformed {
        /// Number of the line.
        line: u64,
    },
    /// The line's event is of a kind that this version does not know, or is malformed.
    #[error("line {line} holds an event that this version does not know")]
    UnknownEvent {
        /// Number of the line.
        line: u64,
    },
    /// The line has another number: one was dropped, repeated, or put elsewhere.
    #[error("line {line} is missing: the line with number {found} stands in its place")]
    Number {
        /// Number that follows.
        line: u64,
        /// Number found.
        found: u64,
    },
    /// The line follows another history: the log was forked, or a line before it exchanged.
    #[error(
        "line {line} does not follow the lines before it: they have digest {expected}, it was written after {found}"
    )]
    Link {
        /// Number of the line.
        line: u64,
        /// Digest of the lines before it.
        expected: Digest,
        /// Digest that it names.
        found: Digest,
    },
    /// The log has another head than the one that was to be reached.
    #[error("up to line {line} the log has digest {found}, but {expected} was said: it was forked or cut")]
    Head {
        /// Number of the last line of the head.
        line: u64,
        /// Digest of the lines up to there.
        found: Digest,
        /// Digest of the head.
        expected: Digest,
    },
    /// The log ends before the head that was to be reached.
    #[error("line {line} is missing: the log should have {lines} lines at least")]
    Short {
        /// Number of the first missing line.
        line: u64,
        /// Lines that it should have.
        lines: u64,
    },
}

impl AuditError {
    /// Number of the line at fault.
    pub fn line(&self) -> u64 {
        match self {
            Self::Signature { line }
            | Self::Malformed { line }
            | Self::UnknownEvent { line }
            | Self::Number { line, .. }
            | Self::Link { line, .. }
            | Self::Head { line, .. }
            | Self::Short { line, .. } => *line,
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownEvent { .. } => Code::WrongVersion,
            _ => Code::AuditForked,
        }
    }
}

/// A chain of which every line so far was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    study: StudyDigest,
    coordinator: PublicKey,
    head: AuditHead,
}

impl Chain {
    /// The empty chain of a study.
    pub fn new(study: StudyDigest, coordinator: PublicKey) -> Self {
        Self::resume(study, coordinator, AuditHead::default())
    }

    /// A chain whose lines up to `head` were verified before.
    pub fn resume(study: StudyDigest, coordinator: PublicKey, head: AuditHead) -> Self {
        Self {
            study,
            coordinator,
            head,
        }
    }

    /// The same study's chain at a head up to which the lines were verified before.
    #[must_use]
    pub fn at(&self, head: AuditHead) -> Self {
        Self { head, ..self.clone() }
    }

    /// Where it stands.
    pub fn head(&self) -> &AuditHead {
        &self.head
    }

    /// Takes in the next line.
    ///
    /// # Errors
    /// What is wrong with it; the chain is then unchanged.
    pub fn push(&mut self, signed: &Signed) -> Result<AuditLine, AuditError> {
        let line = self.head.lines.saturating_add(1);
        signed
            .verify(AUDIT_LINE, &self.study, &self.coordinator)
            .map_err(|_| AuditError::Signature { line })?;
        let ((number, previous, time_ms), event) = postcard::take_from_bytes::<Preamble>(signed.payload())
            .map_err(|_| AuditError::Malformed { line })?;
        if number != line {
            return Err(AuditError::Number { line, found: number });
        }
        if previous != self.head.digest {
            return Err(AuditError::Link {
                line,
                expected: self.head.digest,
                found: previous,
            });
        }
        let (event, rest) =
            postcard::take_from_bytes::<AuditEvent>(event).map_err(|_| AuditError::UnknownEvent { line })?;
        if !rest.is_empty() {
            return Err(AuditError::Malformed { line });
        }
        self.head = self.head.after(&self.study, signed);
        Ok(AuditLine {
            number,
            previous,
            time_ms,
            event,
        })
    }

    /// Takes in several lines, all or none.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn extend(&mut self, lines: &[Signed]) -> Result<Vec<AuditLine>, AuditError> {
        let mut next = self.clone();
        let read = lines
            .iter()
            .map(|line| next.push(line))
            .collect::<Result<_, _>>()?;
        *self = next;
        Ok(read)
    }

    /// Checks that the chain stands exactly at a head.
    ///
    /// # Errors
    /// [`AuditError::Short`] if lines are missing, [`AuditError::Head`] if it is another chain or went further.
    pub fn stands_at(&self, head: &AuditHead) -> Result<(), AuditError> {
        if self.head == *head {
            return Ok(());
        }
        if self.head.lines < head.lines {
            return Err(AuditError::Short {
                line: self.head.lines.saturating_add(1),
                lines: head.lines,
            });
        }
        Err(AuditError::Head {
            line: head.lines,
            found: self.head.digest,
            expected: head.digest,
        })
    }
}

/// Checks that `lines` extend a chain from `old` to exactly `new`.
///
/// # Errors
/// The first thing that is wrong.
pub fn head_extends(
    coordinator: &PublicKey,
    study: &StudyDigest,
    old: &AuditHead,
    new: &AuditHead,
    lines: &[Signed],
) -> Result<Vec<AuditLine>, AuditError> {
    let mut chain = Chain::resume(*study, *coordinator, *old);
    let read = chain.extend(lines)?;
    chain.stands_at(new)?;
    Ok(read)
}
