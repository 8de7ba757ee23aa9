//! Copies, forks of the log, and disks that fail in the middle of a write.

use super::shelf::{Folder, Shelf};
use super::verify;
use super::*;
use crate::testing;
use galen_core::study::{Card, FrozenStudy};
use galen_core::{PartyId, SigningKey};
use galen_sums::audit::{AuditEvent, AuditLine};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A coordinator that signs whatever it is told to.
struct Coordinator {
    key: SigningKey,
    study: FrozenStudy,
}

impl Coordinator {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let card = Card {
            name: testing::name("coordinator"),
            certificate: Digest::of(b"certificate"),
            signing: key.public(),
            sealing: Digest::default(),
        };
        Self {
            study: testing::frozen(&[card]),
            key,
        }
    }

    /// A log whose lines name models, one each: the words are of no matter here.
    fn log(&self, models: &[&str]) -> (Vec<Signed>, Vec<AuditHead>) {
        let (mut lines, mut heads) = (Vec::new(), vec![AuditHead::default()]);
        for (second, model) in (1..).zip(models) {
            let event = AuditEvent::Released {
                party: PartyId::new("a").unwrap(),
                model: Digest::of(model.as_bytes()),
            };
            let head = heads.last().unwrap();
            let (line, next) =
                AuditLine::sign(&self.key, &self.study.digest(), head, second * 1000, event).unwrap();
            lines.push(line);
            heads.push(next);
        }
        (lines, heads)
    }

    fn copy(&self, folder: PathBuf) -> Result<AuditCopy, PartyError> {
        self.copy_on(Box::new(Folder::open(folder)?))
    }

    fn copy_on(&self, shelf: Box<dyn Shelf>) -> Result<AuditCopy, PartyError> {
        AuditCopy::on(shelf, self.study.digest(), self.key.public())
    }
}

const SIX: [&str; 6] = ["1", "2", "3", "4", "5", "6"];
const FORKED: [&str; 6] = ["1", "2", "3", "other 4", "5", "6"];

