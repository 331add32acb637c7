//! How time is told: natively by the system, in wasm by whoever embeds us.

/// Seconds since some fixed moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> f64);

impl Clock {
    /// A clock of the embedder's.
    pub fn new(seconds: fn() -> f64) -> Self {
        Self(seconds)
    }

    /// The function that tells the seconds; the engine's jobs take it.
    pub fn seconds(self) -> fn() -> f64 {
        self.0
    }
}

/// The system's monotonic clock. Bare wasm has none: there an embedder gives its own, and this
/// one stands still.
impl Default for Clock {
    fn default() -> Self {
        #[cfg(not(target_family = "wasm"))]
        fn seconds() -> f64 {
            use std::sync::OnceLock;
            use std::time::Instant;
            static START: OnceLock<Instant> = OnceLock::new();
            START.get_or_init(Instant::now).elapsed().as_secs_f64()
        }
        #[cfg(target_family = "wasm")]
        fn seconds() -> f64 {
            0.0
        }
        Self(seconds)
    }
}
