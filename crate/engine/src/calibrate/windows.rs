//! The windows of a text that statistics are taken of.

use statepress_core::recipe::GptqOptions;
use statepress_core::words::counted;

use crate::EngineError;
use crate::models::{Info, check_ids};

/// How much of a text is read.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// How many windows, or as many as the text has.
    pub windows: usize,
    /// Tokens of a window, or the model's positions where they are fewer.
    pub window: usize,
}

impl From<&GptqOptions> for Sample {
    fn from(&GptqOptions { windows, window, .. }: &GptqOptions) -> Self {
        Self { windows, window }
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self::from(&GptqOptions::default())
    }
}

/// Windows for a model, which are of ids that it has: see [`spaced`].
pub fn windows(ids: &[u32], sample: &Sample, info: &Info) -> Result<Vec<Vec<u32>>, EngineError> {
    let windows = spaced(ids, sample, info.max_tokens)?;
    windows.iter().try_for_each(|window| check_ids(info, window, 0))?;
    Ok(windows)
}

/// Windows evenly spaced over `ids`, none overlapping another, for a model of so many positions: window `n` of `count` begins
/// at `n (len - window) / (count - 1)`.
pub fn spaced(ids: &[u32], sample: &Sample, positions: Option<usize>) -> Result<Vec<Vec<u32>>, EngineError> {
    let window = sample.window.min(positions.unwrap_or(usize::MAX)).max(1);
    let fit = ids.len() / window;
    if fit == 0 {
        return Err(EngineError::Ids(format!(
            "{} one window of {window}: give a longer calibration text or a smaller window",
            counted(ids.len() as u64, "token does not fill", "tokens do not fill")
        )));
    }
    let count = sample.windows.clamp(1, fit);
    // In 64 bits: a long text times many windows is more than 32 hold.
    let last = (ids.len() - window) as u64;
    let first = |n: usize| if count == 1 { 0 } else { (n as u64 * last / (count as u64 - 1)) as usize };
    Ok((0..count).map(|n| ids[first(n)..][..window].to_vec()).collect())
}
