//! The stack machine: one pass over the opcodes, no recursion, every growth counted.

use statepress_core::words::counted;
use std::collections::HashMap;
use std::rc::Rc;

use statepress_core::limits::PICKLE_MARKS;

use super::opcode::Op;
use super::stack::{limit, pairs};
use super::{Heap, Node, Pickle, Record, Value, literal, tensor};
use crate::FormatError;
use crate::cursor::Cursor;

/// Highest protocol there is.
const PROTOCOL: u8 = 5;

/// Runs a pickle to its STOP; the cursor stands behind it then.
pub(crate) fn load(cursor: &mut Cursor<'_>) -> Result<Pickle, FormatError> {
    let mut machine =
        Machine { cursor, heap: Heap::default(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = machine.cursor.position();
        let byte = machine.cursor.u8()?;
        let op = Op::from_byte(byte).ok_or_else(|| fail(at, format!("there is no opcode 0x{byte:02x}")))?;
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

pub(super) struct Machine<'a, 'c> {
    pub(super) cursor: &'a mut Cursor<'c>,
    pub(super) heap: Heap,
    pub(super) stack: Vec<Value>,
    /// Lengths of the stack at the marks that are open.
    pub(super) marks: Vec<usize>,
    pub(super) memo: HashMap<u32, Value>,
}

impl Machine<'_, '_> {
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
                    return Err(format!(
                        "a frame of {} where {} left",
                        counted(len, "byte", "bytes"),
                        counted(self.cursor.left(), "is", "are")
                    )
                    .into());
                }
                Ok(())
            }
            Op::Stop => Ok(()),
            Op::Mark => {
                limit("nesting of the pickle", self.marks.len(), PICKLE_MARKS)?;
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
                match literal::boolean(&line) {
                    Some(value) => self.push(Value::Bool(value)),
                    None => self.push_whole(literal::whole(&line).ok_or("not an integer")?),
                }
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
                self.push_whole(literal::whole(&line).ok_or("not an integer")?)
            }
            Op::Long1 => {
                let len = self.cursor.u8()?;
                let bytes = self.cursor.take(len.into())?;
                self.push_whole(literal::long_bytes(&bytes))
            }
            Op::Long4 => {
                let len = self.cursor.u32()?;
                let bytes = self.cursor.take(len.into())?;
                self.push_whole(literal::long_bytes(&bytes))
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
            Op::String => {
                let line = self.cursor.line()?;
                let bytes = literal::quoted(&line).ok_or("not a string in quotes")?;
                self.push_old_text(bytes)
            }
            Op::BinString => {
                let len = self.cursor.u32()?.into();
                self.push_old_str(len)
            }
            Op::ShortBinString => {
                let len = self.cursor.u8()?;
                self.push_old_str(len.into())
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
            Op::BinBytes8 | Op::ByteArray8 => {
                let len = self.cursor.u64()?;
                self.push_bytes(len)
            }
            Op::EmptyDict => self.push_node(Node::Dict(Vec::new())),
            Op::EmptyList | Op::EmptySet => self.push_node(Node::List(Vec::new())),
            Op::EmptyTuple => self.push_node(Node::Tuple(Vec::new())),
            Op::Dict => {
                let pairs = pairs(&self.pop_mark()?)?;
                self.push_node(Node::Dict(pairs))
            }
            Op::List | Op::FrozenSet => {
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
            Op::Put => {
                let index = self.index()?;
                self.memoize(index)
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
            Op::Get => {
                let index = self.index()?;
                self.recall(index)
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
                let global = self.read_global()?;
                self.push(global)
            }
            Op::StackGlobal => {
                let name = self.take()?;
                let module = self.take()?;
                let global = self.global(module, name)?;
                self.push(global)
            }
            Op::Reduce | Op::NewObj => {
                let args = self.take()?;
                let callee = self.take()?;
                self.construct(callee, args)
            }
            Op::NewObjEx => {
                let keywords = self.take()?;
                let args = self.take()?;
                let callee = self.take()?;
                self.push_node(Node::Record(Record { callee, args, state: keywords, held: None }))
            }
            Op::Inst => {
                let callee = self.read_global()?;
                let args = self.pop_mark()?;
                let args = self.node(Node::Tuple(args))?;
                self.construct(callee, args)
            }
            Op::Obj => {
                let mut args = self.pop_mark()?.into_iter();
                let callee = args.next().ok_or("there is no class")?;
                let args = self.node(Node::Tuple(args.collect()))?;
                self.construct(callee, args)
            }
            Op::Build => {
                let state = self.take()?;
                let object = self.top()?;
                self.build(object, state)
            }
            Op::BinPersId => {
                let id = self.take()?;
                match tensor::module(&self.heap, id) {
                    Some(class) => self.push(class),
                    None => {
                        let storage = tensor::storage(&self.heap, id)?;
                        self.push_node(Node::Storage(Rc::new(storage)))
                    }
                }
            }
            Op::PersId => Err("a persistent id that is not a storage".into()),
            Op::Ext1 | Op::Ext2 | Op::Ext4 => {
                Err("it names a class by a code that only the program which wrote it knows".into())
            }
            Op::NextBuffer | Op::ReadonlyBuffer => {
                Err("it takes a buffer that is not in the file (pickled with buffer_callback)".into())
            }
        }
    }
}
