//! Collecting configuration fields, each with its origin.

use serde_json::{Map, Value};
use statepress_core::spec::{Field, Fields, Origin};
use statepress_core::{Finding, Index};

use super::Hints;
use crate::EngineError;

/// Key of the list, in the configuration that our own files carry, of the fields that were
/// assumed when the file was written: reading them back must not make them facts.
pub(crate) const ASSUMED: &str = "statepress_assumed";

/// Other names of fields; see [`super::registry::Entry::fields`].
type Aliases = &'static [(&'static str, &'static [&'static str])];

/// Gathers fields for the report while a family is inferred.
pub(crate) struct Collector<'a> {
    stored: Option<&'a Map<String, Value>>,
    beside: Option<&'a Map<String, Value>>,
    set: &'a Map<String, Value>,
    aliases: Aliases,
    settable: Vec<String>,
    fields: Fields,
    findings: Vec<Finding>,
}

impl<'a> Collector<'a> {
    pub fn new(index: &'a Index, hints: &'a Hints, aliases: Aliases) -> Self {
        let stored = index.config.as_ref();
        let beside = hints.config.as_ref();
        let (settable, findings) = (Vec::new(), Vec::new());
        Self { stored, beside, set: &hints.set, aliases, settable, fields: Fields::new(), findings }
    }

