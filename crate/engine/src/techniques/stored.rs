//! Bytes in the file: entropy-coded codes have a size only once they are stored, and then it takes the place of the planned one.

use statepress_core::report::{Bytes, Plan};
use statepress_core::words::counted;
use statepress_core::{Entry, Finding};

use super::plan::{Decision, Planned, ratio};
use crate::families::is_buffer;

/// Says that bytes are planned as if nothing were entropy-coded, if anything is to be.
pub(super) fn to_be_coded(decisions: &[Decision]) -> Option<Finding> {
    let coded = decisions.iter().filter(|decision| decision.coded).count();
    (coded > 0).then(|| {
        let message = format!(
            "codes of {} to be entropy-coded: the file will be smaller than planned, and only compressing tells by how much",
            counted(coded, "tensor are", "tensors are")
        );
        Finding::info("coded-smaller", message)
    })
}

/// Says that the result is larger than what was opened, if it is.
pub(super) fn grows(bytes: &Bytes) -> Option<Finding> {
    let Bytes { before, after, .. } = bytes;
    (after > before).then(|| {
        let message = format!("the result is larger than what was opened: {after} bytes against {before}");
        Finding::warning("grows", message)
    })
}

impl Planned {
    /// Leaves the tensors of a share, packed, of which alone is told.
    pub(super) fn keep_share(&mut self, tensors: &[String]) {
        self.plan.findings.clear();
        let mut mine = self.plan.tensors.iter().map(|tensor| tensors.contains(&tensor.name));
        self.decisions.retain(|_| mine.next().unwrap_or(false));
        self.decisions.iter_mut().for_each(|decision| decision.coded = false);
        self.plan.tensors.retain(|tensor| tensors.contains(&tensor.name));
    }

    /// Puts the bytes that a tensor takes in the file in place of those that were planned.
    pub(super) fn stored(&mut self, at: usize, entry: &Entry, bytes: u64) {
        let Plan { tensors, bytes: sum, precisions, .. } = &mut self.plan;
        let tensor = &mut tensors[at];
        let saved = tensor.bytes_after - bytes;
        tensor.bytes_after = bytes;
        if !is_buffer(entry) {
            sum.after -= saved;
            sum.ratio = ratio(sum.before, sum.after);
            let share = precisions.iter_mut().find(|share| share.precision == tensor.precision);
            share.into_iter().for_each(|share| share.bytes -= saved);
        }
    }

    /// Says what came of coding, once every tensor is stored: what grew after all, and codes that are packed still.
    pub(super) fn coded(&mut self, entries: &[Entry]) {
        let asked = self.decisions.iter().zip(&self.plan.tensors).filter(|(decision, _)| decision.coded);
        let mut packed = asked.clone().filter(|(decision, tensor)| {
            tensor.bytes_after == decision.form.bytes(&entries[decision.position].shape)
        });
        let (asked, count) = (asked.count(), packed.clone().count());
        if let Some((_, first)) = packed.next() {
            let message = format!(
                "codes of {count} of {} are stored packed: entropy-coded they are no smaller, or so small that readers \
                 would take them for cut off",
                counted(asked, "tensor", "tensors")
            );
            self.plan.findings.push(Finding::info("not-coded", message).about(&first.name));
        }
        if asked > 0 {
            self.plan.findings.extend(grows(&self.plan.bytes));
        }
    }
}
