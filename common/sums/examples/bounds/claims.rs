//! The bounds of the page, each with the value that its inputs give.

use crate::gaussian;
use crate::lattice::{Attack, Instance, primal};
use galen_sums::plan::{DEGREE, SECURITY_LOG2_Q, padded};
use galen_sums::{PlanError, PlanInputs, SumPlan, ValueRange};
use std::f64::consts::LN_2;

/// A bound that the page states.
#[derive(Debug)]
pub(crate) struct Claim {
    id: &'static str,
    what: String,
    value: f64,
    stated: Stated,
}

#[derive(Clone, Copy, Debug)]
enum Stated {
    AtMost(f64),
    AtLeast(f64),
}

impl Claim {
    /// Whether the value keeps the bound.
    pub(crate) fn holds(&self) -> bool {
        match self.stated {
            Stated::AtMost(bound) => self.value <= bound,
            Stated::AtLeast(bound) => self.value >= bound,
        }
    }

    fn line(&self) -> String {
        let stated = match self.stated {
            Stated::AtMost(bound) => format!("<= {bound}"),
            Stated::AtLeast(bound) => format!(">= {bound}"),
        };
        let failed = if self.holds() { "" } else { "   DOES NOT HOLD" };
        format!(
            "{:<4}{:<72}{:>11.4}  {stated}{failed}\n",
            self.id, self.what, self.value
        )
    }
}

/// All claims, a line each.
pub(crate) fn report(claims: &[Claim]) -> String {
    claims.iter().map(Claim::line).collect()
}

/// "Security Guidelines for Implementing Homomorphic Encryption" (Bossuat et al., ePrint 2024/463), table 5.2, classical
/// attacks, noise of sigma 3.19, N = 4096: the largest log2 of the modulus at 128, 192 and 256 bits.
pub(crate) const TABLE_5_2_TERNARY: [u32; 3] = [106, 73, 56];
/// The same for Gaussian secrets of sigma 3.19.
pub(crate) const TABLE_5_2_GAUSSIAN: [u32; 3] = [108, 75, 58];
const TABLE_SIGMA: f64 = 3.19;
/// Standard deviation of a uniform ternary secret: the root of 2/3.
const TERNARY_SIGMA: f64 = 0.816_496_580_927_726;

/// The example of the page: contributors, rounds, values of an update, custodians and threshold, oracle queries.
const CONTRIBUTORS: f64 = 1000.0;
const ROUNDS: f64 = 1000.0;
const VALUES: u64 = 1_000_000;
const HONEST_HOLDERS: f64 = 5.0;
const LOG2_QUERIES: f64 = 100.0;

fn inputs(contributors: u32, max_abs: u64, study_coefficients: u64) -> PlanInputs {
    PlanInputs {
        contributors,
        ranges: vec![ValueRange {
            count: VALUES as u32,
            max_abs,
            fraction_bits: 0,
        }],
        study_coefficients,
        custodians: 9,
        threshold: 5,
    }
}

fn attack(log2_modulus: f64, secret: f64, noise: f64) -> Attack {
    let instance = Instance {
        dimension: f64::from(DEGREE),
        log2_modulus,
        secret,
        noise,
    };
    primal(&instance, f64::INFINITY)
}

/// log2 of the probability that a study fails: the planner's own inequality, solved for it.
fn log2_failure(plan: &SumPlan) -> f64 {
    let (bound, count) = (plan.noise_bound as f64, f64::from(plan.inputs.contributors));
    // Nothing exceeds the sum of the largest values.
    if plan.noise_bound >= u64::from(plan.inputs.contributors) * gaussian::cut() as u64 {
        return f64::NEG_INFINITY;
    }
    let exponent = bound * bound / (2.0 * count * gaussian::sigma().powi(2)) / LN_2;
    1.0 - exponent + (plan.inputs.study_coefficients as f64).log2()
}

/// The largest sum that the planner takes.
const LARGEST_SUM: u64 = (1 << 62) - 1;

