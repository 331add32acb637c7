//! ONNX, as onnxruntime reads it: a graph of operators, then the tensors it computes with, one after the other.
//! Source: `onnx/onnx.proto` of ONNX 1.17 (IR version 10).
//!
//! Sizes follow from shapes and types, so everything else goes first and tensors stream after it. Same input, same bytes.

mod proto;

use std::collections::HashSet;

use statepress_core::{DType, Sink, shape};

use crate::FormatError;
use proto::Message;

/// The version of the file's layout.
const IR_VERSION: i64 = 10;
/// Protocol Buffers measure messages in 31 bits.
const MOST_BYTES: u64 = (1 << 31) - 1;

/// The number of a type in `TensorProto.DataType`.
fn data_type(dtype: DType) -> i64 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::C64 => 14,
        DType::Bf16 => 16,
        DType::F8E4m3 => 17,
        DType::F8E5m2 => 19,
        DType::F8E8m0 => 24,
    }
}

/// A dimension of what goes in or comes out.
#[derive(Clone, Debug, PartialEq)]
pub enum Dimension {
    /// So many.
    Fixed(usize),
    /// As many as it is given; the same name is the same number.
    Named(String),
}

/// What goes in, or comes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub dtype: DType,
    /// Outermost first.
    pub shape: Vec<Dimension>,
}

/// A setting of an operator.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Attribute {
    Int(i64),
    Ints(&'static [i64]),
    Float(f32),
    Type(DType),
    Text(&'static str),
    Branch(Branch),
}

/// Operators that run where a condition holds; they see what there is around them.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// In an order in which they can run.
    pub nodes: Vec<Node>,
    /// What comes out, which one of the nodes gives.
    pub output: Port,
}

/// An operator at work.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Which: `Gemm`.
    pub operator: &'static str,
    /// Whose: empty for ONNX's own.
    pub domain: &'static str,
    /// Names of what it takes; empty where one is left out.
    pub inputs: Vec<String>,
    /// Names of what it gives.
    pub outputs: Vec<String>,
    /// What is not as usual.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// A tensor that the graph computes with.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxTensor {
    /// Its name in the graph.
    pub name: String,
    /// What it holds.
    pub dtype: DType,
    /// Dimensions, outermost first; none of a single number.
    pub shape: Vec<usize>,
}

/// A small tensor whose numbers are known beforehand: a shape, an index, a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Which it is.
    pub tensor: OnnxTensor,
    /// Its numbers, little-endian.
    pub bytes: Vec<u8>,
}

/// A graph without its large tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// In an order in which they can run.
    pub nodes: Vec<Node>,
    /// What goes in.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub outputs: Vec<Port>,
    /// Small tensors.
    pub constants: Vec<Constant>,
    /// What is to be known of it.
    pub metadata: Vec<(String, String)>,
    /// The operators it is written for: whose, and of which version.
    pub operators: Vec<(&'static str, i64)>,
}

impl Graph {
    /// Holds that every name is given once, and before it is taken.
    fn check(&self, tensors: &[OnnxTensor]) -> Result<(), FormatError> {
        let mut given = HashSet::new();
        let inputs = self.inputs.iter().map(|port| &port.name);
        let constants = self.constants.iter().map(|constant| &constant.tensor.name);
        for name in inputs.chain(constants).chain(tensors.iter().map(|tensor| &tensor.name)) {
            give(name, &mut given)?;
        }
        check_nodes(&self.nodes, &mut given)?;
        match self.outputs.iter().find(|port| !given.contains(port.name.as_str())) {
            Some(port) => Err(FormatError::write(&port.name, "nothing of the graph gives it")),
            None => Ok(()),
        }
    }
}

/// Notes what nodes give, and holds that what they take is there.
fn check_nodes<'a>(nodes: &'a [Node], given: &mut HashSet<&'a str>) -> Result<(), FormatError> {
    for node in nodes {
        if let Some(name) = node.inputs.iter().find(|name| !given.contains(name.as_str())) {
            let why = format!("{} takes it, and nothing before gives it", node.operator);
            return Err(FormatError::write(name, why));
        }
        for (_, attribute) in &node.attributes {
            if let Attribute::Branch(branch) = attribute {
                check_nodes(&branch.nodes, given)?;
            }
        }
        for name in &node.outputs {
            give(name, given)?;
        }
    }
    Ok(())
}

fn give<'a>(name: &'a str, given: &mut HashSet<&'a str>) -> Result<(), FormatError> {
    if given.insert(name) { Ok(()) } else { Err(FormatError::write(name, "the name is given twice")) }
}

impl OnnxTensor {
    /// Bytes of its numbers; `None` where they overflow.
    pub fn bytes(&self) -> Option<u64> {
        (shape::elements(&self.shape)? as u64).checked_mul(self.dtype.bytes() as u64)
    }

