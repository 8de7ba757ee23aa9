//! How good scores are: ROC curve and its area, accuracy, Brier score for two classes; [`Confusion`] for any number of classes;
//! [`Calibration`] of probabilities; [`Regression`] for numbers.

mod calibration;
mod confusion;
mod regression;

pub use calibration::{Calibration, ReliabilityBin, brier_of_classes};
pub use confusion::{ClassScores, Confusion};
pub use regression::Regression;

/// The logistic function 1 / (1 + exp(-x)), accurate for large `x` of either sign.
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// Area under the ROC curve: the probability that a patient of class 1 scores above one of class 0, ties counting half (the
/// statistic of Mann and Whitney). Exact.
///
/// `None` if a class is absent, a score is not a number, or the lengths differ.
pub fn auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    if scores.len() != labels.len() || scores.iter().any(|s| s.is_nan()) {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let ties = order.chunk_by(|&a, &b| scores[a] == scores[b]);
    let groups = ties.map(|group| {
        let positive = group.iter().filter(|&&i| labels[i]).count() as u64;
        (group.len() as u64 - positive, positive)
    });
    auc_of_groups(groups)
}

/// Twice the number of ordered pairs over twice the number of pairs, from groups of equal scores in rising order. `None` without
/// pairs, or with 2^127 and more: no patients are that many.
fn auc_of_groups(groups: impl Iterator<Item = (u64, u64)>) -> Option<f64> {
    let (mut below, mut positives, mut doubled) = (0u128, 0u128, 0u128);
    for (negative, positive) in groups {
        let (negative, positive) = (u128::from(negative), u128::from(positive));
        let ordered = below
            .checked_mul(2)?
            .checked_add(negative)?
            .checked_mul(positive)?;
        doubled = doubled.checked_add(ordered)?;
        below = below.checked_add(negative)?;
        positives = positives.checked_add(positive)?;
    }
    let pairs = below.checked_mul(positives)?.checked_mul(2)?;
    (pairs > 0).then(|| doubled as f64 / pairs as f64)
}

/// A receiver operating characteristic.
#[derive(Clone, Debug, PartialEq)]
pub struct Roc {
    /// (False positive rate, true positive rate) for every threshold between bins, from (0, 0) to (1, 1).
    pub points: Vec<(f64, f64)>,
    /// The area below; patients in one bin count as ties, half.
    pub auc: f64,
}

/// The ROC curve of scores of which only histograms are known: counts of class 0 and of class 1 per bin, bins in rising
/// order of score. `None` if a class is absent, the lengths differ, or counts are beyond any number of patients.
pub fn roc_from_histograms(negative: &[u64], positive: &[u64]) -> Option<Roc> {
    if negative.len() != positive.len() {
        return None;
    }
    let pairs = || negative.iter().copied().zip(positive.iter().copied());
    let auc = auc_of_groups(pairs())?;
    let total = |counts: &[u64]| counts.iter().map(|&c| u128::from(c)).sum::<u128>() as f64;
    let (negatives, positives) = (total(negative), total(positive));
    let mut points = vec![(0.0, 0.0)];
    let (mut false_positives, mut true_positives) = (0u128, 0u128);
    for (n, p) in pairs().rev() {
        false_positives += u128::from(n);
        true_positives += u128::from(p);
        points.push((
            false_positives as f64 / negatives,
            true_positives as f64 / positives,
        ));
    }
    Some(Roc { points, auc })
}

/// The exact ROC curve of scores: one point per distinct score, ties in one step. `None` if a class is absent, a score is not a
/// number, or the lengths differ.
pub fn roc(scores: &[f64], labels: &[bool]) -> Option<Roc> {
    let auc = auc(scores, labels)?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let positives = labels.iter().filter(|&&l| l).count() as f64;
    let negatives = labels.len() as f64 - positives;
    let mut points = vec![(0.0, 0.0)];
    let (mut false_positives, mut true_positives) = (0.0, 0.0);
    for group in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let positive = group.iter().filter(|&&i| labels[i]).count() as f64;
        true_positives += positive;
        false_positives += group.len() as f64 - positive;
        points.push((false_positives / negatives, true_positives / positives));
    }
    Some(Roc { points, auc })
}

