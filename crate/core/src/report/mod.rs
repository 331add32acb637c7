//! What the commands answer, as JSON: the contract with users, scripts and the page.

mod advice;
mod export;
mod fisher;
mod generated;
mod inspection;
mod plan;
mod prune;
mod quality;
mod search;
mod training;
mod view;

pub use advice::{
    Advice, Basis, MeasureOffer, MeasuredRecipe, Recommendation, Risk, RuleReport, TechniqueAdvice,
};
pub use export::{ExportReport, ExportedTensor};
pub use fisher::{Fisher, OutputFisher};
pub use generated::GeneratedToken;
pub use inspection::{FileReport, Inspection, Segment, TensorReport};
pub use plan::{
    Bytes, CompressReport, Matched, Nominal, Plan, PrecisionShare, RoundingError, RowsPlan, TensorPlan,
};
pub use prune::{Pruned, PrunedPlace};
pub use quality::{
    ComparedBytes, Comparison, Criterion, DeltaP, Distribution, Evaluation, LayerDrift, PositionDrift,
    Verdict, VerdictResult,
};
pub use search::{
    Cost, CostRows, SearchCosts, SearchNext, SearchPoint, SearchResult, SearchSteps, SearchTarget, SearchTry,
    TensorCosts,
};
pub use training::{Training, TrainingPoint, TrainingStop};
pub use view::{BlockView, CodedView, Histogram, Statistics, TensorView};
