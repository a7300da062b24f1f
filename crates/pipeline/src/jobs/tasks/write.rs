//! Free answers, token by token.

use slmc_calibration::{TextStream, Tokenizer};
use slmc_eval::tasks::{GenerationItem, Item};
use slmc_model::{Device, Sampler, Sampling, Session, WeightSource};

use super::encode::Encoder;
use super::source::Loaded;
use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::{Reporter, Unit};

/// A model that writes.
pub(super) struct Writer<'a> {
    pub model: &'a ModelFile,
    pub source: &'a dyn WeightSource,
    pub tokenizer: &'a Tokenizer,
    pub encoder: &'a Encoder<'a>,
    pub device: Device,
}

/// A free answer to be written.
struct Prompt<'a> {
    item: &'a GenerationItem,
    ids: Vec<u32>,
}

impl Writer<'_> {
    /// The answers to all items of this kind, in their order: the most likely tokens up to the item's end, as of `generate_until` of
    /// lm-evaluation-harness. A prompt that leaves no room for as many tokens as the item may have loses its beginning. `None` for those that the user did not wait for.
    ///
    /// # Errors
    /// An item that asks for more tokens than the model can read; a model that cannot be read or run.
    pub fn write(
        &self,
        tasks: &[Loaded],
        shots: &[Vec<String>],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Option<String>>, PipelineError> {
        let mut prompts = Vec::new();
        for (task, shots) in tasks.iter().zip(shots) {
            for ((item, line), shots) in task.asked().zip(shots) {
                if let Item::Generation(item) = item {
                    let ids = self.encoder.prompt(&format!("{shots}{}", item.prompt))?;
                    let ids = self.fit(ids, item).map_err(|reason| task.wrong(*line, &reason))?;
                    prompts.push(Prompt { item, ids });
                }
            }
        }
        let Some(positions) = prompts.iter().map(|prompt| prompt.ids.len() + prompt.item.max_tokens).max()
        else {
            return Ok(Vec::new());
        };
        let ends = self.model.end_tokens(self.tokenizer)?;
        let mut session = Session::new(self.source, positions, self.device)?;
        reporter.begin("Writing", prompts.len() as u64, Unit::Steps);
        let answers = prompts.iter().map(|prompt| {
            let answer = self.answer(&mut session, prompt, &ends, reporter);
            reporter.advance(1);
            answer
        });
        let answers = answers.collect();
        reporter.end();
        answers
    }

    /// As much of the end of a prompt as leaves room for the answer.
    fn fit(&self, mut ids: Vec<u32>, item: &GenerationItem) -> Result<Vec<u32>, String> {
        let longest = self.source.config().max_position_embeddings;
        if ids.is_empty() {
            return Err("the prompt has no tokens".into());
        }
        match longest.checked_sub(item.max_tokens) {
            None | Some(0) => Err(format!(
                "`max_tokens` is {}, but the model reads at most {longest} tokens, prompt included",
                item.max_tokens
            )),
            Some(room) => Ok(ids.split_off(ids.len().saturating_sub(room))),
        }
    }

    fn answer(
        &self,
        session: &mut Session<'_>,
        prompt: &Prompt<'_>,
        ends: &[u32],
        reporter: &dyn Reporter,
    ) -> Result<Option<String>, PipelineError> {
        let Prompt { item, ids } = prompt;
        let mut sampler = Sampler::new(Sampling::default());
        let mut stream = TextStream::after(self.tokenizer, ids);
        let mut text = String::new();
        if reporter.is_cancelled() {
            return Ok(None);
        }
        session.truncate(0);
        let mut logits = session.read(ids)?;
        for written in 1..=item.max_tokens {
            if reporter.is_cancelled() {
                return Ok(None);
            }
            let token = sampler.choose(&logits, &[]);
            if ends.binary_search(&token).is_ok() {
                break;
            }
            text.push_str(&stream.push(token)?);
            if item.cut(&text).len() < text.len() || written == item.max_tokens {
                break;
            }
            logits = session.read(&[token])?;
        }
        text.push_str(&stream.finish()?);
        Ok(Some(item.cut(&text).to_owned()))
    }
}
