//! Collecting configuration fields, each with its origin.

use serde_json::{Map, Value};
use statepress_core::spec::{Field, Fields, Origin};
use statepress_core::{Finding, Index};

use super::Hints;
use crate::EngineError;

/// Key of the list, in the configuration that our own files carry, of the fields that were
/// assumed when the file was written: reading them back must not make them facts.
pub(crate) const ASSUMED: &str = "statepress_assumed";

/// Gathers fields for the report while a family is inferred.
pub(crate) struct Collector<'a> {
    stored: Option<&'a Map<String, Value>>,
    beside: Option<&'a Map<String, Value>>,
    set: &'a Map<String, Value>,
    settable: Vec<&'static str>,
    fields: Fields,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Collector<'a> {
    pub fn new(index: &'a Index, hints: &'a Hints, findings: &'a mut Vec<Finding>) -> Self {
        let stored = index.config.as_ref();
        let beside = hints.config.as_ref();
        Self { stored, beside, set: &hints.set, settable: Vec::new(), fields: Fields::new(), findings }
    }

    pub fn finding(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// A field counted from a shape. A stored configuration that disagrees is reported, and the
    /// shape believed.
    pub fn counted(&mut self, name: &str, value: impl Into<Value>, from: &str) {
        let value = value.into();
        for (config, place) in [(self.stored, "the stored config"), (self.beside, "config.json")] {
            if let Some(claimed) = config.and_then(|config| config.get(name))
                && !same(claimed, &value)
            {
                self.findings.push(Finding::warning(
                    "config-disagrees",
                    format!(
                        "{place} says {name} = {claimed}, the shapes say {value}: the shapes are believed"
                    ),
                ));
            }
        }
        self.fields.insert(name.into(), Field { value, origin: Origin::Counted, from: from.into() });
    }

    /// A field that shapes do not tell: given, else read, else assumed with a finding.
    pub fn free(&mut self, name: &'static str, default: impl Into<Value>, why: &str) -> Value {
        self.settable.push(name);
        let field = if let Some(value) = self.set.get(name) {
            Field { value: value.clone(), origin: Origin::Given, from: format!("--set {name}") }
        } else if let Some(field) = self.read(name) {
            field
        } else {
            let value = default.into();
            self.findings.push(Finding::warning(
                "assumed",
                format!("{name} is not in the file: assumed {value} ({why})"),
            ));
            Field { value, origin: Origin::Assumed, from: why.into() }
        };
        let value = field.value.clone();
        self.fields.insert(name.into(), field);
        value
    }

    /// The error of a field that [`Self::free`] gave. What the user has set can be set right; a file
    /// with a value that cannot be is refused as a model, and can still be looked at and compressed.
    pub fn refuse(&self, name: &str, value: &Value, allowed: &str) -> EngineError {
        match self.fields.get(name) {
            Some(field) if field.origin != Origin::Given => EngineError::UnknownModel {
                reason: format!(
                    "{name} is {value} ({}); allowed: {allowed}; set it to run the model",
                    field.from
                ),
            },
            _ => EngineError::option(name, value, allowed),
        }
    }

    /// As [`Self::free`], for a whole number within bounds.
    pub fn free_count(
        &mut self,
        name: &'static str,
        default: usize,
        why: &str,
        allowed: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, EngineError> {
        let value = self.free(name, default, why);
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.filter(|count| allowed.contains(count)).ok_or_else(|| {
            let allowed = format!("a whole number from {} to {}", allowed.start(), allowed.end());
            self.refuse(name, &value, &allowed)
        })
    }

    /// `layer_norm_eps`.
    pub fn free_eps(&mut self, default: f64) -> Result<f64, EngineError> {
        let eps = self.free("layer_norm_eps", default, "upstream's default");
        match eps.as_f64() {
            Some(eps) if eps > 0.0 && eps < 1.0 => Ok(eps),
            _ => Err(self.refuse("layer_norm_eps", &eps, "a number between 0 and 1")),
        }
    }

    fn read(&self, name: &str) -> Option<Field> {
        for (config, from) in [(self.stored, "stored config"), (self.beside, "config.json")] {
            let Some(config) = config else { continue };
            if let Some(value) = config.get(name) {
                let assumed = config
                    .get(ASSUMED)
                    .and_then(Value::as_array)
                    .is_some_and(|names| names.iter().any(|assumed| assumed == name));
                let origin = if assumed { Origin::Assumed } else { Origin::Read };
                let from = if assumed { "assumed when this file was written" } else { from };
                return Some(Field { value: value.clone(), origin, from: from.into() });
            }
        }
        None
    }

    /// The fields, once every `--set` has been used. Of a model that is `refused`, fields may not have
    /// been come to: what was set for them is reported, and does not hide the refusal.
    pub fn finish(self, refused: bool) -> Result<Fields, EngineError> {
        for (name, value) in self.set {
            if self.settable.contains(&name.as_str()) {
                continue;
            }
            if self.fields.contains_key(name) {
                let settable = self.settable.join(", ");
                let allowed = format!("{name} is counted from the tensors; settable: {settable}");
                return Err(EngineError::option(&format!("set {name}"), value, allowed));
            }
            if !refused {
                let allowed = format!("settable: {}", self.settable.join(", "));
                return Err(EngineError::option(&format!("set {name}"), value, allowed));
            }
            let message = format!("{name}={value} was set and not used: the model cannot be run");
            self.findings.push(Finding::warning("set-unused", message));
        }
        Ok(self.fields)
    }
}

/// Equal as numbers, whatever their JSON spelling.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b)
}