/// Plans over the range of what the planner takes.
fn plans() -> Result<Vec<SumPlan>, PlanError> {
    let mut all = Vec::new();
    for log2_contributors in [2, 4, 7, 10, 14, 20] {
        // The last one is the largest that the planner takes.
        let largest = LARGEST_SUM >> log2_contributors;
        for max_abs in [1, 1 << 10, 1 << 20, 1 << 30, largest] {
            for study in [padded(VALUES), 1 << 30, 1 << 45, u64::MAX] {
                all.push(SumPlan::new(&inputs(1 << log2_contributors, max_abs, study))?);
            }
        }
    }
    Ok(all)
}

/// Every claim of the page.
///
/// # Errors
/// The planner's, if it refuses an example.
pub(crate) fn all() -> Result<Vec<Claim>, PlanError> {
    let mut claims = sampler();
    claims.extend(hint_and_losses());
    claims.extend(planner()?);
    claims.extend(hardness()?);
    Ok(claims)
}

fn claim(id: &'static str, what: &str, value: f64, stated: Stated) -> Claim {
    Claim {
        id,
        what: what.to_owned(),
        value,
        stated,
    }
}

use Stated::{AtLeast, AtMost};

fn sampler() -> Vec<Claim> {
    let wide = |cut| gaussian::beyond(cut).log2();
    vec![
        claim(
            "S1",
            "log2 share of the Gaussian beyond the cut at 27",
            wide(gaussian::cut()),
            AtMost(-28.8),
        ),
        claim(
            "S2",
            "log2 statistical distance of the table from the cut Gaussian",
            gaussian::table_distance().log2(),
            AtMost(-59.1),
        ),
        claim(
            "S3",
            "log2 chi-square divergence of the table from it",
            gaussian::table_chi_square().log2(),
            AtMost(-98.1),
        ),
        claim(
            "S4",
            "log2 of how far the table stays below a sub-Gaussian of sigma 4.6",
            gaussian::sub_gaussian_slack().log2(),
            AtLeast(-25.0),
        ),
        claim(
            "S5",
            "log2 share beyond a cut at 48 (10.4 sigma), for comparison",
            wide(48),
            AtMost(-84.2),
        ),
        claim(
            "S6",
            "log2 share beyond a cut at 64 (13.9 sigma), for comparison",
            wide(64),
            AtMost(-146.4),
        ),
    ]
}

fn hint_and_losses() -> Vec<Claim> {
    let epsilon = gaussian::smoothing(gaussian::base_sigma(), gaussian::base_sigma());
    let blocks = padded(VALUES) as f64 / f64::from(DEGREE);
    // Of one secret and the noise of every block.
    let coefficients = f64::from(DEGREE) * (1.0 + blocks);
    let eta = gaussian::convolution_loss(epsilon, coefficients).log2();
    // Both keys and all noise of the pair.
    let apart = gaussian::beyond(gaussian::cut()) + gaussian::table_distance();
    let steps = (2.0 * (CONTRIBUTORS - 1.0) * ROUNDS).log2();
    let seeds = steps + 2.0 + LOG2_QUERIES - 256.0;
    let wider = gaussian::smoothing(TABLE_SIGMA, TABLE_SIGMA);
    vec![
        claim(
            "H1",
            "sigma of a key given the sum with another",
            gaussian::hinted_sigma(),
            AtLeast(TABLE_SIGMA),
        ),
        claim(
            "H2",
            "log2 epsilon of the convolution, sigma 2.3 with 2.3",
            epsilon.log2(),
            AtMost(-74.3),
        ),
        claim(
            "H3",
            "log2 eta, the distance in one instance of 1,000,000 values",
            eta,
            AtMost(-63.8),
        ),
        claim(
            "H4",
            "largest factor on a probability by cut and table, one instance",
            (2.0 * coefficients * gaussian::largest_ratio_excess().ln_1p()).exp(),
            AtMost(1.005),
        ),
        claim(
            "H5",
            "log2 statistical distance by cut and table, one instance",
            (2.0 * coefficients * apart).log2(),
            AtMost(-7.8),
        ),
        claim(
            "H6",
            "log2 epsilon if sigma were 6.38 (3.19 with 3.19)",
            wider.log2(),
            AtMost(-143.8),
        ),
        claim(
            "L1",
            "bits lost for one pair of hospitals in one round",
            2f64.log2(),
            AtMost(1.0),
        ),
        claim(
            "L2",
            "bits lost for all pairs, 1,000 contributors, 1,000 rounds",
            steps,
            AtMost(21.0),
        ),
        claim(
            "L3",
            "log2 statistical part of that (L2 + H3)",
            steps + eta,
            AtMost(-42.9),
        ),
        claim(
            "L4",
            "log2 oracle part of that, 2^100 calls",
            seeds,
            AtMost(-133.0),
        ),
        claim(
            "L5",
            "log2 number of envelopes in that, 5 holders of a piece",
            steps + (2.0 * HONEST_HOLDERS).log2(),
            AtMost(24.3),
        ),
    ]
}

