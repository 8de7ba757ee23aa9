//! An audit log that shows one party another past than the others.

use super::*;
use crate::audit::shelf::Folder;
use crate::audit::{AuditCopy, NotTaken};
use galen_sums::audit::{AuditEvent, AuditHead, AuditLine};

/// A log whose lines name models; the words are of no matter.
fn log(federation: &Federation, models: &[&str]) -> (Vec<Signed>, Vec<AuditHead>) {
    let (mut lines, mut heads) = (Vec::new(), vec![AuditHead::default()]);
    for (second, model) in (1..).zip(models) {
        let event = AuditEvent::Served {
            model: Digest::of(model.as_bytes()),
        };
        let (key, study) = (&federation.coordinator, federation.study.digest());
        let (line, next) = AuditLine::sign(key, &study, heads.last().unwrap(), second * 1000, event).unwrap();
        lines.push(line);
        heads.push(next);
    }
    (lines, heads)
}

/// Attack: two hospitals are shown two logs, so that one does not learn of an opening. They act on the same record in the end, whose
/// head is one of the two.
#[test]
fn a_forked_audit_log_is_seen_by_the_party_that_was_shown_the_other_branch() {
    let federation = federation(4, 3, 3);
    let (told, told_heads) = log(&federation, &["1", "2", "an opening", "4"]);
    let (hidden, hidden_heads) = log(&federation, &["1", "2", "nothing", "4"]);
    let temp = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let shelf = Box::new(Folder::open(temp.path().join(name)).unwrap());
        AuditCopy::on(shelf, federation.study.digest(), federation.coordinator.public()).unwrap()
    };
    let [first, second] = ["a", "b"].map(copy);
    first.stage(&told[..3], Some(&told_heads[3])).unwrap();
    second.stage(&hidden[..3], Some(&hidden_heads[3])).unwrap();
    // One record for both: its digest is in every contribution, so that parties with different records share no sum.
    let record = changed_record(&federation, ID, |record| record.audit = told_heads[4]);
    let round = federation.rounds.open(ID, &record).unwrap();
    let head = round.record().audit;
    assert_eq!(first.missing(Some(&head)).unwrap(), Some(3));
    first.stage(&told[3..], Some(&head)).unwrap();
    // Line of defence: the second party takes no lines that do not follow its copy, or that do not lead to the record's head.
    for lines in [&told[3..], &hidden[3..], &told[..]] {
        let taken = second.stage(lines, Some(&head));
        assert!(matches!(taken, Err(NotTaken::Forked(_))), "{taken:?}");
    }
    assert_eq!(second.head(), hidden_heads[3], "its copy is as it was");
    // Both branches bear the coordinator's signature, which the second keeps.
    second.keep_evidence("forked", Some(&record), &told[3..]).unwrap();
    let kept = std::fs::read_dir(temp.path().join("b")).unwrap();
    let evidence = kept.filter(|file| {
        file.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("fork-")
    });
    assert_eq!(evidence.count(), 1);
}
