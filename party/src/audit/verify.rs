//! Verifying a log offline, with nothing but the lines and the frozen study.

use super::shelf::{Folder, Shelf};
use super::{LOG, Seen};
use crate::error::PartyError;
use crate::home::{self, Home};
use galen_core::study::FrozenStudy;
use galen_core::{Digest, Signed};
use galen_sums::Roster;
use galen_sums::audit::json_lines::{self, FileError};
use galen_sums::audit::{AuditError, AuditHead, AuditLine, Chain, Checker, Report};
use std::path::Path;
use std::sync::Arc;

/// A log whose chain holds. What it tells may still be against the rules of the study: see [`Report::findings`].
#[derive(Clone, Debug)]
pub struct Log {
    /// The lines.
    pub lines: Vec<AuditLine>,
    /// Their signed bytes.
    pub signed: Vec<Signed>,
    /// The digest after each line.
    pub digests: Vec<Digest>,
    /// The account.
    pub report: Report,
}

impl Log {
    fn read(study: &FrozenStudy, bytes: &[u8]) -> Result<Self, PartyError> {
        let roster = Arc::new(Roster::from_study(study).map_err(PartyError::internal)?);
        let mut chain = Chain::new(study.digest(), *roster.coordinator());
        let checker = Checker::new(roster);
        let mut checker = match study.predecessor() {
            Some(before) => checker.after(before),
            None => checker,
        };
        let (mut lines, mut signed, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        for text in bytes.split_inclusive(|byte| *byte == b'\n') {
            let number = chain.head().lines + 1;
            // Bytes that are no text are no JSON either, and are refused as such.
            let text = String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(text));
            let (line, bytes) = json_lines::verify(&mut chain, &text).map_err(refused)?;
            debug_assert_eq!(line.number, number);
            checker.read(&line);
            digests.push(chain.head().digest);
            lines.push(line);
            signed.push(bytes);
        }
        Ok(Self {
            lines,
            signed,
            digests,
            report: checker.finish(*chain.head()),
        })
    }

    /// Checks that the log leads through a head.
    ///
    /// # Errors
    /// [`PartyError::Audit`] naming the line if it does not.
    pub fn leads_through(&self, head: &AuditHead) -> Result<(), PartyError> {
        let at = head.lines.checked_sub(1);
        let found = at.map(|at| usize::try_from(at).ok().and_then(|at| self.digests.get(at)));
        match found {
            None => Ok(()),
            Some(Some(found)) if *found == head.digest => Ok(()),
            Some(Some(found)) => Err(audit(AuditError::Head {
                line: head.lines,
                found: *found,
                expected: head.digest,
            })),
            Some(None) => Err(audit(AuditError::Short {
                line: self.report.head.lines + 1,
                lines: head.lines,
            })),
        }
    }

    /// Checks that a digest that somebody read out is that of some line here; gives the line's number.
    ///
    /// # Errors
    /// [`PartyError::Audit`] if no line has it.
    pub fn find(&self, digest: &Digest) -> Result<u64, PartyError> {
        let found = (1..).zip(&self.digests).find(|(_, known)| *known == digest);
        let missing = || {
            audit(AuditError::Head {
                line: self.report.head.lines,
                found: self.report.head.digest,
                expected: *digest,
            })
        };
        found.map(|(line, _)| line).ok_or_else(missing)
    }

    /// Checks that of this log and another one, both of one study, one is the beginning of the other.
    ///
    /// # Errors
    /// [`PartyError::Audit`] naming the first line that differs.
    pub fn agrees_with(&self, other: &Self) -> Result<(), PartyError> {
        let pairs = self.digests.iter().zip(&other.digests);
        let differing = (1..).zip(pairs).find(|(_, (own, others))| own != others);
        match differing {
            None => Ok(()),
            Some((line, (found, expected))) => Err(audit(AuditError::Head {
                line,
                found: *found,
                expected: *expected,
            })),
        }
    }
}

/// Verifies a file, such as `coordinator audit export` writes or another party's copy.
///
/// # Errors
/// [`PartyError::Audit`] naming the line at fault, or what makes the file unreadable.
pub fn file(study: &FrozenStudy, path: &Path) -> Result<Log, PartyError> {
    Log::read(study, &home::read(path)?)
}

/// Verifies a party's own copy up to the head that it has acted upon. The daemon may run.
///
/// # Errors
/// As [`file()`]; also if the copy does not lead to that head.
pub fn own(study: &FrozenStudy, home: &Home) -> Result<Log, PartyError> {
    let shelf = Folder::to_read(home.audit());
    let seen = Seen::read(&shelf)?.unwrap_or_default();
    let bytes = shelf.read(LOG)?.unwrap_or_default();
    let whole = usize::try_from(seen.bytes).unwrap_or(usize::MAX).min(bytes.len());
    let log = Log::read(study, &bytes[..whole])?;
    log.leads_through(&seen.head)?;
    Ok(log)
}

fn audit(error: AuditError) -> PartyError {
    refused(error.into())
}

fn refused(error: FileError) -> PartyError {
    PartyError::Audit(error)
}
