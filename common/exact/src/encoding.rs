//! How a look-up is read off the torus by bootstraps: boxes, the steps that drop binary places exactly, and margins.
//!
//! The torus is 2^64 integers; a bootstrap reads its upper bits. A value v is written v * 2^e. A bootstrap whose table has 2^a entries
//! reads 2^(a+1) boxes of equal width, and gives minus its entry v for box v + 2^a (it is negacyclic). So a table of at most 2^a
//! entries is read directly, and one of up to 2^(a+1) entries if entries at distance 2^a add up to a constant, which is
//! added afterwards: t(v) = K/2 + (t(v) - K/2), and the second part changes its sign.
//!
//! Dropping binary places exactly. To read floor(s / 2^k), bit k-1 of s is computed first, by a bootstrap that reads s modulo 2^k (the
//! higher bits leave the torus), and subtracted. What then remains below 2^k is less than 2^(k-1): half a box at most, centred. A
//! second bootstrap reads the boxes with the margin that is left, a quarter of a box. Where 2^k is more than a bootstrap can
//! read, lower bits are cleared in the same way before. Nothing is left to noise: it would have to cross a margin to change a result.

use crate::circuit::Lookup;

/// Bits of the torus.
const TORUS: u32 = 64;

/// One bootstrap.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// The sum is multiplied by 2^lift first.
    pub lift: u32,
    /// Then this is subtracted from it, so that what remains below a box lies in its middle.
    pub centre: u64,
    /// Entries of the table: what boxes 0 to 2^a - 1 give, in units of half the output's scale.
    pub halves: Vec<i64>,
    /// The scale of an output unit is 2^scale.
    pub scale: u32,
    /// Half a box less what remains below it: noise must stay smaller. As a share of the torus.
    pub margin: f64,
}

/// A bootstrap that clears a bit of the sum: the result is added to the sum, and `half` subtracted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clearing {
    pub reading: Reading,
    pub half: u64,
}

/// A look-up as bootstraps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Coded {
    /// The sum less its smallest multiple of 2^shift is written in units of 2^exponent.
    pub exponent: u32,
    /// What is added to the sum's constant: minus that multiple.
    pub offset: i64,
    pub clearings: Vec<Clearing>,
    pub last: Reading,
    /// The constant K: after the last bootstrap, K times half an output unit is added.
    pub constant: i64,
}

/// The smallest a for which a table can be read, and its K.
fn folded(table: &[i64]) -> (u32, i64) {
    let entries = table.len();
    let mut a = 0;
    loop {
        let half = 1usize << a;
        if entries <= half {
            return (a, 0);
        }
        if entries <= 2 * half {
            let mut pairs = table.iter().zip(&table[half..]).map(|(x, y)| x + y);
            if let Some(first) = pairs.next()
                && pairs.all(|sum| sum == first)
            {
                return (a, first);
            }
        }
        a += 1;
    }
}

impl Coded {
    /// The exponent of a look-up's sum: as large as the torus allows.
    pub(crate) fn exponent(lookup: &Lookup) -> u32 {
        TORUS - 1 - folded(&lookup.table).0 - lookup.shift
    }

    /// log2 of the entries that its last bootstrap reads.
    pub(crate) fn entries_log(lookup: &Lookup) -> u32 {
        folded(&lookup.table).0
    }

    /// With the look-up's dropped places cleared in `steps` bootstraps, 1 to the number of places, or 0 if there are none.
    pub(crate) fn new(lookup: &Lookup, steps: u32, scale: u32) -> Self {
        let (a, constant) = folded(&lookup.table);
        let shift = lookup.shift;
        let exponent = TORUS - 1 - a - shift;
        let mut clearings = Vec::new();
        let mut below = 0;
        for step in 1..=steps {
            let place = shift * step / steps;
            let lift = TORUS - place - exponent;
            let (centre, margin) = centred(below, place - below, TORUS - place);
            clearings.push(Clearing {
                reading: Reading {
                    lift,
                    centre,
                    halves: vec![1; 1 << (place - below - 1)],
                    scale: exponent + place - 1,
                    margin,
                },
                half: 1u64 << (exponent + place - 2),
            });
            below = place;
        }
        let (centre, margin) = centred(below, a + 1, exponent);
        let mut halves: Vec<i64> = lookup
            .table
            .iter()
            .take(1 << a)
            .map(|entry| 2 * entry - constant)
            .collect();
        halves.resize(1 << a, 0);
        Self {
            exponent,
            offset: -(lookup.first << shift),
            clearings,
            last: Reading {
                lift: 0,
                centre,
                halves,
                scale,
                margin,
            },
            constant,
        }
    }

    /// Bootstraps in all.
    pub(crate) fn bootstraps(&self) -> usize {
        self.clearings.len() + 1
    }
}