/// Per class, the ROC curve of its score against the labels "this class" and "another" (one versus rest). `scores` holds one row of
/// `classes` scores per patient. A class that is absent, or the only one, has `None`.
pub fn roc_one_versus_rest(scores: &[f64], classes: usize, labels: &[u32]) -> Vec<Option<Roc>> {
    if Some(scores.len()) != labels.len().checked_mul(classes) {
        return vec![None; classes];
    }
    let of_class = |class: usize| {
        let column: Vec<f64> = scores
            .iter()
            .skip(class)
            .step_by(classes.max(1))
            .copied()
            .collect();
        let is_class: Vec<bool> = labels.iter().map(|&label| label as usize == class).collect();
        roc(&column, &is_class)
    };
    (0..classes).map(of_class).collect()
}

/// Probabilities of the classes from their logits: exponentials over their sum, without overflow. Empty stays empty.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// Per patient, the number of the class with the largest score, the first of several equal ones. `scores` holds rows of `classes`
/// scores.
pub fn largest(scores: &[f64], classes: usize) -> Vec<u32> {
    let of_row = |row: &[f64]| {
        let mut best = 0;
        for (class, score) in row.iter().enumerate() {
            if *score > row[best] {
                best = class;
            }
        }
        best as u32
    };
    scores.chunks_exact(classes.max(1)).map(of_row).collect()
}

/// Share of patients whose probability is on the right side of 0.5. `None` without patients or if the lengths differ.
pub fn accuracy(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    mean_over(probabilities, labels, |p, label| {
        f64::from(u8::from((p >= 0.5) == label))
    })
}

/// Mean squared difference between probability and outcome (Brier 1950). `None` without patients or if the lengths differ.
pub fn brier(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    mean_over(probabilities, labels, |p, label| {
        (p - f64::from(u8::from(label))).powi(2)
    })
}

