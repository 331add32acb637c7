//! A small program with a layer of every kind, for checking that a backend computes what the CPU does.

use statepress_core::Index;
use statepress_core::index::Format;
use statepress_kernels::program::Program;

use super::attention::{self, AttentionScales, AttentionShape};
use super::builder::{Builder, Kind, Tied};
use super::fields::Collector;
use super::infer::Hints;
use super::itera_lite;
use super::llama;
use super::mamba::{self, InnerNorms};
use super::mamba2::{self, Mixer};
use super::rope::{self, RopeScaling};

/// The program, for `vocab_size` tokens and a residual stream of `d` channels.
pub(crate) fn check_program(vocab_size: usize, d: usize, positions: usize) -> Program {
    let index = Index {
        format: Format::Safetensors,
        wrapper: String::new(),
        weights: Vec::new(),
        config: None,
        metadata: Default::default(),
        tensors: Vec::new(),
        findings: Vec::new(),
    };
    let hints = Hints::default();
    let mut b = Builder::new(Collector::new(&index, &hints, &[]), None, "check");
    b.free_sizes(vocab_size, d, Some(positions));
    let declared = declare(&mut b);
    let (_, _, _, program) = b.finish();
    // Nothing is read, so nothing can be missing.
    declared.and(program).unwrap_or_else(|error| unreachable!("{error}"))
}

fn declare(b: &mut Builder) -> Result<(), crate::EngineError> {
    const EPS: f64 = 1e-5;
    b.embed("table", Some("positions"), 1.0)?;
    b.layer(0, "0.", |b| {
        itera_lite::ssm(b, &itera_lite::Sizes::of_ssm(40, 5, 4));
        itera_lite::experts(b, &[16, 16, 16], 2);
        Ok(())
    })?;
    b.layer(1, "1.", |b| {
        let x = b.hidden_norm("norm", Kind::Rms, EPS);
        let sizes = mamba::Sizes { inner: 36, states: 6, taps: 3, rank: 5 };
        mamba::mixer(b, &sizes, InnerNorms::Weightless(1e-6), x);
        Ok(())
    })?;
    b.layer(2, "2.", |b| {
        let x = b.hidden_norm("norm", Kind::Rms, EPS);
        let sizes = Mixer {
            mlp: 0,
            heads: 4,
            head: 9,
            groups: 2,
            states: 7,
            taps: 4,
            limits: [1e-3, 3.0],
            eps: EPS,
            norm_before_gate: false,
            scales: Some(([0.7, 0.5, 0.6, 1.4, 0.9], 1.2)),
            out_scale: 0.8,
        };
        mamba2::mixer(b, &sizes, x);
        Ok(())
    })?;
    b.layer(3, "3.", |b| {
        let inv_freq = b.constant(rope::frequencies(500.0, 6, &RopeScaling::Linear { factor: 2.0 }));
        let (heads, kv_heads, head) = (4, 2, 6);
        let shape = AttentionShape {
            heads,
            kv_heads,
            head,
            scale: 0.4,
            inv_freq: Some(inv_freq),
            q_norm: None,
            k_norm: None,
        };
        let x = b.hidden_norm("norm", Kind::Rms, EPS);
        attention::attention(b, &shape, AttentionScales { key: 0.6, ..AttentionScales::default() }, x);
        let x = b.hidden_norm("norm2", Kind::Layer, EPS);
        llama::mlp(b, [0.9, 1.1], x)
    })?;
    b.finish_with("norm", Kind::Rms, EPS, 0.9, Tied::Always)
}
