//! Sources and sinks that JavaScript implements.

use statepress::{Sink, Source, SourceError, check_range};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// `{ name?: string, size: number, readAt(offset: number, buffer: Uint8Array): void }`, synchronous.
    pub type SourceObject;

    #[wasm_bindgen(method, getter)]
    fn name(this: &SourceObject) -> Option<String>;

    #[wasm_bindgen(method, getter)]
    fn size(this: &SourceObject) -> f64;

    #[wasm_bindgen(method, catch, js_name = readAt)]
    fn read_at(this: &SourceObject, offset: f64, buffer: &mut [u8]) -> Result<(), JsValue>;

    /// `{ write(bytes: Uint8Array): void }`, synchronous. The bytes are a view into wasm memory,
    /// valid during the call only.
    pub type SinkObject;

    #[wasm_bindgen(method, catch)]
    fn write(this: &SinkObject, bytes: &[u8]) -> Result<(), JsValue>;
}

/// A source that JavaScript implements.
pub struct JsSource {
    object: SourceObject,
    len: u64,
}

impl JsSource {
    /// Wraps the object; its size is asked once.
    pub fn new(object: SourceObject) -> Self {
        let len = object.size() as u64;
        Self { object, len }
    }

    /// What the file is called, where it matters.
    pub fn name(&self) -> Option<String> {
        self.object.name()
    }
}

impl Source for JsSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        check_range(offset, buffer.len(), self.len)?;
        self.object.read_at(offset as f64, buffer).map_err(platform)
    }
}

/// A sink that JavaScript implements.
pub struct JsSink(pub SinkObject);

impl Sink for JsSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.0.write(bytes).map_err(platform)
    }
}

fn platform(error: JsValue) -> SourceError {
    let message = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    SourceError::Platform(message.unwrap_or_else(|| format!("{error:?}")))
}
