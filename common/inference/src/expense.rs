//! What asking about some patients takes in all, so that the faster of two ways can be taken.

use crate::interface::Interface;
use crate::plan::Plan;
use serde::Serialize;

/// Bits in a second of the line that bytes are counted on: neither a hospital's slowest nor its fastest. What is decided by it can be asked
/// for otherwise.
pub const LINE_BITS: f64 = 100e6;

/// What the batches of a program take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Expense {
    /// Patients of a batch, at most.
    pub max_patients: usize,
    /// Bytes of a batch and of its answer.
    pub batch_bytes: u64,
    /// Of its answer alone.
    pub answer_bytes: u64,
    /// Seconds of evaluation for a batch, however many patients it has.
    pub batch_seconds: f64,
}

impl Expense {
    /// By a plan.
    pub fn of_plan(plan: &Plan, batch_seconds: f64) -> Self {
        Self {
            max_patients: plan.max_patients.max(1),
            batch_bytes: plan.batch_bytes as u64,
            answer_bytes: plan.answer_bytes as u64,
            batch_seconds,
        }
    }

    /// By an interface, and by what the coordinator says of the time.
    pub fn of_interface(interface: &Interface, batch_seconds: f64) -> Self {
        let sizes = interface.sizes();
        Self {
            max_patients: interface.max_patients().max(1),
            batch_bytes: sizes.batch as u64,
            answer_bytes: sizes.answer as u64,
            batch_seconds,
        }
    }

    /// Seconds for so many patients: evaluation, and batches, answers and `key_bytes` of a key that is to be sent on a line of [`LINE_BITS`].
    /// Batches follow one another.
    pub fn seconds(&self, patients: usize, key_bytes: u64) -> f64 {
        let batches = patients.div_ceil(self.max_patients) as f64;
        let bytes = batches * (self.batch_bytes + self.answer_bytes) as f64 + key_bytes as f64;
        batches * self.batch_seconds + bytes * 8.0 / LINE_BITS
    }

    /// The most patients for whom this way is faster than `other`, neither having a key to send; 0 if it is for none. Beyond, it is not faster
    /// before the other one needs a further batch.
    pub fn faster_up_to(&self, other: &Self) -> usize {
        let batches = other.seconds(1, 0) / self.seconds(1, 0);
        // Faster, and not as fast.
        let most = (batches.ceil() - 1.0).clamp(0.0, other.max_patients as f64);
        (most as usize)
            .saturating_mul(self.max_patients)
            .min(other.max_patients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packing_is_faster_for_few_patients_and_slower_for_many() {
        let slots = Expense {
            max_patients: 8192,
            batch_bytes: 125_000_000,
            answer_bytes: 0,
            batch_seconds: 2.0,
        };
        let packed = Expense {
            max_patients: 8,
            batch_bytes: 500_000,
            answer_bytes: 125_000,
            batch_seconds: 0.15,
        };
        assert!((slots.seconds(1, 0) - 12.0).abs() < 1e-9);
        assert!((slots.seconds(8193, 12_500_000) - 25.0).abs() < 1e-9);
        assert!((packed.seconds(9, 0) - 0.4).abs() < 1e-9);
        let most = packed.faster_up_to(&slots);
        assert_eq!(most, 59 * 8);
        assert!(packed.seconds(most, 0) < slots.seconds(most, 0));
        assert!(packed.seconds(most + 1, 0) >= slots.seconds(most + 1, 0));
        // Never, and for all.
        assert_eq!(slots.faster_up_to(&packed), 0);
        let quick = Expense {
            batch_seconds: 1e-9,
            batch_bytes: 0,
            answer_bytes: 0,
            ..packed
        };
        assert_eq!(quick.faster_up_to(&slots), 8192);
    }
}
