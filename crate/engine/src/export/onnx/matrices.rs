//! Products with weights, and rows of them, whatever the weights are stored as.

use statepress_core::DType;
use statepress_formats::export::onnx::{Attribute, OnnxTensor};
use statepress_kernels::program::{Layout, MatrixId, VectorForm, VectorId, VectorSource};

use super::builder::{Builder, MICROSOFT};
use super::is_coded;
use super::weights::{Storage, Weight, What, floats};

impl Builder<'_> {
    /// `W x`.
    pub fn product(&mut self, id: MatrixId, x: &str) -> String {
        let matrix = self.program.matrix(id);
        let (names, storage) = self.matrix(id);
        let [first, second] = [0, 1].map(|at| names.get(at).cloned().unwrap_or_default());
        let size = |block: usize| {
            let (k, n) = (matrix.cols as i64, matrix.rows as i64);
            [("K", k), ("N", n), ("block_size", block as i64)]
                .map(|(name, value)| (name, Attribute::Int(value)))
        };
        match storage {
            Storage::Floats(dtype) => {
                let weights = self.float32(&first, dtype);
                if matrix.layout == Layout::Transposed {
                    return self.call("MatMul", &[x, &weights]);
                }
                self.node("Gemm", "", &[x, &weights], vec![("transB", Attribute::Int(1))])
            }
            Storage::Whole { bits, block } => {
                let mut attributes = size(block).to_vec();
                attributes.push(("bits", Attribute::Int(bits as i64)));
                // Activations stay float32.
                attributes.push(("accuracy_level", Attribute::Int(1)));
                self.node("MatMulNBits", MICROSOFT, &[x, &first, &second], attributes)
            }
            Storage::Nf4 { block } => {
                let mut attributes = size(block).to_vec();
                attributes.push(("quant_type", Attribute::Int(1)));
                self.node("MatMulBnb4", MICROSOFT, &[x, &first, &second], attributes)
            }
        }
    }

    /// The row of a matrix that an index says, `[1, cols]`.
    pub fn row(&mut self, id: MatrixId, index: &str) -> String {
        let matrix = self.program.matrix(id);
        let (rows, cols) = (matrix.rows, matrix.cols);
        let (names, storage) = self.matrix(id);
        let [first, second] = [0, 1].map(|at| names.get(at).cloned().unwrap_or_default());
        match storage {
            Storage::Floats(dtype) => {
                let row = self.call("Gather", &[&first, index]);
                self.float32(&row, dtype)
            }
            Storage::Whole { bits, block } => {
                let blocks = cols.div_ceil(block);
                let codes = self.call("Gather", &[&first, index]);
                let codes = if bits == 4 { self.nibbles(&codes, true, &[blocks, block]) } else { codes };
                let codes = self.reshaped(&codes, &[blocks, block]);
                let numbers = self.float32(&codes, DType::U8);
                let zero = self.number((1u32 << (bits - 1)) as f32);
                let numbers = self.call("Sub", &[&numbers, &zero]);
                let scales = self.reshaped(&second, &[rows, blocks]);
                let scales = self.call("Gather", &[&scales, index]);
                let scales = self.reshaped(&scales, &[blocks, 1]);
                let numbers = self.call("Mul", &[&numbers, &scales]);
                let numbers = self.reshaped(&numbers, &[1, blocks * block]);
                self.columns(&numbers, blocks * block, 0, cols)
            }
            Storage::Nf4 { block } => {
                let blocks = cols / block;
                let codes = self.reshaped(&first, &[rows, cols / 2]);
                let codes = self.call("Gather", &[&codes, index]);
                let codes = self.nibbles(&codes, false, &[blocks, block]);
                let to = vec![("to", Attribute::Type(DType::I64))];
                let codes = self.node("Cast", "", &[&codes], to);
                let levels = floats(&statepress_core::tables::NF4);
                let levels = self.constant("nf4", DType::F32, vec![16], levels);
                let numbers = self.call("Gather", &[&levels, &codes]);
                let absmax = self.reshaped(&second, &[rows, blocks]);
                let absmax = self.call("Gather", &[&absmax, index]);
                let absmax = self.reshaped(&absmax, &[blocks, 1]);
                let numbers = self.call("Mul", &[&numbers, &absmax]);
                self.reshaped(&numbers, &[1, cols])
            }
        }
    }

    /// The two codes of every byte, side by side.
    fn nibbles(&mut self, bytes: &str, is_low_first: bool, shape: &[usize]) -> String {
        let low_bits = self.constant("low_bits", DType::U8, Vec::new(), vec![15]);
        let places = self.constant("four", DType::U8, Vec::new(), vec![4]);
        let bytes = self.reshape(bytes, &[-1, 1]);
        let low = self.call("BitwiseAnd", &[&bytes, &low_bits]);
        let high =
            self.node("BitShift", "", &[&bytes, &places], vec![("direction", Attribute::Text("RIGHT"))]);
        let pairs = self
            .concatenated(1, &if is_low_first { [&low, &high] } else { [&high, &low] }.map(String::as_str));
        self.reshaped(&pairs, shape)
    }

    /// What a matrix is called, array by array, and how it is stored.
    fn matrix(&mut self, id: MatrixId) -> (Vec<String>, Storage) {
        let matrix = self.program.matrix(id);
        let Some(position) = self.position(&matrix.key) else {
            return (Vec::new(), Storage::Floats(DType::F32));
        };
        let entry = &self.index.tensors[position];
        let (storage, why) = Storage::of(entry, matrix);
        let what = What::Matrix(matrix.layout);
        let name = match matrix.layout {
            Layout::Part { index, .. } => format!("{}.{index}", entry.name),
            _ => entry.name.clone(),
        };
        let arrays = storage.arrays(&name, matrix);
        let names = arrays.iter().map(|array| array.name.clone()).collect();
        if self.weigh(Weight { position, what, storage, arrays })
            && let Some(why) = why
        {
            self.as_floats.push((entry.name.clone(), why));
        }
        (names, storage)
    }

    /// What numbers are called, in that shape.
    pub fn vector(&mut self, id: VectorId, shape: &[usize]) -> String {
        let vector = self.program.vector(id);
        let key = match &vector.source {
            VectorSource::Constant(values) => {
                return self.constant(
                    &format!("constant.{}", id.0),
                    DType::F32,
                    shape.to_vec(),
                    floats(values),
                );
            }
            VectorSource::Key(key) => key,
        };
        let Some(position) = self.position(key) else { return String::new() };
        let entry = &self.index.tensors[position];
        let name = entry.name.clone();
        let flat = match vector.form {
            VectorForm::Taps { k } => vec![k, vector.len / k.max(1)],
            VectorForm::Plain | VectorForm::NegExp => vec![vector.len],
        };
        let is_flat = shape == flat;
        let array = OnnxTensor { name: name.clone(), dtype: DType::F32, shape: flat };
        let storage = Storage::Floats(DType::F32);
        let what = What::Vector(vector.form);
        if self.weigh(Weight { position, what, storage, arrays: vec![array] }) && is_coded(entry) {
            self.as_floats
                .push((name.clone(), "what no product goes over is computed with in float32".into()));
        }
        if is_flat { name } else { self.reshaped(&name, shape) }
    }

    pub fn with_vector(&mut self, operator: &'static str, x: &str, id: VectorId) -> String {
        let numbers = self.vector(id, &[self.program.vector(id).len]);
        self.call(operator, &[x, &numbers])
    }

    /// Takes a weight that is to be written. False where it is there.
    fn weigh(&mut self, weight: Weight) -> bool {
        let is_new = !self.weights.contains(&weight);
        if is_new {
            self.weights.push(weight);
        }
        is_new
    }

    fn position(&mut self, key: &str) -> Option<usize> {
        let names = &self.spec.names;
        let found = names.get(self.index, key).map(|entry| entry.name.as_str());
        let position = found.and_then(|name| self.index.tensors.iter().position(|it| it.name == name));
        if position.is_none() {
            self.missing.get_or_insert_with(|| key.into());
        }
        position
    }
}
