//! What one decoded token costs: dispatches, and bytes of weights that have to be read.

use std::rc::Rc;

use statepress_kernels::shaders::Kernel;

use crate::GpuNetwork;
use crate::memory::{LEAST_CAPACITY, Places};
use crate::record::Part;

/// A kernel's part in one decoded token.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// The kernel, with its variant.
    pub kernel: String,
    /// Precisions of its matrices.
    pub precisions: String,
    /// Dispatches of it.
    pub dispatches: usize,
    /// Bytes of codes and scales they read: chosen experts only, one row of a table.
    pub bytes: u64,
}

/// The dispatches of one decoded token in their order, equal neighbours of one kind together.
pub fn explain(network: &GpuNetwork) -> Vec<Explained> {
    let places = Places::new(network, LEAST_CAPACITY);
    let steps = network.token(&places, false).into_iter().chain(network.kept_logits(&places, false));
    let mut rows: Vec<Explained> = Vec::new();
    for part in steps {
        let Part::Dispatch(step) = part else { continue };
        let mut kernel = format!("{:?}", step.kernel);
        if !step.overrides.is_empty() {
            kernel = format!("{kernel} {}", step.overrides.join("+").to_lowercase());
        }
        let precisions: Vec<String> =
            step.matrices.iter().map(|matrix| format!("{:?}", matrix.matrix.codec)).collect();
        let embeds = step.kernel == Kernel::Embed;
        // One that stands twice among the bindings is read once.
        let first = |n: usize| !step.matrices[..n].iter().any(|other| Rc::ptr_eq(other, &step.matrices[n]));
        let distinct = (0..step.matrices.len()).filter(|&n| first(n)).map(|n| &step.matrices[n]);
        let bytes = distinct.map(|placed| {
            let matrix = &placed.matrix;
            let whole = matrix.bytes() as u64;
            if embeds { whole / matrix.rows as u64 } else { whole * step.banks_used.min(matrix.banks) as u64 }
        });
        let row = Explained { kernel, precisions: precisions.join(" "), dispatches: 1, bytes: bytes.sum() };
        match rows
            .iter_mut()
            .find(|known| (&known.kernel, &known.precisions) == (&row.kernel, &row.precisions))
        {
            Some(known) => {
                known.dispatches += 1;
                known.bytes += row.bytes;
            }
            None => rows.push(row),
        }
    }
    rows.push(Explained {
        kernel: "Sample".into(),
        precisions: String::new(),
        dispatches: 1,
        bytes: 4 * network.vocab_size as u64,
    });
    rows
}
