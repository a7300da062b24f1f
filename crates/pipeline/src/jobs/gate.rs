//! Holding a compressed model against limits, and against one that was accepted before.

use std::path::{Path, PathBuf};

use serde::Serialize;
use slmc_eval::Evaluation;
use slmc_eval::gate::{Baseline, Check, TaskAnswers, check_accuracy, conclusion, judge, judge_latency};
use slmc_report::file::write_whole;

use super::bench::{Amount, Engine, OwnEngine};
use super::evaluate::{EvaluateOutcome, EvaluateSettings, Measure, evaluate};
use super::tasks::{TaskOutcome, Tasks, TasksOutcome, TasksSettings, tasks};
use super::worst::WorstSettings;
use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::Reporter;

pub use slmc_eval::gate::{FEWEST_WINDOWS, Interval, Limits, Metric, Verdict};

/// What to hold against what.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// The compressed model.
    pub model: PathBuf,
    /// The original; needed where a limit is on a loss, and for baselines.
    pub base: Option<PathBuf>,
    /// The original's predictions from a file: losses on text are measured against them, without the original.
    pub base_logits: Option<PathBuf>,
    /// How losses are measured.
    pub measure: Measure,
    /// What the limit on accuracy and a baseline's answers are about.
    pub tasks: Option<Tasks>,
    /// What may be lost.
    pub limits: Limits,
    /// How much is timed, where a limit is on the latency, on slmc's own decoder.
    pub timing: Amount,
    /// The file of an accepted model's losses.
    pub baseline: Option<PathBuf>,
    /// By what share the KL divergence may exceed the baseline's.
    pub max_kl_growth: f64,
    /// What share of the baseline's accuracy on its tasks must be left.
    pub min_baseline_accuracy: f64,
    /// Where to keep this model's losses.
    pub save_baseline: Option<PathBuf>,
    /// Of each bound of what was measured, 0.5 to 1.
    pub confidence: f64,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct GateOutcome {
    /// The compressed model.
    pub model: PathBuf,
    /// The original, where the two were measured beside each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// The conclusion from all checks; none checked is passed.
    pub verdict: Verdict,
    /// Every limit.
    pub checks: Vec<Check>,
    /// Why the baseline decides nothing, where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomparable: Option<String>,
    /// Why nothing is decided, where the evaluation was interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// Of each bound.
    pub confidence: f64,
    /// Bytes of the model's weight files.
    pub bytes: u64,
    /// What was measured, where something needed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluateOutcome>,
    /// What was answered, where accuracy is limited.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TasksOutcome>,
}

impl GateSettings {
    /// Whether the models have to be run.
    pub fn need_evaluation(&self) -> bool {
        self.limits.need_evaluation() || self.baseline.is_some() || self.save_baseline.is_some()
    }

    /// Whether something is measured beside the original.
    fn need_base(&self) -> bool {
        self.need_evaluation() && self.base_logits.is_none()
            || self.limits.max_latency_increase.is_some()
            || self.limits.min_accuracy_ratio.is_some()
    }
}

/// Runs the job. The new baseline is kept whatever the verdict; but an evaluation that was interrupted decides nothing, and nothing
/// of it is kept.
///
/// # Errors
/// As [`evaluate`]; a loss to tell without a base; a baseline that cannot be read or written.
pub fn gate(settings: &GateSettings, reporter: &dyn Reporter) -> Result<GateOutcome, PipelineError> {
    let bytes = ModelFile::open(&settings.model)?.bytes();
    let baseline = settings.baseline.as_deref().map(read).transpose()?;
    let evaluation = match settings.need_evaluation() {
        false => None,
        true => {
            let base_logits = settings.base_logits.clone();
            let base = match base_logits {
                Some(_) => None,
                None => Some(settings.base.clone().ok_or(PipelineError::NoBase)?),
            };
            let (model, measure) = (settings.model.clone(), settings.measure.clone());
            let worst = WorstSettings::default();
            match evaluate(&EvaluateSettings { model, base, base_logits, measure, worst }, reporter) {
                Err(PipelineError::NothingMeasured) => return Ok(GateOutcome::of_nothing(settings, bytes)),
                evaluation => Some(evaluation?),
            }
        }
    };
    let mut incomplete = evaluation.as_ref().and_then(|outcome| interrupted(&outcome.evaluation));
    let confidence = settings.confidence;
    let measured = evaluation.as_ref().map(|outcome| &outcome.evaluation);
    let mut checks = judge(measured, bytes, &settings.limits, confidence);
    let answered = match (&settings.tasks, settings.limits.min_accuracy_ratio, &incomplete) {
        (Some(asked), limit, None) => {
            let answered = match answer(settings, asked, reporter) {
                Err(PipelineError::NothingMeasured) => None,
                answered => Some(answered?),
            };
            match &answered {
                Some(answered) if answered.complete => {
                    checks.extend(limit.map(|limit| accuracy(answered, limit, confidence)));
                }
                _ => incomplete = Some(unanswered(answered.as_ref())),
            }
            answered
        }
        _ => None,
    };
    if let (Some(limit), None) = (settings.limits.max_latency_increase, &incomplete) {
        checks.push(time(settings, limit, reporter)?);
    }
    let mut incomparable = None;
    let answers: Vec<TaskAnswers<'_>> =
        answered.iter().flat_map(|outcome| &outcome.tasks).map(TaskOutcome::answers).collect();
    if let (Some(baseline), Some(outcome)) = (&baseline, &evaluation) {
        let (evaluation, tokens) = (&outcome.evaluation, &outcome.tokens_sha256);
        match baseline.check(evaluation, tokens, settings.max_kl_growth, confidence) {
            Ok(check) => checks.push(check),
            Err(reason) => incomparable = Some(reason.to_string()),
        }
        if incomplete.is_none() {
            match baseline.check_tasks(&answers, settings.min_baseline_accuracy, confidence) {
                Ok(check) => checks.extend(check),
                Err(reason) => incomparable = Some(reason.to_string()),
            }
        }
    }
    if let (Some(path), Some(outcome), None) = (&settings.save_baseline, &evaluation, &incomplete) {
        write(path, &Baseline::of(&outcome.evaluation, &outcome.tokens_sha256, &answers))?;
    }
    let verdict = match (conclusion(&checks), &incomparable) {
        _ if incomplete.is_some() => Verdict::Undecided,
        (Verdict::Regression, _) => Verdict::Regression,
        (_, Some(_)) => Verdict::Undecided,
        _ if checks.is_empty() => Verdict::Passed,
        (verdict, None) => verdict,
    };
    Ok(GateOutcome {
        verdict,
        checks,
        incomparable,
        incomplete,
        evaluation,
        tasks: answered,
        ..GateOutcome::of_nothing(settings, bytes)
    })
}

