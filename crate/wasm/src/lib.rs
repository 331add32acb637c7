//! The wasm door: converts between JavaScript and [`statepress`], and forwards. No logic.

mod convert;
#[cfg(feature = "distill")]
mod distill;
#[cfg(feature = "export")]
mod export;
mod jobs;
mod later;
#[cfg(feature = "shares")]
mod shares;
mod streams;

use std::rc::Rc;

use js_sys::{Object, Uint32Array};
use serde::Deserialize;
use statepress::report::Fisher;
use statepress::{
    AdviseOptions, AnyRunner, Calibration, Compare, CompareOptions, CostsOptions, Evaluate, EvaluateOptions,
    Follow, GenerateOptions, GpuOptions, Joined, Offset, OpenOptions, Precision, ShardMap, Source, Target,
    ViewOptions, Wanted, Work,
};
use wasm_bindgen::prelude::*;

use convert::{fail, from_js, recipe, to_js, whole};
use jobs::{CompareJob, CompressJob, EvaluateJob, Generator, LoadJob, SearchCostsJob};
use later::now_or_later;
use streams::{JsSink, JsSource, SinkObject, SourceObject};

type Result<T> = std::result::Result<T, JsValue>;

/// The instruction set this module was compiled for.
#[wasm_bindgen]
pub fn build() -> String {
    let build = if cfg!(target_feature = "relaxed-simd") {
        "relaxed"
    } else if cfg!(target_feature = "simd128") {
        "simd"
    } else {
        "base"
    };
    build.into()
}

/// The built-in recipes.
#[wasm_bindgen]
pub fn recipes() -> Result<JsValue> {
    to_js(&statepress::recipes::builtin().map_err(fail)?)
}

/// The recipe for a target, by what each tensor costs.
#[wasm_bindgen]
pub fn allocate(costs: JsValue, target: JsValue) -> Result<JsValue> {
    let costs = convert::given("costs", &costs)?;
    to_js(&statepress::allocate(&costs, &convert::given("target", &target)?).map_err(fail)?)
}

/// The recipe to try for a target after those that were tried, by what was measured of them.
#[wasm_bindgen(js_name = nextTry)]
pub fn next_try(costs: JsValue, target: JsValue, tried: JsValue) -> Result<JsValue> {
    let (costs, tried): (_, Vec<_>) = (convert::given("costs", &costs)?, convert::given("tried", &tried)?);
    to_js(&statepress::next_try(&costs, &convert::given("target", &target)?, &tried).map_err(fail)?)
}

/// Of a calibration text what is read, and what judges. Refuses a target that is none, or two.
#[wasm_bindgen(js_name = searchTexts)]
pub fn search_texts(ids: Uint32Array, target: JsValue) -> Result<Vec<Uint32Array>> {
    statepress::check_target(&convert::given("target", &target)?).map_err(fail)?;
    let ids = ids.to_vec();
    let (read, judged) = statepress::split_text(&ids);
    Ok(vec![read.into(), judged.into()])
}

/// An opened checkpoint.
#[wasm_bindgen]
pub struct Checkpoint(statepress::Checkpoint);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsOpenOptions {
    /// The text of a `config.json`: JavaScript reads no `Infinity`, and makes floats of large whole numbers.
    config: Option<String>,
    set: Option<convert::JsonObject>,
    /// Where in the file the weights are.
    weights: Option<String>,
    /// The `*.index.json` of a checkpoint in shards.
    index: Option<JsText>,
}

#[derive(Deserialize)]
struct JsText {
    name: String,
    text: String,
}

