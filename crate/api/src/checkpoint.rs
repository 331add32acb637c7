//! An opened checkpoint: everything the commands ask of it.

use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::index::Format;
use statepress_core::joined::Part;
use statepress_core::report::{
    Advice, FileReport, Inspection, Plan, SearchSteps, TensorCosts, TensorReport, TensorView,
};
use statepress_core::{Finding, Index, Joined, Recipe, Sink, Source};
use statepress_engine::advise::{AdviseOptions, advise};
use statepress_engine::calibrate::Calibration;
use statepress_engine::families::{Hints, ModelSpec, fit, infer, is_buffer, is_model, translated};
use statepress_engine::models::{Cpu, Load, Model};
use statepress_engine::search::{Costs, CostsOptions, first_steps};
use statepress_engine::techniques::{self, follow::Begun, plan::plan, shares::Work};
use statepress_engine::view::{ViewOptions, view};
use statepress_formats::gguf::vocabulary;
use statepress_formats::{Choice, ShardMap};

use crate::config_json::read_config;
use crate::files::MemorySink;
use crate::{Backend, Clock, Error, Export, ExportTarget, Follow, run};

/// What the user and files beside the checkpoint say about it.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// A `config.json` that lies beside the weights.
    pub config: Option<Map<String, Value>>,
    /// What was found on the way to these options; the inspection tells it.
    pub findings: Vec<Finding>,
    /// Values for what the file does not say: `top_k_experts`, `prediction_offset`, ...
    pub set: Map<String, Value>,
    /// Where in the file the weights are, where they shall not be searched for: `model`, `state_dict.model`; `student` of
    /// keys that begin with it; `trainable+frozen`, which are one model; `bare`, the top level of the file.
    pub weights: Option<String>,
    /// How time is told.
    pub clock: Clock,
}

impl OpenOptions {
    /// What is known about where the weights are: what the user says, and the keys of every family.
    fn choice(&self) -> Choice<'_> {
        Choice { config: self.config.as_ref(), path: self.weights.as_deref(), is_model: &is_model, fit: &fit }
    }

    /// Takes the text of a `config.json` that lies beside the weights. One that cannot be read keeps no weights from
    /// opening: it is ignored, and a finding says why.
    pub fn config_text(mut self, text: &str) -> Self {
        match read_config(text) {
            Ok(config) => self.config = Some(config),
            Err(error) => {
                let message = format!("config.json is ignored: {error}");
                self.findings.push(Finding::warning("config-ignored", message));
            }
        }
        self
    }
}

/// A checkpoint whose headers have been read.
pub struct Checkpoint {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    /// Its shards; empty where it is one file.
    files: Vec<FileReport>,
    spec: ModelSpec,
    clock: Clock,
    begun: Begun,
}

impl Checkpoint {
    /// Reads headers and understands them; no weight is read.
    pub fn open(source: impl Source + 'static, options: OpenOptions) -> Result<Self, Error> {
        let index = statepress_formats::open_with(&source, &options.choice())?;
        Self::understood(Rc::new(source), index, Vec::new(), options)
    }

    /// The same of a checkpoint in several files, with the index that says which tensor is in which, where there is one.
    pub fn open_shards(shards: Joined, map: Option<&ShardMap>, options: OpenOptions) -> Result<Self, Error> {
        let index = statepress_formats::open_shards(&shards, map, &options.choice())?;
        let file = |part: &Part| FileReport { name: part.name.clone(), bytes: part.source.len() };
        let files = shards.parts().iter().map(file).collect();
        Self::understood(Rc::new(shards), index, files, options)
    }

    fn understood(
        source: Rc<dyn Source>,
        index: Index,
        files: Vec<FileReport>,
        options: OpenOptions,
    ) -> Result<Self, Error> {
        let (mut config, mut findings) = (options.config, options.findings);
        if index.format == Format::Gguf && config.take().is_some() {
            // What it multiplies by may be in the weights already.
            let message = "config.json is ignored: the header of a GGUF file says all of its model";
            findings.push(Finding::info("config-ignored", message));
        }
        let index = translated(&*source, index)?;
        let hints = Hints { config, set: options.set, file_bytes: source.len() };
        let mut spec = infer(&index, &hints)?;
        spec.findings.splice(0..0, findings);
        Ok(Self { source, index: Rc::new(index), files, spec, clock: options.clock, begun: Begun::default() })
    }

    /// What the checkpoint is.
    pub fn inspection(&self) -> Inspection {
        let tensors: Vec<TensorReport> = self
            .index
            .tensors
            .iter()
            .map(|entry| TensorReport {
                name: entry.name.clone(),
                shape: entry.shape.clone(),
                dtype: entry.dtype_name(),
                params: entry.params(),
                bytes: entry.bytes(),
                coded: entry.coded_bytes() > 0,
                tied_to: entry.tied_to.clone(),
                role: self.spec.weights.get(&entry.name).map(|weight| weight.role),
                segments: self
                    .spec
                    .weights
                    .get(&entry.name)
                    .map(|weight| weight.segments.clone())
                    .unwrap_or_default(),
                buffer: is_buffer(entry),
            })
            .collect();
        let weights = || tensors.iter().filter(|tensor| tensor.tied_to.is_none() && !tensor.buffer);
        let findings = self.index.findings.iter().chain(&self.spec.findings).cloned().collect();
        Inspection {
            format: self.index.format,
            wrapper: self.index.wrapper.clone(),
            weights: self.index.weights.clone(),
            family: self.spec.family.clone(),
            params: weights().map(|tensor| tensor.params).sum(),
            bytes: weights().map(|tensor| tensor.bytes).sum(),
            file_bytes: self.source.len(),
            files: self.files.clone(),
            recipe: Recipe::recorded(&self.index.metadata),
            spec: self.spec.fields.clone(),
            tensors,
            findings,
        }
    }