impl GateOutcome {
    /// What came out where the user stopped before anything was measured.
    fn of_nothing(settings: &GateSettings, bytes: u64) -> Self {
        Self {
            model: settings.model.clone(),
            base: settings.base.clone().filter(|_| settings.need_base()),
            verdict: Verdict::Undecided,
            checks: Vec::new(),
            incomparable: None,
            incomplete: Some("the evaluation was interrupted before anything was measured".to_owned()),
            confidence: settings.confidence,
            bytes,
            evaluation: None,
            tasks: None,
        }
    }
}

/// Why an evaluation that was stopped decides nothing.
fn interrupted(evaluation: &Evaluation) -> Option<String> {
    let Evaluation { windows, windows_planned, complete, .. } = evaluation;
    (!complete)
        .then(|| format!("the evaluation was interrupted after {windows} of {windows_planned} windows"))
}

/// Why tasks that were stopped decide nothing.
fn unanswered(answered: Option<&TasksOutcome>) -> String {
    match answered {
        Some(TasksOutcome { items, items_planned, .. }) => {
            format!("the tasks were interrupted after {items} of {items_planned} items")
        }
        None => "the tasks were interrupted before an item was answered".to_owned(),
    }
}

fn answer(
    settings: &GateSettings,
    asked: &Tasks,
    reporter: &dyn Reporter,
) -> Result<TasksOutcome, PipelineError> {
    // a baseline's answers stand for themselves
    let base = match settings.limits.min_accuracy_ratio {
        Some(_) => Some(settings.base.clone().ok_or(PipelineError::NoBase)?),
        None => None,
    };
    let (model, device) = (settings.model.clone(), settings.measure.device);
    tasks(&TasksSettings { model, base, tasks: asked.clone(), device }, reporter)
}

/// The items of all tasks together, each counted once.
fn accuracy(answered: &TasksOutcome, limit: f64, confidence: f64) -> Check {
    let model: Vec<bool> = answered.tasks.iter().flat_map(|task| &task.right).copied().collect();
    let base: Vec<bool> =
        answered.tasks.iter().flat_map(|task| task.base_right.iter().flatten()).copied().collect();
    check_accuracy(&model, &base, limit, confidence)
}

/// Times the two models in turn.
fn time(settings: &GateSettings, limit: f64, reporter: &dyn Reporter) -> Result<Check, PipelineError> {
    let base = settings.base.as_deref().ok_or(PipelineError::NoBase)?;
    let files = [ModelFile::open(base)?, ModelFile::open(&settings.model)?];
    let schedule = settings.timing.schedule(&files)?;
    let sources = [files[0].source()?, files[1].source()?];
    let positions = schedule.prompt.len() + schedule.tokens;
    let mut base = OwnEngine::new(sources[0].as_ref(), positions, settings.measure.device)?;
    let mut model = OwnEngine::new(sources[1].as_ref(), positions, settings.measure.device)?;
    let mut engines: [&mut dyn Engine; 2] = [&mut base, &mut model];
    let times = schedule.run(&mut engines, reporter)?;
    Ok(judge_latency(&times[0], &times[1], limit, settings.confidence))
}

fn read(path: &Path) -> Result<Baseline, PipelineError> {
    let failed = |reason: String| PipelineError::Baseline { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(format!("not a baseline of `slmc gate`: {error}")))
}

fn write(path: &Path, baseline: &Baseline) -> Result<(), PipelineError> {
    let failed =
        |error: std::io::Error| PipelineError::Baseline { path: path.to_owned(), reason: error.to_string() };
    let mut text = serde_json::to_string_pretty(baseline).map_err(|error| failed(error.into()))?;
    text.push('\n');
    write_whole(path, text.as_bytes()).map_err(failed)
}
