//! Custodians that cheat, over the real engine.

use super::play::Play;
use super::*;
use galen_core::Code;
use galen_net::protocol::{AttemptPhase, Statement};
use galen_sums::Abandoned;
use galen_sums::audit::{AuditEvent, Culprit};

fn honest(_: &Federation, _: &Round, _: usize, parcel: Parcel) -> Parcel {
    parcel
}

fn until(play: &mut Play, phase: AttemptPhase) -> (RoundId, galen_net::protocol::AttemptView) {
    for _ in 0..20 {
        let (id, view) = play.attempt().unwrap();
        if view.phase == phase {
            return (id, view);
        }
        play.turn(&honest);
    }
    panic!("{phase:?} was not reached");
}

fn named(play: &Play, wanted: Culprit) -> Vec<(String, Vec<Authored>)> {
    let events = play.events();
    let named = events.into_iter().filter_map(|event| match event {
        AuditEvent::Named {
            party,
            culprit,
            evidence,
            ..
        } if culprit == wanted => Some((party.to_string(), evidence)),
        _ => None,
    });
    named.collect()
}

/// Attack: a custodian endorses the set, and another sum beside it, or gives the attempt up beside it.
#[test]
fn two_signatures_for_one_attempt_are_named_with_both_as_evidence() {
    for gives_up in [false, true] {
        let mut play = Play::new(federation(4, 3, 3));
        let (id, view) = until(&mut play, AttemptPhase::Endorsing);
        let cheat = &play.federation.members[3];
        let (name, round) = (cheat.identity.name.clone(), play.round(id));
        let said = Endorsement {
            record: *round.digest(),
            set: view.set_digest.unwrap(),
            sum: view.sum.unwrap(),
        };
        let first = sign_anything(&play.federation, 3, &said);
        play.engine
            .post(&name, Statement::Endorsement(first.statement.clone()))
            .unwrap();
        // Saying the same again is no offence.
        play.engine
            .post(&name, Statement::Endorsement(first.statement.clone()))
            .unwrap();
        assert_eq!(named(&play, Culprit::TwoSignatures), []);
        let (second, statement) = if gives_up {
            let (key, study) = (&cheat.identity.signing, play.federation.study.digest());
            let second = Abandoned { round: id }.sign(key, &name, &study).unwrap();
            (second.clone(), Statement::Abandoned(second.statement))
        } else {
            let other = Endorsement {
                sum: Digest::of(b"another sum"),
                ..said
            };
            let second = sign_anything(&play.federation, 3, &other);
            (second.clone(), Statement::Endorsement(second.statement))
        };
        for _ in 0..2 {
            let refusal = play.engine.post(&name, statement.clone()).unwrap_err();
            assert!(
                matches!(refusal.code, Code::Conflict | Code::WrongPhase),
                "{refusal:?}"
            );
        }
        // Line of defence: the engine looks for a second binding statement; the log's checker verifies the evidence.
        assert_eq!(
            named(&play, Culprit::TwoSignatures),
            [("d".to_owned(), vec![first, second])]
        );
        // The study goes on.
        while play.engine.view(0).published.is_empty() {
            play.turn(&honest);
        }
    }
}

/// Attack: a custodian endorses and then gives no answer, so that the certified sum cannot be opened.
#[test]
fn a_refused_answer_is_reassigned_and_named() {
    let mut play = Play::new(federation(4, 3, 3));
    let (id, view) = until(&mut play, AttemptPhase::Certified);
    let (silent, pieces) = view.assignments[0].clone();
    let round = play.round(id);
    let [headers, endorsements] = [
        galen_net::protocol::Item::Headers,
        galen_net::protocol::Item::Endorsements,
    ]
    .map(|item| play.fetch(id, item));
    for (name, pieces) in &view.assignments[1..] {
        let member = play
            .federation
            .members
            .iter()
            .find(|m| m.identity.name == *name)
            .unwrap();
        let said = member
            .custodian
            .answer(&round, &headers, &endorsements, pieces)
            .unwrap();
        play.upload(member, &said);
        play.engine
            .post(name, Statement::Answer(said.said.statement))
            .unwrap();
    }
    play.wait();
    let (_, view) = play.attempt().unwrap();
    let asked: Vec<u32> = view
        .assignments
        .iter()
        .flat_map(|(_, pieces)| pieces.clone())
        .collect();
    // Line of defence: every piece has n - t + 1 holders.
    assert!(
        view.assignments.iter().all(|(name, _)| *name != silent),
        "{:?}",
        view.assignments
    );
    assert!(pieces.iter().all(|piece| asked.contains(piece)));
    assert_eq!(
        named(&play, Culprit::RefusedAnswer),
        [(silent.to_string(), Vec::new())]
    );
    while play.engine.view(0).published.is_empty() {
        play.turn(&honest);
    }
}
