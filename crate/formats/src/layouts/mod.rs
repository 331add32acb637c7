//! Tensors that a checkpoint spreads over several keys: joined into one entry each.

mod packed;
mod weight_int8;

use statepress_core::Index;

use crate::{FormatError, findings};

pub(crate) use packed::{KEY, PackedTensors, describe};

/// Joins what belongs together whatever file it lies in, and says what the tensors then show. Called once for a whole
/// checkpoint: the codes of a tensor may be in one shard and its scales in the next.
pub(crate) fn join(mut index: Index) -> Result<Index, FormatError> {
    index.tensors = weight_int8::join_weight_int8(index.tensors, &mut index.findings)?;
    index.findings.extend(findings::adapter(&index.tensors));
    index.findings.extend(findings::precision_lost(&index.tensors));
    Ok(index)
}