fn planner() -> Result<Vec<Claim>, PlanError> {
    let plans = plans()?;
    let largest = |of: &dyn Fn(&SumPlan) -> f64| plans.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
    let accepted = |plan: &SumPlan| (2 * plan.noise_bound + 1) as f64 / plan.delta as f64;
    Ok(vec![
        claim(
            "C1",
            "log2 chance that a study fails to open, worst of 120 plans",
            largest(&log2_failure),
            AtMost(-40.0),
        ),
        claim(
            "C2",
            "chance that a garbage coefficient passes, worst of them",
            largest(&accepted),
            AtMost(0.25),
        ),
        claim(
            "C3",
            "log2 chance that a garbage block passes, worst of them",
            f64::from(DEGREE) * largest(&accepted).log2(),
            AtMost(-8192.0),
        ),
        claim(
            "G1",
            "log2 Q, the largest of them",
            largest(&SumPlan::log2_q),
            AtMost(83.0),
        ),
        claim(
            "G2",
            "the gate: table 5.2, ternary secret, 128 bits",
            f64::from(SECURITY_LOG2_Q),
            AtMost(f64::from(TABLE_5_2_TERNARY[0])),
        ),
        claim(
            "G3",
            "log2 (Q / sigma) for G1 at sigma 2.3",
            largest(&SumPlan::log2_q) - gaussian::base_sigma().log2(),
            AtMost(81.8),
        ),
        claim(
            "G4",
            "the same for table 5.2, Gaussian secret, 128 bits",
            f64::from(TABLE_5_2_GAUSSIAN[0]) - TABLE_SIGMA.log2(),
            AtLeast(106.3),
        ),
    ])
}

