//! Text from a model: the continuation of a prompt, token by token.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use slmc_calibration::{TextStream, Tokenizer};
use slmc_model::{Device, Sampler, Session, WeightSource};

use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::Reporter;

pub use slmc_model::Sampling;

/// What to continue, and how.
#[derive(Clone, Debug)]
pub struct GenerateSettings {
    /// The model.
    pub model: PathBuf,
    /// The original, to continue the same prompt first.
    pub base: Option<PathBuf>,
    /// The text; what it spells of special tokens means the tokens.
    pub prompt: String,
    /// Whether it is a user's message, for the model's chat template to set in.
    pub chat: bool,
    /// Most tokens to write.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Where the model runs.
    pub device: Device,
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model wrote a token that ends a text.
    EndOfText,
    /// As many tokens as were asked for, or as the context has room for.
    Length,
    /// The user, or whoever took the text, wanted no more.
    Interrupted,
}

/// What a model wrote.
#[derive(Clone, Debug, Serialize)]
pub struct Continuation {
    /// The model's path.
    pub model: PathBuf,
    /// Tokens of the prompt, those included that the tokenizer or the template puts around it.
    pub prompt_tokens: usize,
    /// The prompt's token ids.
    pub prompt_ids: Vec<u32>,
    /// The token ids written, without the one that ended the text.
    pub ids: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Why it ended.
    pub stop: Stop,
    /// Seconds until the model was ready.
    pub load_seconds: f64,
    /// Seconds for the prompt, up to the first token.
    pub prompt_seconds: f64,
    /// Seconds for the tokens after the first.
    pub seconds: f64,
    /// Tokens of the prompt a second.
    pub prompt_tokens_per_second: f64,
    /// Tokens after the first a second; `None` (null) where there are none.
    pub tokens_per_second: Option<f64>,
}

/// What the job gives: the model's continuation, and the original's beside it.
#[derive(Clone, Debug, Serialize)]
pub struct GenerateOutcome {
    /// The model's.
    #[serde(flatten)]
    pub model: Continuation,
    /// The original's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Continuation>,
}

/// What happens while a job writes.
#[derive(Debug)]
pub enum Written<'a> {
    /// This model begins.
    Begin(&'a Path),
    /// More of its text.
    Text(&'a str),
    /// It has ended.
    End(&'a Continuation),
}

/// Runs the job, the original first. `show` is told of every piece of text as it comes; whenever it breaks, the text ends
/// there.
///
/// # Errors
/// A model that cannot be read; a prompt that is longer than its context, or has no tokens; a chat without a template.
pub fn generate(
    settings: &GenerateSettings,
    reporter: &dyn Reporter,
    show: &mut dyn FnMut(Written<'_>) -> ControlFlow<()>,
) -> Result<GenerateOutcome, PipelineError> {
    let base =
        settings.base.as_deref().map(|base| continue_with(base, settings, reporter, show)).transpose()?;
    let model = continue_with(&settings.model, settings, reporter, show)?;
    Ok(GenerateOutcome { model, base })
}

fn continue_with(
    path: &Path,
    settings: &GenerateSettings,
    reporter: &dyn Reporter,
    show: &mut dyn FnMut(Written<'_>) -> ControlFlow<()>,
) -> Result<Continuation, PipelineError> {
    let started = Instant::now();
    let model = ModelFile::open(path)?;
    let source = model.source()?;
    let tokenizer = model.tokenizer(source.config().vocab_size)?;
    tokenizer.check_vocab_size(source.config().vocab_size)?;
    let prompt_ids = prompt_ids(&model, source.as_ref(), &tokenizer, settings)?;
    let ends = model.end_tokens(&tokenizer)?;

    let context = source.config().max_position_embeddings;
    let room = context.saturating_sub(prompt_ids.len());
    if room == 0 {
        let tokens = prompt_ids.len();
        let reason = format!(
            "a prompt of {tokens} tokens leaves no room in the model's context of {context}; shorten it"
        );
        return Err(PipelineError::Prompt { path: path.to_owned(), reason });
    }
    if room < settings.max_tokens {
        reporter
            .warn(&format!("{}: the context of {context} has room for {room} more tokens", path.display()));
    }
    let max_tokens = settings.max_tokens.min(room);
    let mut session = Session::new(source.as_ref(), prompt_ids.len() + max_tokens, settings.device)?;
    let load_seconds = started.elapsed().as_secs_f64();

    let mut sampler = Sampler::new(settings.sampling);
    let mut stream = TextStream::after(&tokenizer, &prompt_ids);
    let mut tokens = prompt_ids.clone();
    let (mut text, mut stop) = (String::new(), Stop::Length);
    let mut flow = show(Written::Begin(path));
    let started = Instant::now();
    let mut logits = session.read(&prompt_ids)?;
    let mut first = None;
    for step in 0..max_tokens {
        if flow.is_break() || reporter.is_cancelled() {
            stop = Stop::Interrupted;
            break;
        }
        let token = sampler.choose(&logits, &tokens);
        first.get_or_insert_with(|| started.elapsed().as_secs_f64());
        if ends.binary_search(&token).is_ok() {
            stop = Stop::EndOfText;
            break;
        }
        tokens.push(token);
        let piece = stream.push(token)?;
        flow = show(Written::Text(&piece));
        text.push_str(&piece);
        if step + 1 < max_tokens {
            logits = session.read(&[token])?;
        }
    }
    let whole = started.elapsed().as_secs_f64();
    let rest = stream.finish()?;
    let _ = show(Written::Text(&rest));
    text.push_str(&rest);

    let ids = tokens.split_off(prompt_ids.len());
    let prompt_seconds = first.unwrap_or(whole);
    let seconds = whole - prompt_seconds;
    let continuation = Continuation {
        model: path.to_owned(),
        prompt_tokens: prompt_ids.len(),
        prompt_tokens_per_second: prompt_ids.len() as f64 / prompt_seconds,
        tokens_per_second: (ids.len() > 1).then(|| (ids.len() - 1) as f64 / seconds),
        prompt_ids,
        ids,
        text,
        stop,
        load_seconds,
        prompt_seconds,
        seconds,
    };
    let _ = show(Written::End(&continuation));
    Ok(continuation)
}

/// The prompt's tokens as the model was trained to see them: of a chat as its template has it, else with what the tokenizer
/// puts in front of a text.
fn prompt_ids(
    model: &ModelFile,
    source: &dyn WeightSource,
    tokenizer: &Tokenizer,
    settings: &GenerateSettings,
) -> Result<Vec<u32>, PipelineError> {
    let refused = |reason: String| PipelineError::Prompt { path: model.path(), reason };
    let ids = if settings.chat {
        let template = model
            .chat_template(source.config().vocab_size)?
            .ok_or_else(|| refused("the model has no chat template; leave out --chat".to_owned()))?;
        let message = serde_json::json!({ "role": "user", "content": settings.prompt });
        let text = template
            .render_prompt(&[message])
            .map_err(|reason| refused(format!("chat template: {reason}")))?;
        tokenizer.encode_markup(&text)?
    } else {
        tokenizer.encode_with_special_tokens(&settings.prompt)?
    };
    if ids.is_empty() {
        return Err(refused(
            "the prompt has no tokens, and the model puts none in front; write some text".to_owned(),
        ));
    }
    Ok(ids)
}
