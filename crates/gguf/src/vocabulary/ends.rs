//! Where a generation ends.

use super::error::Note;
use super::{Model, Vocabulary};

/// Spellings of tokens that end a generation in llama.cpp whatever a file's keys say.
///
/// Source: `special_eog_ids` in llama.cpp's `src/llama-vocab.cpp`, as far as models that slmc reads have them.
pub const ENDS_BY_TEXT: [&str; 10] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<eos>",
    "<end_of_utterance>",
];

/// Those of [`ENDS_BY_TEXT`] that end a turn. llama.cpp takes any token of its list that it comes across first for the end of
/// turn, unless a key names it.
pub(super) const TURN_ENDS: [&str; 4] = ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"];

/// The token that llama.cpp takes for the end of a text in a byte-level vocabulary that names none.
const DEFAULT_END: u32 = 11;

impl Vocabulary {
    /// The ids at which llama.cpp ends a generation, ascending.
    pub fn ends(&self) -> Vec<u32> {
        let named = [self.special.eos, self.special.eot, self.special.eom];
        let spelled = (0..).zip(self.tokens.iter()).filter(|(_, text)| ENDS_BY_TEXT.contains(text));
        let mut ids: Vec<u32> = named.into_iter().flatten().chain(spelled.map(|(id, _)| id)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Makes llama.cpp end a generation at all of `ids` (`eos_token_id` of a `generation_config.json`), as far as GGUF has keys
    /// that are free: the end of a message, then the end of a turn. Notes those that are left, and a vocabulary without any end.
    pub fn end_at(&mut self, ids: &[u32]) {
        let mut known = self.ends();
        let mut left = Vec::new();
        for &id in ids {
            let Some(text) = self.tokens.get(id as usize) else { continue };
            if known.contains(&id) {
                continue;
            }
            known.push(id);
            let special = &mut self.special;
            match [&mut special.eos, &mut special.eom, &mut special.eot].into_iter().find(|key| key.is_none())
            {
                Some(key) => *key = Some(id),
                None => left.push(text.to_owned()),
            }
        }
        if !left.is_empty() {
            self.notes.push(Note::NoEnd(left));
        }
        if self.special.eos.is_none()
            && matches!(self.model, Model::ByteLevel { .. })
            && let Some(text) = self.tokens.get(DEFAULT_END as usize)
        {
            self.notes.push(Note::DefaultEnd(text.to_owned()));
        }
    }
}
