//! Work that several workers share, as JavaScript sees it: only in the module that is loaded when somebody has more than one.

use std::rc::Rc;

use js_sys::Uint32Array;
use statepress::{Follow, Share, ShareReport, Shares, Work};
use wasm_bindgen::prelude::*;

use crate::convert::{fail, given, to_js};
use crate::jobs::{CompressJob, SearchCostsJob, step};
use crate::later::Slot;
use crate::streams::{JsSource, SinkObject, SourceObject};
use crate::{Checkpoint, CostsOptions, Model, Result};

#[wasm_bindgen]
impl Checkpoint {
    /// Rounds the tensors of one of `count` shares into a sink, as `compressCalibrated` will have them.
    #[wasm_bindgen(js_name = compressShare)]
    #[allow(clippy::too_many_arguments, reason = "JavaScript calls it, and only our own")]
    pub fn compress_share(
        &self,
        wanted: JsValue,
        sink: SinkObject,
        model: &Model,
        ids: Uint32Array,
        fisher: JsValue,
        index: usize,
        count: usize,
    ) -> Result<ShareJob> {
        let work = Work::Share(Share { index, count });
        Ok(ShareJob(Slot::new(self.calibrated(wanted, sink, model, &ids, fisher, work)?)))
    }

    /// Writes what all shares make together: what `compressCalibrated` writes by itself. `reports` are those of `parts`.
    #[wasm_bindgen(js_name = compressJoined)]
    #[allow(clippy::too_many_arguments, reason = "JavaScript calls it, and only our own")]
    pub fn compress_joined(
        &self,
        wanted: JsValue,
        sink: SinkObject,
        model: &Model,
        ids: Uint32Array,
        fisher: JsValue,
        parts: Vec<SourceObject>,
        reports: JsValue,
    ) -> Result<CompressJob> {
        let reports: Vec<ShareReport> = given("reports", &reports)?;
        let mut shares = Shares::default();
        for (part, report) in parts.into_iter().zip(reports) {
            shares.add(Rc::new(JsSource::new(part)), report).map_err(fail)?;
        }
        let work = Work::Join(Box::new(shares));
        Ok(CompressJob::new(self.calibrated(wanted, sink, model, &ids, fisher, work)?))
    }

    /// `searchCosts` of the tensors of one of `count` shares, and of those that are known.
    #[wasm_bindgen(js_name = searchCostsShare)]
    #[allow(clippy::too_many_arguments, reason = "JavaScript calls it, and only our own")]
    pub fn search_costs_share(
        &self,
        model: &Model,
        read: Uint32Array,
        judged: Uint32Array,
        fast: bool,
        coded: bool,
        known: JsValue,
        fisher: JsValue,
        index: usize,
        count: usize,
    ) -> Result<SearchCostsJob> {
        let options = CostsOptions { share: Share { index, count }, ..CostsOptions::new(fast, coded) };
        self.costs(model, &read, &judged, &options, known, fisher)
    }
}

/// Rounds a share; a step is a tensor, or a window of the calibration text.
#[wasm_bindgen]
pub struct ShareJob(Slot<Follow>);

#[wasm_bindgen]
impl ShareJob {
    /// Does the next piece of work; `undefined` when nothing is left.
    pub fn step(&self) -> Result<JsValue> {
        self.0.work(async |job| step(job).await)
    }

    /// What is to be told of its tensors.
    pub fn finish(self) -> Result<JsValue> {
        to_js(&self.0.take()?.finish_share().map_err(fail)?)
    }
}
