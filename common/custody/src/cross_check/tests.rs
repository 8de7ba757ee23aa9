//! Custodians that lie in one way each, and honest ones. The dishonest statements are made here from the parts of honest ones.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::panic)]

// The same federation as in the tests of whole rounds, of which only a part is needed.
#[allow(dead_code)]
#[path = "../../tests/sums/federation.rs"]
mod federation;

use super::*;
use crate::open::{open_answers, open_sum};
use federation::*;
use galen_sums::authored::ANSWER;

/// A round up to its answers, all honest.
struct Scene<'f> {
    attempt: Attempt<'f>,
    contributions: Vec<Contribution>,
    proposal: Proposal,
    certificate: Certificate,
    answers: Vec<SealedStatement>,
}

fn federation_of(sharing: Sharing) -> Federation {
    Federation::new(sharing, 4, vec![range(10, 1000)])
}

fn scene(federation: &Federation) -> Scene<'_> {
    let mut attempt = federation.announce_all(1, 0);
    let contributions: Vec<_> = (0..4)
        .map(|i| attempt.contribute(i, &[i as i64 * 7; 10]))
        .collect();
    let proposal = attempt.propose(&contributions);
    let all = attempt.custodians();
    let certificate = attempt.certify(&all, &contributions, &proposal);
    let assignments = attempt.round.assign(&all).unwrap();
    let answers = attempt.answer_all(&assignments, &contributions, &certificate, &proposal);
    // Whoever was not asked takes the step of answering all the same.
    for custodian in &all {
        let ledger = attempt.ledgers[custodian]
            .answer(attempt.round.id(), certificate.endorsement())
            .unwrap();
        attempt.ledgers.insert(custodian.clone(), ledger);
    }
    Scene {
        attempt,
        contributions,
        proposal,
        certificate,
        answers,
    }
}