    /// All of it but its numbers, of so many bytes, which follow.
    fn begun(&self, bytes: u64) -> Message {
        let dims = self.shape.iter().fold(Message::default(), |all, &dim| all.int(1, dim as i64));
        dims.int(2, data_type(self.dtype)).text(8, &self.name).begin(9, bytes)
    }
}

/// Writes an ONNX file tensor by tensor, in the order given.
#[derive(Debug)]
pub struct OnnxWriter<S: Sink> {
    sink: S,
    tensors: Vec<OnnxTensor>,
    /// Index of the tensor that comes next.
    next: usize,
    /// Bytes of the whole file.
    bytes: u64,
}

impl<S: Sink> OnnxWriter<S> {
    /// Writes everything but the tensors.
    ///
    /// # Errors
    /// More than Protocol Buffers can hold in a message; names that are given twice, or that nothing gives.
    pub fn new(mut sink: S, graph: &Graph, tensors: Vec<OnnxTensor>) -> Result<Self, FormatError> {
        graph.check(&tensors)?;
        let constants = graph.constants.iter().fold(Message::default(), |all, constant| {
            let begun = constant.tensor.begun(constant.bytes.len() as u64);
            all.bytes(5, &[begun.finish(), constant.bytes.clone()].concat())
        });
        let begun = Message::default().each(1, &graph.nodes, node).text(2, "statepress");
        let begun = begun.each(11, &graph.inputs, port).each(12, &graph.outputs, port);
        let begun = [begun.finish(), constants.finish()].concat();
        let mut graph_bytes = begun.len() as u64;
        for tensor in &tensors {
            // No more than can be added up: what is so large is refused.
            let numbers = tensor.bytes().unwrap_or(u64::MAX).min(u64::MAX / 2);
            let message = tensor.begun(numbers).len() + numbers;
            graph_bytes = graph_bytes.saturating_add(Message::default().begin(5, message).len() + message);
        }
        let operators = |&(domain, version): &(&str, i64)| Message::default().text(1, domain).int(2, version);
        let told = |(key, value): &(String, String)| Message::default().text(1, key).text(2, value);
        let model = Message::default()
            .int(1, IR_VERSION)
            .text(2, "statepress")
            .text(3, env!("CARGO_PKG_VERSION"))
            .each(8, &graph.operators, operators)
            .each(14, &graph.metadata, told)
            .begin(7, graph_bytes)
            .finish();
        let bytes = graph_bytes.saturating_add(model.len() as u64);
        if bytes > MOST_BYTES {
            let what = "the ONNX file of this model (smaller codes, or another format, would do)".into();
            return Err(FormatError::TooLarge { what, value: bytes, limit: MOST_BYTES });
        }
        sink.write(&model)?;
        sink.write(&begun)?;
        Ok(Self { sink, tensors, next: 0, bytes })
    }

    /// Writes the next tensor: its numbers, row-major and little-endian, some bytes at a time. Returns how many there were.
    ///
    /// # Errors
    /// Another tensor than the next one, and another number of bytes than its shape says.
    pub fn write<B: AsRef<[u8]>>(
        &mut self,
        name: &str,
        numbers: impl IntoIterator<Item = B>,
    ) -> Result<u64, FormatError> {
        let Some(tensor) = self.tensors.get(self.next).filter(|tensor| tensor.name == name) else {
            return Err(FormatError::write(name, "it is not the next tensor of the graph"));
        };
        let expected = tensor.bytes().unwrap_or(0);
        let begun = tensor.begun(expected);
        let field = Message::default().begin(5, begun.len() + expected);
        self.sink.write(&field.finish())?;
        self.sink.write(&begun.finish())?;
        let mut written = 0;
        for bytes in numbers {
            self.sink.write(bytes.as_ref())?;
            written += bytes.as_ref().len() as u64;
        }
        if written != expected {
            let why = format!("there are {written} bytes where its shape takes {expected}");
            return Err(FormatError::write(name, why));
        }
        self.next += 1;
        Ok(written)
    }

    /// Gives the sink back, and the bytes of the file. An error if tensors are missing.
    pub fn finish(self) -> Result<(S, u64), FormatError> {
        match self.tensors.get(self.next) {
            Some(missing) => Err(FormatError::write(&missing.name, "it was never given to the writer")),
            None => Ok((self.sink, self.bytes)),
        }
    }
}

