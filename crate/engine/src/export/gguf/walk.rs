//! A program under ggml's names. What a weight is called there follows from the op that reads it and from its role, so no
//! table of keys is needed: the query of attention is what attention takes as its query.

use statepress_core::Role;
use statepress_kernels::program::{
    Attention, GroupNorm, Layout, Linear, Matrix, MatrixId, Norm, NormKind, Op, Program, Ssd, VectorForm,
    VectorId, VectorSource, View,
};

use super::arch::{Arch, Rope};
use super::piece::{Change, Made, Piece};
use crate::EngineError;
use crate::families::ModelSpec;

/// What llama.cpp multiplies by where its architecture has a field for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scales {
    pub embedding: f32,
    pub residual: f32,
    pub attention: f32,
    pub logits: f32,
}

/// A program under ggml's names.
pub(super) struct Walked {
    pub pieces: Vec<Piece>,
    pub scales: Scales,
}

/// What an op that is not the product says of columns of the product's output.
#[derive(Clone, Copy)]
struct Part {
    of: View,
    name: &'static str,
    /// The columns are multiplied by it.
    scale: f32,
    /// How they turn, where they are heads with rotary positions.
    turns: Option<(usize, usize)>,
}

struct Walk<'a> {
    program: &'a Program,
    arch: &'a Arch,
    spec: &'a ModelSpec,
    parts: Vec<Part>,
    scales: Scales,
    pieces: Vec<Piece>,
    /// `blk.N.`, or nothing outside of layers.
    block: String,
    /// Norms of the residual stream in this layer.
    norms: usize,
}

impl Walked {
    /// Names every weight.
    ///
    /// # Errors
    /// An op that llama.cpp's architecture does not have.
    pub fn new(program: &Program, arch: &Arch, spec: &ModelSpec) -> Result<Self, EngineError> {
        let norm =
            program.head.norm.ok_or_else(|| arch.refused("", "has a table with a basis of its own"))?;
        let mut walk = Walk {
            program,
            arch,
            spec,
            parts: Vec::new(),
            scales: Scales::default(),
            pieces: Vec::new(),
            block: String::new(),
            norms: 0,
        };
        walk.find_scales();
        for node in &program.nodes {
            walk.say_parts(&node.op);
        }
        for node in &program.nodes {
            let block = node.layer.map(|layer| format!("blk.{layer}.")).unwrap_or_default();
            if block != walk.block {
                walk.norms = 0;
                walk.block = block;
            }
            walk.op(&node.op)?;
        }
        walk.block.clear();
        walk.norm("output_norm", &norm)?;
        walk.rope_factors()?;
        if program.head.matrix != program.table {
            let scale = if arch.has_scales { 1.0 } else { program.head.scale };
            walk.product("output.weight", program.head.matrix, vec![Change::Scale(scale)])?;
        } else if !arch.has_scales && (program.head.scale, walk.scales.embedding) != (1.0, 1.0) {
            // The table has another multiplier as a table than as the head.
            walk.product("output.weight", program.table, vec![Change::Scale(program.head.scale)])?;
        }
        Ok(Self { pieces: walk.pieces, scales: walk.scales })
    }
}

