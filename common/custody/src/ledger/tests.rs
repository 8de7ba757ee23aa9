use super::*;
use galen_core::{Digest, SigningKey};
use galen_sums::Authored;
use galen_sums::authored::ONE_ROUND_KEY;

const FIRST: RoundId = RoundId { round: 3, attempt: 0 };
const SECOND: RoundId = RoundId { round: 3, attempt: 1 };
const MIN: usize = 3;

fn name(index: usize) -> PartyId {
    PartyId::new(format!("h{index}")).unwrap()
}

fn members(indices: impl IntoIterator<Item = usize>) -> BTreeSet<PartyId> {
    indices.into_iter().map(name).collect()
}

/// A vote whose set and sum digests follow from its members.
fn vote(indices: impl IntoIterator<Item = usize>) -> Vote {
    let members = members(indices);
    let text = format!("{members:?}");
    Vote {
        endorsement: Endorsement {
            record: Digest::of(b"record"),
            set: Digest::of(text.as_bytes()),
            sum: Digest::of(b"sum"),
        },
        members,
        quantity: Digest::of(b"training from a base"),
        earlier: Vec::new(),
        min_contributors: MIN,
    }
}

fn confirmed(state: LedgerState) -> LedgerState {
    state.confirmed(&BTreeMap::new(), 0).unwrap()
}

fn begun() -> LedgerState {
    confirmed(LedgerState::default().begin(Digest::of(b"first incarnation")))
}

fn announced() -> LedgerState {
    begun().announce(FIRST, &[1; 32]).unwrap()
}

/// Announced, and the record was seen.
fn recorded() -> LedgerState {
    announced().changed(|next| next.recorded = Some(FIRST))
}

fn answered() -> LedgerState {
    let a = vote(0..4);
    announced()
        .sign(FIRST, &a)
        .unwrap()
        .answer(FIRST, &a.endorsement)
        .unwrap()
}

#[test]
fn the_straight_way_and_its_repetitions() {
    let a = vote(0..4);
    let mut state = announced();
    assert_eq!(state.announce(FIRST, &[1; 32]).unwrap(), state);
    state = state.sign(FIRST, &a).unwrap();
    assert_eq!(state.sign(FIRST, &a).unwrap(), state);
    assert_eq!(state.newest().unwrap().1.name(), "signed");
    state = state.answer(FIRST, &a.endorsement).unwrap();
    assert_eq!(state.answer(FIRST, &a.endorsement).unwrap(), state);
    assert_eq!(state.sign(FIRST, &a).unwrap(), state);
    assert_eq!(state.newest().unwrap().1.name(), "answered");
    state = state.erase(FIRST).unwrap();
    assert_eq!(state.erase(FIRST).unwrap(), state);
    for refused in [
        state.sign(FIRST, &a),
        state.answer(FIRST, &a.endorsement),
        state.abandon(FIRST),
        state.announce(FIRST, &[1; 32]),
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::WrongPhase);
    }
}

#[test]
fn every_change_and_nothing_else_advances_the_number() {
    let a = vote(0..4);
    let mut seen = vec![LedgerState::default(), begun(), announced()];
    seen.push(announced().sign(FIRST, &a).unwrap());
    seen.push(answered());
    seen.push(answered().erase(FIRST).unwrap());
    seen.push(seen[5].announce(SECOND, &[2; 32]).unwrap());
    let numbers: Vec<u64> = seen.iter().map(LedgerState::seq).collect();
    assert_eq!(numbers, [0, 2, 3, 4, 5, 6, 7]);
    assert_eq!(answered().sign(FIRST, &a).unwrap().seq(), 5);
}

#[test]
fn one_set_per_attempt() {
    let (a, b) = (vote(0..4), vote(0..3));
    let signed = announced().sign(FIRST, &a).unwrap();
    for state in [&signed, &answered()] {
        assert_eq!(state.sign(FIRST, &b).unwrap_err().code(), Code::Conflict);
        assert_eq!(
            state.answer(FIRST, &b.endorsement).unwrap_err().code(),
            Code::Conflict
        );
        assert_eq!(state.abandon(FIRST).unwrap_err().code(), Code::Conflict);
        assert!(state.allows_endorsing(FIRST, &a.endorsement).is_ok());
        assert!(state.allows_endorsing(FIRST, &b.endorsement).is_err());
    }
    let mut another_sum = a.clone();
    another_sum.endorsement.sum = Digest::of(b"other");
    let refused = signed.sign(FIRST, &another_sum).unwrap_err();
    assert_eq!(refused.code(), Code::Conflict);
    assert!(signed.allows_answering(FIRST, &a.endorsement).is_err());
    assert!(answered().allows_answering(FIRST, &a.endorsement).is_ok());
    assert!(answered().allows_answering(FIRST, &b.endorsement).is_err());
    let early = announced().answer(FIRST, &a.endorsement).unwrap_err();
    assert_eq!(early.code(), Code::WrongPhase);
}

