//! `slmc eval`

use std::path::PathBuf;

use serde::Serialize;
use slmc_pipeline::jobs::evaluate::{EvaluateOutcome, evaluate};
use slmc_pipeline::jobs::tasks::{TasksOutcome, tasks};

use super::{failure, print_json, tasks as tasks_table};
use crate::args::eval::Eval;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::format::{percent, seconds};
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

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

pub fn run(args: &Eval, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    let (on_text, on_tasks) = resolver.eval(args)?;
    let measured = on_text.map(|settings| evaluate(&settings, terminal)).transpose().map_err(failure)?;
    let answered =
        on_tasks.as_ref().map(|settings| tasks(settings, terminal)).transpose().map_err(failure)?;
    if json {
        let models = on_tasks.as_ref().filter(|_| measured.is_none());
        let models = models.map(|settings| Models { model: &settings.model, base: settings.base.as_ref() });
        return print_json(&Output { measured: measured.as_ref(), models, tasks: answered.as_ref() });
    }
    if let Some(outcome) = &measured {
        println!("{}", table(["", ""], rows(outcome)));
    }
    if let Some(outcome) = &answered {
        tasks_table::print(&outcome.tasks, args.flips);
    }
    Ok(())
}

fn rows(outcome: &EvaluateOutcome) -> Vec<[String; 2]> {
    let evaluation = &outcome.evaluation;
    let summary = &evaluation.summary;
    let mut rows = vec![["model".into(), outcome.model.display().to_string()]];
    if let Some(base) = &outcome.base {
        rows.push(["base".into(), base.display().to_string()]);
    }
    let bos = match evaluation.bos {
        Some(bos) => format!("token {bos} first"),
        None => "no token in front".into(),
    };
    rows.push([
        "text".into(),
        format!(
            "{}: {} windows of {}, second half scored, {bos}",
            outcome.text, evaluation.windows, evaluation.n_ctx
        ),
    ]);
    rows.push(["tokens scored".into(), summary.tokens.to_string()]);
    rows.push(["perplexity".into(), format!("{:.4} ± {:.4}", summary.perplexity, summary.perplexity_stderr)]);
    if let Some(drift) = &summary.drift {
        let kl = &drift.kl_divergence;
        let change = drift.perplexity_ratio.mean - 1.0;
        rows.extend([
            [
                "base perplexity".into(),
                format!("{:.4} ± {:.4}", drift.base_perplexity, drift.base_perplexity_stderr),
            ],
            [
                "perplexity change".into(),
                format!("{:+.2} % ± {:.2} %", 100.0 * change, 100.0 * drift.perplexity_ratio.stderr),
            ],
            ["KL divergence, mean".into(), format!("{:.6} ± {:.6}", kl.mean, kl.stderr)],
            ["KL divergence, median".into(), format!("{:.6}", kl.median)],
            [
                "KL divergence, 90/95/99/99.9 %".into(),
                format!("{:.5} / {:.5} / {:.5} / {:.5}", kl.p90, kl.p95, kl.p99, kl.p999),
            ],
            ["KL divergence, maximum".into(), format!("{:.5}", kl.max)],
            [
                "same most likely token".into(),
                format!("{} ± {}", percent(drift.top1_agreement), percent(drift.top1_agreement_stderr)),
            ],
        ]);
    }
    rows.push([
        "time".into(),
        format!("{}, {:.0} tokens/s", seconds(outcome.seconds), outcome.tokens_per_second),
    ]);
    rows
}