impl Scene<'_> {
    fn pieces_of(&self, custodian: &PartyId) -> Vec<u32> {
        let answer = self
            .answers
            .iter()
            .find(|answer| answer.said.author == *custodian);
        answer.map_or(Vec::new(), |answer| {
            answer
                .said
                .statement
                .read_unverified::<AnswerHeader>()
                .unwrap()
                .pieces
        })
    }

    fn check_by(&self, custodian: &PartyId, answered: &[u32]) -> Result<SealedStatement, CustodyError> {
        let opened = self.attempt.open_seeds(custodian, &self.contributions).unwrap();
        let signing = &self.attempt.federation.party(custodian).signing;
        check_keys(
            &self.attempt.round,
            custodian,
            signing,
            &self.attempt.ledgers[custodian],
            &self.certificate,
            &self.proposal.set,
            &opened,
            answered,
        )
    }

    fn checks(&self) -> Vec<SealedStatement> {
        let check = |custodian: &PartyId| self.check_by(custodian, &self.pieces_of(custodian)).unwrap();
        self.attempt.custodians().iter().map(check).collect()
    }

    fn find(&self, checks: &[SealedStatement]) -> Vec<Finding> {
        // Every receiver finds the same.
        let find = |receiver: usize| {
            let party = &self.attempt.federation.parties[receiver];
            find_liars(
                &self.attempt.round,
                &self.certificate,
                &self.proposal.set,
                &party.name,
                &party.receiver,
                &self.answers,
                checks,
            )
            .unwrap()
        };
        let findings = find(0);
        assert_eq!(find(3), findings);
        findings
    }

    /// Whether the answers open the sum to the first receiver.
    fn opens(&self) -> Result<(), CustodyError> {
        let party = &self.attempt.federation.parties[0];
        let (round, set) = (&self.attempt.round, &self.proposal.set);
        let key = open_answers(
            round,
            &self.certificate,
            set,
            &party.name,
            &party.receiver,
            &self.answers,
        )?;
        open_sum(round, &self.certificate, set, &key, self.proposal.sum.as_slice()).map(|_| ())
    }

    /// `K_T` of one piece as its holder computes it.
    fn single(&self, custodian: &PartyId, piece: u32) -> KeySum {
        let opened = self.attempt.open_seeds(custodian, &self.contributions).unwrap();
        KeySum::of(&self.attempt.round, &opened, &[piece]).unwrap()
    }

    /// The custodian answers with its polynomial plus one in one coefficient, under its signature.
    fn lie_in_answer(&mut self, custodian: &PartyId) {
        let pieces = self.pieces_of(custodian);
        let opened = self.attempt.open_seeds(custodian, &self.contributions).unwrap();
        let mut sum = KeySum::of(&self.attempt.round, &opened, &pieces).unwrap();
        sum.add(&unit());
        let encoding = sum.encode(terms(&self.proposal.set, &pieces)).unwrap();
        let certified = self.certificate.endorsement();
        let answer = self
            .answers
            .iter_mut()
            .find(|answer| answer.said.author == *custodian)
            .unwrap();
        let mut header: AnswerHeader = answer.said.statement.read_unverified().unwrap();
        header.key_sum = encoding_digest(self.attempt.round.digest(), &encoding);
        for (receiver, text) in &mut answer.texts {
            let to = self.attempt.federation.roster.sealing(receiver).unwrap();
            let context = answer_context(certified, custodian, &pieces, receiver);
            *text = context.seal(receiver, to, &encoding).unwrap();
        }
        header.sealed = SealedTexts::of(&answer.texts);
        let party = self.attempt.federation.party(custodian);
        let study = self.attempt.federation.roster.study();
        answer.said = Authored::sign(&party.signing, custodian, ANSWER, study, &header).unwrap();
    }

    /// The same check with something changed, signed again by its author.
    fn resign(
        &self,
        given: &SealedStatement,
        change: impl FnOnce(&mut KeyCheck, &mut Texts),
    ) -> SealedStatement {
        let (author, mut texts) = (&given.said.author, given.texts.clone());
        let mut check: KeyCheck = given.said.statement.read_unverified().unwrap();
        change(&mut check, &mut texts);
        check.sealed = SealedTexts::of(&texts);
        let party = self.attempt.federation.party(author);
        let study = self.attempt.federation.roster.study();
        let said = Authored::sign(&party.signing, author, KEY_CHECK, study, &check).unwrap();
        SealedStatement { said, texts }
    }

    /// A check in which one piece has another polynomial: digest and sealed polynomials agree with each other.
    fn consistent_lie(&self, custodian: &PartyId, wrong: u32) -> SealedStatement {
        let certified = self.certificate.endorsement();
        let honest = self.check_by(custodian, &self.pieces_of(custodian)).unwrap();
        self.resign(&honest, |check, texts| {
            let mut polynomials = Vec::new();
            for &piece in &check.answered {
                let mut sum = self.single(custodian, piece);
                if piece == wrong {
                    sum.add(&unit());
                }
                let encoding = sum.encode(terms(&self.proposal.set, &[piece])).unwrap();
                let held = self.attempt.round.held_by(custodian);
                check.digests[held.binary_search(&piece).unwrap()] =
                    piece_digest(certified, piece, &encoding);
                polynomials.extend_from_slice(&encoding);
            }
            for (receiver, text) in texts {
                let to = self.attempt.federation.roster.sealing(receiver).unwrap();
                let context = check_context(certified, custodian, &check.answered, receiver);
                *text = context.seal(receiver, to, &polynomials).unwrap();
            }
        })
    }
}

/// One in the first coefficient.
fn unit() -> KeySum {
    let mut encoding = KeySum::zero(4096).encode(4).unwrap().to_vec();
    // The encoding is the offset form, lowest bit first.
    encoding[2] |= 1;
    KeySum::decode(4096, 4, &encoding).unwrap()
}

fn replace(checks: &mut [SealedStatement], with: SealedStatement) {
    let old = checks
        .iter_mut()
        .find(|check| check.said.author == with.said.author);
    *old.unwrap() = with;
}

#[test]
fn nobody_is_named_when_all_are_honest() {
    for sharing in [Sharing(4, 3, 3), Sharing(5, 3, 4), Sharing(3, 2, 2)] {
        let federation = federation_of(sharing);
        let scene = scene(&federation);
        scene.opens().unwrap();
        assert_eq!(scene.find(&scene.checks()), []);
    }
}