#[test]
fn endorsed_or_abandoned_but_not_both() {
    let a = vote(0..4);
    let unseen = announced().abandon(FIRST).unwrap_err();
    assert_eq!(unseen, LedgerError::NoRecord(FIRST));
    let abandoned = recorded().abandon(FIRST).unwrap();
    assert_eq!(abandoned.abandon(FIRST).unwrap(), abandoned);
    assert!(abandoned.allows_abandoning(FIRST).is_ok() && recorded().allows_abandoning(FIRST).is_err());
    assert_eq!(abandoned.sign(FIRST, &a).unwrap_err().code(), Code::Conflict);
    assert_eq!(
        abandoned.answer(FIRST, &a.endorsement).unwrap_err().code(),
        Code::WrongPhase
    );
    assert!(abandoned.allows_endorsing(FIRST, &a.endorsement).is_err());
}

#[test]
fn a_newer_attempt_ends_the_older_ones() {
    let a = vote(0..4);
    let signed = announced().sign(FIRST, &a).unwrap();
    let newer = signed.announce(SECOND, &[2; 32]).unwrap();
    for refused in [
        newer.sign(FIRST, &a),
        newer.answer(FIRST, &a.endorsement),
        newer.abandon(FIRST),
        newer.announce(FIRST, &[1; 32]),
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, LedgerError::Older { .. }));
        assert_eq!(refused.code(), Code::WrongRound);
    }
    assert!(newer.allows_key(FIRST, &[1; 32]).is_err());
    assert!(newer.allows_key(SECOND, &[2; 32]).is_ok());
    let next_round = newer
        .announce(RoundId { round: 4, attempt: 0 }, &[3; 32])
        .unwrap();
    let back = RoundId { round: 3, attempt: 9 };
    assert!(next_round.announce(back, &[4; 32]).is_err());
}

#[test]
fn one_key_per_attempt_and_none_for_the_unknown() {
    let state = announced();
    let second = state.announce(FIRST, &[2; 32]).unwrap_err();
    assert_eq!(second.code(), Code::Conflict);
    assert_eq!(
        state.sign(SECOND, &vote(0..4)).unwrap_err(),
        LedgerError::Unknown(SECOND)
    );
    assert_eq!(begun().erase(FIRST).unwrap_err(), LedgerError::Unknown(FIRST));
    assert_eq!(
        LedgerState::default().announce(FIRST, &[1; 32]).unwrap_err(),
        LedgerError::NoIncarnation
    );
}

fn after(vote: Vote, earlier: &[Option<std::ops::Range<usize>>]) -> Vote {
    Vote {
        earlier: earlier.iter().map(|set| set.clone().map(members)).collect(),
        ..vote
    }
}

/// The same values are encrypted in every attempt, so sums that may both be open must not tell single hospitals apart.
#[test]
fn sets_of_one_round_that_could_be_subtracted_are_refused() {
    let whole = vote(0..8);
    let signed = announced().sign(FIRST, &whole).unwrap();
    let answered = signed.answer(FIRST, &whole.endorsement).unwrap();
    let erased = answered.erase(FIRST).unwrap();
    let stored: LedgerState = postcard::from_bytes(&postcard::to_stdvec(&erased).unwrap()).unwrap();
    for state in [&signed, &answered, &erased, &stored] {
        let second = state.announce(SECOND, &[2; 32]).unwrap();
        let later = |set: std::ops::Range<usize>, first| second.sign(SECOND, &after(vote(set), &[first]));
        for set in [0..7, 0..6, 1..9, 2..8] {
            let refused = later(set.clone(), Some(0..8)).unwrap_err();
            assert!(
                matches!(refused, LedgerError::Subtractable { .. }),
                "{set:?} {refused:?}"
            );
            assert_eq!(refused.code(), Code::SetRefused);
            // Unless the first attempt was given up.
            assert!(later(set, None).is_ok());
        }
        // The same set, a half, and a set of others tell nothing new about fewer than three.
        for set in [0..8, 0..4, 0..5, 3..8, 8..12] {
            assert!(later(set.clone(), Some(0..8)).is_ok(), "{set:?}");
        }
        // A record must know of what was endorsed.
        let unknown = later(0..8, Some(0..7)).unwrap_err();
        assert_eq!(
            unknown,
            LedgerError::Hidden {
                round: SECOND,
                attempt: 0
            }
        );
        assert!(second.sign(SECOND, &vote(0..8)).is_err());
        // The next round encrypts other values.
        let next = RoundId { round: 4, attempt: 0 };
        let mut other = vote(0..7);
        other.quantity = Digest::of(b"training from the next base");
        assert!(state.announce(next, &[3; 32]).unwrap().sign(next, &other).is_ok());
    }
}

