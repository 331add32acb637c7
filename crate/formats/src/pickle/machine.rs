//! The stack machine: one pass over the opcodes, no recursion, every growth counted.

use std::collections::HashMap;
use std::rc::Rc;

use statepress_core::limits::{PICKLE_DEPTH, PICKLE_VALUES};

use super::opcode::Op;
use super::{Heap, Node, Pickle, Value, literal, rebuild};
use crate::FormatError;
use crate::cursor::Cursor;

/// Highest protocol there is.
const PROTOCOL: u8 = 5;

/// Bytes of the module and the name of a global.
const GLOBAL_BYTES: usize = 256;

/// Runs a pickle to its STOP.
pub(crate) fn load(cursor: Cursor<'_>) -> Result<Pickle, FormatError> {
    let mut machine =
        Machine { cursor, heap: Heap::default(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = machine.cursor.position();
        let byte = machine.cursor.u8()?;
        let op = Op::from_byte(byte)
            .ok_or_else(|| fail(at, format!("the opcode 0x{byte:02x} is not one of state dicts")))?;
        if op == Op::Stop {
            let root = machine.pop().ok_or_else(|| fail(at, "it stops without a value".into()))?;
            return Ok(Pickle { heap: machine.heap, root });
        }
        machine.step(op).map_err(|stop| match stop {
            Stop::Error(error) => error,
            Stop::Why(why) => fail(at, format!("{op:?}: {why}")),
        })?;
    }
}

fn fail(at: u64, why: String) -> FormatError {
    FormatError::malformed("pickle", format!("at byte {at}, {why}"))
}

/// Why an opcode cannot be executed.
pub(super) enum Stop {
    /// An error that says everything.
    Error(FormatError),
    /// The file contradicts itself; opcode and place are added.
    Why(String),
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Self::Error(error)
    }
}

