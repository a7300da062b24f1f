//! Context and continuation as token ids.

use rayon::prelude::*;
use slmc_calibration::Tokenizer;
use slmc_eval::likelihood::Pair;
use slmc_eval::tasks::python::split_trailing_space;

use crate::PipelineError;

/// Tokenizes as `TemplateLM.loglikelihood` and `HFLM.tok_encode` of lm-evaluation-harness do, so that the same tokens are scored.
pub(super) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// What stands in for an empty context.
    prefix: Option<u32>,
    /// A text that begins with it gets no other token in front.
    prefix_text: Option<String>,
}

impl<'a> Encoder<'a> {
    pub fn new(tokenizer: &'a Tokenizer, prefix: Option<u32>) -> Result<Self, PipelineError> {
        let prefix_text = prefix.map(|id| tokenizer.decode(&[id], false)).transpose()?;
        Ok(Self { tokenizer, prefix, prefix_text: prefix_text.filter(|text| !text.is_empty()) })
    }

    /// Every context and continuation.
    pub fn pairs(&self, texts: &[(String, String)]) -> Result<Vec<Pair>, PipelineError> {
        texts.par_iter().map(|(context, continuation)| self.pair(context, continuation)).collect()
    }

    /// A text to be continued.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, PipelineError> {
        self.encode(text)
    }

    fn pair(&self, context: &str, continuation: &str) -> Result<Pair, PipelineError> {
        if context.is_empty() {
            let mut continuation = self.tokenizer.encode_markup(continuation)?;
            let context = match self.prefix {
                Some(prefix) if continuation.first() == Some(&prefix) => vec![continuation.remove(0)],
                Some(prefix) => vec![prefix],
                None => Vec::new(),
            };
            return Ok(Pair { context, continuation });
        }
        // white space belongs to the word behind it
        let (context, space) = split_trailing_space(context);
        let whole = self.encode(&format!("{context}{space}{continuation}"))?;
        let context = self.encode(context)?;
        let continuation = whole.get(context.len()..).unwrap_or_default().to_vec();
        // the tokens in front are those of the context by itself, even where the whole text's are others
        Ok(Pair { context, continuation })
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, PipelineError> {
        let begun = self.prefix_text.as_deref().is_some_and(|prefix| text.starts_with(prefix));
        Ok(if begun {
            self.tokenizer.encode_markup(text)?
        } else {
            self.tokenizer.encode_with_special_tokens(text)?
        })
    }
}