/// Three sums of one round, of which each custodian endorsed two at most: pairs would do, all together single out a hospital.
#[test]
fn sets_that_others_endorsed_count_too() {
    let third = RoundId { round: 3, attempt: 2 };
    let fresh = begun().announce(third, &[3; 32]).unwrap();
    let last = vote(4..7);
    for (first, second, allowed) in [
        (Some(0..8), Some(0..4), false),
        (Some(0..8), None, true),
        (None, Some(0..4), true),
        (Some(0..4), None, true),
    ] {
        let vote = after(last.clone(), &[first.clone(), second.clone()]);
        assert_eq!(fresh.sign(third, &vote).is_ok(), allowed, "{first:?} {second:?}");
    }
}

#[test]
fn a_quantity_is_endorsed_in_one_round() {
    let signed = announced().sign(FIRST, &vote(0..4)).unwrap();
    let next = RoundId { round: 4, attempt: 0 };
    let again = signed.announce(next, &[2; 32]).unwrap().sign(next, &vote(0..4));
    assert_eq!(
        again.unwrap_err(),
        LedgerError::Quantity {
            round: next,
            before: 3
        }
    );
}

#[test]
fn nothing_is_signed_for_rounds_of_another_incarnation() {
    let a = vote(0..4);
    let other = Digest::of(b"second incarnation");
    for state in [announced(), announced().sign(FIRST, &a).unwrap(), answered()] {
        assert_eq!(
            state.begin(other).announce(SECOND, &[2; 32]).unwrap_err(),
            LedgerError::NoIncarnation
        );
        let reborn = confirmed(state.begin(other));
        for refused in [
            reborn.sign(FIRST, &a),
            reborn.answer(FIRST, &a.endorsement),
            reborn.abandon(FIRST),
        ] {
            assert_eq!(refused.unwrap_err(), LedgerError::Incarnation(FIRST));
        }
        assert!(reborn.allows_endorsing(FIRST, &a.endorsement).is_err());
        assert!(reborn.allows_answering(FIRST, &a.endorsement).is_err());
        assert!(reborn.allows_key(FIRST, &[1; 32]).is_err());
        // Nor in another attempt of a round in which it may have endorsed something.
        for asked in [FIRST, SECOND] {
            let refused = reborn.announce(asked, &[2; 32]).unwrap_err();
            assert_eq!(refused, LedgerError::Forgotten { asked, until: FIRST });
        }
        assert!(
            reborn
                .announce(RoundId { round: 4, attempt: 0 }, &[9; 32])
                .is_ok()
        );
    }
}

#[test]
fn rounds_that_confirming_custodians_took_part_in_are_left_out() {
    let nonce = Digest::of(b"second incarnation");
    let reborn = LedgerState::default().begin(nonce);
    let word = |newest, nonce| Confirmation {
        custodian: name(0),
        nonce,
        newest,
    };
    let by = |words: &[Confirmation]| -> BTreeMap<PartyId, Confirmation> {
        words
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, word)| (name(i + 1), word))
            .collect()
    };
    let other = word(None, Digest::of(b"first incarnation"));
    let few = by(&[word(None, nonce), other.clone(), other]);
    assert_eq!(reborn.confirmed(&few, 2).unwrap_err(), LedgerError::NoIncarnation);
    let enough = by(&[word(None, nonce), word(Some(FIRST), nonce)]);
    let confirmed = reborn.confirmed(&enough, 2).unwrap();
    assert!(confirmed.is_confirmed() && !reborn.is_confirmed());
    assert!(matches!(
        confirmed.announce(SECOND, &[2; 32]).unwrap_err(),
        LedgerError::Forgotten { until: FIRST, .. }
    ));
    assert!(
        confirmed
            .announce(RoundId { round: 4, attempt: 0 }, &[2; 32])
            .is_ok()
    );
    let at_the_start = reborn
        .confirmed(&by(&[word(None, nonce), word(None, nonce)]), 2)
        .unwrap();
    assert!(at_the_start.announce(FIRST, &[1; 32]).is_ok());
}