impl From<&str> for Stop {
    fn from(why: &str) -> Self {
        Self::Why(why.into())
    }
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    heap: Heap,
    stack: Vec<Value>,
    /// Lengths of the stack at the marks that are open.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl Machine<'_> {
    fn step(&mut self, op: Op) -> Result<(), Stop> {
        match op {
            Op::Proto => {
                let protocol = self.cursor.u8()?;
                if protocol > PROTOCOL {
                    return Err(format!("protocol {protocol} is above {PROTOCOL}").into());
                }
                Ok(())
            }
            Op::Frame => {
                let len = self.cursor.u64()?;
                if len > self.cursor.left() {
                    return Err(
                        format!("a frame of {len} bytes where {} are left", self.cursor.left()).into()
                    );
                }
                Ok(())
            }
            Op::Stop => Ok(()),
            Op::Mark => {
                limit("nesting of the pickle", self.marks.len(), PICKLE_DEPTH)?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            Op::Pop => match self.marks.last() {
                Some(&mark) if mark == self.stack.len() => self.pop_mark().map(|_| ()),
                _ => self.take().map(|_| ()),
            },
            Op::PopMark => self.pop_mark().map(|_| ()),
            Op::Dup => {
                let top = self.top()?;
                self.push(top)
            }
            Op::None => self.push(Value::None),
            Op::NewTrue => self.push(Value::Bool(true)),
            Op::NewFalse => self.push(Value::Bool(false)),
            Op::Int => {
                let line = self.cursor.line()?;
                self.push(literal::int(&line).ok_or("not an integer of 64 bits")?)
            }
            Op::BinInt => {
                let value = i32::from_le_bytes(self.cursor.array()?);
                self.push(Value::Int(value.into()))
            }
            Op::BinInt1 => {
                let value = self.cursor.u8()?;
                self.push(Value::Int(value.into()))
            }
            Op::BinInt2 => {
                let value = self.cursor.u16()?;
                self.push(Value::Int(value.into()))
            }
            Op::Long => {
                let line = self.cursor.line()?;
                self.push_long(literal::long(&line))
            }
            Op::Long1 => {
                let len = self.cursor.u8()?;
                let bytes = self.cursor.take(len.into())?;
                self.push_long(literal::long_bytes(&bytes))
            }
            Op::Long4 => {
                let len = self.cursor.u32()?;
                let bytes = self.cursor.take(len.into())?;
                self.push_long(literal::long_bytes(&bytes))
            }
            Op::Float => {
                let line = self.cursor.line()?;
                self.push(Value::Float(literal::float(&line).ok_or("not a number")?))
            }
            Op::BinFloat => {
                let value = f64::from_be_bytes(self.cursor.array()?);
                self.push(Value::Float(value))
            }
            Op::Unicode => {
                let line = self.cursor.line()?;
                let text = literal::unicode(&line).ok_or("not a string")?;
                self.push_node(Node::Str(text.into()))
            }
            Op::ShortBinUnicode => {
                let len = self.cursor.u8()?;
                self.push_str(len.into())
            }
            Op::BinUnicode => {
                let len = self.cursor.u32()?;
                self.push_str(len.into())
            }
            Op::BinUnicode8 => {
                let len = self.cursor.u64()?;
                self.push_str(len)
            }
            Op::ShortBinBytes => {
                let len = self.cursor.u8()?;
                self.push_bytes(len.into())
            }
            Op::BinBytes => {
                let len = self.cursor.u32()?;
                self.push_bytes(len.into())
            }
            Op::EmptyDict => self.push_node(Node::Dict(Vec::new())),
            Op::EmptyList | Op::EmptySet => self.push_node(Node::List(Vec::new())),
            Op::EmptyTuple => self.push_node(Node::Tuple(Vec::new())),
            Op::Dict => {
                let pairs = pairs(&self.pop_mark()?)?;
                self.push_node(Node::Dict(pairs))
            }
            Op::List => {
                let items = self.pop_mark()?;
                self.push_node(Node::List(items))
            }
            Op::Tuple => {
                let items = self.pop_mark()?;
                self.push_node(Node::Tuple(items))
            }
            Op::Tuple1 => self.push_tuple(1),
            Op::Tuple2 => self.push_tuple(2),
            Op::Tuple3 => self.push_tuple(3),
            Op::SetItem => {
                let value = self.take()?;
                let key = self.take()?;
                self.set_items(vec![(key, value)])
            }
            Op::SetItems => {
                let pairs = pairs(&self.pop_mark()?)?;
                self.set_items(pairs)
            }
            Op::Append => {
                let item = self.take()?;
                self.append(&[item])
            }
            Op::Appends | Op::AddItems => {
                let items = self.pop_mark()?;
                self.append(&items)
            }
            Op::BinPut => {
                let index = self.cursor.u8()?;
                self.memoize(index.into())
            }
            Op::LongBinPut => {
                let index = self.cursor.u32()?;
                self.memoize(index)
            }
            Op::Memoize => {
                let index = u32::try_from(self.memo.len()).map_err(|_| "the memo is full")?;
                self.memoize(index)
            }
            Op::BinGet => {
                let index = self.cursor.u8()?;
                self.recall(index.into())
            }
            Op::LongBinGet => {
                let index = self.cursor.u32()?;
                self.recall(index)
            }
            Op::Global => {
                let module = self.cursor.line()?;
                let name = self.cursor.line()?;
                let module = self.node(Node::Str(String::from_utf8_lossy(&module).into()))?;
                let name = self.node(Node::Str(String::from_utf8_lossy(&name).into()))?;
                self.push_global(module, name)
            }
            Op::StackGlobal => {
                let name = self.take()?;
                let module = self.take()?;
                self.push_global(module, name)
            }
            Op::Reduce | Op::NewObj => {
                let args = self.take()?;
                let callee = self.take()?;
                let made = rebuild::construct(&self.heap, callee, args)?;
                match made {
                    rebuild::Made::Node(node) => self.push_node(node),
                    rebuild::Made::Value(value) => self.push(value),
                }
            }
            Op::Build => {
                let state = self.take()?;
                let object = self.top()?;
                self.build(object, state)
            }
            Op::BinPersId => {
                let id = self.take()?;
                let storage = rebuild::storage(&self.heap, id)?;
                self.push_node(Node::Storage(Rc::new(storage)))
            }
        }
    }

    fn push(&mut self, value: Value) -> Result<(), Stop> {
        limit("values on the stack of the pickle", self.stack.len(), PICKLE_VALUES)?;
        self.stack.push(value);
        Ok(())
    }

    fn node(&mut self, node: Node) -> Result<Value, Stop> {
        let at = self.heap.nodes.len();
        limit("values in the pickle", at, PICKLE_VALUES)?;
        self.heap.nodes.push(node);
        Ok(Value::Ref(at as u32))
    }

    fn push_node(&mut self, node: Node) -> Result<(), Stop> {
        let value = self.node(node)?;
        self.push(value)
    }

    /// An integer of up to 128 bits. What 64 bits do not hold is kept as text: only random seeds
    /// are so large.
    fn push_long(&mut self, value: Option<i128>) -> Result<(), Stop> {
        let value = value.ok_or("not an integer of 128 bits")?;
        match i64::try_from(value) {
            Ok(value) => self.push(Value::Int(value)),
            Err(_) => self.push_node(Node::Str(value.to_string().into())),
        }
    }

    fn push_str(&mut self, len: u64) -> Result<(), Stop> {
        // Python writes lone surrogates in a way that UTF-8 forbids; they do not occur in keys.
        let text = String::from_utf8(self.cursor.take(len)?).map_err(|_| "a string is not UTF-8")?;
        self.push_node(Node::Str(text.into()))
    }

    fn push_bytes(&mut self, len: u64) -> Result<(), Stop> {
        self.cursor.skip(len)?;
        self.push_node(Node::Bytes(len))
    }

    fn push_tuple(&mut self, len: usize) -> Result<(), Stop> {
        let base = self.marks.last().copied().unwrap_or(0);
        let at = self.stack.len().checked_sub(len).filter(|&at| at >= base).ok_or(EMPTY)?;
        let items = self.stack.split_off(at);
        self.push_node(Node::Tuple(items))
    }

    fn push_global(&mut self, module: Value, name: Value) -> Result<(), Stop> {
        let (Some(in_module), Some(named)) = (self.heap.str(module), self.heap.str(name)) else {
            return Err("module and name are not strings".into());
        };
        // Its name is put together whenever it is used.
        limit("bytes of the name of a global", in_module.len().saturating_add(named.len()), GLOBAL_BYTES)?;
        if in_module == "torch.nn" || in_module.starts_with("torch.nn.") {
            return Err(FormatError::WholeModule { class: format!("{in_module}.{named}") }.into());
        }
        self.push_node(Node::Global(module, name))
    }

    fn pop(&mut self) -> Option<Value> {
        let base = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > base { self.stack.pop() } else { None }
    }

    fn take(&mut self) -> Result<Value, Stop> {
        self.pop().ok_or(EMPTY.into())
    }

    fn top(&self) -> Result<Value, Stop> {
        let base = self.marks.last().copied().unwrap_or(0);
        self.stack.get(base..).and_then(<[_]>::last).copied().ok_or(EMPTY.into())
    }

    /// Everything above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Value>, Stop> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn memoize(&mut self, index: u32) -> Result<(), Stop> {
        limit("values in the memo of the pickle", self.memo.len(), PICKLE_VALUES)?;
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), Stop> {
        let value = *self.memo.get(&index).ok_or_else(|| format!("nothing is memoized as {index}"))?;
        self.push(value)
    }