fn mean_over(probabilities: &[f64], labels: &[bool], term: impl Fn(f64, bool) -> f64) -> Option<f64> {
    if probabilities.is_empty() || probabilities.len() != labels.len() {
        return None;
    }
    let sum: f64 = probabilities
        .iter()
        .zip(labels)
        .map(|(&p, &label)| term(p, label))
        .sum();
    Some(sum / probabilities.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, pair by pair.
    fn auc_by_pairs(scores: &[f64], labels: &[bool]) -> Option<f64> {
        let (mut won, mut pairs) = (0.0, 0.0);
        for i in (0..scores.len()).filter(|&i| labels[i]) {
            for j in (0..scores.len()).filter(|&j| !labels[j]) {
                pairs += 1.0;
                won += match scores[i].partial_cmp(&scores[j]).unwrap() {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                };
            }
        }
        (pairs > 0.0).then(|| won / pairs)
    }

    #[test]
    fn counts_beyond_any_number_of_patients_give_no_area() {
        assert_eq!(roc_from_histograms(&[u64::MAX; 8], &[u64::MAX; 8]), None);
        let many = [1u64 << 40; 8];
        assert_eq!(roc_from_histograms(&many, &many).map(|roc| roc.auc), Some(0.5));
    }

    #[test]
    fn the_example_of_scikit_learn() {
        let labels = [false, false, true, true];
        assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &labels), Some(0.75));
        assert_eq!(auc(&[0.5; 4], &labels), Some(0.5));
        assert_eq!(auc(&[0.0, -0.0, 0.0, 0.0], &labels), Some(0.5));
        assert_eq!(auc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(auc(&[1.0, f64::NAN], &[true, false]), None);
        assert_eq!(auc(&[1.0], &[true, false]), None);
    }

    #[test]
    fn roc_points_by_hand() {
        let roc = roc_from_histograms(&[2, 1, 1], &[0, 1, 3]).unwrap();
        assert_eq!(roc.points, [(0.0, 0.0), (0.25, 0.75), (0.5, 1.0), (1.0, 1.0)]);
        assert_eq!(roc.auc, (0.25 * 0.75 / 2.0) + 0.25 * (0.75 + 1.0) / 2.0 + 0.5);
        assert_eq!(roc_from_histograms(&[1, 2], &[0, 0]), None);
        assert_eq!(roc_from_histograms(&[1], &[0, 1]), None);
    }

    #[test]
    fn one_versus_rest_by_hand() {
        let scores = [0.7, 0.2, 0.1, 0.3, 0.4, 0.3, 0.5, 0.3, 0.2];
        let curves = roc_one_versus_rest(&scores, 3, &[0, 1, 1]);
        assert_eq!(
            curves[0].as_ref().unwrap().points,
            [(0.0, 0.0), (0.0, 1.0), (0.5, 1.0), (1.0, 1.0)]
        );
        assert_eq!(curves[1].as_ref().map(|r| r.auc), Some(1.0));
        assert_eq!(curves[2], None);
        assert_eq!(largest(&scores, 3), [0, 1, 0]);
        assert_eq!(largest(&[1.0, 1.0], 2), [0]);
        assert_eq!(roc_one_versus_rest(&scores, 3, &[0, 1]), [None, None, None]);
    }

    #[test]
    fn probabilities_of_classes_do_not_overflow() {
        let p = softmax(&[1000.0, 1000.0 + 2f64.ln(), -1000.0]);
        assert!((p[0] - 1.0 / 3.0).abs() < 1e-12 && (p[1] - 2.0 / 3.0).abs() < 1e-12 && p[2] == 0.0);
        assert!(softmax(&[]).is_empty());
    }

    #[test]
    fn simple_means() {
        let labels = [true, false, true, false];
        let p = [0.9, 0.2, 0.4, 0.5];
        assert_eq!(accuracy(&p, &labels), Some(0.5));
        let expected = (0.01 + 0.04 + 0.36 + 0.25) / 4.0;
        assert!((brier(&p, &labels).unwrap() - expected).abs() < 1e-15);
        assert_eq!(brier(&[], &[]), None);
    }

    #[test]
    fn the_logistic_function_does_not_overflow() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(1e4), 1.0);
        assert_eq!(sigmoid(-1e4), 0.0);
        assert!((sigmoid(-40.0) / (-40.0f64).exp() - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn the_area_below_the_curve_is_the_auc(pairs in proptest::collection::vec((0u8..12, any::<bool>()), 0..60)) {
            let scores: Vec<f64> = pairs.iter().map(|p| f64::from(p.0) / 7.0).collect();
            let labels: Vec<bool> = pairs.iter().map(|p| p.1).collect();
            let curve = roc(&scores, &labels);
            prop_assert_eq!(curve.as_ref().map(|r| r.auc), auc(&scores, &labels));
            if let Some(curve) = curve {
                let area: f64 = curve.points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum();
                prop_assert!((area - curve.auc).abs() < 1e-12);
                prop_assert_eq!(curve.points.last(), Some(&(1.0, 1.0)));
            }
        }

        #[test]
        fn auc_counts_pairs(pairs in proptest::collection::vec((0u8..12, any::<bool>()), 0..60)) {
            let scores: Vec<f64> = pairs.iter().map(|p| f64::from(p.0) / 7.0).collect();
            let labels: Vec<bool> = pairs.iter().map(|p| p.1).collect();
            match (auc(&scores, &labels), auc_by_pairs(&scores, &labels)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12),
                (a, b) => prop_assert_eq!(a, b),
            }
        }

        /// With one bin per distinct score nothing is lost; the trapezoids below the curve give the same area.
        #[test]
        fn histograms_of_distinct_scores_lose_nothing(pairs in proptest::collection::vec((0usize..12, any::<bool>()), 0..60)) {
            let mut histograms = [[0u64; 12]; 2];
            pairs.iter().for_each(|&(bin, label)| histograms[usize::from(label)][bin] += 1);
            let scores: Vec<f64> = pairs.iter().map(|p| p.0 as f64).collect();
            let labels: Vec<bool> = pairs.iter().map(|p| p.1).collect();
            let roc = roc_from_histograms(&histograms[0], &histograms[1]);
            prop_assert_eq!(roc.as_ref().map(|r| r.auc), auc(&scores, &labels));
            if let Some(roc) = roc {
                let area: f64 = roc.points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum();
                prop_assert!((area - roc.auc).abs() < 1e-12);
            }
        }
    }
}