fn key(signing: &SigningKey, of: usize, round: RoundId, nonce: &[u8], seq: u64) -> (OneRoundKey, Authored) {
    let key = OneRoundKey {
        round,
        custodian: name(of),
        key: [of as u8; 32],
        incarnation: Digest::of(nonce),
        seq,
    };
    let study = Digest::of(b"study");
    let signed = Authored::sign(signing, &name(of), ONE_ROUND_KEY, &study, &key).unwrap();
    (key, signed)
}

#[test]
fn a_ledger_that_others_know_better_forgets_the_rounds_up_to_what_they_know() {
    let signing = SigningKey::generate().unwrap();
    let (known, _) = key(&signing, 0, SECOND, b"lost", 40);
    let reborn = announced().forget_until(&known, Digest::of(b"second incarnation"));
    assert!(reborn.seq() > 40 && !reborn.is_confirmed());
    let reborn = confirmed(reborn);
    for attempt in [0, 1, 2, 9] {
        let asked = RoundId { round: 3, attempt };
        let refused = reborn.announce(asked, &[2; 32]).unwrap_err();
        assert_eq!(refused, LedgerError::Forgotten { asked, until: SECOND });
    }
    assert!(
        reborn
            .announce(RoundId { round: 4, attempt: 0 }, &[3; 32])
            .is_ok()
    );
}

fn incarnation(nonce: &[u8], seq: u64) -> Incarnation {
    Incarnation {
        custodian: name(1),
        nonce: Digest::of(nonce),
        seq,
    }
}

#[test]
fn peers_vouch_for_what_is_not_older_than_what_they_know() {
    let signing = SigningKey::generate().unwrap();
    let (key, signed) = key(&signing, 1, FIRST, b"one", 5);
    let (_, vouch) = begun().vouch(&incarnation(b"one", 0));
    assert_eq!(vouch, Vouch::Confirmed(None));
    let (state, vouch) = announced().vouch(&incarnation(b"one", 0));
    assert_eq!(vouch, Vouch::Confirmed(Some(FIRST)));
    // The same word again, whatever has happened since.
    let later = state.announce(SECOND, &[2; 32]).unwrap();
    assert_eq!(
        later.vouch(&incarnation(b"one", 0)),
        (later.clone(), Vouch::Confirmed(Some(FIRST)))
    );
    let mut knowing = state.clone();
    knowing.peers.note(&key, &signed);
    // A backup from before that key.
    let (same, vouch) = knowing.vouch(&incarnation(b"two", 4));
    assert_eq!((same, vouch), (knowing.clone(), Vouch::Stale(signed)));
    // A restart with the whole ledger: it may have forgotten what it did in the newest attempt.
    let (replaced, vouch) = knowing.vouch(&incarnation(b"two", 5));
    assert_eq!(vouch, Vouch::Confirmed(Some(FIRST)));
    // The old one does not come back.
    let (_, vouch) = replaced.vouch(&incarnation(b"one", 9));
    assert_eq!(vouch, Vouch::Retired);
}

#[test]
fn a_successor_of_the_study_keeps_what_binds_beyond_a_round() {
    let state = answered().erase(FIRST).unwrap();
    assert_eq!(state.answered(), Some(FIRST));
    assert_eq!(announced().sign(FIRST, &vote(0..4)).unwrap().answered(), None);
    let successor = state.succeed();
    assert_eq!(successor, successor.succeed());
    assert_eq!(
        (successor.answered(), successor.newest(), successor.seq()),
        (Some(FIRST), None, state.seq())
    );
    // Its incarnation is another one.
    let next = RoundId { round: 4, attempt: 0 };
    let refused = successor.announce(next, &[2; 32]).unwrap_err();
    assert_eq!(refused, LedgerError::NoIncarnation);
    let begun = confirmed(successor.begin(Digest::of(b"under the successor")));
    let announced = begun.announce(next, &[2; 32]).unwrap();
    // A quantity that was endorsed before is not opened in another round.
    let refused = announced.sign(next, &vote(0..4)).unwrap_err();
    assert_eq!(
        refused,
        LedgerError::Quantity {
            round: next,
            before: 3
        }
    );
    // What may have been forgotten stays so.
    let restored = LedgerState {
        forgotten: Some(SECOND),
        ..state
    };
    let begun = confirmed(restored.succeed().begin(Digest::of(b"nonce")));
    let refused = begun.announce(FIRST, &[2; 32]).unwrap_err();
    assert!(matches!(refused, LedgerError::Forgotten { .. }), "{refused}");
}