#[test]
fn a_custodian_that_changes_one_coefficient_is_named() {
    let federation = federation_of(Sharing(5, 3, 4));
    let mut scene = scene(&federation);
    scene.lie_in_answer(&name(2));
    assert!(matches!(scene.opens(), Err(CustodyError::Remainder { .. })));
    // It posts the check of an honest custodian: that contradicts its answer.
    let findings = scene.find(&scene.checks());
    assert!(
        matches!(&findings[..], [Finding::Contradiction { custodian, .. }] if *custodian == name(2)),
        "{findings:?}"
    );
    assert_eq!(findings[0].liar(), Some(&name(2)));
    assert!(findings[0].to_string().contains("h2"));
    // It posts a check that fits its answer: then the other holders have another digest.
    let mut checks = scene.checks();
    let wrong = scene.pieces_of(&name(2))[0];
    replace(&mut checks, scene.consistent_lie(&name(2), wrong));
    let outvoted = Finding::Outvoted {
        custodian: name(2),
        piece: wrong,
    };
    assert_eq!(scene.find(&checks), [outvoted]);
    // It posts none.
    checks.retain(|check| check.said.author != name(2));
    assert_eq!(scene.find(&checks), [Finding::Silent { custodian: name(2) }]);
}

#[test]
fn a_custodian_that_signs_other_digests_is_named() {
    let federation = federation_of(Sharing(5, 3, 4));
    let scene = scene(&federation);
    let honest = scene.checks();
    for at in 0..federation.roster.pieces().held_by(1).len() {
        let piece = federation.roster.pieces().held_by(1)[at];
        let mut checks = honest.clone();
        let other = scene.resign(&honest[1], |check, _| check.digests[at] = Digest::of(b"other"));
        replace(&mut checks, other);
        let findings = scene.find(&checks);
        let outvoted = Finding::Outvoted {
            custodian: name(1),
            piece,
        };
        assert!(findings.contains(&outvoted), "{findings:?}");
        // Where it answered for the piece, it contradicts itself too.
        let answered = scene.pieces_of(&name(1)).contains(&piece);
        assert_eq!(findings.len(), 1 + usize::from(answered));
        assert!(findings.iter().all(|finding| finding.liar() == Some(&name(1))));
    }
}

#[test]
fn two_holders_that_disagree_are_both_named_and_no_liar() {
    // Two holders of each piece.
    let federation = federation_of(Sharing(4, 3, 3));
    let mut scene = scene(&federation);
    scene.lie_in_answer(&name(0));
    let wrong = scene.pieces_of(&name(0))[0];
    let mut checks = scene.checks();
    replace(&mut checks, scene.consistent_lie(&name(0), wrong));
    let holders: BTreeSet<PartyId> = federation
        .roster
        .pieces()
        .holders(wrong)
        .iter()
        .map(|&holder| name(holder))
        .collect();
    let findings = scene.find(&checks);
    let disputed = Finding::Disputed {
        custodians: holders.clone(),
        piece: wrong,
    };
    assert_eq!(findings, [disputed]);
    assert_eq!(findings[0].liar(), None);
    assert!(holders.len() == 2 && holders.contains(&name(0)));
}

#[test]
fn without_a_second_holder_nothing_is_confirmed() {
    let federation = federation_of(Sharing(3, 3, 3));
    let mut scene = scene(&federation);
    scene.lie_in_answer(&name(1));
    let wrong = scene.pieces_of(&name(1))[0];
    let mut checks = scene.checks();
    // A contradiction is still found.
    assert_eq!(scene.find(&checks)[0].liar(), Some(&name(1)));
    // A consistent lie is not, and the findings say that nobody could have seen it.
    replace(&mut checks, scene.consistent_lie(&name(1), wrong));
    let unconfirmed: Vec<Finding> = (0..3)
        .map(|index| Finding::Unconfirmed {
            custodian: name(index),
            pieces: scene.attempt.round.held_by(&name(index)).to_vec(),
        })
        .collect();
    assert_eq!(scene.find(&checks), unconfirmed);
    assert!(unconfirmed.iter().all(|finding| finding.liar().is_none()));
}