fn hardness() -> Result<Vec<Claim>, PlanError> {
    let gaussian_row = f64::from(TABLE_5_2_GAUSSIAN[0]);
    let ternary_row = f64::from(TABLE_5_2_TERNARY[0]);
    let reference = attack(gaussian_row, TABLE_SIGMA, TABLE_SIGMA);
    let block_size = |attack: &Attack| f64::from(attack.block_size);
    let mut claims = vec![
        claim(
            "E1",
            "block size at table 5.2, Gaussian, 128 bits (log2 Q = 108)",
            block_size(&reference),
            AtMost(345.0),
        ),
        claim(
            "E2",
            "block size at table 5.2, ternary, 128 bits (log2 Q = 106)",
            block_size(&attack(ternary_row, TERNARY_SIGMA, TABLE_SIGMA)),
            AtMost(345.0),
        ),
        claim(
            "E3",
            "log2 cost with eight tours at E1: what 128 bits look like here",
            reference.tours(),
            AtLeast(128.0),
        ),
    ];
    let examples = [
        ("E4", "4 contributors, values up to 2^10", 4, 1 << 10),
        ("E5", "10 contributors, values up to 2^26", 10, 1 << 26),
        ("E6", "1,000 contributors, values up to 2^38", 1000, 1 << 38),
        (
            "E7",
            "2^20 contributors, the largest sums",
            1 << 20,
            LARGEST_SUM >> 20,
        ),
    ];
    for (id, what, contributors, max_abs) in examples {
        let study = if contributors == 1 << 20 {
            u64::MAX
        } else {
            1000 * padded(VALUES)
        };
        let plan = SumPlan::new(&inputs(contributors, max_abs, study))?;
        let found = attack(plan.log2_q(), gaussian::base_sigma(), gaussian::base_sigma());
        let what = format!("core-SVP, log2 Q = {:.2}: {what}", plan.log2_q());
        // Never below what the same estimate says of the table's row of 128 bits.
        claims.push(Claim {
            id,
            what,
            value: found.core_svp(),
            stated: AtLeast((reference.core_svp() * 10.0).ceil() / 10.0),
        });
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../../docs/sums-proof.md");

    #[test]
    fn every_stated_bound_holds() {
        let claims = all().unwrap();
        for claim in &claims {
            assert!(claim.holds(), "{}", claim.line());
        }
        let broken = Claim {
            stated: AtMost(claims[0].value - 1.0),
            ..claim("X", "a bound that does not hold", claims[0].value, AtMost(0.0))
        };
        assert!(!broken.holds() && broken.line().contains("DOES NOT HOLD"));
    }

    #[test]
    fn the_page_contains_what_is_computed() {
        let report = report(&all().unwrap());
        let stale: Vec<&str> = report
            .lines()
            .filter(|line| !PAGE.contains(line.trim_end()))
            .collect();
        assert!(
            stale.is_empty(),
            "docs/sums-proof.md lacks:\n{}",
            stale.join("\n")
        );
    }

    /// Where the text refers to a bound, the number before the mark is the bound, or the value itself.
    #[test]
    fn the_text_says_what_the_table_says() {
        let (text, _) = PAGE.split_once("## 11.").unwrap();
        for claim in all().unwrap() {
            let (Stated::AtMost(stated) | Stated::AtLeast(stated)) = claim.stated;
            let numbers = [
                format!("{stated}"),
                format!("{:.4}", claim.value),
                format!("{:.0}", claim.value),
            ];
            let mark = format!("[{}]", claim.id);
            let places: Vec<usize> = text.match_indices(&mark).map(|(at, _)| at).collect();
            assert!(!places.is_empty(), "{mark} is not referred to");
            for at in places {
                let before: String = text[..at].chars().rev().take(60).collect();
                let before: String = before.chars().rev().collect();
                assert!(
                    numbers.iter().any(|number| before.contains(number)),
                    "{before}{mark}: none of {numbers:?}"
                );
            }
        }
    }

    #[test]
    fn no_plan_is_beyond_the_gate() {
        for plan in plans().unwrap() {
            assert!(plan.log2_q() < f64::from(TABLE_5_2_TERNARY[0]));
            assert!(plan.log2_q() < f64::from(TABLE_5_2_GAUSSIAN[0]));
            plan.check(&plan.inputs).unwrap();
        }
        assert_eq!(SECURITY_LOG2_Q, TABLE_5_2_TERNARY[0]);
        // A larger one is refused, so the plans above contain the largest modulus.
        let beyond = inputs(4, (LARGEST_SUM >> 2) + 1, 1 << 45);
        assert!(matches!(
            SumPlan::new(&beyond),
            Err(PlanError::SumTooLarge { .. })
        ));
    }

    #[test]
    fn every_modulus_of_the_planner_is_harder_than_the_tables_row() {
        let reference = attack(f64::from(TABLE_5_2_GAUSSIAN[0]), TABLE_SIGMA, TABLE_SIGMA);
        for plan in plans().unwrap() {
            let found = attack(plan.log2_q(), gaussian::base_sigma(), gaussian::base_sigma());
            assert!(found.block_size > reference.block_size);
        }
    }
}