fn node(node: &Node) -> Message {
    let inputs = node.inputs.iter().fold(Message::default(), |all, name| all.text(1, name));
    let outputs = node.outputs.iter().fold(inputs, |all, name| all.text(2, name));
    // Profilers and errors call a node by its name: what it gives is one.
    let named = node.outputs.first().map_or(outputs.clone(), |name| outputs.text(3, name));
    let attribute = |(name, attribute): &(&str, Attribute)| {
        let named = Message::default().text(1, name);
        match attribute {
            Attribute::Int(value) => named.int(3, *value).int(20, 2),
            Attribute::Type(dtype) => named.int(3, data_type(*dtype)).int(20, 2),
            Attribute::Ints(values) => {
                values.iter().fold(named, |named, &value| named.int(8, value)).int(20, 7)
            }
            Attribute::Float(value) => named.float(2, *value).int(20, 1),
            Attribute::Branch(Branch { nodes, output }) => {
                let graph = Message::default().each(1, nodes, self::node).text(2, &output.name);
                named.message(6, &graph.message(12, &port(output))).int(20, 5)
            }
            Attribute::Text(text) => named.text(4, text).int(20, 3),
        }
    };
    named.text(4, node.operator).each(5, &node.attributes, attribute).text(7, node.domain)
}

fn port(port: &Port) -> Message {
    let dimension = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => Message::default().int(1, *size as i64),
        Dimension::Named(name) => Message::default().text(2, name),
    };
    let shape = Message::default().each(1, &port.shape, dimension);
    let tensor = Message::default().int(1, data_type(port.dtype)).message(2, &shape);
    Message::default().text(1, &port.name).message(2, &Message::default().message(1, &tensor))
}

#[cfg(test)]
mod tests {
    use statepress_core::source::SourceError;

    use super::*;

    #[derive(Debug, Default)]
    struct Kept(Vec<u8>);

    impl Sink for Kept {
        fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
            self.0.extend(bytes);
            Ok(())
        }
    }

    fn tensor(name: &str, shape: &[usize]) -> OnnxTensor {
        OnnxTensor { name: name.into(), dtype: DType::F32, shape: shape.to_vec() }
    }

    #[test]
    fn a_file_has_as_many_bytes_as_it_says() {
        let graph = Graph { operators: vec![("", 20)], ..Graph::default() };
        let tensors = vec![tensor("a", &[2, 1]), tensor("b", &[])];
        let mut writer = OnnxWriter::new(Kept::default(), &graph, tensors).unwrap();
        assert_eq!(writer.write("a", [[0; 4]; 2]).unwrap(), 8);
        let error = writer.write("a", [[0; 8]]).unwrap_err().to_string();
        assert!(error.contains("not the next tensor"), "{error}");
        writer.write("b", [[1, 2], [3, 4]]).unwrap();
        let (Kept(bytes), said) = writer.finish().unwrap();
        assert_eq!(bytes.len() as u64, said);
        // Dimensions, type, name and numbers of the last tensor.
        assert_eq!(bytes[bytes.len() - 11..], [0x10, 1, 0x42, 1, b'b', 0x4a, 4, 1, 2, 3, 4]);
    }

    #[test]
    fn every_name_is_given_once_and_before_it_is_taken() {
        let node = |input: &str, output: &str| Node {
            operator: "Neg",
            domain: "",
            inputs: vec![input.into()],
            outputs: vec![output.into()],
            attributes: Vec::new(),
        };
        for (nodes, said) in [
            (vec![node("a", "b"), node("b", "c")], None),
            (vec![node("b", "c"), node("a", "b")], Some("nothing before gives it")),
            (vec![node("a", "b"), node("a", "b")], Some("the name is given twice")),
            (vec![node("", "b")], Some("nothing before gives it")),
        ] {
            let graph = Graph { nodes, ..Graph::default() };
            let made = OnnxWriter::new(Kept::default(), &graph, vec![tensor("a", &[1])]);
            let error = made.err().map(|error| error.to_string());
            assert_eq!(error.is_some(), said.is_some(), "{error:?}");
            assert!(error.unwrap_or_default().contains(said.unwrap_or_default()));
        }
    }

    #[test]
    fn what_one_file_cannot_hold_is_refused_before_anything_is_written() {
        let (graph, huge) = (Graph::default(), 1 << 29);
        for shape in [vec![huge], vec![huge, huge, huge]] {
            let error =
                OnnxWriter::new(Kept::default(), &graph, vec![tensor("a", &shape)]).unwrap_err().to_string();
            assert!(error.contains("is more than the limit of 2147483647"), "{error}");
        }
        let missing = OnnxWriter::new(Kept::default(), &graph, vec![tensor("a", &[1])]).unwrap().finish();
        assert!(missing.unwrap_err().to_string().contains("never given"));
        let mut short = OnnxWriter::new(Kept::default(), &graph, vec![tensor("a", &[1])]).unwrap();
        let error = short.write("a", [[0; 8]]).unwrap_err().to_string();
        assert!(error.contains("8 bytes where its shape takes 4"), "{error}");
    }
}