    /// The text of a JSON object of what a GGUF file says of its vocabulary, under its keys; `None` of other files, and where it
    /// says nothing.
    pub fn vocabulary(&self) -> Result<Option<String>, Error> {
        if self.index.format != Format::Gguf {
            return Ok(None);
        }
        let said = vocabulary(&*self.source)?;
        Ok((!said.is_empty()).then(|| Value::from(said).to_string()))
    }

    /// What is in one tensor, and what precisions make of it; reads that tensor.
    pub fn tensor(&self, name: &str, options: &ViewOptions) -> Result<TensorView, Error> {
        Ok(view(&*self.source, &self.index, name, options)?)
    }

    /// What to do with it.
    pub fn advise(&self, options: &AdviseOptions) -> Result<Advice, Error> {
        Ok(advise(&self.index, &self.spec, options)?)
    }

    /// What a recipe will do; arithmetic on the index, cheap enough for every slider move.
    pub fn plan(&self, recipe: &Recipe) -> Result<Plan, Error> {
        Ok(plan(&self.index, &self.spec, recipe, &[])?.plan)
    }

    /// Compresses into a sink, one tensor a step. The sink is dropped when the job is.
    pub fn compress(&self, recipe: &Recipe, sink: Box<dyn Sink>) -> Result<Follow, Error> {
        self.compress_by(recipe, sink, None, Work::Whole)
    }

    /// The same with errors made up for, as usual where the recipe does not say how, by what the model computes that
    /// [`Self::load`] made of this checkpoint.
    pub fn compress_calibrated(
        &self,
        recipe: &Recipe,
        sink: Box<dyn Sink>,
        calibration: Calibration<'_>,
    ) -> Result<Follow, Error> {
        self.compress_shared(recipe, sink, calibration, Work::Whole)
    }

    /// The same, of which several may do their share: each rounds some tensors, and who joins them writes the file.
    pub fn compress_shared(
        &self,
        recipe: &Recipe,
        sink: Box<dyn Sink>,
        calibration: Calibration<'_>,
        work: Work,
    ) -> Result<Follow, Error> {
        self.compress_by(&recipe.clone().compensated(), sink, Some(calibration), work)
    }

    /// Measures what rounding each matrix alone costs, for [`allocate`](crate::allocate) to choose by: the model
    /// is what [`Self::load`] made of this checkpoint; it reads one text so that errors can be made up for, and is judged by another.
    /// What is `known` from an earlier measurement by the same texts is not measured again.
    pub fn search_costs(
        &self,
        calibration: Calibration<'_>,
        judged: &[u32],
        options: &CostsOptions,
        known: Vec<TensorCosts>,
    ) -> Result<Costs, Error> {
        Ok(Costs::new(self.opened(), calibration, judged, options, known)?)
    }

    /// What a search of this checkpoint begins with: the steps of a recipe, and what an entropy coder wants before.
    pub fn search_steps(&self, first: Recipe, coded: bool) -> Result<SearchSteps, Error> {
        Ok(first_steps((&self.index, &self.spec), first, coded)?)
    }

    /// Whether what the first steps of a recipe leave is kept for the next one that begins alike and reads the same: for whoever
    /// follows several, until told otherwise. It takes memory: numbers that were fitted, and a tensor as it was last read.
    pub fn keep_first_steps(&self, whether: bool) {
        self.begun.keep(whether);
    }

    fn compress_by(
        &self,
        recipe: &Recipe,
        sink: Box<dyn Sink>,
        calibration: Option<Calibration<'_>>,
        work: Work,
    ) -> Result<Follow, Error> {
        let clock = self.clock.seconds();
        let job = Follow::new(self.opened(), recipe, sink, clock, calibration, &self.begun, work)?;
        Ok(job.made_from(self.files.clone()))
    }

    /// What was opened, for whoever does more with it than this crate: training, exports.
    pub fn opened(&self) -> techniques::Checkpoint {
        let Self { source, index, spec, .. } = self;
        techniques::Checkpoint { source: source.clone(), index: index.clone(), spec: spec.clone() }
    }

    /// How it tells time.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Compresses into memory; the bytes can be taken once the job is done.
    pub fn compress_to_memory(&self, recipe: &Recipe) -> Result<(Follow, MemorySink), Error> {
        let sink = MemorySink::default();
        Ok((self.compress(recipe, Box::new(sink.clone()))?, sink))
    }

    /// Writes it as it is for another tool, one tensor a step. The sink is dropped when the job is.
    pub fn export(&self, target: &ExportTarget, sink: Box<dyn Sink>) -> Result<Export, Error> {
        Ok(Export::new(&self.opened(), target, sink)?)
    }

    /// Loads the model into the CPU's memory, one tensor a step.
    pub fn load(&self) -> Result<Load, Error> {
        self.load_into(Cpu)
    }

    /// Loads the model into a backend, one tensor a step, and holds what it needs there against the CPU.
    pub fn load_into<B: Backend>(&self, backend: B) -> Result<Load<B>, Error> {
        Ok(Load::new(backend, self.source.clone(), self.index.clone(), self.spec.clone())?)
    }

    /// Loads the model into the CPU's memory in one go.
    pub fn model(&self) -> Result<Model, Error> {
        Ok(run(self.load()?, |_| {})?)
    }
}
