//! Custodians that cheat, over the real engine.

use super::lies;
use super::play::{Play, honest};
use super::*;
use galen_core::Code;
use galen_net::protocol::{AttemptPhase, Statement};
use galen_sums::Abandoned;
use galen_sums::audit::{AuditEvent, Culprit};

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
        let (id, view) = play.until_phase(AttemptPhase::Endorsing, &honest);
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
    let (id, view) = play.until_phase(AttemptPhase::Certified, &honest);
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

/// Attack: a custodian adds one to one coefficient of its key sum, so that nothing opens; or seals what one receiver cannot open.
#[test]
fn a_wrong_key_sum_is_named_and_the_exact_sum_opens_without_it() {
    for to_one in [false, true] {
        // Every piece has two holders, so that a majority of them decides nothing: the liar is shown by its own statements.
        let mut play = Play::new(federation(4, 3, 3));
        let (_, view) = play.until_phase(AttemptPhase::Certified, &honest);
        let (liar, pieces) = view.assignments[0].clone();
        let at = play
            .federation
            .members
            .iter()
            .position(|m| m.identity.name == liar)
            .unwrap();
        let victim = play.federation.members[(at + 1) % 4].identity.name.clone();
        let lied_to = victim.clone();
        play.lie = Some(Box::new(move |federation, round, index, answer| {
            match (index == at, to_one) {
                (false, _) => answer,
                (true, false) => lies::wrong_coefficient(federation, round, index, &answer),
                (true, true) => lies::closed_to(federation, index, &lied_to, &answer),
            }
        }));
        play.until_published(1, &honest);
        // Lines of defence: remainders, key checks that every receiver compares with the answers, and other holders of each piece.
        let named = named(&play, Culprit::WrongKeySum);
        let by: Vec<&galen_core::PartyId> = named.iter().map(|(_, evidence)| &evidence[0].author).collect();
        assert!(
            named.iter().all(|(party, _)| *party == liar.to_string()),
            "{named:?}"
        );
        match to_one {
            false => assert_eq!(by.len(), 4),
            // What is sealed to a receiver only that one can judge.
            true => assert_eq!(by, [&victim]),
        }
        let answers = play.events().into_iter().filter_map(|event| match event {
            AuditEvent::Answered { custodian, .. } => Some(custodian),
            _ => None,
        });
        let answers: Vec<_> = answers.collect();
        assert_eq!(answers.iter().filter(|name| **name == liar).count(), 1);
        assert!(answers.len() > 1 && !pieces.is_empty());
        // In the first attempt, with everybody in it, to the last digit.
        let published = &play.engine.state().published[0];
        assert_eq!((published.attempt, published.set.len()), (0, 4));
        assert_eq!(play.sums[0], play.plain_sum(0));
    }
}

/// The word of a custodian that was not in doubt stands: an honest round names nobody.
#[test]
fn an_honest_round_is_exact_and_names_nobody() {
    let mut play = Play::new(federation(4, 3, 3));
    play.until_published(2, &honest);
    assert_eq!(play.sums, [play.plain_sum(0), play.plain_sum(1)]);
    let named = |event: &AuditEvent| matches!(event, AuditEvent::Named { .. });
    assert!(!play.events().iter().any(named));
}
