//! What the loss feels of a change inside a model: statistics that take gradients.

use serde::{Deserialize, Serialize};

/// The Fisher information of a model at its look-ups and at the outputs of its products: second moments of gradients g of
/// the negative log-likelihood, summed over a window, of labels drawn from the model's own predictions. A small change there
/// costs half its square, weighted so, in divergence (Martens 2020, section 5).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Fisher {
    /// Tokens that it was taken over.
    pub tokens: u64,
    /// `F_in = mean g g^T`, `[d, d]` row-major, with g the gradient by the row of the table that a token looks up.
    pub looked_up: Vec<f32>,
    /// Of every matrix that something enters, but the head.
    pub outputs: Vec<OutputFisher>,
}

/// Of the outputs of one matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct OutputFisher {
    /// The usual key of its tensor.
    pub key: String,
    /// Which of several matrices in one tensor it is.
    pub part: u32,
    /// `mean g_i^2` of every output i: one for each row.
    pub rows: Vec<f32>,
}
