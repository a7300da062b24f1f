//! Asking models questions that have right answers, and comparing what they get right.

mod encode;
mod outcome;
mod source;
mod write;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use slmc_eval::likelihood::{LikelihoodError, Pair, log_likelihoods};
use slmc_eval::tasks::{Item, examples};
use slmc_model::Device;

use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::{Reporter, Unit};
use encode::Encoder;
use source::Loaded;
use write::Writer;

pub use outcome::{Comparison, Flipped, Reply, Scores, TaskOutcome, TasksOutcome};
pub use slmc_eval::tasks::Format;
pub use source::TaskSource;

/// Bytes for hidden states and activations, as of an evaluation.
const MEMORY_BUDGET: usize = 768 << 20;

/// Whom to ask, and what.
#[derive(Clone, Debug)]
pub struct TasksSettings {
    /// The model.
    pub model: PathBuf,
    /// The original to compare with.
    pub base: Option<PathBuf>,
    /// The questions.
    pub tasks: Tasks,
    /// Where the models run.
    pub device: Device,
}

/// Questions, and how they are put.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    /// Where they are.
    pub sources: Vec<TaskSource>,
    /// The layout of all files; `None` to tell each file's by its first item.
    pub format: Option<Format>,
    /// Examples with answers in front of each item.
    pub fewshot: usize,
    /// Where examples are from; `None` for the other items of the same file.
    pub fewshot_file: Option<PathBuf>,
    /// Ask the first items of each file only.
    pub limit: Option<usize>,
}

/// Runs the job: both models answer all items, each model in one pass over its weights. What the user stops counts as far as it
/// came: the items that both models have answered.
///
/// # Errors
/// Files that cannot be read or hold something else; a model that cannot be read or run, or whose logits are not finite; nothing
/// that was answered before the user stopped.
pub fn tasks(settings: &TasksSettings, reporter: &dyn Reporter) -> Result<TasksOutcome, PipelineError> {
    let started = Instant::now();
    let loaded = source::load(&settings.tasks)?;
    let shots = shots(&settings.tasks, &loaded)?;
    let ask = |path: &Path| replies(path, &loaded, &shots, settings.device, reporter);
    let base = settings.base.as_deref().map(ask).transpose()?;
    if reporter.is_cancelled() && base.is_some() {
        return Err(PipelineError::NothingMeasured);
    }
    let model = ask(&settings.model)?;
    let mut base = base.map(Vec::into_iter);
    let outcomes = loaded.into_iter().zip(model).map(|(task, replies)| {
        let base = base.as_mut().and_then(Iterator::next);
        TaskOutcome::of(task, settings.tasks.fewshot, replies, base)
    });
    let (items_planned, tasks): (Vec<usize>, Vec<TaskOutcome>) =
        outcomes.map(|outcome| (outcome.items_planned, outcome)).unzip();
    let tasks: Vec<TaskOutcome> = tasks.into_iter().filter(|task| task.items > 0).collect();
    if tasks.is_empty() {
        return Err(PipelineError::NothingMeasured);
    }
    let (items, items_planned) = (tasks.iter().map(|task| task.items).sum(), items_planned.iter().sum());
    let seconds = started.elapsed().as_secs_f64();
    Ok(TasksOutcome { complete: items == items_planned, items, items_planned, tasks, seconds })
}

/// The examples in front of every item of every task.
fn shots(tasks: &Tasks, loaded: &[Loaded]) -> Result<Vec<Vec<String>>, PipelineError> {
    let of_task = |task: &Loaded| {
        let of_item = |(item, line): (&Item, &usize)| {
            examples(&task.pool, item, tasks.fewshot).map_err(|error| task.wrong(*line, &error))
        };
        task.asked().map(of_item).collect()
    };
    loaded.iter().map(of_task).collect()
}

/// One model's replies to every item of every task; `None` to those that the user did not wait for.
fn replies(
    path: &Path,
    tasks: &[Loaded],
    shots: &[Vec<String>],
    device: Device,
    reporter: &dyn Reporter,
) -> Result<Vec<Vec<Option<Reply>>>, PipelineError> {
    let model = ModelFile::open(path)?;
    let source = model.source()?;
    let vocab_size = source.config().vocab_size;
    let tokenizer = model.tokenizer(vocab_size)?;
    tokenizer.check_vocab_size(vocab_size)?;
    let encoder = Encoder::new(&tokenizer, model.prefix_token(&tokenizer)?)?;

    let mut texts = Vec::new();
    let mut places = Vec::new();
    for (task, shots) in tasks.iter().zip(shots) {
        for ((item, line), shots) in task.asked().zip(shots) {
            if let Item::Choice(item) = item {
                let pairs = item.pairs(shots);
                places.resize(places.len() + pairs.len(), (task, *line));
                texts.extend(pairs);
            }
        }
    }
    let pairs = encoder.pairs(&texts)?;
    drop(texts);
    let logs = run(source.as_ref(), &pairs, device, reporter).map_err(|error| match error.pair() {
        Some(pair) => {
            let (task, line) = places[pair];
            task.wrong(line, &format!("{}: {error}", path.display()))
        }
        None => PipelineError::Answers { model: path.to_owned(), source: Box::new(error) },
    })?;
    let writer =
        Writer { model: &model, source: source.as_ref(), tokenizer: &tokenizer, encoder: &encoder, device };
    let (mut logs, mut texts) = (logs.into_iter(), writer.write(tasks, shots, reporter)?.into_iter());
    let mut of_item = |(item, _): (&Item, &usize)| match item {
        Item::Choice(item) => {
            // all are taken, whichever are there: the next item's come behind them
            let logs: Vec<Option<f64>> = logs.by_ref().take(item.len()).collect();
            logs.into_iter().collect::<Option<_>>().map(|logs| Reply::Choice(item.answer(logs)))
        }
        Item::Generation(_) => texts.next().flatten().map(Reply::Text),
    };
    Ok(tasks.iter().map(|task| task.asked().map(&mut of_item).collect()).collect())
}

fn run(
    source: &dyn slmc_model::WeightSource,
    pairs: &[Pair],
    device: Device,
    reporter: &dyn Reporter,
) -> Result<Vec<Option<f64>>, LikelihoodError> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let tokens: usize = pairs.iter().map(|pair| pair.context.len() + pair.continuation.len()).sum();
    reporter.begin("Answering", tokens as u64, Unit::Tokens);
    let mut shown = 0;
    let mut step = |share: f64| {
        let done = (share * tokens as f64) as u64;
        reporter.advance(done.saturating_sub(shown));
        shown = done.max(shown);
        if reporter.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let logs = log_likelihoods(source, device, pairs, MEMORY_BUDGET, &mut step);
    reporter.end();
    logs
}
