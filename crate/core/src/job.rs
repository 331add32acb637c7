//! Long work as a sequence of steps, so that the caller decides when to show progress, when to
//! let messages in and when to stop. Dropping a job cancels it.
//!
//! A step is async because a GPU's results have to be waited for; on the CPU it is ready at once.

use serde::{Deserialize, Serialize};

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What is being done: `compress`, `evaluate`, `compare`, ...
    pub stage: String,
    /// Units done.
    pub done: f64,
    /// Units in all.
    pub total: f64,
    /// What is counted: `tensors`, `tokens`, ...
    pub unit: String,
    /// The thing just finished, where it has a name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub item: Option<String>,
}

/// Work in steps of well under a second each.
#[allow(async_fn_in_trait, reason = "one thread everywhere: nobody needs the futures to be Send")]
pub trait Job {
    /// What comes out.
    type Output;
    /// What may go wrong.
    type Error;

    /// Does the next piece of work. `None` when there was nothing left to do.
    async fn step(&mut self) -> Result<Option<Progress>, Self::Error>;

    /// The result, once [`Self::step`] has returned `None`.
    fn finish(self) -> Result<Self::Output, Self::Error>;
}

/// Runs a job to its end, showing every step to `watch`.
pub async fn run<J: Job>(mut job: J, mut watch: impl FnMut(&Progress)) -> Result<J::Output, J::Error> {
    while let Some(progress) = job.step().await? {
        watch(&progress);
    }
    job.finish()
}
