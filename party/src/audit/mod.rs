//! The party's own copy of the coordinator's audit log.
//!
//! Before the party acts on a round record, its copy is brought up to exactly the head that the record names ([`AuditCopy::stage`]).
//! Lines that do not extend the copy, or that lead elsewhere, are refused, and so is the record: the coordinator has shown
//! somebody another log. What it showed is kept as evidence ([`AuditCopy::keep_evidence`]), for both versions bear its signature.
//!
//! The copy is a file of JSON lines that anybody can read and verify ([`verify`]), also while the daemon runs. Beside it stands the last head
//! that the party acted upon. Lines are written and synced first, then the head: what a crash leaves behind the head is
//! not part of the copy and is written again.

pub mod shelf;
pub mod verify;

use crate::error::PartyError;
use crate::home::Home;
use galen_core::{Digest, PublicKey, Signed, StudyDigest};
use galen_store::Store;
use galen_sums::audit::{AuditError, AuditHead, Chain, json_lines};
use serde::{Deserialize, Serialize};
use shelf::{Folder, Shelf};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Name of the file of lines.
pub const LOG: &str = "log.jsonl";
/// Name of the file of the last head.
pub const HEAD: &str = "head.json";

/// The last head that was acted upon, and how far the file goes up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    pub(crate) head: AuditHead,
    pub(crate) bytes: u64,
}

impl Seen {
    pub(crate) fn read(shelf: &dyn Shelf) -> Result<Option<Self>, PartyError> {
        let Some(bytes) = shelf.read(HEAD)? else {
            return Ok(None);
        };
        let seen = serde_json::from_slice(&bytes);
        seen.map(Some)
            .map_err(|error| shelf.damaged(HEAD, &error.to_string()))
    }
}

/// A chain with the digest after each of its lines, so that a record that names an earlier head can be compared.
#[derive(Clone, Debug)]
struct Known {
    chain: Chain,
    digests: Vec<Digest>,
    bytes: u64,
}

impl Known {
    /// Reads the lines up to the head that was seen, which were verified before they were written.
    fn read_verified(
        &mut self,
        shelf: &dyn Shelf,
        study: &StudyDigest,
        log: &[u8],
        seen: &Seen,
    ) -> Result<(), PartyError> {
        let mut head = AuditHead::default();
        let whole = usize::try_from(seen.bytes)
            .ok()
            .and_then(|bytes| log.get(..bytes));
        for line in whole.unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
            let signed = json_lines::read(head.lines.saturating_add(1), &text)
                .map_err(|error| shelf.damaged(LOG, &error.to_string()))?;
            head = head.after(study, &signed);
            self.digests.push(head.digest);
        }
        if head != seen.head {
            let lines = seen.head.lines;
            let what =
                format!("it does not lead to the head that was seen, at line {lines}: it is cut or changed");
            return Err(shelf.damaged(LOG, &what));
        }
        self.chain = self.chain.at(head);
        self.bytes = seen.bytes;
        Ok(())
    }

    /// Reads lines that nobody says were verified, as far as they are whole and good.
    fn read_anew(&mut self, log: &[u8]) {
        for line in log.split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = line
                .strip_suffix(b"\n")
                .and_then(|line| std::str::from_utf8(line).ok())
            else {
                return;
            };
            if json_lines::verify(&mut self.chain, text).is_err() {
                return;
            }
            self.digests.push(self.chain.head().digest);
            self.bytes += line.len() as u64;
        }
    }

    fn at(&self, lines: u64) -> AuditHead {
        let index = lines.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let digest = index.and_then(|index| self.digests.get(index)).copied();
        digest.map_or_else(AuditHead::default, |digest| AuditHead { lines, digest })
    }

    /// Whether the chain passes through a head; an error if another head stands in its place. Not reaching it is no error.
    fn passes(&self, head: &AuditHead) -> Result<bool, AuditError> {
        if self.chain.head().lines < head.lines {
            return Ok(false);
        }
        let found = self.at(head.lines);
        if found == *head {
            return Ok(true);
        }
        Err(AuditError::Head {
            line: head.lines,
            found: found.digest,
            expected: head.digest,
        })
    }
}

struct Inner {
    /// What the party has acted upon.
    known: Known,
    /// Lines after it that are on the disk but have not led to the head that is looked for.
    staged: Option<Known>,
    /// A head that was seen but whose lines are lost: whatever is fetched must lead through it.
    lost: Option<AuditHead>,
}

/// The copy. Calls block.
pub struct AuditCopy {
    shelf: Box<dyn Shelf>,
    inner: Mutex<Inner>,
}

impl AuditCopy {
    /// Opens the copy in a party's folder.
    ///
    /// # Errors
    /// [`PartyError::Home`] if the file does not lead to the head that was seen. Signatures are not checked again.
    pub fn open(home: &Home, study: StudyDigest, coordinator: PublicKey) -> Result<Self, PartyError> {
        Self::on(Box::new(Folder::open(home.audit())?), study, coordinator)
    }

