//! What a training run is told.

use serde::{Deserialize, Serialize};
use statepress_core::Role;
use statepress_engine::EngineError;

use crate::Trainable;
use crate::gradients::Objective;
use crate::loss::Mixture;
use crate::model::Parameter;

/// The most windows of an update.
const MOST_WINDOWS: usize = 65_536;

/// What a training run is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainOptions {
    /// Updates of the weights.
    pub steps: usize,
    /// The time that it may take; fewer steps are done where they would take longer. The cosine ends with the run.
    pub seconds: Option<f64>,
    /// Windows that each of them is computed from.
    pub batch: usize,
    /// Tokens of a window.
    pub window: usize,
    /// What is made small.
    pub objective: Objective,
    /// Which weights are trained.
    pub trains: Trains,
    /// How they are updated.
    pub adam: Adam,
    /// The learning rate at its highest.
    pub learning_rate: f64,
    /// What the cosine leaves of it at the last step, as a share.
    pub last_rate: f64,
    /// Steps in which it rises from nothing.
    pub warm_up: usize,
    /// Steps from one look at the held-out text to the next.
    pub validate_every: usize,
    /// Looks without a better one after which the run stops; `None`: it goes on to its last step.
    pub patience: Option<usize>,
    /// What decides the order of windows.
    pub seed: u64,
    /// The most memory that it may take, as far as that is known beforehand; `None`: whatever there is. It is the machine's, and no
    /// part of a snapshot.
    #[serde(skip)]
    pub most_bytes: Option<u64>,
}

/// How weights are updated (Loshchilov and Hutter 2019, algorithm 2), and how far a step may go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adam {
    /// How slowly the mean of gradients forgets, and that of their squares.
    pub betas: [f32; 2],
    /// Added to the root of the latter.
    pub eps: f32,
    /// What a weight loses a step, times the learning rate.
    pub weight_decay: f32,
    /// The most that the norm of all gradients together may be: what is longer is shortened.
    pub clip: f64,
}

/// Which weights are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trains {
    /// All of them, and they are numbers afterwards.
    All,
    /// All of them as their file can hold them: those that codes stand for get other codes of the same scales, and nothing
    /// becomes larger but what an entropy coder makes of it. See `rounded`.
    Rounded,
    /// Those that cost next to nothing and that no codes stand for: norms, biases, and how states decay, skip and step.
    Vectors,
}

impl Trains {
    /// Whether a weight is among them.
    pub(crate) fn has(self, weight: &Parameter) -> bool {
        match self {
            Self::All | Self::Rounded => true,
            Self::Vectors => {
                let coded = weight.encoding.is_described();
                !coded && (weight.shape.len() == 1 || weight.role == Role::Dynamics)
            }
        }
    }

    /// Whether passes compute with what a file can hold.
    pub(crate) fn rounds(self) -> bool {
        self == Self::Rounded
    }
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            steps: 1000,
            seconds: None,
            batch: 2,
            window: 256,
            objective: Objective { mixture: Mixture { alpha: 0.5, temperature: 1.0 }, balance: 0.0 },
            trains: Trains::All,
            adam: Adam { betas: [0.9, 0.98], eps: 1e-10, weight_decay: 0.0, clip: 1.0 },
            learning_rate: 3e-3,
            last_rate: 0.02,
            warm_up: 50,
            validate_every: 100,
            patience: None,
            seed: 0,
            most_bytes: None,
        }
    }
}

impl TrainOptions {
    /// Checks every option against what is allowed.
    pub(crate) fn check(&self, student: &Trainable, has_teacher: bool) -> Result<(), EngineError> {
        let refuse = |option: &str, value: String, allowed: &str| {
            let (option, allowed) = (option.into(), allowed.into());
            Err(EngineError::Option { option, value, allowed })
        };
        let at_least_one = [
            ("steps", self.steps),
            ("batch", self.batch),
            ("window", self.window),
            ("validateEvery", self.validate_every),
            ("patience", self.patience.unwrap_or(1)),
        ];
        if let Some((option, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return refuse(option, "0".into(), "1 or more");
        }
        if self.batch > MOST_WINDOWS {
            return refuse("batch", self.batch.to_string(), &format!("1 to {MOST_WINDOWS}"));
        }
        if let Some(most) = student.program.max_tokens.filter(|&most| self.window > most) {
            let allowed = format!("1 to {most} (the model's positions)");
            return refuse("window", self.window.to_string(), &allowed);
        }
        if self.warm_up >= self.steps {
            let allowed = format!("less than the {} steps", self.steps);
            return refuse("warmUp", self.warm_up.to_string(), &allowed);
        }
        let Objective { mixture: Mixture { alpha, temperature }, balance } = self.objective;
        if !(0.0..=1.0).contains(&alpha) {
            return refuse("alpha", alpha.to_string(), "0 (the text alone) to 1 (the teacher alone)");
        }
        if alpha > 0.0 && !has_teacher {
            return refuse("alpha", alpha.to_string(), "0, as there is no teacher");
        }
        let Adam { betas, eps, weight_decay, clip } = self.adam;
        let positive = [
            ("temperature", temperature),
            ("learningRate", self.learning_rate),
            ("eps", eps.into()),
            ("clip", clip),
        ];
        if let Some((option, value)) = positive.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0))
        {
            return refuse(option, value.to_string(), "a number above 0");
        }
        if let Some(seconds) = self.seconds.filter(|seconds| !(seconds.is_finite() && *seconds > 0.0)) {
            return refuse("seconds", seconds.to_string(), "a number above 0");
        }
        if self.learning_rate > 1.0 {
            return refuse("learningRate", self.learning_rate.to_string(), "above 0 and at most 1");
        }
        let shares = [
            ("lastRate", self.last_rate),
            ("weightDecay", weight_decay.into()),
            ("betas", betas[0].into()),
            ("betas", betas[1].into()),
        ];
        if let Some((option, value)) = shares.iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            return refuse(option, value.to_string(), "0 or more, and below 1");
        }
        if !(balance.is_finite() && balance >= 0.0) {
            return refuse("balance", balance.to_string(), "0 or more");
        }
        Ok(())
    }
}
