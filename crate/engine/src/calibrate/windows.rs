//! The windows of a text that statistics are taken of.

use statepress_core::words::counted;

use crate::EngineError;
use crate::models::{Info, check_ids};

/// How much of a text is read.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// How many windows; 16 if absent, or as many as the text has.
    pub windows: Option<usize>,
    /// Tokens of a window; 256 if absent, or the model's positions where they are fewer.
    pub window: Option<usize>,
}

const WINDOWS: usize = 16;
const WINDOW: usize = 256;

/// Windows evenly spaced over `ids`, none overlapping another: window `n` of `count` begins at
/// `n (len - window) / (count - 1)`.
pub(super) fn windows(ids: &[u32], sample: &Sample, info: &Info) -> Result<Vec<Vec<u32>>, EngineError> {
    let most = info.max_tokens.unwrap_or(usize::MAX);
    let window = sample.window.unwrap_or(WINDOW.min(most));
    if !(1..=most).contains(&window) {
        let allowed = match info.max_tokens {
            Some(most) => format!("1 to {most} (the model's positions)"),
            None => "1 or more".into(),
        };
        return Err(EngineError::option("window", window, allowed));
    }
    let fit = ids.len() / window;
    if fit == 0 {
        return Err(EngineError::Ids(format!(
            "{} one window of {window}: give a longer calibration text or a smaller window",
            counted(ids.len() as u64, "token does not fill", "tokens do not fill")
        )));
    }
    let count = match sample.windows {
        None => WINDOWS.min(fit),
        Some(count) if (1..=fit).contains(&count) => count,
        Some(count) => {
            let allowed = format!("1 to {fit}: the calibration text has {} tokens", ids.len());
            return Err(EngineError::option("windows", count, allowed));
        }
    };
    // In 64 bits: a long text times many windows is more than 32 hold.
    let last = (ids.len() - window) as u64;
    let first = |n: usize| if count == 1 { 0 } else { (n as u64 * last / (count as u64 - 1)) as usize };
    let windows: Vec<Vec<u32>> = (0..count).map(|n| ids[first(n)..][..window].to_vec()).collect();
    windows.iter().try_for_each(|window| check_ids(info, window, 0))?;
    Ok(windows)
}
