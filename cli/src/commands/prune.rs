//! `slmc prune`

use serde_json::json;
use slmc_pipeline::frames;
use slmc_pipeline::jobs::evaluate::EvaluateOutcome;
use slmc_pipeline::jobs::prune::{PreparedPrune, PruneOutcome};

use super::quantize::print_modelfile;
use super::{failure, print_json, report, structured, vocabulary};
use crate::args::prune::Prune;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::by_place::{output_errors, sparsities};
use crate::terminal::format::{bytes, parameters, percent, seconds, shape};
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

pub fn run(args: &Prune, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    if !args.vocab.is_empty() {
        return vocabulary::run(args, resolver, terminal, json);
    }
    if args.structured.structured {
        return structured::run(args, resolver, terminal, json);
    }
    let prepared = PreparedPrune::new(resolver.prune(args)?).map_err(failure)?;
    if args.dry_run {
        return print_plan(&prepared.spread(terminal).map_err(failure)?, json);
    }
    let directory = report::directory(&args.report)?;
    let outcome = prepared.run(terminal).map_err(failure)?;
    report::write(directory.as_ref(), || frames::prune::report(&outcome, &report::run()).map_err(failure))?;
    if json {
        return print_json(&outcome);
    }
    print_outcome(&outcome);
    Ok(())
}

fn print_plan(prepared: &PreparedPrune, json: bool) -> Result<(), Failure> {
    let plan = &prepared.plan;
    if json {
        return print_json(&json!({
            "output_bytes": prepared.output_bytes().map_err(failure)?,
            "memory": prepared.footing,
            "plan": plan,
        }));
    }
    let rows = plan.tensors.iter().map(|t| {
        let share = |pruned: u64| percent(pruned as f64 / t.weights().max(1) as f64);
        let pruned = t.pruned.map_or_else(String::new, |pruned| format!("{pruned}, {}", share(pruned)));
        [t.hf_name.clone(), shape(&t.shape), pruned, t.reason.to_string()]
    });
    println!("{}", table(["tensor", "shape", "zeros", "why"], rows));
    println!(
        "{} {}: {} of {} weights become zero; weight files of {}; about {} of memory.",
        plan.method,
        plan.sparsity,
        parameters(plan.pruned_weights),
        parameters(plan.total_weights),
        bytes(prepared.output_bytes().map_err(failure)?),
        bytes(prepared.footing.peak_bytes),
    );
    Ok(())
}

fn print_outcome(outcome: &PruneOutcome) {
    let share = outcome.pruned_weights as f64 / outcome.total_weights.max(1) as f64;
    let mut rows = vec![
        [
            "zeros, counted in the file".to_owned(),
            String::new(),
            parameters(outcome.pruned_weights),
            format!("{} of all weights", percent(share)),
        ],
        ["size".into(), bytes(outcome.source_bytes), bytes(outcome.bytes), "zeros take as much room".into()],
    ];
    rows.extend(outcome.evaluation.as_ref().map(loss_rows).unwrap_or_default());
    println!("{}", table(["", "before", "after", "change"], rows));
    if let Some(table) = sparsities(&outcome.tensors) {
        println!("Zeros in % of each tensor's weights:\n{table}");
    }
    let reports: Vec<_> = outcome.tensors.iter().map(|tensor| tensor.report.clone()).collect();
    if let Some((table, _)) = output_errors(&reports) {
        println!("Errors of the outputs in %, pruned by magnitude → as stored:\n{table}");
    }
    let memory = outcome.peak_memory_bytes.map_or_else(String::new, |n| format!(", {} at most", bytes(n)));
    println!("{}  {}{memory}", outcome.output.display(), seconds(outcome.seconds));
    print_modelfile(outcome.modelfile.as_deref());
}

/// What was lost, as rows of a table of what was before and after.
pub(super) fn loss_rows(evaluation: &EvaluateOutcome) -> Vec<[String; 4]> {
    let summary = &evaluation.evaluation.summary;
    let Some(drift) = &summary.drift else { return Vec::new() };
    let kl = &drift.kl_divergence;
    vec![
        [
            format!("perplexity, {}", evaluation.text),
            format!("{:.3}", drift.base_perplexity),
            format!("{:.3}", summary.perplexity),
            format!("{:+.2} %", 100.0 * (drift.perplexity_ratio.mean - 1.0)),
        ],
        ["KL divergence".into(), "0".into(), format!("{:.5} ± {:.5}", kl.mean, kl.stderr), String::new()],
        ["same most likely token".into(), percent(1.0), percent(drift.top1_agreement), String::new()],
    ]
}