impl Walk<'_> {
    /// The multipliers for which the architecture has fields: of these nothing goes into weights.
    fn find_scales(&mut self) {
        let ops = || self.program.nodes.iter().map(|node| &node.op);
        let embedding = ops().find_map(|op| match op {
            Op::Embed { scale, .. } => Some(*scale),
            _ => None,
        });
        let residual = ops().find_map(|op| match op {
            Op::Linear(Linear { add: true, y_scale, .. }) => Some(*y_scale),
            _ => None,
        });
        let attention = ops().find_map(|op| match op {
            Op::Attention(Attention { scale, .. }) => Some(*scale),
            _ => None,
        });
        self.scales = Scales {
            embedding: embedding.unwrap_or(1.0),
            residual: residual.unwrap_or(1.0),
            attention: attention.unwrap_or(1.0),
            logits: self.program.head.scale,
        };
    }

    /// What attention and gates say of the products before them.
    fn say_parts(&mut self, op: &Op) {
        match op {
            Op::Attention(it) => {
                let rotary = it.inv_freq.map(|id| (it.head, 2 * self.program.vector(id).len));
                let turns = rotary.filter(|_| self.arch.rope == Rope::Pairs);
                // ggml divides scores by the root of a head's width.
                let scale = if self.arch.has_scales { 1.0 } else { it.scale * (it.head as f32).sqrt() };
                // One unit in the last place is how the root was rounded.
                let scale = if (scale - 1.0).abs() < 1e-6 { 1.0 } else { scale };
                self.parts.push(Part { of: it.q, name: "attn_q", scale, turns });
                self.parts.push(Part { of: it.k, name: "attn_k", scale: 1.0, turns });
                self.parts.push(Part { of: it.v, name: "attn_v", scale: 1.0, turns: None });
            }
            Op::Gate { x, z, z_scale, .. } => {
                self.parts.push(Part { of: *z, name: "ffn_gate", scale: *z_scale, turns: None });
                self.parts.push(Part { of: *x, name: "ffn_up", scale: 1.0, turns: None });
            }
            _ => {}
        }
    }

    fn op(&mut self, op: &Op) -> Result<(), EngineError> {
        match op {
            Op::Embed { table, positions, bias, scale, .. } => {
                let scale = if self.arch.has_scales { 1.0 } else { *scale };
                self.product("token_embd.weight", *table, vec![Change::Scale(scale)])?;
                if let Some(positions) = positions {
                    self.product("position_embd.weight", *positions, Vec::new())?;
                    // llama.cpp reads rows of it as float32.
                    self.pieces
                        .iter_mut()
                        .for_each(|piece| piece.is_matrix &= piece.name != "position_embd.weight");
                }
                self.optional("token_embd.bias", *bias)
            }
            Op::Norm { norm, x, .. } if x.value == self.program.hidden => {
                let name = ["attn_norm", self.arch.ffn_norm];
                let name = name.get(self.norms).copied().unwrap_or("norm");
                self.norms += 1;
                self.norm(name, norm)
            }
            // The others are part of what the architecture is, or have weights that it has no place for.
            Op::Norm { norm, .. } => self.norm("norm", norm),
            Op::GatedNorm { norm, x, .. } => match norm {
                Some(GroupNorm { weight: Some(weight), groups, before_gate, .. }) => {
                    if *before_gate {
                        return Err(self.refused("norms its gated output before the gate"));
                    }
                    let shape = vec![*groups, x.width / groups];
                    self.vector("ssm_norm.weight", *weight, shape, Vec::new())
                }
                _ => Ok(()),
            },
            Op::Linear(linear) => self.linear(linear),
            Op::Conv1d { taps, bias, .. } => {
                let VectorForm::Taps { k } = self.program.vector(*taps).form else {
                    return Err(self.refused("has a convolution of another kind"));
                };
                let channels = self.program.vector(*taps).len / k;
                self.vector("ssm_conv1d.weight", *taps, vec![channels, k], Vec::new())?;
                match bias {
                    Some(bias) => self.optional("ssm_conv1d.bias", Some(*bias)),
                    None if self.arch.wants_conv_bias => {
                        self.made("ssm_conv1d.bias", vec![0.0; channels]);
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            Op::Softplus { bias, limits, .. } => {
                if *limits != [0.0, f32::INFINITY] {
                    return Err(self.refused(&format!("limits its step sizes to {limits:?}")));
                }
                self.optional("ssm_dt.bias", Some(*bias))
            }
            Op::SelectiveScan { a, d, u, .. } => {
                let states = self.program.vector(*a).len / u.width;
                self.vector("ssm_a", *a, vec![u.width, states], vec![Change::NegExp])?;
                self.vector("ssm_d", *d, vec![u.width], Vec::new())
            }
            Op::Ssd(Ssd { heads, a, d, .. }) => {
                if self.program.vector(*d).len != *heads {
                    return Err(self.refused("skips with a number for each channel"));
                }
                self.vector("ssm_a", *a, vec![*heads, 1], vec![Change::NegExp])?;
                self.vector("ssm_d", *d, vec![*heads, 1], Vec::new())
            }
            Op::Attention(Attention { q_norm, k_norm, .. }) => {
                self.optional("attn_q_norm.weight", q_norm.map(|(norm, _)| norm))?;
                self.optional("attn_k_norm.weight", k_norm.map(|(norm, _)| norm))
            }
            Op::Gate { .. } => Ok(()),
            Op::Activate { activation, .. } => match self.arch.activations.contains(activation) {
                true => Ok(()),
                false => Err(self.refused(&format!("computes {activation:?}"))),
            },
            Op::Experts(_) => Err(self.refused("has experts")),
            Op::Copy { .. } => Err(self.refused("puts several products side by side")),
            Op::Scan { .. } | Op::SoftplusMean { .. } | Op::Skip { .. } => {
                Err(self.refused("has one step size for all channels of its state space"))
            }
        }
    }

    /// A product: one tensor, or one for each part of its rows that ggml has by itself.
    fn linear(&mut self, linear: &Linear) -> Result<(), EngineError> {
        let matrix = self.program.matrix(linear.w);
        let name = match matrix.role {
            Role::InProj => "ssm_in",
            Role::OutProj => "ssm_out",
            Role::XProj => "ssm_x",
            Role::DtProj => "ssm_dt",
            Role::AttentionOut => "attn_output",
            Role::FfnOut => "ffn_down",
            Role::AttentionIn => "attn_qkv",
            Role::FfnIn => "ffn_up",
            other => {
                return Err(self.refused(&format!("multiplies by a weight of the role {}", other.name())));
            }
        };
        // The output's own multiplier, unless the architecture has a field for what is added to the stream.
        let field = self.arch.has_scales && linear.add && linear.y_scale == self.scales.residual;
        let y_scale = if field { 1.0 } else { linear.y_scale };
        let by_row = linear.row_scale.and_then(|id| match &self.program.vector(id).source {
            VectorSource::Constant(by) => Some(by.clone()),
            VectorSource::Key(_) => None,
        });
        let columns = matrix.cols;
        let mut changes = vec![Change::Scale(linear.x_scale * y_scale)];
        let mut bias_changes = vec![Change::Scale(y_scale)];
        if let Some(by) = by_row {
            bias_changes.push(Change::ScaleRows { by: by.clone(), columns: 1 });
            changes.push(Change::ScaleRows { by, columns });
        }
        let named = matches!(matrix.role, Role::AttentionIn | Role::FfnIn);
        let said = self.parts.iter().filter(|part| named && part.of.value == linear.y);
        let said: Vec<Part> = said.copied().collect();
        let fused = matrix.role == Role::AttentionIn && said.len() > 1;
        if fused {
            if said.iter().any(|part| part.turns.is_some()) {
                return Err(self.refused("turns queries and keys that are one weight with the values"));
            }
            let each = said.iter().flat_map(|part| std::iter::repeat_n(part.scale, part.of.width));
            let by: Vec<f32> = each.collect();
            if by.iter().any(|by| *by != 1.0) {
                bias_changes.push(Change::ScaleRows { by: by.clone(), columns: 1 });
                changes.push(Change::ScaleRows { by, columns });
            }
        }
        if fused || said.is_empty() {
            self.product(&format!("{name}.weight"), linear.w, changes)?;
            return match linear.bias {
                None => Ok(()),
                Some(bias) => {
                    let rows = self.program.vector(bias).len;
                    self.vector(&format!("{name}.bias"), bias, vec![rows], bias_changes)
                }
            };
        }
        for Part { of, name, scale, turns } in said {
            let rows = |columns| {
                let mut changes = Vec::new();
                if of.width != matrix.rows {
                    changes.push(Change::Rows { first: of.first, count: of.width, columns });
                }
                if let Some((head, rotary)) = turns {
                    changes.push(Change::Pairs { head, rotary, columns });
                }
                changes.push(Change::Scale(scale));
                changes
            };
            let weight = [changes.clone(), rows(columns)].concat();
            self.product(&format!("{name}.weight"), linear.w, weight)?;
            if let Some(bias) = linear.bias {
                let changes = [bias_changes.clone(), rows(1)].concat();
                self.vector(&format!("{name}.bias"), bias, vec![of.width], changes)?;
            }
        }
        Ok(())
    }

    fn norm(&mut self, name: &str, norm: &Norm) -> Result<(), EngineError> {
        let Some(weight) = norm.weight else { return Ok(()) };
        // A name with a point of its own is whole.
        let (weights, biases) = match name.strip_suffix('.') {
            Some(whole) => (whole.to_string(), format!("{whole}.bias")),
            None => (format!("{name}.weight"), format!("{name}.bias")),
        };
        self.optional(&weights, Some(weight))?;
        match norm.kind {
            NormKind::Rms => Ok(()),
            NormKind::Layer { bias } => self.optional(&biases, Some(bias)),
        }
    }

    /// Frequencies of rotary positions that are not powers of one base: what the powers are divided by.
    fn rope_factors(&mut self) -> Result<(), EngineError> {
        let inv_freq = self.program.nodes.iter().find_map(|node| match node.op {
            Op::Attention(Attention { inv_freq, .. }) => inv_freq,
            _ => None,
        });
        let Some(VectorSource::Constant(found)) = inv_freq.map(|id| &self.program.vector(id).source) else {
            return Ok(());
        };
        let theta = self.spec.fields.get("rope_theta").and_then(|field| field.value.as_f64());
        let theta = theta.unwrap_or(10_000.0);
        let plain = |i: usize| theta.powf(-(i as f64) / found.len() as f64);
        let factors: Vec<f32> =
            found.iter().enumerate().map(|(i, found)| (plain(i) / f64::from(*found)) as f32).collect();
        if factors.iter().any(|factor| (factor - 1.0).abs() > 1e-5) {
            self.made("rope_freqs.weight", factors);
        }
        Ok(())
    }

    /// A matrix, or rows of it.
    fn product(&mut self, name: &str, id: MatrixId, changes: Vec<Change>) -> Result<(), EngineError> {
        let Matrix { key, rows, cols, layout, .. } = self.program.matrix(id);
        let turned = match layout {
            Layout::Plain => None,
            Layout::Transposed => Some(Change::Transpose { columns: *cols }),
            Layout::Part { .. } => return Err(self.refused("has several matrices in one tensor")),
        };
        let count = changes.iter().find_map(|change| match change {
            Change::Rows { count, .. } => Some(*count),
            _ => None,
        });
        let shape = vec![count.unwrap_or(*rows), *cols];
        let changes = turned.into_iter().chain(changes).collect();
        let made = self.made_of(key)?;
        self.push(name, made, changes, shape, true);
        Ok(())
    }

    /// A vector as it is, where there is one.
    fn optional(&mut self, name: &str, id: Option<VectorId>) -> Result<(), EngineError> {
        let Some(id) = id else { return Ok(()) };
        let shape = vec![self.program.vector(id).len];
        self.vector(name, id, shape, Vec::new())
    }

    fn vector(
        &mut self,
        name: &str,
        id: VectorId,
        shape: Vec<usize>,
        changes: Vec<Change>,
    ) -> Result<(), EngineError> {
        let made = match &self.program.vector(id).source {
            VectorSource::Key(key) => self.made_of(key)?,
            VectorSource::Constant(values) => Made::Numbers(values.clone()),
        };
        self.push(name, made, changes, shape, false);
        Ok(())
    }

    /// Numbers that no tensor has.
    fn made(&mut self, name: &str, values: Vec<f32>) {
        let shape = vec![values.len()];
        self.push(name, Made::Numbers(values), Vec::new(), shape, false);
    }

    fn made_of(&self, key: &str) -> Result<Made, EngineError> {
        let position = self.spec.names.positions().get(key).copied();
        let missing = || EngineError::Keys { missing: vec![key.into()], unexpected: Vec::new() };
        position.map(Made::Of).ok_or_else(missing)
    }

    fn push(&mut self, name: &str, made: Made, changes: Vec<Change>, shape: Vec<usize>, is_matrix: bool) {
        let name = format!("{}{name}", self.block);
        let changes = changes.into_iter().filter(|change| *change != Change::Scale(1.0)).collect();
        self.pieces.push(Piece { name, made, changes, shape, is_matrix });
    }

    fn refused(&self, what: &str) -> EngineError {
        self.arch.refused(&self.block, what)
    }
}