    pub fn finding(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Whether there is a configuration: what it does not say is then its format's default.
    pub fn has_config(&self) -> bool {
        self.stored.is_some() || self.beside.is_some()
    }

    /// Whether the user has set it.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// What a configuration says of a field, under any of its names, and which.
    fn claims(&self, name: &str) -> impl Iterator<Item = (&'a Value, &'static str, bool)> {
        let others =
            self.aliases.iter().find(|(ours, _)| *ours == name).map_or(&[][..], |(_, others)| others);
        let find = |config: &'a Map<String, Value>| {
            let at = |path: &str| {
                path.split('.').try_fold(None::<&'a Value>, |value, part| match value {
                    None => config.get(part).map(Some),
                    Some(value) => value.get(part).map(Some),
                })
            };
            let value =
                std::iter::once(name).chain(others.iter().copied()).find_map(|path| at(path).flatten())?;
            // null says nothing.
            (!value.is_null()).then_some(value)
        };
        let of = move |config: Option<&'a Map<String, Value>>, from| {
            let config = config?;
            let assumed = config
                .get(ASSUMED)
                .and_then(Value::as_array)
                .is_some_and(|names| names.iter().any(|assumed| assumed == name));
            Some((find(config)?, from, assumed))
        };
        [of(self.stored, "stored config"), of(self.beside, "config.json")].into_iter().flatten()
    }

    /// What a configuration says of a field that nothing here depends on.
    pub fn claimed(&self, name: &str) -> Option<&'a Value> {
        self.claims(name).next().map(|(value, ..)| value)
    }

    /// A field counted from a shape. A configuration that disagrees is reported, and the shape believed.
    pub fn counted(&mut self, name: &str, value: impl Into<Value>, from: &str) {
        let value = value.into();
        let claims: Vec<_> = self.claims(name).map(|(claimed, place, _)| (claimed.clone(), place)).collect();
        for (claimed, place) in claims {
            if !same(&claimed, &value) {
                let place = if place == "config.json" { place.to_string() } else { format!("the {place}") };
                let message = format!(
                    "{place} says {name} = {claimed}, the shapes say {value}: the shapes are believed"
                );
                self.findings.push(Finding::warning("config-disagrees", message));
            }
        }
        self.fields.insert(name.into(), Field { value, origin: Origin::Counted, from: from.into() });
    }

    /// As [`Self::counted`], where there is nothing to say of it unless a configuration does: whether
    /// there are biases, say.
    pub fn shown(&mut self, name: &str, value: impl Into<Value>, from: &str) {
        if self.claims(name).next().is_some() {
            self.counted(name, value, from);
        }
    }

    /// What kind of model a configuration calls this. One of another name is refused: its keys are
    /// alike, what it computes need not be.
    pub fn kind(&mut self, known: &[&'static str]) -> Result<Option<&'static str>, EngineError> {
        let Some(value) = self.optional("model_type") else { return Ok(None) };
        let kind = known.iter().find(|known| value == **known).copied();
        kind.map(Some).ok_or_else(|| self.refuse("model_type", &value, &known.join(", ")))
    }

    /// One number where the layers agree, else a list.
    pub fn counted_by_layer(&mut self, name: &str, values: &[usize], from: &str) {
        match values {
            [] => {}
            [first, rest @ ..] if rest.iter().all(|value| value == first) => self.counted(name, *first, from),
            _ => self.counted(name, values.to_vec(), from),
        }
    }

    /// A field that shapes do not tell: given, else read, else assumed with a finding. It is a warning
    /// where there is no configuration at all, and no more than a note where there is one that leaves
    /// the field at its format's default.
    pub fn free(&mut self, name: &str, default: impl Into<Value>, why: &str) -> Value {
        if let Some(value) = self.optional(name) {
            return value;
        }
        let value = default.into();
        let message = format!("{name} is not in the file: assumed {value} ({why})");
        self.findings.push(match self.beside {
            Some(_) => Finding::info("assumed", message),
            None => Finding::warning("assumed", message),
        });
        let field = Field { value: value.clone(), origin: Origin::Assumed, from: why.into() };
        self.fields.insert(name.into(), field);
        value
    }

    /// As [`Self::free`], where nothing has to be said of a field that no configuration has: a
    /// multiplier of 1, an option that is off.
    pub fn optional(&mut self, name: &str) -> Option<Value> {
        if !self.settable.iter().any(|settable| settable == name) {
            self.settable.push(name.into());
        }
        self.said(name)
    }

    /// The same of a field that is not offered to be set: nobody but a configuration has it.
    pub fn said(&mut self, name: &str) -> Option<Value> {
        let (value, origin, from) = match self.set.get(name) {
            Some(value) => (value, Origin::Given, format!("--set {name}")),
            None => match self.claims(name).next()? {
                (value, _, true) => (value, Origin::Assumed, "assumed when this file was written".into()),
                (value, from, false) => (value, Origin::Read, from.into()),
            },
        };
        self.fields.insert(name.into(), Field { value: value.clone(), origin, from });
        Some(value.clone())
    }

    /// The error of a field. What the user has set can be set right; a file
    /// with a value that cannot be is refused as a model, and can still be looked at and compressed.
    pub fn refuse(&self, name: &str, value: &Value, allowed: &str) -> EngineError {
        if self.is_set(name) {
            return EngineError::option(name, value, allowed);
        }
        let from = self.fields.get(name).map_or("nobody says it", |field| &field.from);
        let reason = format!("{name} is {value} ({from}); allowed: {allowed}; set it to run the model");
        EngineError::UnknownModel { reason }
    }

    /// As [`Self::free`], for a whole number within bounds.
    pub fn free_count(
        &mut self,
        name: &str,
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

    /// A count that divides `whole`: of heads, of groups.
    pub fn free_divisor(
        &mut self,
        name: &str,
        default: usize,
        why: &str,
        whole: usize,
    ) -> Result<usize, EngineError> {
        let count = self.free_count(name, default, why, 1..=whole.max(1))?;
        if whole.is_multiple_of(count) {
            return Ok(count);
        }
        Err(self.refuse(name, &count.into(), &format!("a divisor of {whole}")))
    }

    /// A norm's eps.
    pub fn free_eps(&mut self, name: &str, default: f64, why: &str) -> Result<f64, EngineError> {
        let eps = self.free(name, default, why);
        match eps.as_f64() {
            Some(eps) if eps > 0.0 && eps < 1.0 => Ok(eps),
            _ => Err(self.refuse(name, &eps, "a number between 0 and 1")),
        }
    }

    /// A number above zero.
    pub fn free_positive(&mut self, name: &str, default: f64, why: &str) -> Result<f64, EngineError> {
        let value = self.free(name, default, why);
        match number(&value) {
            Some(number) if number > 0.0 && (number as f32).is_finite() => Ok(number),
            _ => Err(self.refuse(name, &value, "a finite number above 0")),
        }
    }

    /// Yes or no.
    pub fn free_flag(&mut self, name: &str, default: bool, why: &str) -> Result<bool, EngineError> {
        let value = self.free(name, default, why);
        value.as_bool().ok_or_else(|| self.refuse(name, &value, "true or false"))
    }

    /// An option that is yes or no, of which nothing has to be said where no configuration has it.
    pub fn flag(&mut self, name: &str, default: bool) -> Result<bool, EngineError> {
        let Some(value) = self.optional(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.refuse(name, &value, "true or false"))
    }

    /// What leaves no trace in tensors: as [`Self::optional`] where there is a configuration, which would
    /// say it, and assumed with a warning where there is none.
    pub fn traceless(&mut self, name: &str, default: impl Into<Value>) -> Option<Value> {
        match self.has_config() {
            true => self.optional(name),
            false => Some(self.free(name, default, "it leaves no trace in the tensors")),
        }
    }

    /// A multiplier: 1 where a configuration does not say otherwise.
    pub fn multiplier(&mut self, name: &str) -> Result<f32, EngineError> {
        let Some(value) = self.traceless(name, 1.0) else { return Ok(1.0) };
        finite(&value).ok_or_else(|| self.refuse(name, &value, "a finite number"))
    }

    /// As many multipliers: ones where a configuration does not say otherwise.
    pub fn multipliers<const N: usize>(&mut self, name: &str) -> Result<[f32; N], EngineError> {
        let Some(value) = self.traceless(name, vec![1.0; N]) else { return Ok([1.0; N]) };
        let numbers: Option<Vec<f32>> = value.as_array().and_then(|all| all.iter().map(finite).collect());
        numbers
            .and_then(|numbers| <[f32; N]>::try_from(numbers).ok())
            .ok_or_else(|| self.refuse(name, &value, &format!("a list of {N} finite numbers")))
    }

    /// The fields that `--set` takes, in words.
    fn fields_to_set(&self) -> String {
        match self.settable.as_slice() {
            [] => "no field, this model has none to set".into(),
            fields => format!("the fields {}", fields.join(", ")),
        }
    }

    /// The fields and findings, once every `--set` has been used. Of a model that is `refused`, fields
    /// may not have been come to: what was set for them is reported, and does not hide the refusal.
    pub fn finish(mut self, refused: bool) -> Result<(Fields, Vec<Finding>), EngineError> {
        for (name, value) in self.set {
            if self.settable.iter().any(|settable| settable == name) {
                continue;
            }
            if self.fields.contains_key(name) {
                let allowed = format!("{} ({name} is counted from the tensors)", self.fields_to_set());
                return Err(EngineError::option(&format!("set {name}"), value, allowed));
            }
            if !refused {
                let allowed = self.fields_to_set();
                return Err(EngineError::option(&format!("set {name}"), value, allowed));
            }
            let message = format!("{name}={value} was set and not used: the model cannot be run");
            self.findings.push(Finding::warning("set-unused", message));
        }
        Ok((self.fields, self.findings))
    }
}

/// A number, also one that JSON has no word for: transformers 5 writes `{"__float__": "Infinity"}`.
pub(crate) fn number(value: &Value) -> Option<f64> {
    if let Some(number) = value.as_f64() {
        return Some(number);
    }
    match value.get("__float__")?.as_str()? {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        other => other.parse().ok(),
    }
}

/// A number that is finite in single precision, too.
fn finite(value: &Value) -> Option<f32> {
    number(value).map(|number| number as f32).filter(|number| number.is_finite())
}

/// Equal as numbers, whatever their JSON spelling.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b)
}
