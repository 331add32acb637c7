//! Which of the kernels that a network uses have been found to compute what the CPU does.

use std::collections::BTreeSet;

use statepress_kernels::backend::Sampling;

use crate::memory::{LEAST_CAPACITY, Places};
use crate::network::GpuNetwork;
use crate::pipelines::Variant;
use crate::record::Part;
use crate::runner::sample;

impl GpuNetwork {
    /// Layers with a kernel that neither has passed nor is in a layer before; `None`: everything has passed.
    pub(crate) fn unchecked(&self) -> Option<Vec<usize>> {
        let [outside, layers @ ..] = &self.variants()[..] else { return None };
        let mut passed = self.gpu.0.pipelines.borrow().passed.clone();
        let news = !outside.is_subset(&passed);
        // A check of any layer runs what is outside of them, too.
        passed.extend(outside.iter().cloned());
        let mut new = Vec::new();
        for (layer, variants) in layers.iter().enumerate() {
            if !variants.is_subset(&passed) {
                passed.extend(variants.iter().cloned());
                new.push(layer);
            }
        }
        (news || !new.is_empty()).then_some(new)
    }

    /// Every kernel of it has passed.
    pub(crate) fn passed(&self) {
        let variants = self.variants();
        self.gpu.0.pipelines.borrow_mut().passed.extend(variants.into_iter().flatten());
    }

    /// What is compiled for the network: outside of its layers, then for each of them.
    fn variants(&self) -> Vec<BTreeSet<Variant>> {
        let places = Places::new(self, LEAST_CAPACITY, 1);
        let n = 1 + self.program.n_layers();
        let mut variants = vec![BTreeSet::new(); n];
        let sampling = Sampling { temperature: 0.0, top_k: None, usable: self.vocab_size };
        for list in [
            self.token(&places, true),
            self.token(&places, false),
            self.tokens(&places),
            self.kept_logits(&places, true),
            self.kept_logits(&places, false),
            self.normed(&places),
            self.logits(&places),
            self.nll(&places),
            vec![sample(self, &places, &sampling, 1)],
        ] {
            // The residual stream ends the table, and then each layer; what is behind the last is outside again.
            let mut layer = 0;
            for part in list {
                match part {
                    Part::Residual => layer += 1,
                    Part::Dispatch(step) => {
                        variants[layer % n].insert(step.variant());
                    }
                }
            }
        }
        variants
    }
}
