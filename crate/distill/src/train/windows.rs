//! Windows of a text, and what is to be predicted in them.

use statepress_engine::EngineError;

use crate::{Batch, Labelled};

/// Token ids, cut into windows of `window` tokens that each have the labels of all their positions: position `t` predicts
/// token `t + offset`, so a window reads `offset` tokens beyond itself.
pub(super) struct Windows {
    ids: Vec<u32>,
    window: usize,
    offset: usize,
}

impl Windows {
    /// # Errors
    /// For a text that does not fill a window.
    pub fn new(ids: &[u32], window: usize, offset: usize, what: &str) -> Result<Self, EngineError> {
        let windows = Self { ids: ids.to_vec(), window, offset };
        if windows.count() == 0 {
            let message = format!(
                "the {what} text has {} tokens; one window of {window} and the {offset} that it predicts beyond itself \
                 take {}: give a longer text or a smaller window",
                ids.len(),
                window.saturating_add(offset)
            );
            return Err(EngineError::Ids(message));
        }
        Ok(windows)
    }

    /// All of them.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many windows there are, side by side.
    pub fn count(&self) -> usize {
        self.ids.len().saturating_sub(self.offset) / self.window
    }

    /// Some windows, side by side.
    pub fn range(&self, from: usize, to: usize) -> Result<Labelled, EngineError> {
        let starts: Vec<usize> = (from..to.min(self.count())).map(|at| at * self.window).collect();
        self.at(&starts)
    }

    /// Windows that begin at these tokens.
    pub fn at(&self, starts: &[usize]) -> Result<Labelled, EngineError> {
        let windows: Vec<&[u32]> = starts.iter().map(|&start| &self.ids[start..][..self.window]).collect();
        let labels = starts.iter().flat_map(|&start| &self.ids[start + self.offset..][..self.window]);
        Labelled::new(Batch::new(&windows)?, labels.copied().collect())
    }
}

/// The order in which a text is read: all of its windows in a random order, then again, from another token on.
pub(super) struct Order {
    random: fastrand::Rng,
    starts: Vec<usize>,
}

impl Order {
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), starts: Vec::new() }
    }

    /// What it goes on from: the state of its random numbers, and the windows that are left of this reading.
    pub fn state(&self) -> (u64, Vec<usize>) {
        (self.random.get_seed(), self.starts.clone())
    }

    /// The order that goes on from a state.
    pub fn from_state(random: u64, starts: Vec<usize>) -> Self {
        Self { random: fastrand::Rng::with_seed(random), starts }
    }

    /// Whether the windows that are left are those of a text.
    pub fn fits(&self, windows: &Windows) -> bool {
        let most = (windows.ids.len() - windows.offset).checked_sub(windows.window);
        self.starts.iter().all(|&start| most.is_some_and(|most| start <= most))
    }

    /// The beginnings of the next windows.
    pub fn next(&mut self, windows: &Windows, count: usize) -> Vec<usize> {
        let mut starts = Vec::with_capacity(count);
        while starts.len() < count {
            match self.starts.pop() {
                Some(start) => starts.push(start),
                None => self.begin(windows),
            }
        }
        starts
    }

    fn begin(&mut self, windows: &Windows) {
        let usable = windows.ids.len() - windows.offset;
        // As many windows wherever the first one begins.
        let first = self.random.usize(0..=usable % windows.window);
        self.starts = (0..windows.count()).map(|at| first + at * windows.window).collect();
        self.random.shuffle(&mut self.starts);
    }
}
