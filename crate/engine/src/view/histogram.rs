//! Counting numbers in equal bins.

use statepress_core::Tensor;
use statepress_core::report::Histogram;
use statepress_kernels::codecs;

/// Numbers decoded at a time.
const CHUNK: usize = 4096;

/// Equal bins; [`Histogram`] says which number belongs where.
#[derive(Clone, Copy)]
pub struct Bins {
    /// Where the first begins.
    pub from: f64,
    /// Where the last ends.
    pub to: f64,
    /// How many.
    pub count: usize,
}

impl Bins {
    /// Counts those of `values` that are finite.
    pub fn of(&self, values: &[f32]) -> Histogram {
        let mut counts = vec![0; self.count];
        for &value in values.iter().filter(|value| value.is_finite()) {
            counts[self.bin(value)] += 1;
        }
        Histogram { from: self.from, to: self.to, counts }
    }

    /// Counts what those of `values` that are finite became, so that no count is lost: not even of
    /// what overflowed.
    pub fn of_decoded(&self, values: &[f32], coded: &Tensor) -> Vec<u64> {
        let mut counts = vec![0; self.count];
        let mut decoded = vec![0.0; CHUNK.min(values.len())];
        for (i, values) in values.chunks(CHUNK).enumerate() {
            let decoded = &mut decoded[..values.len()];
            codecs::decode_range(coded, i * CHUNK, decoded);
            for (_, &after) in values.iter().zip(&*decoded).filter(|(before, _)| before.is_finite()) {
                counts[self.bin(after)] += 1;
            }
        }
        counts
    }

    /// The bin of a number; the outermost ones take what is beyond. Multiplied before it is divided, a
    /// number on an edge comes out whole, and is where it belongs.
    fn bin(&self, value: f32) -> usize {
        if self.from == self.to {
            return 0;
        }
        let bin = (f64::from(value) - self.from) * self.count as f64 / (self.to - self.from);
        // A cast saturates: what is below 0 is 0.
        (bin as usize).min(self.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_on_an_edge_belongs_above_it() {
        // 29 / 100 * 100 is below 29 in f64.
        let values: Vec<f32> = (0..=100).map(|value| value as f32).collect();
        let bins = Bins { from: 0.0, to: 100.0, count: 100 };
        let counts = bins.of(&values).counts;
        assert!(counts[..99].iter().all(|&count| count == 1), "{counts:?}");
        assert_eq!(counts[99], 2, "the last bin has its upper end");
    }

    #[test]
    fn what_is_beyond_is_in_the_outermost_bins() {
        let bins = Bins { from: -1.0, to: 1.0, count: 4 };
        let found = [f32::NEG_INFINITY, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, f32::INFINITY];
        assert_eq!(found.map(|value| bins.bin(value)), [0, 0, 0, 1, 2, 3, 3, 3, 3]);
    }
}
