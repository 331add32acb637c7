//! Work that several workers share, as JavaScript sees it: only in the module that is loaded when somebody has more than one.

use std::rc::Rc;

use js_sys::Uint32Array;
use statepress::{
    AnyRunner, Compare, ComparedShare, Evaluate, EvaluatedShare, Follow, Share, ShareReport, Shares, Work,
};
use wasm_bindgen::prelude::*;

use crate::convert::{fail, given, to_js};
use crate::jobs::{CompareJob, CompressJob, EvaluateJob, SearchCostsJob, job_class, step};
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
        Ok(ShareJob::new(self.calibrated(wanted, sink, model, &ids, fisher, work)?))
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

#[wasm_bindgen]
impl Model {
    /// `evaluate` of one of `count` shares of the windows.
    #[wasm_bindgen(js_name = evaluateShare)]
    pub fn evaluate_share(
        &self,
        ids: Uint32Array,
        options: JsValue,
        index: usize,
        count: usize,
    ) -> Result<EvaluateShareJob> {
        Ok(EvaluateShareJob::new(self.evaluation(&ids, options)?.share(Share { index, count })))
    }

    /// What `evaluate` gives, by all shares.
    #[wasm_bindgen(js_name = evaluateJoined)]
    pub fn evaluate_joined(
        &self,
        ids: Uint32Array,
        options: JsValue,
        shares: JsValue,
    ) -> Result<EvaluateJob> {
        let shares: Vec<EvaluatedShare> = given("shares", &shares)?;
        let job = self.evaluation(&ids, options)?;
        Ok(EvaluateJob::new(shares.into_iter().try_fold(job, Evaluate::join).map_err(fail)?))
    }

    /// `compare` of one of `count` shares of the windows.
    #[wasm_bindgen(js_name = compareShare)]
    pub fn compare_share(
        &self,
        other: &Model,
        ids: Uint32Array,
        options: JsValue,
        index: usize,
        count: usize,
    ) -> Result<CompareShareJob> {
        let job = self.comparison(other, &ids, options)?.share(Share { index, count });
        Ok(CompareShareJob::new(job))
    }

    /// What `compare` gives, by all shares.
    #[wasm_bindgen(js_name = compareJoined)]
    pub fn compare_joined(
        &self,
        other: &Model,
        ids: Uint32Array,
        options: JsValue,
        shares: JsValue,
    ) -> Result<CompareJob> {
        let shares: Vec<ComparedShare> = given("shares", &shares)?;
        let job = self.comparison(other, &ids, options)?;
        Ok(CompareJob::new(shares.into_iter().try_fold(job, Compare::join).map_err(fail)?))
    }
}

job_class! {
    /// Rounds a share; a step is a tensor, or a window of the calibration text.
    ShareJob(Follow), finish_share
}
job_class! {
    /// Evaluates a share; a step is a window.
    EvaluateShareJob(Evaluate<AnyRunner>), finish_share
}
job_class! {
    /// Compares a share; a step is a window.
    CompareShareJob(Compare<AnyRunner, AnyRunner>), finish_share
}
