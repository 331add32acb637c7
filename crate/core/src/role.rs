//! What a weight does in its model, whatever its family calls it.
//!
//! Recipes, calibration, pruning and exports speak of roles: a rule about step sizes then means the
//! same in Mamba, in Mamba-2 and in Itera-Lite.

use serde::{Deserialize, Serialize};

/// What a weight does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A row for every token of the vocabulary.
    Table,
    /// A row for every position.
    Positions,
    /// The directions that the rows of the table, and of positions, are written in.
    Basis,
    /// Makes logits, where the table does not.
    Head,
    /// Weights and biases of a norm.
    Norm,
    /// Taps and biases of a convolution.
    Conv,
    /// The first projection of an SSM block.
    InProj,
    /// The last projection of an SSM block.
    OutProj,
    /// What an SSM's step size, input and output matrices are computed with (`x_proj`).
    XProj,
    /// What makes step sizes of their low-rank form (`dt_proj`).
    DtProj,
    /// What makes the one step size of a layer, as a mean over its rows (`delta_proj`).
    DeltaProj,
    /// The input and output matrices of a state space that does not choose them by the token.
    StateMatrix,
    /// How a state decays, skips and steps: `A_log`, `D`, `dt_bias`.
    Dynamics,
    /// Attention's queries, keys, values, or all of them in one.
    AttentionIn,
    /// Attention's last projection.
    AttentionOut,
    /// Up and gate projections of a feed-forward network.
    FfnIn,
    /// The last projection of a feed-forward network.
    FfnOut,
    /// As `ffn-in`, of an expert.
    ExpertIn,
    /// As `ffn-out`, of an expert.
    ExpertOut,
    /// What chooses experts.
    Router,
    /// Added to a projection's output.
    Bias,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 21] = [
        Self::Table,
        Self::Positions,
        Self::Basis,
        Self::Head,
        Self::Norm,
        Self::Conv,
        Self::InProj,
        Self::OutProj,
        Self::XProj,
        Self::DtProj,
        Self::DeltaProj,
        Self::StateMatrix,
        Self::Dynamics,
        Self::AttentionIn,
        Self::AttentionOut,
        Self::FfnIn,
        Self::FfnOut,
        Self::ExpertIn,
        Self::ExpertOut,
        Self::Router,
        Self::Bias,
    ];

    /// Its name in recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Positions => "positions",
            Self::Basis => "basis",
            Self::Head => "head",
            Self::Norm => "norm",
            Self::Conv => "conv",
            Self::InProj => "in-proj",
            Self::OutProj => "out-proj",
            Self::XProj => "x-proj",
            Self::DtProj => "dt-proj",
            Self::DeltaProj => "delta-proj",
            Self::StateMatrix => "state-matrix",
            Self::Dynamics => "dynamics",
            Self::AttentionIn => "attention-in",
            Self::AttentionOut => "attention-out",
            Self::FfnIn => "ffn-in",
            Self::FfnOut => "ffn-out",
            Self::ExpertIn => "expert-in",
            Self::ExpertOut => "expert-out",
            Self::Router => "router",
            Self::Bias => "bias",
        }
    }

    /// What it does, in words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Table => "a row for every token of the vocabulary",
            Self::Positions => "a row for every position",
            Self::Basis => "the directions that the rows of the table are written in",
            Self::Head => "makes the logits",
            Self::Norm => "scales what a norm has normalised",
            Self::Conv => "mixes a channel's last few inputs",
            Self::InProj => "the first projection of an SSM block",
            Self::OutProj => "the last projection of an SSM block",
            Self::XProj => "computes step size, B and C of every token",
            Self::DtProj => "computes how far the state moves for every token",
            Self::DeltaProj => {
                "computes how far the state moves as a mean over its rows, in which errors cancel"
            }
            Self::StateMatrix => "leads into the state, or out of it",
            Self::Dynamics => "how the state decays and steps: a small error grows over the text",
            Self::AttentionIn => "queries, keys or values of attention",
            Self::AttentionOut => "the last projection of attention",
            Self::FfnIn => "the first projection of a feed-forward network",
            Self::FfnOut => "the last projection of a feed-forward network",
            Self::ExpertIn => "the first projection of an expert",
            Self::ExpertOut => "the last projection of an expert",
            Self::Router => "chooses the experts of every token",
            Self::Bias => "is added to a projection's output",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reports() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
    }
}
