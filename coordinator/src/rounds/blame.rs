//! Whom the audit log names when sums did not open because of a contributor.
//!
//! A contributor that spoils every sum is left as the only suspect ([`super::bisect`]). One that spoils some sums on purpose, and not
//! others, can leave another one there instead: the sums that open clear it. But whatever it does, it is in every set that did not open. So
//! who alone is in all of them is named as the one that spoils sums, if there is but one; a last suspect is said to be left out, and why.

use super::state::StudyState;
use galen_core::PartyId;
use galen_sums::audit::{AuditEvent, Culprit};
use galen_sums::record::RoundId;
use std::collections::BTreeSet;

/// Who was in every set whose sum did not open, this one included; `known` were in all before it.
pub fn in_all(known: Option<&BTreeSet<PartyId>>, set: &BTreeSet<PartyId>) -> BTreeSet<PartyId> {
    known.map_or_else(|| set.clone(), |known| known.intersection(set).cloned().collect())
}

/// What a change of state tells of the contributor that spoils sums.
pub fn spoiler(before: &StudyState, after: &StudyState) -> Option<AuditEvent> {
    let attempt = before.attempt.as_ref()?;
    let (party, culprit, text) = blamed(before, after)?;
    Some(AuditEvent::Named {
        id: RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        },
        party,
        culprit,
        text: text.to_owned(),
        evidence: Vec::new(),
    })
}

fn blamed(before: &StudyState, after: &StudyState) -> Option<(PartyId, Culprit, &'static str)> {
    let proven = |state: &StudyState| state.in_all_spoilt.as_ref().and_then(only);
    if let Some(party) = proven(after) {
        let text = "it alone was in every sum that did not open";
        return proven(before)
            .is_none()
            .then_some((party, Culprit::BadCiphertext, text));
    }
    let party = only(&after.suspects).filter(|party| only(&before.suspects).as_ref() != Some(party))?;
    Some((
        party,
        Culprit::Suspected,
        "no sum that it was in opened, and others did",
    ))
}

fn only(set: &BTreeSet<PartyId>) -> Option<PartyId> {
    match set.len() {
        1 => set.first().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::bisect::{after_failure, after_success};

    fn set(names: &str) -> BTreeSet<PartyId> {
        let name = |c: char| PartyId::new(c.to_string()).unwrap();
        names.chars().map(name).collect()
    }

    /// The state after a sum over a set, and whom that names.
    fn after(before: &StudyState, names: &str, opens: bool) -> (StudyState, Option<(String, Culprit)>) {
        let (mut after, set) = (before.clone(), set(names));
        if opens {
            after.suspects = after_success(&before.suspects, &set);
        } else {
            after.suspects = after_failure(&before.suspects, &set);
            after.in_all_spoilt = Some(in_all(before.in_all_spoilt.as_ref(), &set));
        }
        let named = blamed(before, &after).map(|(party, culprit, _)| (party.to_string(), culprit));
        (after, named)
    }

    fn play(sums: &[(&str, bool)]) -> Vec<(String, Culprit)> {
        let mut state = StudyState::default();
        let mut named = Vec::new();
        for (names, opens) in sums {
            let (next, who) = after(&state, names, *opens);
            named.extend(who);
            state = next;
        }
        named
    }

    /// `h` spoils the sums over everybody and none of the smaller ones that it is in.
    #[test]
    fn who_spoils_some_sums_only_has_nobody_else_named() {
        let named = play(&[
            ("abcdefgh", false),
            ("efgh", true),
            ("abcdefgh", false),
            ("cdgh", true),
            ("abcdefgh", false),
            ("bfgh", true),
        ]);
        assert_eq!(named, [("a".to_owned(), Culprit::Suspected)]);
    }

    #[test]
    fn who_alone_was_in_every_spoilt_sum_is_named_once() {
        let named = play(&[
            ("abcdefgh", false),
            ("abcd", false),
            ("efgh", true),
            ("abcdefgh", false),
            ("abef", false),
            ("abcdefgh", false),
            ("aceg", false),
            ("bdfh", true),
            ("abcdefgh", false),
        ]);
        assert_eq!(named, [("a".to_owned(), Culprit::BadCiphertext)]);
    }

    #[test]
    fn of_several_that_spoil_sums_none_is_proven() {
        let named = play(&[
            ("abcdefgh", false),
            ("abcd", false),
            ("efgh", false),
            ("abcdefgh", false),
        ]);
        assert_eq!(named, []);
    }
}
