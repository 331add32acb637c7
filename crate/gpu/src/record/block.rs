//! The transformer's block: attention over what came before, then a feed-forward network.

use statepress_kernels::shaders::{self as wgsl, Kernel, Rows};

use super::{Extent, List, ONE};
use crate::network::BlockPlan;

impl List<'_> {
    pub(super) fn block_token(&mut self, block: &BlockPlan, memory: (u32, u32)) {
        let places = self.places;
        self.row(&block.qkv, Some(block.ln1), places.hidden, places.wide, &["NORM"]);
        self.attention(block, memory, ONE);
        self.row(&block.out_proj, None, places.mixed, places.hidden, &["ADD"]);
        self.ffn_token(block.ln2, &block.ffn);
    }

    pub(super) fn block_tokens(&mut self, block: &BlockPlan, memory: (u32, u32)) {
        let places = self.places;
        self.norm(block.ln1, Extent::Tokens);
        self.rows(&block.qkv, places.norm, places.wide, &[]);
        self.attention(block, memory, Extent::Tokens);
        self.rows(&block.out_proj, places.mixed, places.hidden, &["ADD"]);
        self.ffn_tokens(block.ln2, &block.ffn);
    }

    fn attention(&mut self, block: &BlockPlan, (keys, values): (u32, u32), tokens: Extent) {
        let places = self.places;
        let (d, heads) = (self.hidden_size, block.n_heads);
        let qkv = Rows::whole(places.wide, 3 * d);
        let params = wgsl::Attention {
            q: qkv,
            k: qkv.from_column(d),
            v: qkv.from_column(2 * d),
            y: Rows::whole(places.mixed, d),
            keys,
            values,
            heads: heads as u32,
            kv_heads: heads as u32,
            head: (d / heads) as u32,
            scale: ((d / heads) as f32).sqrt().recip(),
            ..wgsl::Attention::default()
        };
        self.push(Kernel::Attention, &[], &params, &[], [Extent::Fixed(params.heads), tokens, ONE]);
        // Of a sequence's first token; every later one reads the keys and values of those before it as well.
        self.moves(0, 6 * self.hidden_size);
    }
}
