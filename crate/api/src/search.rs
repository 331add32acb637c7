//! The search for the best recipe, from a text to a compressed checkpoint, for native programs: pages share its work among
//! workers.

use std::rc::Rc;

use statepress_core::recipe::Step;
use statepress_core::report::{
    CompressReport, Fisher, SearchCosts, SearchPoint, SearchResult, SearchSteps, SearchTarget, SearchTry,
};
use statepress_core::{Finding, Recipe};
use statepress_engine::EngineError;
use statepress_engine::calibrate::Calibration;
use statepress_engine::eval::{Compare, CompareOptions};
use statepress_engine::search::{CostsOptions, check_target, next_try, split_text};

use crate::{Checkpoint, Error, MemorySink, OpenOptions, Progress, run};

/// How a search is done.
#[derive(Clone, Debug, Default)]
pub struct SearchOptions {
    /// Measure each tensor once, on few tokens, and let all else follow.
    pub fast: bool,
    /// Choose steps between levels for an entropy coder instead of numbers of bits.
    pub coded: bool,
    /// Steps of a recipe that come first, such as pruning: the search begins with what they leave.
    pub first: Vec<Step>,
    /// What takes gradients to know of the model, where somebody has taken them.
    pub fisher: Option<Rc<Fisher>>,
}

/// What a search found, carried out.
#[derive(Clone, Debug)]
pub struct Found {
    /// The compressed checkpoint, a safetensors file.
    pub bytes: Vec<u8>,
    /// What compressing did.
    pub report: CompressReport,
    /// An ordinary recipe that anybody can follow again.
    pub recipe: Recipe,
    /// What the sum of single costs says of it.
    pub predicted: SearchPoint,
    /// What was measured of it on the part of the text that it was not fitted to.
    pub measured: SearchTry,
    /// Whether the target is reached by what was measured. A size is reached, or the search fails.
    pub reached: bool,
    /// Every recipe on the way from the smallest to the closest.
    pub front: Vec<SearchPoint>,
    /// What each tensor costs alone, at every precision.
    pub costs: SearchCosts,
    /// What is to be known of the steps that come first, and of measuring.
    pub findings: Vec<Finding>,
}

impl Checkpoint {
    /// Finds the best recipe for a target: what rounding each tensor alone costs is measured while the model reads three
    /// quarters of `ids`, and a few recipes are tried, each judged by the rest. Shows every step to `watch`, and runs to its end,
    /// as [`run`] does: whoever wants to stop in between drives the jobs that it is made of. Keeps no first steps afterwards.
    ///
    /// # Errors
    /// Also for a target that is none, and for one that no recipe reaches: the error names what can be had.
    pub fn search(
        &self,
        ids: &[u32],
        target: &SearchTarget,
        options: &SearchOptions,
        mut watch: impl FnMut(&Progress),
    ) -> Result<Found, Error> {
        // All that is tried begins alike.
        self.keep_first_steps(true);
        let found = self.searched(ids, target, options, &mut watch);
        self.keep_first_steps(false);
        found
    }

    fn searched(
        &self,
        ids: &[u32],
        target: &SearchTarget,
        options: &SearchOptions,
        watch: &mut impl FnMut(&Progress),
    ) -> Result<Found, Error> {
        check_target(target)?;
        let first =
            Recipe { version: 1, name: "first".into(), description: None, steps: options.first.clone() };
        let SearchSteps { first, mut findings, .. } = self.search_steps(first, options.coded)?;
        let model = run(self.load()?, &mut *watch)?;
        let (read, judged) = split_text(ids);
        let calibration = Calibration { fisher: options.fisher.clone(), ..Calibration::new(&model, read) };
        let costs = self.costs_behind(first, &calibration, judged, options, watch)?;
        let (mut tried, mut best) = (Vec::new(), None);
        let mut asked = next_try(&costs, target, &tried)?;
        while let Some(next) = asked.next.take() {
            let it = self.attempt(&next.recipe, &calibration, judged, costs.window, watch)?;
            tried.push(it.measured);
            asked = next_try(&costs, target, &tried)?;
            if asked.best == Some(tried.len() as u64 - 1) {
                best = Some((next, it));
            }
        }
        let (result, Attempt { bytes, report, measured, findings: more }) =
            best.ok_or_else(|| Error::from(EngineError::Evaluation("a search tried nothing".into())))?;
        findings.extend(more);
        let SearchResult { recipe, chosen: predicted, front } = result;
        let reached = asked.reached;
        Ok(Found { bytes, report, recipe, predicted, measured, reached, front, costs, findings })
    }

    /// What each tensor costs of what the first steps leave.
    fn costs_behind(
        &self,
        first: Recipe,
        calibration: &Calibration<'_>,
        judged: &[u32],
        SearchOptions { fast, coded, .. }: &SearchOptions,
        watch: &mut impl FnMut(&Progress),
    ) -> Result<SearchCosts, Error> {
        let how = CostsOptions::new(*fast, *coded);
        let measured = |of: &Self, calibration: Calibration<'_>, watch: &mut _| {
            run(of.search_costs(calibration, judged, &how, Vec::new())?, watch).map_err(Error::from)
        };
        if first.steps.is_empty() {
            return measured(self, calibration.clone(), watch);
        }
        let (bytes, report) = self.followed(&first, calibration, watch)?;
        let left = Self::open(bytes, OpenOptions::default())?;
        let model = run(left.load()?, &mut *watch)?;
        let costs = measured(&left, Calibration { model: &model, ..calibration.clone() }, watch)?;
        let steps = [first.steps, costs.base.steps].concat();
        let base = Recipe { steps, ..costs.base };
        Ok(SearchCosts { base, bytes_before: report.plan.bytes.before, ..costs })
    }

    fn attempt(
        &self,
        recipe: &Recipe,
        calibration: &Calibration<'_>,
        judged: &[u32],
        window: u64,
        watch: &mut impl FnMut(&Progress),
    ) -> Result<Attempt, Error> {
        let (bytes, report) = self.followed(recipe, calibration, watch)?;
        let bytes = Rc::new(bytes);
        let model = run(Self::open(bytes.clone(), OpenOptions::default())?.load()?, &mut *watch)?;
        let how = CompareOptions { window: Some(window as usize), ..CompareOptions::default() };
        let clock = self.clock().seconds();
        let card = run(Compare::new(calibration.model, &model, judged, how, clock)?, watch)?;
        let (kl, perplexity_change) = (card.kl.mean, card.perplexity_change);
        let measured = SearchTry { bytes: report.plan.bytes.after, kl, perplexity_change };
        let bytes = Rc::unwrap_or_clone(bytes);
        Ok(Attempt { bytes, report, measured, findings: card.b.findings })
    }

    /// What a recipe makes of it.
    fn followed(
        &self,
        recipe: &Recipe,
        calibration: &Calibration<'_>,
        watch: &mut impl FnMut(&Progress),
    ) -> Result<(Vec<u8>, CompressReport), Error> {
        let sink = MemorySink::default();
        let job = match recipe.needs_calibration() {
            true => self.compress_calibrated(recipe, Box::new(sink.clone()), calibration.clone())?,
            false => self.compress(recipe, Box::new(sink.clone()))?,
        };
        let report = run(job, watch)?;
        Ok((sink.take(), report))
    }
}

/// A recipe that was carried out and measured.
struct Attempt {
    bytes: Vec<u8>,
    report: CompressReport,
    measured: SearchTry,
    findings: Vec<Finding>,
}
