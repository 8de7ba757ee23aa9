//! Dividing samples: for evaluation, for cross-validation, and among simulated hospitals.
//!
//! Everything follows from a public seed. Parts are lists of indices in rising order, disjoint and complete.

use crate::{Dataset, Targets};
use galen_models::random::Stream;
use rand_distr::{Distribution, Gamma};

/// Smallest and largest concentration of a Dirichlet distribution that [`dirichlet`] takes.
pub const ALPHA: (f64, f64) = (0.01, 1e6);

/// A division that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// A fraction outside 0 to 1.
    #[error("the fraction to hold out is not between 0 and 1")]
    Fraction,
    /// Too few or too many parts.
    #[error("{parts} parts of {available} samples or patients; 2 to {available} are possible")]
    Parts {
        /// Parts.
        parts: usize,
        /// Samples or patients.
        available: usize,
    },
    /// No site is known.
    #[error("the data set has no sites (source.site of the schema names where they stand)")]
    NoSites,
    /// Labels of a regression.
    #[error("a division by classes needs classes; the target is a number")]
    NoClasses,
    /// A concentration that is out of range.
    #[error("alpha is outside {} to {}", ALPHA.0, ALPHA.1)]
    Alpha,
    /// An imbalance that is out of range.
    #[error("fractions to keep: {found} given for {classes} classes, each must be above 0 and at most 1")]
    Keep {
        /// Classes.
        classes: usize,
        /// Fractions.
        found: usize,
    },
}

/// Samples to learn from and samples to evaluate on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// To learn from.
    pub train: Vec<usize>,
    /// Held out.
    pub held_out: Vec<usize>,
}

/// What is drawn together: the samples of one patient, or single samples where patients are unknown.
struct Unit {
    samples: Vec<usize>,
    stratum: u32,
}

/// The units of a data set. A patient's stratum is the class of its samples that is rarest in the whole set, so that a class which few
/// patients have comes into every part; a regression has one stratum.
fn units(data: &Dataset) -> Vec<Unit> {
    let stratum = |sample: usize| data.classes().map_or(0, |classes| classes[sample]);
    let mut frequency: Vec<usize> = Vec::new();
    for &class in data.classes().unwrap_or_default() {
        frequency.resize(frequency.len().max(class as usize + 1), 0);
        frequency[class as usize] += 1;
    }
    let rarest = |samples: &[usize]| {
        let classes = samples.iter().map(|&sample| stratum(sample));
        classes.min_by_key(|&class| (frequency.get(class as usize).copied(), class))
    };
    let Some(patients) = data.patients() else {
        let single = |sample| Unit {
            samples: vec![sample],
            stratum: stratum(sample),
        };
        return (0..data.len()).map(single).collect();
    };
    let mut members = vec![Vec::new(); patients.names().len()];
    for (sample, &patient) in patients.of().iter().enumerate() {
        members[patient as usize].push(sample);
    }
    let unit = |samples: Vec<usize>| Unit {
        stratum: rarest(&samples).unwrap_or(0),
        samples,
    };
    members.into_iter().map(unit).collect()
}

/// Per stratum the numbers of its units, each list shuffled.
fn strata(units: &[Unit], stream: &mut Stream) -> Vec<Vec<usize>> {
    let count = units.iter().map(|u| u.stratum as usize + 1).max().unwrap_or(0);
    let mut strata = vec![Vec::new(); count];
    for (number, unit) in units.iter().enumerate() {
        strata[unit.stratum as usize].push(number);
    }
    strata.iter_mut().for_each(|members| stream.shuffle(members));
    strata
}

fn gather(units: &[Unit], part_of: &[usize], parts: usize) -> Vec<Vec<usize>> {
    let mut gathered = vec![Vec::new(); parts];
    for (unit, &part) in units.iter().zip(part_of) {
        gathered[part].extend(&unit.samples);
    }
    gathered.iter_mut().for_each(|part| part.sort_unstable());
    gathered
}

/// Holds out a fraction of every class (rounded to whole units). All samples of a patient fall into the same part.
pub fn hold_out(data: &Dataset, fraction: f64, seed: u64) -> Result<Parts, PartitionError> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(PartitionError::Fraction);
    }
    let units = units(data);
    let mut part_of = vec![0; units.len()];
    for members in strata(&units, &mut Stream::new("galen hold out v1", seed, &[])) {
        let count = (members.len() as f64 * fraction).round() as usize;
        members.iter().take(count).for_each(|&unit| part_of[unit] = 1);
    }
    let mut parts = gather(&units, &part_of, 2);
    let held_out = parts.pop().unwrap_or_default();
    let train = parts.pop().unwrap_or_default();
    Ok(Parts { train, held_out })
}

/// k-fold cross-validation: every sample is held out once. Folds are stratified, and keep patients together.
pub fn k_fold(data: &Dataset, folds: usize, seed: u64) -> Result<Vec<Parts>, PartitionError> {
    let units = units(data);
    let available = units.len();
    if folds < 2 || folds > available {
        let parts = folds;
        return Err(PartitionError::Parts { parts, available });
    }
    let mut part_of = vec![0; units.len()];
    // Strata go on where the one before ended, so that folds differ by one unit at most.
    let shuffled = strata(&units, &mut Stream::new("galen k-fold v1", seed, &[]));
    for (place, unit) in shuffled.into_iter().flatten().enumerate() {
        part_of[unit] = place % folds;
    }
    let parts = gather(&units, &part_of, folds);
    let without = |fold: usize| {
        let others = parts.iter().enumerate().filter(|(part, _)| *part != fold);
        let mut train: Vec<usize> = others.flat_map(|(_, samples)| samples).copied().collect();
        train.sort_unstable();
        train
    };
    Ok((0..folds)
        .map(|fold| Parts {
            train: without(fold),
            held_out: parts[fold].clone(),
        })
        .collect())
}

