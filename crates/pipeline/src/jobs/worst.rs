//! The windows where a model departs most from its base, for people to read: what both expect at the worst place, and how both
//! would go on from there.

use serde::Serialize;
use slmc_calibration::{TextStream, Tokenizer};
use slmc_eval::{Evaluation, WorstWindow, worst_windows};
use slmc_model::{Device, Sampler, Sampling, Session, WeightSource};

use crate::PipelineError;
use crate::progress::{Reporter, Unit};

/// Most probable tokens that are told.
const LIKELIEST: usize = 5;

/// Which places to look at, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorstSettings {
    /// How many windows; 0 for none. Each model is loaded whole for them, one after the other.
    pub windows: usize,
    /// Tokens of each continuation.
    pub continuation: usize,
}

/// A window in which the two models differ much, at its worst place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorstCase {
    /// Where it is, and by how much they differ.
    #[serde(flatten)]
    pub place: WorstWindow,
    /// The window's text up to the place: what both models have read.
    pub context: String,
    /// The token that the text goes on with.
    pub token: String,
    /// The original there.
    pub base: Outlook,
    /// The evaluated model there.
    pub model: Outlook,
}

/// What a model expects behind a context.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlook {
    /// Its most probable tokens, the most probable first (of equals, the one with the smallest id).
    pub likeliest: Vec<Candidate>,
    /// How it goes on, always with its most probable token.
    pub continuation: String,
}

/// A token and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its text; a part of a character is shown as �.
    pub text: String,
    /// Its probability over the vocabulary that both models share.
    pub probability: f64,
}

/// An evaluation's models and the text they were evaluated on.
pub(super) struct Evaluated<'a> {
    pub evaluation: &'a Evaluation,
    pub tokens: &'a [u32],
    pub tokenizer: &'a Tokenizer,
    /// The tokens that end a text.
    pub ends: &'a [u32],
    pub model: &'a dyn WeightSource,
    pub base: &'a dyn WeightSource,
    pub device: Device,
}

impl Evaluated<'_> {
    /// The worst windows, the worst first. Those not looked at when the reporter cancels are left out.
    ///
    /// # Errors
    /// A model cannot be loaded or run; the tokenizer fails.
    pub fn worst(
        &self,
        settings: WorstSettings,
        reporter: &dyn Reporter,
    ) -> Result<Vec<WorstCase>, PipelineError> {
        let places = worst_windows(self.evaluation, settings.windows);
        if places.is_empty() {
            return Ok(Vec::new());
        }
        reporter.begin("Worst cases", 2 * places.len() as u64, Unit::Steps);
        let [base, model] =
            [self.base, self.model].map(|source| self.look(source, &places, settings, reporter));
        reporter.end();
        let case = |(place, (base, model)): (WorstWindow, _)| {
            let token = self.tokens[place.token_index];
            let context = self.tokenizer.decode(&self.context(&place), true)?;
            let token = self.tokenizer.decode(&[token], false)?;
            Ok(WorstCase { place, context, token, base, model })
        };
        places.into_iter().zip(base?.into_iter().zip(model?)).map(case).collect()
    }

    /// One model at all places.
    fn look(
        &self,
        source: &dyn WeightSource,
        places: &[WorstWindow],
        settings: WorstSettings,
        reporter: &dyn Reporter,
    ) -> Result<Vec<Outlook>, PipelineError> {
        if reporter.is_cancelled() {
            return Ok(Vec::new());
        }
        let longest = places.iter().map(|place| place.position + 1).max().unwrap_or(0);
        let mut session = Session::new(source, longest + settings.continuation, self.device)?;
        let mut outlooks = Vec::with_capacity(places.len());
        for place in places.iter().take_while(|_| !reporter.is_cancelled()) {
            outlooks.push(self.outlook(&mut session, &self.context(place), settings.continuation)?);
            reporter.advance(1);
        }
        Ok(outlooks)
    }

    fn outlook(
        &self,
        session: &mut Session<'_>,
        context: &[u32],
        continuation: usize,
    ) -> Result<Outlook, PipelineError> {
        session.truncate(0);
        let mut logits = self.shared(session.read(context)?);
        let likeliest = self.likeliest(&logits)?;
        let mut sampler = Sampler::new(Sampling::default());
        let mut stream = TextStream::after(self.tokenizer, context);
        let mut text = String::new();
        for step in 0..continuation {
            let next = sampler.choose(&logits, &[]);
            if self.ends.binary_search(&next).is_ok() {
                break;
            }
            text.push_str(&stream.push(next)?);
            if step + 1 < continuation {
                logits = self.shared(session.read(&[next])?);
            }
        }
        text.push_str(&stream.finish()?);
        Ok(Outlook { likeliest, continuation: text })
    }

    /// What a model has read of a window before it predicts the place's token.
    fn context(&self, place: &WorstWindow) -> Vec<u32> {
        let mut inputs = self.evaluation.inputs(place.window, self.tokens);
        inputs.truncate(place.position + 1);
        inputs
    }

    /// The logits of the vocabulary that both models have.
    fn shared(&self, mut logits: Vec<f32>) -> Vec<f32> {
        let rows = |source: &dyn WeightSource| source.config().vocab_size;
        logits.truncate(rows(self.base).min(rows(self.model)));
        logits
    }

    fn likeliest(&self, logits: &[f32]) -> Result<Vec<Candidate>, PipelineError> {
        // At temperature 1 probabilities are the model's own.
        let candidates = Sampling { temperature: 1.0, ..Sampling::default() }.candidates(logits, &[]);
        let candidate = |(id, probability)| {
            let text = self.tokenizer.decode(&[id], false)?;
            Ok(Candidate { id, text, probability })
        };
        candidates.into_iter().take(LIKELIEST).map(candidate).collect()
    }
}
