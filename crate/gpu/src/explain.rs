//! What one decoded token costs: dispatches, and the bytes they move.

use std::rc::Rc;

use statepress_kernels::backend::Sampling;
use statepress_kernels::shaders::Kernel;

use crate::GpuNetwork;
use crate::memory::{LEAST_CAPACITY, Places};
use crate::record::{Dispatch, Part};
use crate::runner::sample;

/// A kernel's part in one decoded token. Every byte is counted once a dispatch, however often a
/// cache is asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// The kernel, with its variant.
    pub kernel: String,
    /// Precisions of its matrices.
    pub precisions: String,
    /// Dispatches of it.
    pub dispatches: usize,
    /// Bytes of weights that they read: codes and scales, of chosen experts only and of one row of
    /// a table; norms, taps and biases.
    pub weights: u64,
    /// Bytes of activations and state that they read and write. Attention is that of a sequence's
    /// first token.
    pub activations: u64,
}

/// The dispatches of one decoded token in their order, equal neighbours of one kind together.
pub fn explain(network: &GpuNetwork) -> Vec<Explained> {
    let places = Places::new(network, LEAST_CAPACITY, 1);
    let sampling = Sampling { temperature: 0.0, top_k: None, usable: network.vocab_size };
    let mut steps = network.token(&places, false);
    steps.extend(network.kept_logits(&places, false));
    steps.push(sample(network, &places, &sampling, 1));
    let mut rows: Vec<Explained> = Vec::new();
    for part in steps {
        let Part::Dispatch(step) = part else { continue };
        let row = explain_dispatch(&step);
        match rows
            .iter_mut()
            .find(|known| (&known.kernel, &known.precisions) == (&row.kernel, &row.precisions))
        {
            Some(known) => {
                known.dispatches += 1;
                known.weights += row.weights;
                known.activations += row.activations;
            }
            None => rows.push(row),
        }
    }
    rows
}

fn explain_dispatch(step: &Dispatch) -> Explained {
    let mut kernel = format!("{:?}", step.kernel);
    if !step.overrides.is_empty() {
        kernel = format!("{kernel} {}", step.overrides.join("+").to_lowercase());
    }
    let precisions: Vec<String> = step.matrices[..step.matrices_read]
        .iter()
        .map(|matrix| format!("{:?}", matrix.matrix.codec))
        .collect();
    // One that stands twice among the bindings is read once.
    let first = |n: usize| !step.matrices[..n].iter().any(|other| Rc::ptr_eq(other, &step.matrices[n]));
    let distinct = (0..step.matrices_read).filter(|&n| first(n)).map(|n| &step.matrices[n].matrix);
    let matrices = distinct.map(|matrix| match step.kernel {
        Kernel::Embed => matrix.bytes() / matrix.rows,
        _ => matrix.bytes() * step.banks_used.min(matrix.banks),
    });
    Explained {
        kernel,
        precisions: precisions.join(" "),
        dispatches: 1,
        weights: (matrices.sum::<usize>() + 4 * step.moves.vectors) as u64,
        activations: 4 * step.moves.activations as u64,
    }
}