/// One part per site, with its name, in the order in which sites first appear.
pub fn by_site(data: &Dataset) -> Result<Vec<(String, Vec<usize>)>, PartitionError> {
    let sites = data.sites().ok_or(PartitionError::NoSites)?;
    let mut parts: Vec<(String, Vec<usize>)> = sites
        .names()
        .iter()
        .map(|name| (name.clone(), Vec::new()))
        .collect();
    for (sample, &site) in sites.of().iter().enumerate() {
        parts[site as usize].1.push(sample);
    }
    Ok(parts)
}

/// Simulated hospitals that are alike: of each class every hospital gets the same number of patients, to one unit. Which ones is drawn at
/// random. Patients are kept together.
pub fn even(data: &Dataset, hospitals: usize, seed: u64) -> Result<Vec<Vec<usize>>, PartitionError> {
    let units = units(data);
    let available = units.len();
    if hospitals < 2 || hospitals > available {
        let parts = hospitals;
        return Err(PartitionError::Parts { parts, available });
    }
    let mut stream = Stream::new("galen even v1", seed, &[&(hospitals as u64).to_be_bytes()]);
    let mut part_of = vec![0; available];
    for (place, unit) in strata(&units, &mut stream).into_iter().flatten().enumerate() {
        part_of[unit] = place % hospitals;
    }
    Ok(gather(&units, &part_of, hospitals))
}

/// Simulated hospitals with unlike classes: per class, the shares of the hospitals are drawn from a symmetric Dirichlet
/// distribution of concentration `alpha` (Hsu, Qi and Brown, "Measuring the effects of non-identical data distribution for federated
/// visual classification", 2019; with the roles of classes and clients as in Yurochkin et al., ICML 2019). Large `alpha` gives like
/// hospitals, small `alpha` hospitals of few classes. Patients are kept together. A hospital that would have nobody gets one unit of the
/// largest.
pub fn dirichlet(
    data: &Dataset,
    hospitals: usize,
    alpha: f64,
    seed: u64,
) -> Result<Vec<Vec<usize>>, PartitionError> {
    if !(ALPHA.0..=ALPHA.1).contains(&alpha) {
        return Err(PartitionError::Alpha);
    }
    if !matches!(data.targets(), Targets::Classes(_)) {
        return Err(PartitionError::NoClasses);
    }
    let units = units(data);
    let available = units.len();
    if hospitals < 2 || hospitals > available {
        let parts = hospitals;
        return Err(PartitionError::Parts { parts, available });
    }
    let gamma = Gamma::new(alpha, 1.0).map_err(|_| PartitionError::Alpha)?;
    let mut stream = Stream::new("galen dirichlet v1", seed, &[&(hospitals as u64).to_be_bytes()]);
    let mut part_of = vec![0; units.len()];
    for members in strata(&units, &mut stream) {
        let mut shares: Vec<f64> = (0..hospitals).map(|_| gamma.sample(stream.generator())).collect();
        let total: f64 = shares.iter().sum();
        if total > 0.0 {
            shares.iter_mut().for_each(|s| *s /= total);
        } else {
            // All draws underflowed; the limit of small alpha is one hospital with everything.
            shares[stream.below(hospitals)] = 1.0;
        }
        let (mut reached, mut next) = (0.0, 0);
        for (hospital, share) in shares.iter().enumerate() {
            reached += share;
            let end = if hospital + 1 == hospitals {
                members.len()
            } else {
                ((reached * members.len() as f64).round() as usize).clamp(next, members.len())
            };
            members[next..end]
                .iter()
                .for_each(|&unit| part_of[unit] = hospital);
            next = end;
        }
    }
    fill_empty(&mut part_of, hospitals);
    Ok(gather(&units, &part_of, hospitals))
}

/// Gives each part without a unit one of the part that has most.
fn fill_empty(part_of: &mut [usize], parts: usize) {
    for part in 0..parts {
        if part_of.contains(&part) {
            continue;
        }
        let mut counts = vec![0usize; parts];
        part_of.iter().for_each(|&p| counts[p] += 1);
        let largest = (0..parts).rev().max_by_key(|&p| counts[p]).unwrap_or(0);
        if let Some(unit) = part_of.iter().rposition(|&p| p == largest) {
            part_of[unit] = part;
        }
    }
}

/// Makes classes rare: keeps the given fraction of each class (rounded, at least one unit), drawn at random; patients are kept or
/// dropped as a whole. What remains, in rising order.
pub fn imbalance(data: &Dataset, keep: &[f64], seed: u64) -> Result<Vec<usize>, PartitionError> {
    let classes = data.schema().target.classes().len();
    if classes == 0 {
        return Err(PartitionError::NoClasses);
    }
    if keep.len() != classes || !keep.iter().all(|&f| f > 0.0 && f <= 1.0) {
        let found = keep.len();
        return Err(PartitionError::Keep { classes, found });
    }
    let units = units(data);
    let mut kept = Vec::new();
    let shuffled = strata(&units, &mut Stream::new("galen imbalance v1", seed, &[]));
    for (members, fraction) in shuffled.iter().zip(keep) {
        let count = ((members.len() as f64 * fraction).round() as usize).max(1);
        kept.extend(members.iter().take(count).flat_map(|&unit| &units[unit].samples));
    }
    kept.sort_unstable();
    Ok(kept)
}
