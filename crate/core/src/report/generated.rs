//! What a model says (`generate`).

use serde::{Deserialize, Serialize};

/// One generated token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct GeneratedToken {
    /// Its id.
    pub id: u32,
    /// Its probability under the model (before temperature and top-k).
    pub probability: f64,
}
