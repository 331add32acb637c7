//! What a model in training says: text that goes on behind a prompt.

use statepress_engine::EngineError;

use crate::{Batch, Trainable};

impl Trainable {
    /// The `count` ids that follow a prompt where the likeliest is taken each time, of a model whose position `t` predicts token
    /// `t + offset`; fewer where it has no more positions, and none where it predicts no later token, or nothing behind the prompt.
    /// The whole sequence is computed anew for each, so it is for a few.
    ///
    /// # Errors
    /// For an empty prompt, and ids outside the vocabulary.
    pub async fn sample(&self, prompt: &[u32], count: usize, offset: usize) -> Result<Vec<u32>, EngineError> {
        let most = prompt.len().saturating_add(count).min(self.program.max_tokens.unwrap_or(usize::MAX));
        let mut ids = prompt.to_vec();
        while offset > 0 && ids.len() < most {
            let logits = self.evaluate().logits(&Batch::new(&[&ids])?).await?;
            let rows = logits.chunks_exact(self.program.vocab_size);
            let Some(row) = rows.len().checked_sub(offset) else { break };
            let last = &logits[row * self.program.vocab_size..][..self.program.vocab_size];
            // The first of equals, as the engine takes.
            let likeliest = (0..last.len()).rev().max_by(|&a, &b| last[a].total_cmp(&last[b]));
            ids.extend(likeliest.map(|id| id as u32));
        }
        Ok(ids.split_off(prompt.len().min(ids.len())))
    }
}