/// Where 2^boxes boxes are read and what remains below them is less than 2^(below-1) units of 2^unit (nothing if `below` is 0): half
/// of the largest remainder, and the margin that it leaves.
fn centred(below: u32, boxes: u32, unit: u32) -> (u64, f64) {
    let remainder = if below == 0 { 0u64 } else { (1 << (below - 1)) - 1 };
    let centre = if remainder == 0 {
        0
    } else {
        remainder << (unit - 1)
    };
    let width = (-f64::from(boxes)).exp2();
    let share = remainder as f64 * (f64::from(unit) - f64::from(TORUS)).exp2();
    (centre, (width - share) / 2.0)
}

impl Reading {
    /// The test polynomial of degree below `size`: each entry in as many coefficients as its box is wide, beginning half a box early.
    pub(crate) fn polynomial(&self, size: usize) -> Vec<u64> {
        let entries = self.halves.len();
        let width = size / entries;
        let unit = |half: i64| (half as u64).wrapping_mul(1u64 << (self.scale - 1));
        (0..size)
            .map(|position| match (position + width / 2) / width {
                index if index < entries => unit(self.halves[index]),
                _ => unit(self.halves[0]).wrapping_neg(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::{Circuit, Interval, Sum};

    /// What a bootstrap without noise gives for a torus element.
    fn read(reading: &Reading, size: usize, phase: u64) -> u64 {
        let phase = (phase << reading.lift).wrapping_sub(reading.centre);
        let step = TORUS - 1 - size.ilog2();
        let position = ((phase >> step) + ((phase >> (step - 1)) & 1)) as usize % (2 * size);
        let polynomial = reading.polynomial(size);
        if position < size {
            polynomial[position]
        } else {
            polynomial[position - size].wrapping_neg()
        }
    }

    fn run(coded: &Coded, size: usize, sum: i64) -> u64 {
        let mut phase = ((sum + coded.offset) as u64) << coded.exponent;
        for clearing in &coded.clearings {
            phase = phase.wrapping_add(read(&clearing.reading, size, phase));
            phase = phase.wrapping_sub(clearing.half);
        }
        let result = read(&coded.last, size, phase);
        result.wrapping_add((coded.constant as u64).wrapping_mul(1 << (coded.last.scale - 1)))
    }

    /// Every table, every shift and every number of steps gives exactly the plain look-up.
    #[test]
    fn reading_without_noise_is_the_plain_look_up() {
        let functions: [fn(i64) -> i64; 4] =
            [|v| v.max(0), |v| i64::from(v >= 0), |v| v.abs(), |v| 3 * v - 7];
        for (shift, min, max) in [
            (0, -16, 15),
            (0, -5, 9),
            (1, -31, 30),
            (3, -100, 131),
            (5, -600, 400),
            (9, -5000, 9000),
        ] {
            for function in functions {
                let mut circuit = Circuit::new(vec![Interval::new(min, max)]).unwrap();
                circuit.lookup(Sum::wire(0), shift, function).unwrap();
                let lookup = &circuit.lookups()[0];
                for steps in u32::from(shift > 0)..=shift.min(4) {
                    let coded = Coded::new(lookup, steps, 50);
                    assert_eq!(coded.bootstraps(), steps as usize + 1);
                    for sum in min..=max {
                        let expected = (function(sum >> shift) as u64).wrapping_mul(1 << 50);
                        assert_eq!(run(&coded, 2048, sum), expected, "{shift} {steps} {sum}");
                    }
                }
            }
        }
    }

    /// The margins are real: an error just inside changes nothing, one just outside does.
    #[test]
    fn margins_are_as_stated() {
        let mut circuit = Circuit::new(vec![Interval::new(0, 255)]).unwrap();
        circuit.lookup(Sum::wire(0), 3, |v| v).unwrap();
        let coded = Coded::new(&circuit.lookups()[0], 1, 58);
        let reading = &coded.last;
        let torus = 64f64.exp2();
        // After clearing, values are 8 q + r with r in 0..=3.
        for (value, sign) in [(8 * 5, -1.0), (8 * 5 + 3, 1.0)] {
            let phase = (value as u64) << coded.exponent;
            for (share, same) in [(0.98, true), (1.02, false)] {
                let error = (sign * share * reading.margin * torus) as i64;
                let result = read(reading, 1 << 14, phase.wrapping_add(error as u64));
                assert_eq!(result == 5 << 58, same, "{value} {share}");
            }
        }
    }

    #[test]
    fn tables_that_change_sign_need_half_the_entries() {
        assert_eq!(folded(&[4, 4]), (0, 8));
        assert_eq!(folded(&[0, 0, 1, 1]), (1, 1));
        assert_eq!(folded(&[0, 0, 0, 1]), (2, 0));
        let sign: Vec<i64> = (-20..30).map(|v| i64::from(v >= 0)).collect();
        assert_eq!(folded(&sign), (5, 1));
        let distance: Vec<i64> = (-32i64..32).map(i64::abs).collect();
        assert_eq!(folded(&distance), (5, 32));
        let relu: Vec<i64> = (-32i64..32).map(|v| v.max(0)).collect();
        assert_eq!(folded(&relu), (6, 0));
    }
}
