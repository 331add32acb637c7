//! Work that may have to wait: its result where it is there at once, otherwise a promise.
//!
//! On the CPU everything is there at once. Then there is no promise to be made, and a trap is
//! thrown to the caller, as it is not from the inside of one.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use wasm_bindgen::JsValue;
use wasm_bindgen_futures::future_to_promise;

use crate::Result;
use crate::convert::js_error;

/// Runs as far as it goes without waiting.
pub fn now_or_later(future: impl Future<Output = Result<JsValue>> + 'static) -> Result<JsValue> {
    let mut future: Pin<Box<_>> = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(future_to_promise(future).into()),
    }
}

/// Something that one piece of work at a time changes. If it is freed in the meantime, it lives until that ends.
pub struct Slot<T>(Rc<RefCell<Option<T>>>);

impl<T: 'static> Slot<T> {
    pub fn new(value: T) -> Self {
        Self(Rc::new(RefCell::new(Some(value))))
    }

    /// Works on it.
    pub fn work(&self, work: impl AsyncFnOnce(&mut T) -> Result<JsValue> + 'static) -> Result<JsValue> {
        let mut value = self.take()?;
        let slot = self.0.clone();
        now_or_later(async move {
            let result = work(&mut value).await;
            *slot.borrow_mut() = Some(value);
            result
        })
    }

    /// Looks at it.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.borrow().as_ref().map(look)
    }

    /// Takes it out for good.
    pub fn take(&self) -> Result<T> {
        let value = self.0.borrow_mut().take();
        value.ok_or_else(|| js_error("internal", "the last step has not ended, or was the last one"))
    }
}
