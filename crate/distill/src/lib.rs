//! Training any model that runs: a third interpreter of the program that its family declares, over tensors with
//! gradients, and on it distillation and recovery.
//!
//! The only crate that says burn. Nothing else depends on it: it is built by whoever trains.

mod checked;
mod checkpoint;
mod device;
mod distill;
mod fisher;
mod fresh;
mod gradients;
mod interpret;
mod loss;
mod model;
mod rounded;
mod sample;
mod sense;
mod train;

pub use checkpoint::trained_checkpoint;
pub use device::Device;
pub use distill::{Distill, Distilled, Init, Student};
pub use fisher::{FisherOptions, TakeFisher};
pub use gradients::{Gradients, Labelled, Objective};
pub use interpret::Batch;
pub use loss::Mixture;
pub use model::{Pass, Trainable};
pub use rounded::rounded_rate;
pub use train::{Adam, Optimizer, Snapshot, Teacher, Train, TrainOptions, Trained, Trains};
