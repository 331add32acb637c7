//! Values across the border.

use js_sys::{Object, Reflect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use statepress::recipe::Codecs;
use statepress::{Adapter, AnyModel, Chosen, Loaded, Recipe, recipes};
use wasm_bindgen::prelude::*;

use crate::Result;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// Seconds since some fixed moment.
pub fn now() -> f64 {
    performance_now() / 1000.0
}

/// A JSON object. serde-wasm-bindgen gives whole JavaScript numbers as floats; they are made
/// whole again, because options such as `top_k_experts` are counts.
pub struct JsonObject(pub serde_json::Map<String, serde_json::Value>);

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut map = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
        map.values_mut().for_each(statepress::make_whole);
        Ok(Self(map))
    }
}

/// A plain JavaScript value of a report.
pub fn to_js(value: &impl Serialize) -> Result<JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).map_err(|error| js_error("internal", &error.to_string()))
}

/// Options; `undefined` and `null` are the defaults.
pub fn from_js<T: DeserializeOwned + Default>(what: &str, value: JsValue) -> Result<T> {
    if value.is_undefined() || value.is_null() {
        return Ok(T::default());
    }
    serde_wasm_bindgen::from_value(value)
        .map_err(|error| js_error("bad-option", &format!("{what} options: {error}")))
}

/// A value that has to be there, and nothing beside it.
pub fn given<T: DeserializeOwned>(what: &str, value: &JsValue) -> Result<T> {
    let refused = |why: String| js_error("bad-option", &format!("{what}: {why}"));
    read(&json(value).map_err(refused)?).map_err(|error| refused(error.to_string()))
}

/// What JSON stands for. By way of a value, as recipes are read: the code for their types is there once then.
fn read<T: DeserializeOwned>(json: &str) -> serde_json::Result<T> {
    T::deserialize(&serde_json::from_str::<serde_json::Value>(json)?)
}

/// A number of JavaScript that has to be whole and not negative: a count, a size, a seed.
pub fn whole<T: TryFrom<u64>>(option: &str, given: Option<f64>) -> Result<Option<T>> {
    let refused = |value: f64| {
        // As JavaScript writes it: 1e300 has 301 digits in Rust.
        let value =
            js_sys::Number::from(value).to_string_with_radix(10).map(String::from).unwrap_or_default();
        bad_option(option, &value, &format!("a whole number from 0 to {}", largest::<T>()))
    };
    given.map(|value| to_whole(value).ok_or_else(|| refused(value))).transpose()
}

/// The number, if it is exact as a JavaScript number and fits.
fn to_whole<T: TryFrom<u64>>(value: f64) -> Option<T> {
    let exact = value.fract() == 0.0 && (0.0..=largest::<T>() as f64).contains(&value);
    if exact { T::try_from(value as u64).ok() } else { None }
}

/// The largest number of a type that is exact in JavaScript too.
fn largest<T: TryFrom<u64>>() -> u64 {
    const SAFE: u64 = (1 << 53) - 1;
    if T::try_from(SAFE).is_ok() { SAFE } else { u64::from(u32::MAX) }
}

/// A recipe object, or the name of a built-in one.
pub fn recipe(value: JsValue) -> Result<Recipe> {
    if let Some(name) = value.as_string() {
        return recipes::find(&name).map_err(fail);
    }
    let not_a_recipe = |why: String| js_error("bad-recipe", &format!("not a recipe: {why}"));
    let json = json(&value).map_err(not_a_recipe)?;
    Recipe::from_json(&json).map_err(|error| fail(statepress::Error::from(error)))
}

/// How precisions are done; what is `undefined` is the default.
pub fn codecs(value: JsValue) -> Result<Codecs> {
    if value.is_undefined() {
        return Ok(Codecs::default());
    }
    let refused = |why: String| {
        let error = js_error("bad-option", &format!("option quantize: {why}"));
        set_fact(&error, "option", "quantize");
        error
    };
    read(&json(&value).map_err(refused)?).map_err(|error| refused(error.to_string()))
}

