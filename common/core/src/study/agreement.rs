//! What the numbers of custodians amount to.

use super::plan::{Role, Study};
use std::fmt;

/// How many custodians there are, open, and agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// n: custodians.
    pub custodians: u32,
    /// t: any t can open, any t-1 learn nothing.
    pub threshold: u32,
    /// g: so many must agree before anything opens.
    pub agreement: u32,
}

impl Agreement {
    /// f = 2g - n - 1: with at most so many cheating custodians, no two different sets are both agreed on, for two groups of g share at
    /// least 2g - n custodians. `None` if 2g <= n: two groups need not share anybody, and no custodian has to cheat.
    pub fn tolerated_cheats(&self) -> Option<u32> {
        (2 * self.agreement).checked_sub(self.custodians + 1)
    }

    /// n - g: so many may be absent, and the others still agree.
    pub fn may_be_absent(&self) -> u32 {
        self.custodians.saturating_sub(self.agreement)
    }

    /// The smallest g with f >= t - 1: more than (n + t - 1) / 2.
    pub fn enough(&self) -> u32 {
        (self.custodians + self.threshold).div_ceil(2)
    }

    /// Whether agreement tolerates as many cheats as opening does: f >= t - 1.
    pub fn is_enough(&self) -> bool {
        self.agreement >= self.enough()
    }

    /// What to say to whoever decides, if f < t - 1.
    pub fn warning(&self) -> Option<String> {
        let (n, t, least) = (self.custodians, self.threshold, self.enough());
        (!self.is_enough()).then(|| {
            format!(
                "WARNING: that is less than the t - 1 = {} custodians that may not open: choose an agreement g > (n + t - 1) / 2, at \
                 least {least} of {n}",
                t.saturating_sub(1)
            )
        })
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, g, absent) = (self.custodians, self.agreement, self.may_be_absent());
        match self.tolerated_cheats() {
            Some(1) => write!(
                out,
                "agreement g = {g} of n = {n}: safe against f = 1 cheating custodian"
            )?,
            Some(f) => write!(
                out,
                "agreement g = {g} of n = {n}: safe against f = {f} cheating custodians"
            )?,
            None => write!(
                out,
                "agreement g = {g} of n = {n}: NOT safe even if no custodian cheats, two different sets could both be agreed on"
            )?,
        }
        match absent {
            0 => write!(out, ", nobody may be absent"),
            absent => write!(out, ", {absent} may be absent"),
        }
    }
}

impl Study {
    /// The numbers of custodians.
    pub fn agreement(&self) -> Agreement {
        Agreement {
            custodians: self.with_role(Role::Custodian).len() as u32,
            threshold: self.sums.threshold,
            agreement: self.sums.agreement,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(custodians: u32, threshold: u32, agreement: u32) -> Agreement {
        Agreement {
            custodians,
            threshold,
            agreement,
        }
    }

    /// The examples of the design: n = 4, t = 3 with g = 3 and 4; n = 5 with g = 4; n = 9 with g = 7.
    #[test]
    fn the_numbers_of_the_examples() {
        for (n, t, g, f, absent) in [(4, 3, 3, 1, 1), (4, 3, 4, 3, 0), (5, 3, 4, 2, 1), (9, 5, 7, 4, 2)] {
            let agreement = of(n, t, g);
            assert_eq!(
                (agreement.tolerated_cheats(), agreement.may_be_absent()),
                (Some(f), absent)
            );
        }
    }

    /// Counted over all pairs of groups: what two of them share at least, less one.
    #[test]
    fn f_is_what_any_two_groups_share_less_one() {
        for n in 1..=6u32 {
            for g in 1..=n {
                let groups: Vec<u32> = (0..1u32 << n).filter(|set| set.count_ones() == g).collect();
                let shared = groups
                    .iter()
                    .flat_map(|a| groups.iter().map(move |b| (a & b).count_ones()))
                    .min();
                assert_eq!(
                    of(n, 1, g).tolerated_cheats(),
                    shared.and_then(|s| s.checked_sub(1))
                );
            }
        }
    }

    #[test]
    fn too_small_an_agreement_is_warned_of_with_the_least_that_is_enough() {
        for n in 3..=9 {
            for t in 2..=n {
                for g in t..=n {
                    let agreement = of(n, t, g);
                    let enough = agreement.tolerated_cheats().is_some_and(|f| f >= t - 1);
                    assert_eq!(agreement.is_enough(), enough, "{agreement:?}");
                    assert_eq!(agreement.warning().is_none(), enough);
                }
                assert!(of(n, t, t).enough() <= n);
            }
        }
        let warning = of(5, 3, 3).warning().unwrap();
        assert!(
            warning.contains("at least 4 of 5") && warning.contains("t - 1 = 2"),
            "{warning}"
        );
    }

    #[test]
    fn the_summary_line() {
        let line = "agreement g = 4 of n = 5: safe against f = 2 cheating custodians, 1 may be absent";
        assert_eq!(of(5, 3, 4).to_string(), line);
        assert!(
            of(4, 3, 3)
                .to_string()
                .contains("f = 1 cheating custodian, 1 may")
        );
        assert!(of(4, 2, 4).to_string().ends_with("nobody may be absent"));
        assert!(
            of(4, 2, 2)
                .to_string()
                .contains("NOT safe even if no custodian cheats")
        );
    }
}