impl JsOpenOptions {
    fn read(self) -> (OpenOptions, Option<JsText>) {
        let options = OpenOptions {
            set: self.set.map(|object| object.0).unwrap_or_default(),
            weights: self.weights,
            clock: statepress::Clock::new(convert::now),
            ..OpenOptions::default()
        };
        let options = match self.config {
            Some(text) => options.config_text(&text),
            None => options,
        };
        (options, self.index)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsTensorOptions {
    bins: Option<f64>,
    precisions: Vec<Precision>,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    quantize: JsValue,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsAdviseOptions {
    target: Option<JsTarget>,
    max_loss: Option<f64>,
    max_size: Option<f64>,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    measured: JsValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum JsTarget {
    Gpu,
    Cpu,
    Edge,
}

#[wasm_bindgen]
impl Checkpoint {
    /// Opens `source`, reading headers only.
    pub fn open(source: SourceObject, options: JsValue) -> Result<Checkpoint> {
        let (options, _) = from_js::<JsOpenOptions>("open", options)?.read();
        Ok(Self(statepress::Checkpoint::open(JsSource::new(source), options).map_err(fail)?))
    }

    /// Opens the shards of one checkpoint, which have names, with the text of their index where there is one.
    #[wasm_bindgen(js_name = openShards)]
    pub fn open_shards(sources: Vec<SourceObject>, options: JsValue) -> Result<Checkpoint> {
        let (options, index) = from_js::<JsOpenOptions>("open", options)?.read();
        let map = index.map(|index| ShardMap::parse(&index.name, &index.text)).transpose().map_err(fail)?;
        let named = sources.into_iter().map(|source| {
            let source = JsSource::new(source);
            (source.name().unwrap_or_default(), Box::new(source) as Box<dyn Source>)
        });
        let opened = statepress::Checkpoint::open_shards(Joined::new(named), map.as_ref(), options);
        Ok(Self(opened.map_err(fail)?))
    }

    /// What it is.
    pub fn inspection(&self) -> Result<JsValue> {
        to_js(&self.0.inspection())
    }

    /// The text of a JSON object of what a GGUF file says of its vocabulary.
    pub fn vocabulary(&self) -> Result<Option<String>> {
        self.0.vocabulary().map_err(fail)
    }

    /// What is in one tensor, and what precisions make of it.
    pub fn tensor(&self, name: &str, options: JsValue) -> Result<JsValue> {
        let JsTensorOptions { bins, precisions, quantize } = from_js("tensor", options)?;
        let usual = ViewOptions::default();
        let options = ViewOptions {
            bins: whole("bins", bins)?.unwrap_or(usual.bins),
            precisions,
            codecs: convert::codecs(quantize)?,
        };
        to_js(&self.0.tensor(name, &options).map_err(fail)?)
    }

    /// What to do with it.
    pub fn advise(&self, options: JsValue) -> Result<JsValue> {
        let JsAdviseOptions { target, max_loss, max_size, measured } = from_js("advise", options)?;
        let target = target.map(|target| match target {
            JsTarget::Gpu => Target::Gpu,
            JsTarget::Cpu => Target::Cpu,
            JsTarget::Edge => Target::Edge,
        });
        let measured =
            if measured.is_undefined() { Vec::new() } else { convert::given("option measured", &measured)? };
        let options = AdviseOptions { target, max_loss, max_size: whole("maxSize", max_size)?, measured };
        to_js(&self.0.advise(&options).map_err(fail)?)
    }

    /// What a recipe (an object, or the name of a built-in one) will do.
    pub fn plan(&self, wanted: JsValue) -> Result<JsValue> {
        to_js(&self.0.plan(&recipe(wanted)?).map_err(fail)?)
    }

    /// Compresses into a sink, one tensor a step.
    pub fn compress(&self, wanted: JsValue, sink: SinkObject) -> Result<CompressJob> {
        let job = self.0.compress(&recipe(wanted)?, Box::new(JsSink(sink))).map_err(fail)?;
        Ok(CompressJob::new(job))
    }

    /// The same with rounding errors made up for: `model` is this checkpoint's, and reads `ids`.
    #[wasm_bindgen(js_name = compressCalibrated)]
    pub fn compress_calibrated(
        &self,
        wanted: JsValue,
        sink: SinkObject,
        model: &Model,
        ids: Uint32Array,
        fisher: JsValue,
    ) -> Result<CompressJob> {
        Ok(CompressJob::new(self.calibrated(wanted, sink, model, &ids, fisher, Work::Whole)?))
    }

    /// Whether what the first steps of a recipe leave is kept for the next one that begins alike.
    #[wasm_bindgen(js_name = keepFirstSteps)]
    pub fn keep_first_steps(&self, whether: bool) {
        self.0.keep_first_steps(whether);
    }

    /// The steps that a search begins with: those of a recipe, and what an entropy coder wants before.
    #[wasm_bindgen(js_name = searchSteps)]
    pub fn search_steps(&self, first: JsValue, coded: bool) -> Result<JsValue> {
        to_js(&self.0.search_steps(recipe(first)?, coded).map_err(fail)?)
    }

    /// What rounding each tensor alone costs `model`, which is this checkpoint's: it reads one text so that errors can be
    /// made up for, and is judged by another. What of it is known from an earlier measurement is not measured again.
    #[wasm_bindgen(js_name = searchCosts)]
    #[allow(clippy::too_many_arguments, reason = "JavaScript calls it, and only our own")]
    pub fn search_costs(
        &self,
        model: &Model,
        read: Uint32Array,
        judged: Uint32Array,
        fast: bool,
        coded: bool,
        known: JsValue,
        fisher: JsValue,
    ) -> Result<SearchCostsJob> {
        self.costs(model, &read, &judged, &CostsOptions::new(fast, coded), known, fisher)
    }

    /// Loads the model, one tensor a step; a GPU is then checked against the CPU for what the model needs.
    pub fn load(&self, backend: &Backend) -> Result<LoadJob> {
        LoadJob::new(&self.0, backend.0.gpu.as_ref())
    }
}

impl Checkpoint {
    fn calibrated(
        &self,
        wanted: JsValue,
        sink: SinkObject,
        model: &Model,
        ids: &Uint32Array,
        fisher: JsValue,
        work: Work,
    ) -> Result<Follow> {
        let (recipe, ids) = (recipe(wanted)?, ids.to_vec());
        let calibration =
            Calibration { fisher: gradients(fisher)?, ..Calibration::new(on_cpu(model)?, &ids) };
        self.0.compress_shared(&recipe, Box::new(JsSink(sink)), calibration, work).map_err(fail)
    }

    fn costs(
        &self,
        model: &Model,
        read: &Uint32Array,
        judged: &Uint32Array,
        options: &CostsOptions,
        known: JsValue,
        fisher: JsValue,
    ) -> Result<SearchCostsJob> {
        let (read, judged) = (read.to_vec(), judged.to_vec());
        let calibration =
            Calibration { fisher: gradients(fisher)?, ..Calibration::new(on_cpu(model)?, &read) };
        let known = convert::given("costs", &known)?;
        Ok(SearchCostsJob::new(self.0.search_costs(calibration, &judged, options, known).map_err(fail)?))
    }
}

/// What takes gradients to know of a model, where it was given.
fn gradients(given: JsValue) -> Result<Option<Rc<Fisher>>> {
    if given.is_undefined() {
        Ok(None)
    } else {
        convert::given("option gradients", &given).map(|it| Some(Rc::new(it)))
    }
}

/// What computes.
#[wasm_bindgen]
pub struct Backend(statepress::Chosen);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsBackendOptions {
    absent: Option<String>,
    software: bool,
    subgroups: bool,
    packed_dot: bool,
    op_by_op: bool,
    max_buffer: Option<f64>,
}

#[wasm_bindgen]
impl Backend {
    /// Chooses among `auto`, `cpu` and `webgpu`. A backend, or a promise of one.
    pub fn choose(wanted: &str, options: JsValue) -> Result<JsValue> {
        let given: JsBackendOptions = from_js("backend", options)?;
        let wanted = match wanted {
            "auto" => Wanted::Auto,
            "cpu" => Wanted::Cpu,
            "webgpu" => Wanted::WebGpu,
            other => return Err(convert::bad_option("backend", other, "auto, cpu, webgpu")),
        };
        let options = GpuOptions {
            absent: given.absent,
            subgroups: given.subgroups,
            packed_dot: given.packed_dot,
            op_by_op: given.op_by_op,
            software: given.software,
            max_buffer: whole("maxBuffer", given.max_buffer)?,
        };
        now_or_later(async move {
            let chosen = statepress::choose(wanted, options).await;
            Ok(Self(chosen.map_err(statepress::Error::from).map_err(fail)?).into())
        })
    }

    /// `{ name, reason, adapter?, finding? }`
    pub fn info(&self) -> Result<Object> {
        convert::backend(&self.0)
    }

    /// Gives the GPU up, as a driver that is reset does.
    pub fn lose(&self) {
        if let Some(gpu) = &self.0.gpu {
            gpu.destroy();
        }
    }
}

/// A model in memory.
#[wasm_bindgen]
pub struct Model(statepress::AnyModel);

/// The model where what it computes decides bytes: those have to be the same everywhere.
fn on_cpu(model: &Model) -> Result<&statepress::Model> {
    match &model.0 {
        statepress::AnyModel::Cpu(model) => Ok(model),
        statepress::AnyModel::Gpu(_) => {
            Err(convert::bad_option("backend", "webgpu", "cpu, as what the model computes decides bytes"))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsEvaluateOptions {
    window: Option<f64>,
    limit: Option<f64>,
    offset: Option<JsOffset>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsOffset {
    Given(f64),
    Named(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsCompareOptions {
    window: Option<f64>,
    limit: Option<f64>,
    offset: Option<f64>,
    ratio_target: Option<f64>,
    loss_target: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsGenerateOptions {
    max_tokens: Option<f64>,
    temperature: Option<f32>,
    top_k: Option<f64>,
    seed: Option<f64>,
    suppress_from: Option<f64>,
}

#[wasm_bindgen]
impl Model {
    /// Sizes, the prediction offset and findings.
    pub fn info(&self) -> Result<Object> {
        convert::info(&self.0)
    }

    /// What a decoded token costs on a GPU: `[{ kernel, precisions, dispatches, weights, activations }]`;
    /// `undefined` on the CPU.
    pub fn explain(&self) -> Result<JsValue> {
        convert::explained(&self.0)
    }

    /// Perplexity; a step is a window.
    pub fn evaluate(&self, ids: Uint32Array, options: JsValue) -> Result<EvaluateJob> {
        Ok(EvaluateJob::new(self.evaluation(&ids, options)?))
    }

    /// The quality card of `other` against this model; a step is a window.
    pub fn compare(&self, other: &Model, ids: Uint32Array, options: JsValue) -> Result<CompareJob> {
        Ok(CompareJob::new(self.comparison(other, &ids, options)?))
    }

    /// Continues a prompt; a step is a token.
    pub fn generate(&self, ids: Uint32Array, options: JsValue) -> Result<Generator> {
        let given: JsGenerateOptions = from_js("generate", options)?;
        let usual = GenerateOptions::default();
        let options = GenerateOptions {
            max_tokens: whole("maxTokens", given.max_tokens)?.unwrap_or(usual.max_tokens),
            temperature: given.temperature.unwrap_or(usual.temperature),
            top_k: whole("topK", given.top_k)?,
            seed: whole("seed", given.seed)?.unwrap_or(usual.seed),
            suppress_from: whole("suppressFrom", given.suppress_from)?,
        };
        Ok(Generator::new(statepress::Generate::new(&self.0, &ids.to_vec(), options).map_err(fail)?))
    }

    /// Logits of every position, `[tokens, vocab]`, or a promise of them.
    pub fn logits(&self, ids: Uint32Array) -> Result<JsValue> {
        let (model, ids) = (self.0.clone(), ids.to_vec());
        now_or_later(async move {
            let logits = statepress::sequence_logits(&model, &ids).await.map_err(fail)?;
            Ok(js_sys::Float32Array::from(logits.as_slice()).into())
        })
    }
}

impl Model {
    fn evaluation(&self, ids: &Uint32Array, options: JsValue) -> Result<Evaluate<AnyRunner>> {
        let JsEvaluateOptions { window, limit, offset } = from_js("evaluate", options)?;
        let offset = match offset {
            None => Offset::Model,
            Some(JsOffset::Given(offset)) => {
                whole("offset", Some(offset))?.map_or(Offset::Model, Offset::Given)
            }
            Some(JsOffset::Named(name)) if name == "detect" => Offset::Detect,
            Some(JsOffset::Named(name)) => {
                return Err(convert::bad_option("offset", &name, "a whole number, detect"));
            }
        };
        let options =
            EvaluateOptions { window: whole("window", window)?, limit: whole("limit", limit)?, offset };
        Evaluate::new(&self.0, &ids.to_vec(), &options, convert::now).map_err(fail)
    }

    fn comparison(
        &self,
        other: &Model,
        ids: &Uint32Array,
        options: JsValue,
    ) -> Result<Compare<AnyRunner, AnyRunner>> {
        let given: JsCompareOptions = from_js("compare", options)?;
        let usual = CompareOptions::default();
        let options = CompareOptions {
            window: whole("window", given.window)?,
            limit: whole("limit", given.limit)?,
            offset: whole("offset", given.offset)?,
            ratio_target: given.ratio_target.unwrap_or(usual.ratio_target),
            loss_target: given.loss_target.unwrap_or(usual.loss_target),
        };
        Compare::new(&self.0, &other.0, &ids.to_vec(), options, convert::now).map_err(fail)
    }
}
