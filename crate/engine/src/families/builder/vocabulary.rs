//! Tables with rows for some ids: what a file says of them.

use statepress_core::{Finding, Role};
use statepress_kernels::program::{ReducedVocabulary, Segment};

use super::{Builder, beside};
use crate::EngineError;

/// The field that says how many ids there are, where not all of them have a row.
pub(crate) const ORIGINAL_VOCABULARY: &str = "original_vocab_size";

/// The field that says which token ids without a row are read as.
pub(crate) const UNKNOWN: &str = "unknown_token_id";

/// The field that says which probability all ids without a row have together.
pub(crate) const UNKNOWN_SHARE: &str = "unknown_share";

/// The most ids that a table with rows for some of them may be of: what a file says costs no more memory than that.
const MOST: usize = 1 << 20;

/// The least share of ids without a row: less would be no number.
const LEAST_SHARE: f64 = 1e-9;

impl Builder<'_> {
    /// Which ids the rows of the table are of, where there is a tensor that says so; and of how many, which a configuration then
    /// says as well. Of a table with all rows the unknown token may be set, for rows to go.
    pub(super) fn ids_with_rows(
        &mut self,
        table: &str,
        tokens: Segment,
    ) -> Result<Option<ReducedVocabulary>, EngineError> {
        let key = beside(table, "ids");
        if !self.has(&key) {
            if self.fields.optional(UNKNOWN).is_some() {
                self.fields.free_count(UNKNOWN, 0, "", 0..=self.vocab_size - 1)?;
            }
            return Ok(None);
        }
        let rows = tokens.size;
        if self.vocab_size != rows {
            let allowed = format!("{rows}, as each row of a table with {key} is of an id");
            return Err(self.fields.refuse("vocab_size", &self.vocab_size.into(), &allowed));
        }
        let why = "as if the last row were of the last id";
        let size = self.fields.free_count(ORIGINAL_VOCABULARY, rows, why, rows..=rows.max(MOST))?;
        let unknown = self.fields.free_count(UNKNOWN, 0, "usual", 0..=size - 1)?;
        let usual = (size - rows) as f64 / size as f64;
        let said = self.fields.free(UNKNOWN_SHARE, usual, "as if all ids were alike");
        let is_share = |share: &f64| (LEAST_SHARE..1.0).contains(share) || (*share == 0.0 && rows == size);
        let share = said.as_f64().filter(is_share);
        let share = share.ok_or_else(|| self.fields.refuse(UNKNOWN_SHARE, &said, "above 0 and below 1"))?;
        let message = format!(
            "{rows} of {size} ids have a row: the others are read as token {unknown}, and are {:.3} % of what is predicted",
            100.0 * share
        );
        self.fields.finding(Finding::info("reduced-vocabulary", message).about(&key));
        let ids = self.vector(&key, Role::Table, tokens);
        Ok(Some(ReducedVocabulary { ids, size, unknown, share }))
    }
}
