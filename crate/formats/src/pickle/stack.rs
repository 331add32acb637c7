//! The stack, the marks and the memo of the machine: every growth is counted.

use statepress_core::limits::PICKLE_VALUES;

use super::construct::{Made, construct};
use super::literal::Whole;
use super::machine::{Machine, Stop};
use super::value::Held;
use super::{Node, Value};
use crate::FormatError;

/// Bytes of the module and the name of a global.
const GLOBAL_BYTES: usize = 256;

/// Bytes of a text that is kept; arrays are written as longer ones, which nobody reads.
const TEXT_BYTES: u64 = 1 << 20;

impl Machine<'_, '_> {
    pub(super) fn push(&mut self, value: Value) -> Result<(), Stop> {
        limit("values on the stack of the pickle", self.stack.len(), PICKLE_VALUES)?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn node(&mut self, node: Node) -> Result<Value, Stop> {
        let at = self.heap.nodes.len();
        limit("values in the pickle", at, PICKLE_VALUES)?;
        self.heap.nodes.push(node);
        Ok(Value::Ref(at as u32))
    }

    pub(super) fn push_node(&mut self, node: Node) -> Result<(), Stop> {
        let value = self.node(node)?;
        self.push(value)
    }

    /// What 64 bits do not hold is kept as text: only random seeds are so large.
    pub(super) fn push_whole(&mut self, value: Whole) -> Result<(), Stop> {
        match value {
            Whole::Small(value) => self.push(Value::Int(value)),
            Whole::Large(digits) => self.push_node(Node::Str(digits.into())),
        }
    }

    /// Python writes lone surrogates in a way that UTF-8 forbids: they are replaced.
    pub(super) fn push_str(&mut self, len: u64) -> Result<(), Stop> {
        if len > TEXT_BYTES {
            return self.push_bytes(len);
        }
        let bytes = self.cursor.take(len)?;
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        self.push_node(Node::Str(text.into()))
    }

    /// A string of Python 2.
    pub(super) fn push_old_str(&mut self, len: u64) -> Result<(), Stop> {
        if len > TEXT_BYTES {
            return self.push_bytes(len);
        }
        let bytes = self.cursor.take(len)?;
        self.push_old_text(bytes)
    }

    /// Its bytes, which are text where they can be.
    pub(super) fn push_old_text(&mut self, bytes: Vec<u8>) -> Result<(), Stop> {
        match String::from_utf8(bytes) {
            Ok(text) => self.push_node(Node::Str(text.into())),
            Err(error) => {
                let bytes = error.into_bytes();
                let mut first = [0; 8];
                first.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
                self.push_node(Node::Bytes { len: bytes.len() as u64, first })
            }
        }
    }

    pub(super) fn push_bytes(&mut self, len: u64) -> Result<(), Stop> {
        self.cursor.need(len)?;
        let mut first = [0; 8];
        let head = self.cursor.take(len.min(first.len() as u64))?;
        first[..head.len()].copy_from_slice(&head);
        self.cursor.skip(len - head.len() as u64)?;
        self.push_node(Node::Bytes { len, first })
    }

    pub(super) fn push_tuple(&mut self, len: usize) -> Result<(), Stop> {
        let base = self.marks.last().copied().unwrap_or(0);
        let at = self.stack.len().checked_sub(len).filter(|&at| at >= base).ok_or(EMPTY)?;
        let items = self.stack.split_off(at);
        self.push_node(Node::Tuple(items))
    }

    /// A global whose module and name are two lines.
    pub(super) fn read_global(&mut self) -> Result<Value, Stop> {
        let module = self.cursor.line()?;
        let name = self.cursor.line()?;
        let module = self.node(Node::Str(String::from_utf8_lossy(&module).into()))?;
        let name = self.node(Node::Str(String::from_utf8_lossy(&name).into()))?;
        self.global(module, name)
    }

    pub(super) fn global(&mut self, module: Value, name: Value) -> Result<Value, Stop> {
        let (Some(in_module), Some(named)) = (self.heap.str(module), self.heap.str(name)) else {
            return Err("module and name are not strings".into());
        };
        // Its name is put together whenever it is used.
        limit("bytes of the name of a global", in_module.len().saturating_add(named.len()), GLOBAL_BYTES)?;
        self.node(Node::Global(module, name))
    }

    pub(super) fn construct(&mut self, callee: Value, args: Value) -> Result<(), Stop> {
        match construct(&mut self.heap, callee, args)? {
            Made::Node(node) => self.push_node(node),
            Made::Value(value) => self.push(value),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Value> {
        let base = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > base { self.stack.pop() } else { None }
    }

    pub(super) fn take(&mut self) -> Result<Value, Stop> {
        self.pop().ok_or(EMPTY.into())
    }

    pub(super) fn top(&self) -> Result<Value, Stop> {
        let base = self.marks.last().copied().unwrap_or(0);
        self.stack.get(base..).and_then(<[_]>::last).copied().ok_or(EMPTY.into())
    }

    /// Everything above the last mark.
    pub(super) fn pop_mark(&mut self) -> Result<Vec<Value>, Stop> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn memoize(&mut self, index: u32) -> Result<(), Stop> {
        limit("values in the memo of the pickle", self.memo.len(), PICKLE_VALUES)?;
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    pub(super) fn recall(&mut self, index: u32) -> Result<(), Stop> {
        let value = *self.memo.get(&index).ok_or_else(|| format!("nothing is memoized as {index}"))?;
        self.push(value)
    }

    /// The index of PUT and GET, in decimal.
    pub(super) fn index(&mut self) -> Result<u32, Stop> {
        let line = self.cursor.line()?;
        std::str::from_utf8(&line).ok().and_then(|line| line.parse().ok()).ok_or("not an index".into())
    }

    pub(super) fn set_items(&mut self, pairs: Vec<(Value, Value)>) -> Result<(), Stop> {
        match self.top_node()? {
            Node::Dict(dict) => dict.extend(pairs),
            Node::Record(record) => record.held.get_or_insert_with(Box::<Held>::default).pairs.extend(pairs),
            _ => return Err("the target is not a dict".into()),
        }
        Ok(())
    }

    pub(super) fn append(&mut self, items: &[Value]) -> Result<(), Stop> {
        match self.top_node()? {
            Node::List(list) => list.extend(items),
            Node::Record(record) => record.held.get_or_insert_with(Box::<Held>::default).items.extend(items),
            _ => return Err("the target is not a list".into()),
        }
        Ok(())
    }

    pub(super) fn build(&mut self, object: Value, state: Value) -> Result<(), Stop> {
        match self.node_mut(object) {
            Some(Node::Record(record)) => record.state = state,
            // Attributes of an OrderedDict (`_metadata`) or of a tensor: nothing reads them.
            Some(_) => {}
            None => return Err("the target has no fields".into()),
        }
        Ok(())
    }

    pub(super) fn top_node(&mut self) -> Result<&mut Node, Stop> {
        let top = self.top()?;
        self.node_mut(top).ok_or("the target is not a container".into())
    }

    pub(super) fn node_mut(&mut self, value: Value) -> Option<&mut Node> {
        match value {
            Value::Ref(at) => self.heap.nodes.get_mut(at as usize),
            _ => None,
        }
    }
}

const EMPTY: &str = "the stack is empty";

pub(super) fn limit(what: &str, value: usize, limit: usize) -> Result<(), Stop> {
    if value < limit {
        return Ok(());
    }
    Err(FormatError::TooLarge { what: what.into(), value: value as u64 + 1, limit: limit as u64 }.into())
}

pub(super) fn pairs(items: &[Value]) -> Result<Vec<(Value, Value)>, Stop> {
    match items.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a key without a value".into()),
    }
}
