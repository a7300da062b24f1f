//! `slmc eval`

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use slmc_pipeline::jobs::evaluate::{EvaluateOutcome, Evaluation, Windowing, evaluate};
use slmc_pipeline::jobs::tasks::{TasksOutcome, tasks};
use slmc_pipeline::{PipelineError, frames};

use super::{INTERRUPTED, failure, print_json, report, tasks as tasks_table};
use crate::args::eval::Eval;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::breakdown::{documents, positions};
use crate::terminal::format::{percent, seconds};
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;
use crate::terminal::worst;

/// What `--json` prints: with tasks alone the models stand beside them, else with the figures of the text.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    measured: Option<&'a EvaluateOutcome>,
    #[serde(flatten)]
    models: Option<Models<'a>>,
    #[serde(flatten)]
    tasks: Option<&'a TasksOutcome>,
}

#[derive(Serialize)]
struct Models<'a> {
    model: &'a PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<&'a PathBuf>,
}

pub fn run(args: &Eval, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<ExitCode, Failure> {
    let directory = report::directory(&args.report)?;
    let model = resolver.model(args.model.as_deref())?;
    let (on_text, on_tasks) = resolver.eval(args, json || directory.is_some())?;
    let measured = on_text.map(|settings| evaluate(&settings, terminal)).transpose().map_err(failure)?;
    // whoever stopped it wants nothing more, and what was measured is kept
    let complete = measured.as_ref().is_none_or(|outcome| outcome.evaluation.complete);
    let on_tasks = on_tasks.filter(|_| complete);
    let asked = on_tasks.is_some();
    let answered = match on_tasks.map(|settings| tasks(&settings, terminal)).transpose() {
        // what was measured on the text is whole
        Err(PipelineError::NothingMeasured) if measured.is_some() => None,
        answered => answered.map_err(failure)?,
    };
    let complete = complete && answered.as_ref().map_or(!asked, |outcome| outcome.complete);
    let (measured, answered) = (measured.as_ref(), answered.as_ref());
    report::write(directory.as_ref(), || {
        let report = frames::eval::report(&model, args.base.as_deref(), measured, answered, &report::run());
        report.map_err(failure)
    })?;
    if json {
        let models = measured.is_none().then_some(Models { model: &model, base: args.base.as_ref() });
        print_json(&Output { measured, models, tasks: answered })?;
    } else {
        measured.iter().for_each(|outcome| print(outcome, args.breakdown));
        answered.iter().for_each(|outcome| tasks_table::print(outcome, args.flips));
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
}

fn print(outcome: &EvaluateOutcome, breakdown: bool) {
    println!("{}", table(["", ""], rows(outcome)));
    if breakdown {
        println!("By tokens of context:\n{}", positions(&outcome.evaluation));
        println!("By document:\n{}", documents(&outcome.evaluation));
    }
    worst::print(&outcome.worst);
}

fn rows(outcome: &EvaluateOutcome) -> Vec<[String; 2]> {
    let evaluation = &outcome.evaluation;
    let summary = &evaluation.summary;
    let mut rows = vec![["model".into(), outcome.model.display().to_string()]];
    if let Some(base) = &outcome.base {
        rows.push(["base".into(), base.display().to_string()]);
    }
    rows.push(["text".into(), format!("{}: {}", outcome.text, windows(evaluation))]);
    if !evaluation.complete {
        let (done, planned) = (evaluation.windows, evaluation.windows_planned);
        rows.push(["incomplete".into(), format!("interrupted after {done} of {planned} windows")]);
    }
    rows.push(["tokens scored".into(), summary.tokens.to_string()]);
    rows.push(["perplexity".into(), format!("{:.4} ± {:.4}", summary.perplexity, summary.perplexity_stderr)]);
    if let Some(bits) = summary.bits_per_byte {
        rows.push(["bits per byte".into(), format!("{bits:.4}")]);
    }
    if let Some(kept) = &evaluation.base_logits {
        rows.push(["known of the base".into(), kept.to_string()]);
    }
    if let Some(drift) = &summary.drift {
        let least = evaluation.base_logits.is_some_and(|kept| kept.kl_is_lower_bound);
        let divergence = if least { "KL divergence, at least" } else { "KL divergence" };
        let kl = &drift.kl_divergence;
        let change = drift.perplexity_ratio.mean - 1.0;
        rows.push([
            "base perplexity".into(),
            format!("{:.4} ± {:.4}", drift.base_perplexity, drift.base_perplexity_stderr),
        ]);
        if let Some(bits) = drift.base_bits_per_byte {
            rows.push(["base bits per byte".into(), format!("{bits:.4}")]);
        }
        rows.extend([
            [
                "perplexity change".into(),
                format!("{:+.2} % ± {:.2} %", 100.0 * change, 100.0 * drift.perplexity_ratio.stderr),
            ],
            [format!("{divergence}, mean"), format!("{:.6} ± {:.6}", kl.mean, kl.stderr)],
            [format!("{divergence}, median"), format!("{:.6}", kl.median)],
            [
                format!("{divergence}, 90/95/99/99.9 %"),
                format!("{:.5} / {:.5} / {:.5} / {:.5}", kl.p90, kl.p95, kl.p99, kl.p999),
            ],
            [format!("{divergence}, maximum"), format!("{:.5}", kl.max)],
            [
                "same most likely token".into(),
                format!("{} ± {}", percent(drift.top1_agreement), percent(drift.top1_agreement_stderr)),
            ],
            [
                "the base's among the five likeliest".into(),
                format!("{} ± {}", percent(drift.top5_agreement), percent(drift.top5_agreement_stderr)),
            ],
        ]);
    }
    rows.push([
        "time".into(),
        format!("{}, {:.0} tokens/s", seconds(outcome.seconds), outcome.tokens_per_second),
    ]);
    rows
}

/// How the text was cut and what was scored.
fn windows(evaluation: &Evaluation) -> String {
    let Evaluation { n_ctx, stride, windows, .. } = evaluation;
    match (evaluation.windowing, evaluation.bos) {
        (Windowing::SideBySide, bos) => {
            let bos = bos.map_or("no token in front".to_owned(), |bos| format!("token {bos} first"));
            format!("{windows} windows of {n_ctx} side by side, second half scored, {bos}")
        }
        (Windowing::Strided, bos) => {
            let bos = bos.map_or("nothing".to_owned(), |bos| format!("token {bos}"));
            format!(
                "{windows} windows of {n_ctx}, stride {stride}, what is new scored, {bos} in front of the text"
            )
        }
    }
}
