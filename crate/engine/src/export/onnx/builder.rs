//! A graph being built: what is called how, and what every step takes.

use statepress_core::{DType, Index};
use statepress_formats::export::onnx::{Attribute, Branch, Constant, Graph, Node, OnnxTensor, Port};
use statepress_kernels::program::{Program, StateId, StateSize, ValueId, View};

use super::graph::fixed;
use super::weights::{Weight, floats};
use crate::EngineError;
use crate::families::ModelSpec;

/// The version of ONNX's own operators: the first with GELU is 20.
const OPSET: i64 = 20;
/// Operators of onnxruntime that multiply codes.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// What a program makes.
pub(super) struct Built {
    pub graph: Graph,
    pub weights: Vec<Weight>,
    /// Tensors that have no operator for what they are, and are written as float32: the key, and why.
    pub as_floats: Vec<(String, String)>,
}

/// What is there so far.
pub(super) struct Builder<'a> {
    pub program: &'a Program,
    pub spec: &'a ModelSpec,
    pub index: &'a Index,
    pub graph: Graph,
    pub weights: Vec<Weight>,
    pub as_floats: Vec<(String, String)>,
    /// What each value is called as it is now.
    pub values: Vec<Option<String>>,
    /// What each state is called behind `past.` and `present.`.
    pub remembered: Vec<String>,
    /// How many names were made.
    made: usize,
    /// A key that the index lacks.
    pub missing: Option<String>,
}

impl<'a> Builder<'a> {
    pub fn new(program: &'a Program, spec: &'a ModelSpec, index: &'a Index) -> Self {
        Self {
            program,
            spec,
            index,
            graph: Graph { operators: vec![("", OPSET), (MICROSOFT, 1)], ..Graph::default() },
            weights: Vec::new(),
            as_floats: Vec::new(),
            values: vec![None; program.widths.len()],
            remembered: Vec::new(),
            made: 0,
            missing: None,
        }
    }

    pub fn finish(self) -> Result<Built, EngineError> {
        match self.missing {
            Some(key) => Err(EngineError::Keys { missing: vec![key], unexpected: Vec::new() }),
            None => Ok(Built { graph: self.graph, weights: self.weights, as_floats: self.as_floats }),
        }
    }
}

impl Builder<'_> {
    /// What a state was before this token.
    pub fn past(&self, id: StateId) -> String {
        format!("past.{}", self.remembered[id.0])
    }

    /// An operator that gives what a state is from now on.
    pub fn present(
        &mut self,
        id: StateId,
        operator: &'static str,
        inputs: &[&str],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let name = format!("present.{}", self.remembered[id.0]);
        self.push(operator, "", inputs, vec![name.clone()], attributes);
        name
    }

    /// A state of fixed size is this from now on.
    pub fn remember(&mut self, id: StateId, numbers: &str) {
        let StateSize::Fixed(dims) = &self.program.states[id.0].size else { return };
        let shape: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        let shape = self.ints(&shape);
        self.present(id, "Reshape", &[numbers, &shape], Vec::new());
    }

    /// A whole value.
    pub fn whole(&self, id: ValueId) -> String {
        self.values[id.0].clone().unwrap_or_default()
    }

    pub fn view(&mut self, view: View) -> String {
        let whole = self.whole(view.value);
        self.columns(&whole, self.program.width(view.value), view.first, view.width)
    }

    /// Some columns of so many, of which there are two dimensions; nothing where it is none of them.
    pub fn columns(&mut self, x: &str, of: usize, first: usize, count: usize) -> String {
        if count == of || count == 0 {
            return if count == 0 { String::new() } else { x.into() };
        }
        let [from, to, axis] = [first, first + count, 1].map(|it| self.ints(&[it as i64]));
        self.call("Slice", &[x, &from, &to, &axis])
    }

    pub fn concatenated(&mut self, axis: i64, parts: &[&str]) -> String {
        match parts {
            [only] => (*only).into(),
            _ => self.node("Concat", "", parts, vec![("axis", Attribute::Int(axis))]),
        }
    }

    pub fn reshaped(&mut self, x: &str, shape: &[usize]) -> String {
        let shape: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
        self.reshape(x, &shape)
    }

    pub fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.call("Reshape", &[x, &shape])
    }

    pub fn scaled(&mut self, x: String, by: f32) -> String {
        if by == 1.0 {
            return x;
        }
        let by = self.number(by);
        self.call("Mul", &[&x, &by])
    }

    /// As float32.
    pub fn float32(&mut self, x: &str, dtype: DType) -> String {
        if dtype == DType::F32 {
            return x.into();
        }
        self.node("Cast", "", &[x], vec![("to", Attribute::Type(DType::F32))])
    }

    pub fn ints(&mut self, values: &[i64]) -> String {
        let name = values.iter().map(i64::to_string).collect::<Vec<_>>().join("_");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(&format!("ints_{name}"), DType::I64, vec![values.len()], bytes)
    }

    pub fn number(&mut self, value: f32) -> String {
        self.constant(&format!("number_{value}"), DType::F32, Vec::new(), floats(&[value]))
    }

    /// `[1, width]`.
    pub fn zeros(&mut self, width: usize) -> String {
        self.constant("zeros", DType::F32, vec![1, width], vec![0; 4 * width])
    }

    /// A small tensor, once: it is called by what it is and its shape.
    pub fn constant(&mut self, name: &str, dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> String {
        let dims: String = shape.iter().map(|dim| format!("_{dim}")).collect();
        let name = format!("{name}{dims}");
        if !self.graph.constants.iter().any(|it| it.tensor.name == name) {
            let tensor = OnnxTensor { name: name.clone(), dtype, shape };
            self.graph.constants.push(Constant { tensor, bytes });
        }
        name
    }

    pub fn call(&mut self, operator: &'static str, inputs: &[&str]) -> String {
        self.node(operator, "", inputs, Vec::new())
    }

    pub fn node(
        &mut self,
        operator: &'static str,
        domain: &'static str,
        inputs: &[&str],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let output = self.fresh();
        self.push(operator, domain, inputs, vec![output.clone()], attributes);
        output
    }

    pub fn push(
        &mut self,
        operator: &'static str,
        domain: &'static str,
        inputs: &[&str],
        outputs: Vec<String>,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        let inputs = inputs.iter().map(|&name| name.into()).collect();
        self.graph.nodes.push(Node { operator, domain, inputs, outputs, attributes });
    }

    pub fn fresh(&mut self) -> String {
        self.made += 1;
        format!("value_{}", self.made)
    }

    /// What is built meanwhile is a branch, which gives `[1, width]`.
    pub fn branch(&mut self, width: usize, build: impl FnOnce(&mut Self) -> String) -> Attribute {
        let around = std::mem::take(&mut self.graph.nodes);
        let name = build(self);
        let nodes = std::mem::replace(&mut self.graph.nodes, around);
        let output = Port { name, dtype: DType::F32, shape: fixed(&[1, width]) };
        Attribute::Branch(Branch { nodes, output })
    }
}