/// A value as JSON, which unlike [`from_js`] keeps the fields that nobody asks for: they are refused.
fn json(value: &JsValue) -> std::result::Result<String, String> {
    let json = js_sys::JSON::stringify(value).map_err(|thrown| {
        let message = thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
        message.unwrap_or_else(|| "it is no JSON".into())
    })?;
    json.as_string().ok_or_else(|| "not an object".into())
}

/// What is worth knowing about a loaded model.
pub fn info(model: &AnyModel) -> Result<Object> {
    let info = model.info();
    let object = Object::new();
    let set = |key: &str, value: JsValue| Reflect::set(&object, &key.into(), &value);
    set("bytes", (info.bytes as f64).into())?;
    set("fileBytes", (info.file_bytes as f64).into())?;
    set("vocabSize", (info.vocab_size as f64).into())?;
    if let Some(most) = info.max_tokens {
        set("maxTokens", (most as f64).into())?;
    }
    set("offset", (info.offset as f64).into())?;
    set("findings", to_js(&info.findings)?)?;
    Ok(object)
}

/// What computes.
pub fn backend(chosen: &Chosen) -> Result<Object> {
    let object = Object::new();
    let set = |key: &str, value: JsValue| Reflect::set(&object, &key.into(), &value);
    set("name", if chosen.gpu.is_some() { "webgpu".into() } else { "cpu".into() })?;
    set("reason", chosen.reason.as_str().into())?;
    if let Some(gpu) = &chosen.gpu {
        let Adapter { name, api, features, software, max_buffer } = gpu.adapter().clone();
        let adapter = serde_json::json!({
            "name": name, "api": api, "features": features, "software": software, "maxBuffer": max_buffer,
        });
        set("adapter", to_js(&adapter)?)?;
    }
    if let Some(finding) = &chosen.finding {
        set("finding", to_js(finding)?)?;
    }
    Ok(object)
}

/// What a decoded token costs on a GPU; `undefined` on the CPU.
pub fn explained(model: &AnyModel) -> Result<JsValue> {
    let AnyModel::Gpu(model) = model else { return Ok(JsValue::UNDEFINED) };
    let rows = statepress::explain(model.network()).into_iter().map(|row| {
        serde_json::json!({
            "kernel": row.kernel, "precisions": row.precisions, "dispatches": row.dispatches,
            "weights": row.weights, "activations": row.activations,
        })
    });
    to_js(&rows.collect::<Vec<_>>())
}

/// An error of an option that is checked here.
pub fn bad_option(option: &str, value: &str, allowed: &str) -> JsValue {
    let error = js_error("bad-option", &format!("option {option} is {value:?}; allowed: {allowed}"));
    for (name, value) in [("option", option), ("value", value), ("allowed", allowed)] {
        set_fact(&error, name, value);
    }
    error
}

/// A JavaScript `Error` with the code, the message and the facts of ours.
pub fn fail(error: impl Into<statepress::Error>) -> JsValue {
    let error = error.into();
    let object = js_error(error.code(), &error.to_string());
    for (name, value) in error.facts() {
        set_fact(&object, name, &value);
    }
    object
}

/// A JavaScript `Error` with a code.
pub fn js_error(code: &str, message: &str) -> JsValue {
    let error = js_sys::Error::new(message).into();
    set_fact(&error, "code", code);
    error
}

fn set_fact(error: &JsValue, name: &str, value: &str) {
    // Setting a property of a fresh Error cannot fail.
    let _ = Reflect::set(error, &name.into(), &value.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_that_fit_are_counts() {
        for bad in
            [-1.0, -0.5, 0.5, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9_007_199_254_740_992.0]
        {
            assert_eq!(to_whole::<u64>(bad), None, "{bad}");
            assert_eq!(to_whole::<u32>(bad), None, "{bad}");
        }
        assert_eq!(to_whole::<u64>(9_007_199_254_740_991.0), Some(9_007_199_254_740_991));
        assert_eq!(to_whole::<u32>(4_294_967_296.0), None);
        assert_eq!(to_whole::<u32>(4_294_967_295.0), Some(u32::MAX));
        assert_eq!(to_whole::<usize>(0.0), Some(0));
        assert_eq!(to_whole::<usize>(-0.0), Some(0));
    }
}
