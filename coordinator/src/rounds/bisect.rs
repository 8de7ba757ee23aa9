//! Finding the contributor that spoils sums, without opening sums that could be subtracted.
//!
//! When a certified sum does not open and no custodian lied, some contributor's ciphertexts do not fit what it dealt. The round is
//! then collected again from a group H of the set S, and, if H fails too, from the rest. All sets of a round may be open, so they
//! must stay as far apart as custodians ask for ([`galen_sums::atoms`]). So one round narrows the suspects down by half at best; the next round,
//! which encrypts other values, takes other groups, until one suspect is left.

use galen_core::PartyId;
use galen_sums::atoms::smallest_atom;
use std::collections::BTreeSet;

/// A set of contributors.
pub type Group = BTreeSet<PartyId>;

/// Who is suspected after a sum over `set` did not open.
pub fn after_failure(suspects: &Group, set: &Group) -> Group {
    let both: Group = suspects.intersection(set).cloned().collect();
    if both.is_empty() { set.clone() } else { both }
}

/// Who is suspected after a sum over `set` opened.
pub fn after_success(suspects: &Group, set: &Group) -> Group {
    suspects.difference(set).cloned().collect()
}

/// The group to collect the round from next: of the members of `standing`'s last set, which failed, or of those left aside when it
/// was chosen. It holds half of the suspects, or none if there is but one. `None` if no group keeps the required distance.
pub fn next_group(standing: &[Group], suspects: &Group, min: usize) -> Option<Group> {
    let failed = standing.last()?;
    // The rest of an earlier, larger set comes first: a group that failed leaves a rest that has not been tried.
    let rest = standing
        .iter()
        .rev()
        .skip(1)
        .filter(|set| set.is_superset(failed))
        .map(|set| set.difference(failed).cloned().collect::<Group>());
    let half = (failed.len() >= 2 * min).then(|| split(failed, suspects));
    let mut candidates = rest.chain(half);
    let fits = |group: &Group| {
        let tried = standing.contains(group);
        !tried && smallest_atom(standing.iter().chain(std::iter::once(group))) >= Some(min)
    };
    candidates.find(fits)
}

/// Half of a set, with half of the suspects in it; none if there is one.
fn split(set: &Group, suspects: &Group) -> Group {
    let (suspected, cleared): (Vec<_>, Vec<_>) =
        set.iter().cloned().partition(|name| suspects.contains(name));
    let mut group: Group = suspected.iter().take(suspected.len() / 2).cloned().collect();
    let others = cleared
        .into_iter()
        .chain(suspected.into_iter().skip(group.len()).rev());
    for name in others {
        if group.len() >= set.len() / 2 {
            break;
        }
        group.insert(name);
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(indices: impl IntoIterator<Item = usize>) -> Group {
        indices
            .into_iter()
            .map(|i| PartyId::new(format!("h{i:02}")).unwrap())
            .collect()
    }

    /// Rounds of a study in which `culprit` spoils every sum that it is in; returns how many attempts each round took.
    fn play(count: usize, culprit: usize, min: usize, rounds: usize) -> (Group, Vec<usize>) {
        let everybody = group(0..count);
        let mut suspects = Group::new();
        let mut attempts = Vec::new();
        for _ in 0..rounds {
            let mut standing: Vec<Group> = Vec::new();
            let mut set = everybody.clone();
            loop {
                let opened = !set.contains(&group([culprit]).pop_first().unwrap());
                standing.push(set.clone());
                assert!(smallest_atom(&standing) >= Some(min), "{standing:?}");
                if opened {
                    suspects = after_success(&suspects, &set);
                    break;
                }
                suspects = after_failure(&suspects, &set);
                assert!(suspects.contains(group([culprit]).first().unwrap()));
                match next_group(&standing, &suspects, min) {
                    Some(next) => set = next,
                    None => break,
                }
            }
            attempts.push(standing.len());
            if suspects.len() == 1 {
                break;
            }
        }
        (suspects, attempts)
    }

    #[test]
    fn one_culprit_is_found_within_a_few_rounds_and_rounds_open_meanwhile() {
        for count in 6..20 {
            for culprit in 0..count {
                let (suspects, attempts) = play(count, culprit, 3, 10);
                assert_eq!(suspects, group([culprit]), "{count} {culprit} {attempts:?}");
                assert!(
                    attempts.len() <= 5 && attempts.iter().all(|a| *a <= 3),
                    "{attempts:?}"
                );
            }
        }
    }

    #[test]
    fn too_few_contributors_cannot_be_split() {
        for count in 3..6 {
            let (suspects, attempts) = play(count, 1, 3, 5);
            assert_eq!((suspects, attempts), (group(0..count), vec![1; 5]), "{count}");
        }
        assert_eq!(next_group(&[], &Group::new(), 3), None);
    }
}