    fn set_items(&mut self, pairs: Vec<(Value, Value)>) -> Result<(), Stop> {
        match self.top_node()? {
            Node::Dict(dict) => dict.extend(pairs),
            // Items of a subclass of dict: nothing reads them.
            Node::Record { .. } => {}
            _ => return Err("the target is not a dict".into()),
        }
        Ok(())
    }

    fn append(&mut self, items: &[Value]) -> Result<(), Stop> {
        match self.top_node()? {
            Node::List(list) => list.extend(items),
            Node::Record { .. } => {}
            _ => return Err("the target is not a list".into()),
        }
        Ok(())
    }

    fn build(&mut self, object: Value, state: Value) -> Result<(), Stop> {
        match self.node_mut(object) {
            Some(Node::Record { state: fields, .. }) => *fields = state,
            // Attributes of an OrderedDict (`_metadata`) or of a tensor: nothing reads them.
            Some(Node::Dict(_) | Node::Tensor(_)) => {}
            _ => return Err("the target has no fields".into()),
        }
        Ok(())
    }

    fn top_node(&mut self) -> Result<&mut Node, Stop> {
        let top = self.top()?;
        self.node_mut(top).ok_or("the target is not a container".into())
    }

    fn node_mut(&mut self, value: Value) -> Option<&mut Node> {
        match value {
            Value::Ref(at) => self.heap.nodes.get_mut(at as usize),
            _ => None,
        }
    }
}

const EMPTY: &str = "the stack is empty";

fn limit(what: &str, value: usize, limit: usize) -> Result<(), Stop> {
    if value < limit {
        return Ok(());
    }
    Err(FormatError::TooLarge { what: what.into(), value: value as u64 + 1, limit: limit as u64 }.into())
}

fn pairs(items: &[Value]) -> Result<Vec<(Value, Value)>, Stop> {
    match items.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a key without a value".into()),
    }
}
