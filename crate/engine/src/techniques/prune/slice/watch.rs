//! Watching what norms of the residual stream read while a text goes through a model.

use super::fit::{Energy, Moments};
use super::stream::Reading;
use crate::models::Observe;
use crate::techniques::change::Turn;
use crate::techniques::pairs::Pairs;

/// Takes sums of what all norms read.
pub(super) struct Look<'a> {
    pub norms: &'a [Reading],
    pub d: usize,
    pub energy: &'a mut Energy,
}

impl Observe for Look<'_> {
    fn stream(&mut self, norm: Option<usize>, rows: &[f32]) {
        let here = self.norms.iter().filter(|reading| reading.node == norm);
        here.for_each(|reading| self.energy.add(&reading.norm, rows, self.d));
    }
}

/// Takes sums of what some norms read, in old and in new directions, as these would have it if nothing else had changed. (What
/// the narrow model itself has in its place was measured to be no better to fit to.)
pub(super) struct Seen<'a> {
    pub norms: &'a [Reading],
    pub p: &'a Turn,
    pub moments: &'a mut Pairs<usize, Moments>,
}

impl Observe for Seen<'_> {
    fn stream(&mut self, norm: Option<usize>, rows: &[f32]) {
        for (at, moments) in &mut self.moments.0 {
            let reading = &self.norms[*at];
            if reading.node == norm {
                moments.add(&reading.norm, rows, &self.p.apply(rows, 1));
            }
        }
    }
}