    /// Opens a copy in a folder among a store's own files.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn beside(
        store: &Store,
        folder: PathBuf,
        study: StudyDigest,
        coordinator: PublicKey,
    ) -> Result<Self, PartyError> {
        let shelf = Folder::among(store.files().clone(), folder);
        Self::on(Box::new(shelf), study, coordinator)
    }

    /// Opens a copy elsewhere.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn on(shelf: Box<dyn Shelf>, study: StudyDigest, coordinator: PublicKey) -> Result<Self, PartyError> {
        let seen = Seen::read(&*shelf)?;
        let log = shelf.read(LOG)?.unwrap_or_default();
        let mut known = Known {
            chain: Chain::new(study, coordinator),
            digests: Vec::new(),
            bytes: 0,
        };
        let mut lost = None;
        match seen {
            Some(seen) if log.is_empty() && seen.bytes > 0 => lost = Some(seen.head),
            Some(seen) => known.read_verified(&*shelf, &study, &log, &seen)?,
            // The process died before it wrote the first head, or the head was removed.
            None => known.read_anew(&log),
        }
        let inner = Inner {
            known,
            staged: None,
            lost,
        };
        Ok(Self {
            shelf,
            inner: Mutex::new(inner),
        })
    }

    /// Where the copy stands.
    pub fn head(&self) -> AuditHead {
        *self.lock().known.chain.head()
    }

    /// How many lines are here that lead towards `target`, or `None` if the copy has reached it. Without a target there is always
    /// something to ask for.
    ///
    /// # Errors
    /// If the copy leads elsewhere.
    pub fn missing(&self, target: Option<&AuditHead>) -> Result<Option<u64>, AuditError> {
        let mut inner = self.lock();
        let lost = inner.lost.is_some();
        if let Some(target) = target
            && !lost
            && inner.known.passes(target)?
        {
            inner.staged = None;
            return Ok(None);
        }
        let staged = inner.staged.as_ref().unwrap_or(&inner.known);
        Ok(Some(staged.chain.head().lines))
    }

    /// Takes in lines that the coordinator gave after those that are here. They become part of the copy when they have led to
    /// `target`, or, without one, at once. Lines past the target are left for later.
    ///
    /// # Errors
    /// [`NotTaken::Forked`] if they do not extend the copy or do not lead to the target; what was staged is then forgotten.
    pub fn stage(&self, lines: &[Signed], target: Option<&AuditHead>) -> Result<(), NotTaken> {
        let mut inner = self.lock();
        let result = self.try_stage(&mut inner, lines, target);
        if result.is_err() {
            inner.staged = None;
        }
        result
    }

    fn try_stage(
        &self,
        inner: &mut Inner,
        lines: &[Signed],
        target: Option<&AuditHead>,
    ) -> Result<(), NotTaken> {
        let mut next = inner.staged.clone().unwrap_or_else(|| inner.known.clone());
        let wanted = [target, inner.lost.as_ref()];
        let last = wanted.into_iter().flatten().map(|head| head.lines).max();
        if lines.is_empty()
            && let Some(last) = last.filter(|last| *last > next.chain.head().lines)
        {
            return Err(AuditError::Short {
                line: next.chain.head().lines + 1,
                lines: last,
            }
            .into());
        }
        let mut text = String::new();
        for signed in lines {
            if target.is_some() && last.is_some_and(|last| next.chain.head().lines >= last) {
                break;
            }
            let line = next.chain.push(signed)?;
            next.digests.push(next.chain.head().digest);
            text.push_str(&json_lines::write(&line, signed).map_err(PartyError::internal)?);
            text.push('\n');
        }
        // Both must be on this chain, whichever is further.
        let mut reached = true;
        for head in wanted.into_iter().flatten() {
            reached &= next.passes(head)?;
        }
        if !text.is_empty() {
            self.shelf.append(LOG, next.bytes, text.as_bytes())?;
            next.bytes += text.len() as u64;
        }
        if !reached {
            inner.staged = Some(next);
            return Ok(());
        }
        if next.bytes != inner.known.bytes {
            let seen = Seen {
                head: *next.chain.head(),
                bytes: next.bytes,
            };
            let seen = serde_json::to_vec(&seen).map_err(PartyError::internal)?;
            self.shelf.replace(HEAD, &seen)?;
        }
        inner.known = next;
        inner.staged = None;
        inner.lost = None;
        Ok(())
    }

    /// Keeps what the coordinator signed that contradicts the copy: the record, if one was acted upon, and the lines that it gave.
    pub fn keep_evidence(
        &self,
        error: &str,
        record: Option<&Signed>,
        lines: &[Signed],
    ) -> Result<(), PartyError> {
        #[derive(Serialize)]
        struct Evidence<'a> {
            error: &'a str,
            own: AuditHead,
            record: Option<&'a Signed>,
            lines: &'a [Signed],
        }
        let evidence = Evidence {
            error,
            own: self.head(),
            record,
            lines,
        };
        let text = serde_json::to_vec_pretty(&evidence).map_err(PartyError::internal)?;
        // One file for each contradiction, however often it is met.
        let name = format!("fork-{}.json", Digest::of(&text).short());
        if self.shelf.read(&name)?.is_none() {
            self.shelf.replace(&name, &text)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why lines were not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// They are not what the log should be.
    #[error(transparent)]
    Forked(#[from] AuditError),
    /// They cannot be kept.
    #[error(transparent)]
    Here(#[from] PartyError),
}

#[cfg(test)]
mod tests;
