//! A mixture of experts: all tokens of an expert go through it together.

use statepress_kernels::Rows;
use statepress_kernels::linear::{Scratch, linear};
use statepress_kernels::ops::{gate, route};
use statepress_kernels::program::Experts;

use super::interpret::activate;
use super::{CpuNetwork, Observe};

/// Buffers that one step after another reuses.
#[derive(Default)]
pub(super) struct Buffers {
    /// `[n, E]`.
    pub logits: Vec<f32>,
    gathered: Vec<f32>,
    wide: Vec<f32>,
    gated: Vec<f32>,
    out: Vec<f32>,
}

impl Buffers {
    /// Adds the experts' outputs for `x` `[n, d]` to `y` `[n, d]`.
    #[allow(clippy::too_many_arguments, reason = "one call, of what the interpreter holds apart")]
    pub fn run(
        &mut self,
        network: &CpuNetwork,
        op: &Experts,
        n: usize,
        x: &[f32],
        y: &mut [f32],
        scratch: &mut Scratch,
        mut observer: Option<&mut dyn Observe>,
    ) {
        let router = network.matrix(op.router);
        let d = router.cols();
        let mut tap = |id, rows: &[f32]| {
            if let Some(observer) = observer.as_deref_mut() {
                observer.tap(id, &network.program.matrix(id).key, rows);
            }
        };
        self.logits.resize(n * router.rows(), 0.0);
        tap(op.router, x);
        linear(router, x, &mut self.logits, scratch);
        let routes = route::top_k(&self.logits, op.experts.len(), op.top_k);
        for (m, expert) in op.experts.iter().enumerate() {
            let chosen = || routes.iter().enumerate().filter(|(_, route)| route.expert == m);
            self.gathered.clear();
            for (at, _) in chosen() {
                let token = at / op.top_k;
                self.gathered.extend_from_slice(&x[token * d..][..d]);
            }
            if self.gathered.is_empty() {
                continue;
            }
            let (up, down) = (network.matrix(expert.up), network.matrix(expert.down));
            let tokens = self.gathered.len() / d;
            self.wide.resize(tokens * up.rows(), 0.0);
            tap(expert.up, &self.gathered);
            linear(up, &self.gathered, &mut self.wide, scratch);
            let middle = if op.gated {
                let half = up.rows() / 2;
                Rows::new(&self.wide, half, half, up.rows()).gather(&mut self.gated);
                gate::silu_gate(&mut self.gated, Rows::new(&self.wide, 0, half, up.rows()), 1.0);
                &self.gated
            } else {
                activate(op.activation, &mut self.wide);
                &self.wide
            };
            self.out.resize(self.gathered.len(), 0.0);
            tap(expert.down, middle);
            linear(down, middle, &mut self.out, scratch);
            for ((at, route), row) in chosen().zip(self.out.chunks_exact(d)) {
                let token = at / op.top_k;
                let share = route.weight * op.y_scale;
                for (x, y) in y[token * d..][..d].iter_mut().zip(row) {
                    *x += share * y;
                }
            }
        }
    }
}
