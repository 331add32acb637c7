//! The built-in recipes that can be advised. `none` changes nothing, and the two maps of the research are there to be compared with.

use statepress_core::StoredAs;
use statepress_core::report::Plan;

use super::rule::Technique;

/// A built-in recipe that can be advised.
pub struct Candidate {
    /// Its name.
    pub recipe: &'static str,
    /// What the rules call it.
    pub technique: Technique,
    /// What it is good for.
    pub why: &'static str,
}

impl Candidate {
    /// What it comes to for a model: a map that gives most of the weights 4 bits is judged as such.
    pub fn technique(&self, plan: &Plan) -> Technique {
        let all: u64 = plan.precisions.iter().map(|share| share.params).sum();
        let is_small = |precision: &StoredAs| matches!(precision, StoredAs::Coded(it) if it.bits() <= 4);
        let small = plan.precisions.iter().filter(|share| is_small(&share.precision));
        let small: u64 = small.map(|share| share.params).sum();
        if 2 * small > all { Technique::Int4 } else { self.technique }
    }
}

/// In the order that is kept where nothing else decides.
pub const CANDIDATES: [Candidate; 7] = [
    Candidate {
        recipe: "int8",
        technique: Technique::Int8,
        why: "8 bits a weight, each row of a matrix with a scale of its own",
    },
    Candidate {
        recipe: "mixed",
        technique: Technique::Mixed,
        why: "keeps more bits where a recurrent model carries its errors along, and saves less for it",
    },
    Candidate {
        recipe: "mixed-aggressive",
        technique: Technique::Mixed,
        why: "4 bits for the projections, more where step sizes and states are made",
    },
    Candidate {
        recipe: "nf4",
        technique: Technique::Int4,
        why: "4 bits a weight, at levels that suit weights with a bell curve: for when size comes first",
    },
    Candidate {
        recipe: "int4",
        technique: Technique::Int4,
        why: "4 bits a weight at equal steps: simpler to decode than nf4",
    },
    Candidate {
        recipe: "fp16",
        technique: Technique::Half,
        why: "16 bits a weight, and read by every other tool",
    },
    Candidate {
        recipe: "bf16",
        technique: Technique::Half,
        why: "16 bits a weight: the range of float32, and fewer digits than fp16",
    },
];