fn forked(result: Result<(), NotTaken>) -> AuditError {
    match result {
        Err(NotTaken::Forked(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_copy_follows_to_exactly_the_head_of_a_record_and_comes_back_from_the_disk() {
    let (temp, coordinator) = (tempfile::tempdir().unwrap(), Coordinator::new());
    let (lines, heads) = coordinator.log(&SIX);
    let copy = coordinator.copy(temp.path().into()).unwrap();
    assert_eq!(
        copy.missing(Some(&heads[0])).unwrap(),
        None,
        "the empty head needs no lines"
    );
    assert_eq!(copy.missing(Some(&heads[4])).unwrap(), Some(0));
    // In two answers, the second of which goes on past the record.
    copy.stage(&lines[..2], Some(&heads[4])).unwrap();
    assert_eq!(copy.head(), heads[0], "nothing was acted upon yet");
    assert_eq!(copy.missing(Some(&heads[4])).unwrap(), Some(2));
    copy.stage(&lines[2..], Some(&heads[4])).unwrap();
    assert_eq!(copy.head(), heads[4]);
    assert_eq!(copy.missing(Some(&heads[4])).unwrap(), None);
    // A record that was fixed earlier is on the same chain.
    assert_eq!(copy.missing(Some(&heads[2])).unwrap(), None);
    drop(copy);
    let copy = coordinator.copy(temp.path().into()).unwrap();
    assert_eq!(copy.head(), heads[4]);
    assert_eq!(copy.missing(Some(&heads[2])).unwrap(), None);
    // Without a record, as far as the log goes.
    assert_eq!(copy.missing(None).unwrap(), Some(4));
    copy.stage(&lines[4..], None).unwrap();
    copy.stage(&[], None).unwrap();
    assert_eq!(coordinator.copy(temp.path().into()).unwrap().head(), heads[6]);
}

#[test]
fn a_fork_is_refused_wherever_it_shows_and_its_evidence_is_kept() {
    let (temp, coordinator) = (tempfile::tempdir().unwrap(), Coordinator::new());
    let (lines, heads) = coordinator.log(&SIX);
    let (others, other_heads) = coordinator.log(&FORKED);
    let copy = coordinator.copy(temp.path().into()).unwrap();
    copy.stage(&lines[..4], Some(&heads[4])).unwrap();

    // The next record names a head of the other branch. Its lines do not follow, those of this branch lead elsewhere, and none at all
    // lead nowhere.
    let target = Some(&other_heads[5]);
    assert_eq!(copy.missing(target).unwrap(), Some(4));
    let error = forked(copy.stage(&others[4..], target));
    assert!(matches!(error, AuditError::Link { line: 5, .. }), "{error}");
    let error = forked(copy.stage(&lines[4..], target));
    assert!(matches!(error, AuditError::Head { line: 5, .. }), "{error}");
    let error = forked(copy.stage(&[], target));
    assert!(
        matches!(error, AuditError::Short { line: 5, lines: 5 }),
        "{error}"
    );
    // So does a record whose head the copy has left behind.
    let error = copy.missing(Some(&other_heads[4])).unwrap_err();
    assert!(matches!(error, AuditError::Head { line: 4, .. }), "{error}");
    assert_eq!(
        copy.missing(Some(&other_heads[3])).unwrap(),
        None,
        "up to there they are one"
    );

    let record = coordinator
        .key
        .sign("record", &coordinator.study.digest(), &5u8)
        .unwrap();
    for _ in 0..2 {
        copy.keep_evidence(&error.to_string(), Some(&record), &others[4..])
            .unwrap();
    }
    let evidence: Vec<_> = std::fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("fork-"))
        .collect();
    let text = std::fs::read_to_string(&evidence[0]).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(evidence.len(), 1, "the same contradiction is kept once");
    assert_eq!(kept["record"], serde_json::to_value(&record).unwrap());
    assert_eq!(kept["lines"][0], serde_json::to_value(&others[4]).unwrap());

    // What was refused left no trace in the copy.
    drop(copy);
    let copy = coordinator.copy(temp.path().into()).unwrap();
    assert_eq!(copy.head(), heads[4]);
    copy.stage(&lines[4..], Some(&heads[6])).unwrap();
    assert_eq!(copy.head(), heads[6]);
}

/// Two parties see two branches. Whatever record is made afterwards, one of them refuses it.
#[test]
fn after_a_fork_no_record_is_good_for_both() {
    let (temp, coordinator) = (tempfile::tempdir().unwrap(), Coordinator::new());
    let branches = [coordinator.log(&SIX), coordinator.log(&FORKED)];
    let mut copies = Vec::new();
    for (name, (lines, heads)) in ["left", "right"].iter().zip(&branches) {
        let copy = coordinator.copy(temp.path().join(name)).unwrap();
        copy.stage(&lines[..4], Some(&heads[4])).unwrap();
        copies.push(copy);
    }
    for (shown, heads) in &branches {
        let accepted = copies.iter().filter(|copy| {
            let from = copy.missing(Some(&heads[6])).unwrap().unwrap() as usize;
            copy.stage(&shown[from..], Some(&heads[6])).is_ok()
        });
        assert_eq!(accepted.count(), 1);
    }
}

/// A disk that ends a write after some bytes, as a power cut does.
struct Failing {
    folder: Folder,
    /// Bytes that are still written.
    left: Arc<AtomicUsize>,
}

impl Failing {
    fn cut(&self) -> PartyError {
        self.folder.damaged(LOG, "the power failed")
    }
}

impl Shelf for Failing {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PartyError> {
        self.folder.read(name)
    }

    fn append(&self, name: &str, keep: u64, bytes: &[u8]) -> Result<(), PartyError> {
        let left = self.left.load(Ordering::Relaxed);
        self.folder.append(name, keep, &bytes[..left.min(bytes.len())])?;
        self.left
            .store(left.saturating_sub(bytes.len()), Ordering::Relaxed);
        if left < bytes.len() {
            Err(self.cut())
        } else {
            Ok(())
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), PartyError> {
        if self.left.load(Ordering::Relaxed) < bytes.len() {
            return Err(self.cut());
        }
        self.folder.replace(name, bytes)
    }

    fn damaged(&self, name: &str, what: &str) -> PartyError {
        self.folder.damaged(name, what)
    }
}

/// The power fails after every possible number of bytes, in the first write and in a later one. The copy stands before the write or after
/// it, and goes on to the same file as if nothing had happened.
#[test]
fn a_crash_in_the_middle_of_an_append_costs_nothing() {
    let (temp, coordinator) = (tempfile::tempdir().unwrap(), Coordinator::new());
    let (lines, heads) = coordinator.log(&SIX);
    let whole = temp.path().join("whole");
    coordinator
        .copy(whole.clone())
        .unwrap()
        .stage(&lines, Some(&heads[6]))
        .unwrap();
    let expected = std::fs::read(whole.join(LOG)).unwrap();
    for before in [0, 3] {
        let mut crashed = 0;
        for bytes in (0..expected.len() + 300).step_by(29) {
            let folder = temp.path().join(format!("{before}-{bytes}"));
            let copy = coordinator.copy(folder.clone()).unwrap();
            copy.stage(&lines[..before], Some(&heads[before])).unwrap();
            drop(copy);
            let shelf = Failing {
                folder: Folder::open(folder.clone()).unwrap(),
                left: Arc::new(AtomicUsize::new(bytes)),
            };
            let copy = coordinator.copy_on(Box::new(shelf)).unwrap();
            let staged = copy.stage(&lines[before..], Some(&heads[6]));
            assert_eq!(
                copy.head(),
                heads[if staged.is_ok() { 6 } else { before }],
                "{bytes}"
            );
            crashed += usize::from(staged.is_err());
            drop(copy);

            let copy = coordinator.copy(folder.clone()).unwrap();
            let head = copy.head();
            // Whole lines of a first write may be known although no head was written for them.
            assert!(heads.contains(&head) && head.lines >= before as u64, "{bytes}");
            if let Some(from) = copy.missing(Some(&heads[6])).unwrap() {
                copy.stage(&lines[from as usize..], Some(&heads[6])).unwrap();
            }
            assert_eq!(std::fs::read(folder.join(LOG)).unwrap(), expected, "{bytes}");
            assert_eq!(coordinator.copy(folder).unwrap().head(), heads[6]);
        }
        assert!(crashed > 20, "{crashed}");
    }
}

#[test]
fn a_lost_file_is_fetched_again_and_must_lead_through_the_head_that_was_seen() {
    let (temp, coordinator) = (tempfile::tempdir().unwrap(), Coordinator::new());
    let (lines, heads) = coordinator.log(&SIX);
    let (others, other_heads) = coordinator.log(&FORKED);
    let copy = coordinator.copy(temp.path().into()).unwrap();
    copy.stage(&lines[..5], Some(&heads[5])).unwrap();
    drop(copy);
    std::fs::remove_file(temp.path().join(LOG)).unwrap();
    let copy = coordinator.copy(temp.path().into()).unwrap();
    // Also a record with an earlier head does not do until the head that was seen is reached.
    assert_eq!(copy.missing(Some(&heads[3])).unwrap(), Some(0));
    let error = forked(copy.stage(&others, Some(&other_heads[6])));
    assert!(matches!(error, AuditError::Head { line: 5, .. }), "{error}");
    let error = forked(copy.stage(&[], Some(&heads[3])));
    assert!(
        matches!(error, AuditError::Short { line: 1, lines: 5 }),
        "{error}"
    );
    copy.stage(&lines, Some(&heads[3])).unwrap();
    assert_eq!(copy.head(), heads[5]);
    assert_eq!(copy.missing(Some(&heads[3])).unwrap(), None);
    assert_eq!(coordinator.copy(temp.path().into()).unwrap().head(), heads[5]);
}

#[test]
fn a_copy_that_was_changed_or_cut_is_not_opened() {
    let (temp, coordinator) = (tempfile::tempdir().unwrap(), Coordinator::new());
    let (lines, heads) = coordinator.log(&SIX);
    let path = temp.path().join(LOG);
    coordinator
        .copy(temp.path().into())
        .unwrap()
        .stage(&lines, Some(&heads[6]))
        .unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let cut = good.rsplit_once("{\"line\":6").unwrap().0.to_owned();
    let at = good.find("\"payload\":\"").unwrap() + 11;
    let mut changed = good.clone();
    changed.replace_range(at..=at, "f");
    for bad in [changed, cut, good.replace("\"signed\"", "\"Signed\"")] {
        std::fs::write(&path, &bad).unwrap();
        let error = coordinator.copy(temp.path().into()).err().unwrap().to_string();
        assert!(
            error.contains("log.jsonl") && error.contains("line") && error.contains("move it away"),
            "{error}"
        );
    }
    std::fs::write(&path, good).unwrap();
    assert_eq!(coordinator.copy(temp.path().into()).unwrap().head(), heads[6]);
    // Without the head, what is whole and signed counts.
    std::fs::remove_file(temp.path().join(HEAD)).unwrap();
    assert_eq!(coordinator.copy(temp.path().into()).unwrap().head(), heads[6]);
}

#[test]
fn a_copy_is_verified_offline_and_compared_with_another_one() {
    let (temp, coordinator) = (tempfile::tempdir().unwrap(), Coordinator::new());
    let (lines, heads) = coordinator.log(&SIX);
    let (others, other_heads) = coordinator.log(&FORKED);
    let home = Home::create(&temp.path().join("own")).unwrap();
    let key = coordinator.key.public();
    let nothing = verify::own(&coordinator.study, &home).unwrap();
    assert_eq!(nothing.report.head, heads[0]);
    let copy = AuditCopy::open(&home, coordinator.study.digest(), key).unwrap();
    copy.stage(&lines[..5], Some(&heads[5])).unwrap();
    // The daemon is about to write more.
    let path = home.audit().join(LOG);
    let known = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{known}{{\"line\":6,")).unwrap();
    let own = verify::own(&coordinator.study, &home).unwrap();
    assert_eq!(own.report.head, heads[5]);
    assert_eq!(own.lines.len(), 5);
    assert_eq!(own.find(&heads[3].digest).unwrap(), 3);
    assert!(matches!(
        own.find(&other_heads[5].digest),
        Err(PartyError::Audit(_))
    ));
    // A file that goes on, or ends early, agrees; another branch does not.
    let write = |name: &str, lines: &[Signed]| {
        let folder = temp.path().join(name);
        let copy = coordinator.copy(folder.clone()).unwrap();
        copy.stage(lines, None).unwrap();
        verify::file(&coordinator.study, &folder.join(LOG)).unwrap()
    };
    write("long", &lines).agrees_with(&own).unwrap();
    write("short", &lines[..2]).agrees_with(&own).unwrap();
    let error = write("forked", &others).agrees_with(&own).unwrap_err();
    assert!(error.to_string().contains("line 4"), "{error}");
    assert_eq!(
        (error.code().as_str(), error.exit()),
        ("G1409", crate::Exit::Untrue)
    );
    // A file with half a line at its end, and one of another study.
    let error = verify::file(&coordinator.study, &path).unwrap_err();
    assert!(error.to_string().contains("line 6"), "{error}");
    let error = verify::file(&Coordinator::new().study, &path).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("line 1 is not signed by the coordinator"),
        "{error}"
    );
    // The own copy must lead to the head that was seen.
    std::fs::write(&path, known.rsplit_once("{\"line\":5").unwrap().0).unwrap();
    let error = verify::own(&coordinator.study, &home).unwrap_err();
    assert!(error.to_string().contains("line 5 is missing"), "{error}");
}