#[test]
fn a_check_is_given_only_where_the_ledger_has_answered_this_set() {
    let federation = federation_of(Sharing(5, 3, 4));
    let mut scene = scene(&federation);
    let custodian = name(0);
    let answered = scene.pieces_of(&custodian);
    assert!(scene.check_by(&custodian, &answered).is_ok());
    assert!(scene.check_by(&custodian, &[]).is_ok());
    // Pieces of others, and in another order.
    let held = scene.attempt.round.held_by(&custodian).to_vec();
    let foreign = (0..10).find(|piece| !held.contains(piece)).unwrap();
    for pieces in [vec![foreign], vec![held[1], held[0]], vec![held[0], held[0]]] {
        let refused = scene.check_by(&custodian, &pieces).unwrap_err();
        assert!(matches!(refused, CustodyError::Sums(SumsError::Header { .. })));
    }
    // Another set than the certified one.
    let certified = std::mem::replace(
        &mut scene.proposal,
        scene.attempt.propose(&scene.contributions[..3]),
    );
    let refused = scene.check_by(&custodian, &answered).unwrap_err();
    assert!(matches!(refused, CustodyError::Sums(SumsError::Set(_))));
    scene.proposal = certified;
    // Endorsed and not answered, erased, never announced.
    let id = scene.attempt.round.id();
    let key = *scene.attempt.secrets[&custodian].public();
    let announced = crate::rehearsal::fresh_ledger(galen_core::Digest::of(b"incarnation"))
        .announce(id, &key)
        .unwrap();
    let vote = crate::ledger::Vote::of(&scene.attempt.round, &scene.proposal.set, scene.proposal.digest);
    let signed = announced.sign(id, &vote).unwrap();
    let erased = scene.attempt.ledgers[&custodian].erase(id).unwrap();
    for ledger in [LedgerState::default(), announced, signed, erased] {
        scene.attempt.ledgers.insert(custodian.clone(), ledger);
        let refused = scene.check_by(&custodian, &answered).unwrap_err();
        assert!(matches!(refused, CustodyError::Ledger(_)), "{refused}");
    }
}

#[test]
fn checks_that_do_not_conform_are_refused() {
    let federation = federation_of(Sharing(5, 3, 4));
    let scene = scene(&federation);
    let good = scene.checks().swap_remove(0);
    let round = &scene.attempt.round;
    let refused = |given: &SealedStatement| check_key_check(round, &scene.certificate, &given.said).is_err();
    assert!(!refused(&good));
    let changes: [fn(&mut KeyCheck, &mut Texts); 9] = [
        |check, _| check.custodian = name(1),
        |check, _| check.record = Digest::of(b"other"),
        |check, _| check.set = Digest::of(b"other"),
        |check, _| check.sum = Digest::of(b"other"),
        |check, _| check.digests.truncate(1),
        |check, _| check.answered.reverse(),
        |check, _| check.answered.clear(),
        |_, texts| drop(texts.pop_first()),
        |_, texts| texts.values_mut().for_each(Vec::clear),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert!(refused(&scene.resign(&good, change)), "change {index}");
    }
    // Under another name, and by someone who keeps no pieces.
    for other in [name(1), PartyId::new("stranger").unwrap()] {
        let mut forged = good.clone();
        forged.said.author = other;
        assert!(refused(&forged));
    }
    let twice = [good.clone(), good];
    let party = &federation.parties[0];
    let error = find_liars(
        round,
        &scene.certificate,
        &scene.proposal.set,
        &party.name,
        &party.receiver,
        &scene.answers,
        &twice,
    );
    assert!(matches!(
        error,
        Err(CustodyError::Sums(SumsError::Endorsement(_)))
    ));
}

/// Whoever carries a text to its receiver can change it, and that is nobody's lie.
#[test]
fn a_text_that_was_changed_on_its_way_names_no_custodian() {
    let federation = federation_of(Sharing(5, 3, 4));
    let mut scene = scene(&federation);
    let party = &federation.parties[0];
    let checks = scene.checks();
    let compare = |answers: &[SealedStatement], checks: &[SealedStatement]| {
        let (certificate, set) = (&scene.certificate, &scene.proposal.set);
        let (name, key) = (&party.name, &party.receiver);
        find_liars(&scene.attempt.round, certificate, set, name, key, answers, checks)
    };
    // A receiver's own text is all that it needs.
    let own = |given: &[SealedStatement]| given.iter().map(|said| said.to(&party.name)).collect::<Vec<_>>();
    let (mut answers, mut own_checks) = (own(&scene.answers), own(&checks));
    assert_eq!(compare(&answers, &own_checks).unwrap(), []);
    let carried = |found: Result<Vec<Finding>, CustodyError>| {
        assert!(matches!(found, Err(CustodyError::Carried { .. })), "{found:?}");
    };
    own_checks[0].texts.get_mut(&party.name).unwrap()[40] ^= 1;
    carried(compare(&answers, &own_checks));
    answers[0].texts.get_mut(&party.name).unwrap()[40] ^= 1;
    carried(compare(&answers, &checks));
    scene.answers = answers;
    assert!(matches!(scene.opens(), Err(CustodyError::Carried { .. })));
    scene.answers[0].texts.clear();
    assert!(matches!(scene.opens(), Err(CustodyError::Carried { .. })));
}
