//! The study around its rounds.

use super::*;

/// Every custodian's incarnation is confirmed by the others.
fn introduce(state: &mut StudyState) {
    for name in NAMES {
        let others = NAMES.iter().filter(|other| **other != name);
        let incarnation = IncarnationState {
            nonce: digest("incarnation"),
            seq: 1,
            begun: 1,
            confirmed: others.map(|other| id(other)).collect(),
            stale: None,
        };
        state.incarnations.insert(id(name), incarnation);
    }
}

fn frame(rounds: u32, release: Release) -> Frame {
    Frame {
        first: 0,
        parties: NAMES.iter().map(|n| id(n)).collect(),
        rounds,
        initial: digest("initial"),
        release,
    }
}

#[test]
fn the_study_goes_from_consent_over_rounds_to_serving() {
    let rules = rules();
    let frame = frame(2, Release::Coordinator);
    let mut state = StudyState::default();
    let next = |state: &StudyState| state.next(&frame, &rules, 0, |model| *model == digest("model"));
    state.consents.extend(["a", "b", "c"].iter().map(|n| id(n)));
    assert_eq!(next(&state), Step::AwaitConsent(vec![id("d")]));
    state.consents.insert(id("d"));
    assert_eq!(next(&state), Step::AwaitCustodians);
    let stalled = state.next(&frame, &rules, PATIENCE, |_| false);
    assert!(matches!(stalled, Step::Announce { .. }));
    introduce(&mut state);
    assert_eq!(
        next(&state),
        Step::Announce {
            round: 0,
            attempt: 0,
            base: digest("initial")
        }
    );
    for (round, base) in [(0, "initial"), (1, "result 0")] {
        assert_eq!(
            next(&state),
            Step::Announce {
                round,
                attempt: 0,
                base: digest(base)
            }
        );
        state.announce(round, 0, digest(base), NOW);
        assert_eq!(next(&state), Step::Attempt);
        let mut attempt = opening(&rules);
        attempt.round = round;
        state.attempt = Some(attempt);
        state.publish(digest(&format!("result {round}")), NOW);
    }
    assert_eq!(next(&state), Step::AwaitRelease);
    state
        .releases
        .extend(["a", "b"].iter().map(|n| (id(n), digest("model"))));
    state.releases.insert(id("c"), digest("another"));
    assert_eq!(next(&state), Step::AwaitRelease, "two of three needed agree");
    state.releases.insert(id("d"), digest("model"));
    assert_eq!(next(&state), Step::Serve(digest("model")));
    assert_eq!(
        state.next(&frame, &rules, 0, |_| false),
        Step::AwaitRelease,
        "the blob is not stored"
    );
    state.serving = Some(digest("model"));
    assert_eq!(next(&state), Step::Serving);
}

/// Announced at once, the next round would be without it.
#[test]
fn a_custodian_that_came_back_during_a_round_is_waited_for_before_the_next() {
    let rules = rules();
    let frame = frame(2, Release::Contributors);
    let mut state = StudyState::default();
    state.consents.extend(frame.parties.iter().cloned());
    introduce(&mut state);
    state.announce(0, 0, digest("initial"), NOW);
    state.attempt = Some(opening(&rules));
    let custodian = state.incarnations.get_mut(&id("a")).unwrap();
    let others = std::mem::take(&mut custodian.confirmed);
    state.introduced_ms = 5;
    assert_eq!(
        state.next(&frame, &rules, 5, |_| false),
        Step::Attempt,
        "the round under way goes on"
    );
    state.publish(digest("result 0"), NOW);
    let next = |state: &StudyState, now_ms| state.next(&frame, &rules, now_ms, |_| false);
    let announced = |step: Step| matches!(step, Step::Announce { round: 1, .. });
    assert_eq!(next(&state, 5 + PATIENCE - 1), Step::AwaitCustodians);
    assert!(announced(next(&state, 5 + PATIENCE)), "not for ever");
    state.incarnations.get_mut(&id("a")).unwrap().confirmed = others;
    assert!(announced(next(&state, 5)));
    // One that has never been there is not waited for again.
    state.incarnations.remove(&id("a"));
    assert!(announced(next(&state, 5)));
}

#[test]
fn a_round_that_is_abandoned_too_often_ends_the_study() {
    let rules = rules();
    let frame = frame(1, Release::Contributors);
    let mut state = StudyState::default();
    state.consents.extend(frame.parties.iter().cloned());
    introduce(&mut state);
    for attempt in 0..3 {
        assert_eq!(
            state.next(&frame, &rules, 0, |_| true),
            Step::Announce {
                round: 0,
                attempt,
                base: digest("initial")
            }
        );
        state.announce(0, attempt, digest("initial"), NOW);
        state
            .attempt
            .as_mut()
            .unwrap()
            .carry_out(&Decision::Abandon("a reason".into()), 0);
        state.note_abandoned(&rules);
    }
    assert_eq!(state.next(&frame, &rules, 0, |_| true), Step::Closed);
    let closed = state.closed.unwrap();
    assert!(!closed.completed && closed.reason.contains("a reason"));
}

/// Whoever spoils sums gains nothing from a successor of the study; and where a suspect leaves, nobody is left out in its place.
#[test]
fn suspects_stay_suspected_under_a_successor_with_all_of_them() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/studies/heart/study.toml");
    let mut successor: galen_core::study::Study = galen_core::config::load(&path).unwrap();
    let names: Vec<PartyId> = successor.party.iter().map(|member| member.name.clone()).collect();
    let suspected = |count: usize| {
        let mut state = StudyState {
            suspects: names.iter().take(count).cloned().collect(),
            ..StudyState::default()
        };
        state.excluded.insert(names[3].clone());
        state.consents.insert(names[0].clone());
        state
    };
    for count in [0, 1, 2] {
        let next = suspected(count).succeed(&successor);
        let expected = StudyState {
            suspects: suspected(count).suspects,
            ..StudyState::default()
        };
        assert_eq!(next, expected);
        assert_eq!(next.left_out().len(), usize::from(count == 1));
    }
    successor.party.retain(|member| member.name != names[0]);
    assert_eq!(suspected(2).succeed(&successor), StudyState::default());
}
