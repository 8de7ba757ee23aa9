//! The queue: whose turn it is, what is refused, and what a restart finds.

use super::*;

const QUOTAS: Quotas = Quotas {
    waiting: 8,
    hourly: 0,
};

fn party(name: &str) -> PartyId {
    PartyId::new(name).unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn submit(queue: &mut Queue, name: &str, batch: &str) -> Result<QueryState, Refusal> {
    submit_at(queue, name, batch, 1000)
}

fn submit_at(queue: &mut Queue, name: &str, batch: &str, now_ms: u64) -> Result<QueryState, Refusal> {
    queue.submit(
        &party(name),
        (digest("model"), digest("key"), digest(batch)),
        now_ms,
    )
}

fn answered(queue: &mut Queue, query: &QueryRecord) {
    assert!(
        queue
            .finish(query, Outcome::Answered(digest("answer")), 2000)
            .unwrap()
    );
}

fn open(dir: &tempfile::TempDir, quotas: Quotas) -> Queue {
    Queue::open(&Store::open(dir.path()).unwrap(), quotas).unwrap()
}

#[test]
fn only_the_asker_sees_how_a_query_is_doing() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(&dir, QUOTAS);
    assert_eq!(
        submit(&mut queue, "b", "first").unwrap(),
        QueryState::Queued { ahead: 0 }
    );
    let running = queue.start().unwrap().unwrap();
    queue.progress(&running).set(3, 10);
    let state = queue.state(&party("b"), &digest("first")).unwrap();
    assert_eq!(state, QueryState::Running { done: 3, total: 10 });
    for stranger in ["a", "c"] {
        let (stranger, batch) = (party(stranger), digest("first"));
        for refused in [
            queue.state(&stranger, &batch).map(drop),
            queue.cancel(&stranger, &batch, 0).map(drop),
            queue.acknowledge(&stranger, &batch).map(drop),
        ] {
            assert_eq!(refused.unwrap_err().code, Code::BlobUnknown);
        }
    }
    answered(&mut queue, &running);
    let state = queue.state(&party("b"), &digest("first")).unwrap();
    let answer = digest("answer");
    assert_eq!(state, QueryState::Done { answer });
    submit(&mut queue, "b", "second").unwrap();
    let refusal = Refusal::new(Code::BadQuery, "not a batch");
    let second = queue.start().unwrap().unwrap();
    queue
        .finish(&second, Outcome::Failed(refusal.clone()), 2000)
        .unwrap();
    assert_eq!(
        queue.state(&party("b"), &digest("second")).unwrap(),
        QueryState::Failed(refusal)
    );
    let counts = QueryCounts {
        done: 1,
        failed: 1,
        ..QueryCounts::default()
    };
    assert_eq!(queue.counts(), counts);
    assert_eq!(queue.counts_by_party(), BTreeMap::from([(party("b"), counts)]));
    assert!(queue.start().unwrap().is_none());
}

/// One party's many batches do not keep another one's waiting, and what is said to be ahead is what comes before.
#[test]
fn parties_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(&dir, QUOTAS);
    for batch in ["b1", "b2", "b3", "b4"] {
        submit(&mut queue, "b", batch).unwrap();
    }
    submit(&mut queue, "a", "a1").unwrap();
    submit(&mut queue, "c", "c1").unwrap();
    submit(&mut queue, "a", "a2").unwrap();
    let expected = ["a1", "b1", "c1", "a2", "b2", "b3", "b4"];
    for (place, batch) in expected.iter().enumerate() {
        let name = party(&batch[..1]);
        let ahead = place as u32;
        assert_eq!(
            queue.state(&name, &digest(batch)).unwrap(),
            QueryState::Queued { ahead },
            "{batch}"
        );
    }
    for batch in expected {
        let running = queue.start().unwrap().unwrap();
        assert_eq!(running.batch, digest(batch));
        answered(&mut queue, &running);
    }
}

#[test]
fn a_party_may_not_fill_the_queue_nor_the_hour() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(
        &dir,
        Quotas {
            waiting: 2,
            hourly: 3,
        },
    );
    submit(&mut queue, "a", "1").unwrap();
    submit(&mut queue, "a", "2").unwrap();
    assert_eq!(submit(&mut queue, "a", "3").unwrap_err().code, Code::Busy);
    submit(&mut queue, "b", "3").unwrap();
    for _ in 0..3 {
        let running = queue.start().unwrap().unwrap();
        answered(&mut queue, &running);
    }
    submit_at(&mut queue, "a", "3", 5000).unwrap();
    let over = submit_at(&mut queue, "a", "4", 6000).unwrap_err();
    assert_eq!(over.code, Code::OverQuota);
    assert!(over.detail.contains("in 3595 s"), "{}", over.detail);
    // An hour after the first.
    submit_at(&mut queue, "a", "4", 1000 + 3_600_000).unwrap();
}

#[test]
fn what_is_taken_back_is_not_evaluated_and_what_ended_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(&dir, QUOTAS);
    for batch in ["1", "2", "3"] {
        submit(&mut queue, "a", batch).unwrap();
    }
    let a = party("a");
    assert_eq!(
        queue.cancel(&a, &digest("2"), 5).unwrap(),
        (QueryState::Cancelled, false)
    );
    let first = queue.start().unwrap().unwrap();
    assert_eq!(
        queue.cancel(&a, &digest("1"), 5).unwrap(),
        (QueryState::Cancelled, true)
    );
    // Its answer comes too late.
    let late = Outcome::Answered(digest("late"));
    assert!(!queue.finish(&first, late, 6).unwrap());
    assert_eq!(queue.state(&a, &digest("1")).unwrap(), QueryState::Cancelled);
    let third = queue.start().unwrap().unwrap();
    assert_eq!(third.batch, digest("3"));
    answered(&mut queue, &third);
    let answer = digest("answer");
    assert_eq!(
        queue.cancel(&a, &digest("3"), 7).unwrap().0,
        QueryState::Done { answer }
    );
    assert_eq!(queue.acknowledge(&a, &digest("3")).unwrap(), Some(answer));
    assert_eq!(queue.acknowledge(&a, &digest("3")).unwrap(), None);
    assert_eq!(
        queue.acknowledge(&a, &digest("1")).unwrap_err().code,
        Code::WrongPhase
    );
    assert!(queue.start().unwrap().is_none());
    // Ended at 5, 5 and 2000.
    let old = ended_before(&queue.records(), 6).unwrap();
    assert_eq!(old.len(), 2);
    // One of them is not as it was when it was found.
    let mut changed = old.clone();
    changed[0].starts += 1;
    assert_eq!(queue.forget(changed).unwrap().len(), 1);
    assert_eq!(queue.forget(old).unwrap().len(), 1);
    assert!(queue.state(&a, &digest("3")).is_ok() && queue.state(&a, &digest("1")).is_err());
}

#[test]
fn what_ran_when_the_process_ended_waits_again_and_what_ended_stays() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut queue = open(&dir, QUOTAS);
        submit(&mut queue, "a", "1").unwrap();
        submit(&mut queue, "a", "2").unwrap();
        let first = queue.start().unwrap().unwrap();
        answered(&mut queue, &first);
        assert!(queue.start().unwrap().is_some());
    }
    let mut queue = open(&dir, QUOTAS);
    let counts = QueryCounts {
        queued: 1,
        done: 1,
        ..QueryCounts::default()
    };
    assert_eq!(queue.counts(), counts);
    let again = queue.start().unwrap().unwrap();
    assert_eq!(
        (again.batch, again.starts),
        (digest("2"), 2),
        "that it ran before is known"
    );
}
