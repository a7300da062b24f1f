//! `slmc quantize`

use std::path::Path;

use comfy_table::CellAlignment;
use serde_json::json;
use slmc_pipeline::Precision;
use slmc_pipeline::frames;
use slmc_pipeline::jobs::pack::PreparedPack;
use slmc_pipeline::jobs::quantize::{KeptZeros, Plan, PlannedTensor, Prediction, Prepared, QuantizeOutcome};

use super::{failure, print_json, report};
use crate::args::quantize::Quantize;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::by_place::{kept_zeros, output_errors};
use crate::terminal::format::{bytes, percent, seconds, shape};
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

pub fn run(args: &Quantize, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    let directory = report::directory(&args.report)?;
    let outcome = if let Some(group_size) = &args.group_size {
        let prepared = PreparedPack::new(resolver.pack(args, group_size)?).map_err(failure)?;
        if args.dry_run {
            return print_pack_plan(&prepared, json);
        }
        prepared.run(terminal).map_err(failure)?
    } else {
        let prepared = Prepared::new(resolver.quantize(args)?).map_err(failure)?;
        if args.dry_run {
            let prepared = prepared.allocated(terminal).map_err(failure)?;
            return print_plan(&prepared, json);
        }
        prepared.run(terminal).map_err(failure)?
    };
    report::write(directory.as_ref(), || {
        frames::quantize::report(&outcome, &report::run()).map_err(failure)
    })?;
    if json {
        return print_json(&outcome);
    }
    print_outcome(&outcome);
    Ok(())
}

fn print_plan(prepared: &Prepared, json: bool) -> Result<(), Failure> {
    let plan = &prepared.plan;
    if json {
        return print_json(&json!({
            "output_bytes": prepared.output_bytes(),
            "source_bytes": prepared.source_bytes,
            "memory": prepared.footing,
            "precision": prepared.precision(),
            "plan": plan,
        }));
    }
    let rows = plan
        .tensors
        .iter()
        .map(|t| [t.name.clone(), t.ty.to_string(), shape(&t.shape), bytes(t.bytes), why(plan, t)]);
    print_tensors(rows);
    println!(
        "{} {}: {} tensors, {:.3} bits per weight, file of {} ({} bytes) from {}",
        plan.method,
        plan.mix,
        plan.tensors.len(),
        plan.bits_per_weight,
        bytes(prepared.output_bytes()),
        prepared.output_bytes(),
        bytes(prepared.source_bytes),
    );
    println!(
        "About {} of memory{}{}.",
        bytes(prepared.footing.peak_bytes),
        if prepared.footing.spill { ", the hidden states in a file beside the output" } else { "" },
        match prepared.precision() {
            Precision::F32 => String::new(),
            other => format!("; calibration multiplies in {other}"),
        },
    );
    if let Some(prediction) = &plan.prediction {
        println!("{}", predicted(prediction));
    }
    if let Some(lost) = plan.zeros_lost() {
        println!("Note: {lost}.");
    }
    let fallback = plan.fallback_bits_per_weight();
    if fallback > 0.0 {
        println!("Shapes that do not fit the mix cost {fallback:.3} bits per weight.");
    }
    Ok(())
}

fn print_pack_plan(prepared: &PreparedPack, json: bool) -> Result<(), Failure> {
    let plan = &prepared.plan;
    if json {
        return print_json(&json!({
            "output_bytes": prepared.output_bytes(),
            "source_bytes": prepared.source_bytes,
            "plan": plan,
        }));
    }
    print_tensors(
        plan.tensors
            .iter()
            .map(|t| [t.hf_name.clone(), t.ty.to_string(), shape(&t.shape), bytes(t.bytes), t.explanation()]),
    );
    println!(
        "{} {}: {} tensors, {:.3} bits per weight, weight files of {} ({} bytes) from {}",
        plan.method,
        plan.scheme,
        plan.tensors.len(),
        plan.bits_per_weight,
        bytes(prepared.output_bytes()),
        prepared.output_bytes(),
        bytes(prepared.source_bytes),
    );
    Ok(())
}

fn print_tensors(rows: impl Iterator<Item = [String; 5]>) {
    let mut table = table(["tensor", "type", "shape", "size", "why"], rows);
    if let Some(why) = table.column_mut(4) {
        why.set_cell_alignment(CellAlignment::Left);
    }
    println!("{table}");
}

/// Why a tensor has its type, and its part of the predicted loss.
fn why(plan: &Plan, tensor: &PlannedTensor) -> String {
    match (&plan.prediction, tensor.kl_divergence) {
        (Some(total), Some(kl)) => {
            let share = percent(kl / total.kl_divergence);
            format!("{}: KL {kl:.2e}, {share} of all", tensor.explanation())
        }
        _ => tensor.explanation(),
    }
}

fn predicted(prediction: &Prediction) -> String {
    format!(
        "Predicted KL divergence {:.5} ({:.5} of it from rounding activations) on text like the calibration's; target: {}.",
        prediction.kl_divergence, prediction.kl_inputs, prediction.target
    )
}

fn print_outcome(outcome: &QuantizeOutcome) {
    println!("{}", table(["", "before", "after", "change"], comparison(outcome)));
    if let Some((table, others)) = output_errors(&outcome.tensors) {
        println!("Errors of the outputs in %, rounded to nearest → as stored:\n{table}");
        if !others.is_empty() {
            println!(" {}", others.join(", "));
        }
    }
    if let Some(table) = kept_zeros(&outcome.tensors) {
        println!("Zeros in % of each tensor's weights, before → of those, zeros in the file:\n{table}");
    }
    if let Some(worst) = worst_tensors(outcome) {
        println!("Largest rounding errors, ‖Ŵ − W‖ / ‖W‖: {worst}");
    }
    if let Some(prediction) = &outcome.prediction {
        println!("{}", predicted(prediction));
    }
    let memory = outcome.peak_memory_bytes.map_or_else(String::new, |n| format!(", {} at most", bytes(n)));
    println!("{}  {}{memory}", outcome.output.display(), seconds(outcome.seconds));
    print_modelfile(outcome.modelfile.as_deref());
}

/// Where the Modelfile is and what to do with it.
pub(super) fn print_modelfile(modelfile: Option<&Path>) {
    if let Some(path) = modelfile {
        println!("{0}  ollama create NAME -f {0}", path.display());
    }
}

fn comparison(outcome: &QuantizeOutcome) -> Vec<[String; 4]> {
    let ratio = outcome.bytes as f64 / outcome.source_bytes.max(1) as f64;
    let weights: u64 =
        outcome.tensors.iter().map(|t| t.shape.iter().map(|&d| d as u64).product::<u64>()).sum();
    let source_bits = 8.0 * outcome.source_bytes as f64 / weights.max(1) as f64;
    let mut rows = vec![
        ["size".into(), bytes(outcome.source_bytes), bytes(outcome.bytes), percent(ratio)],
        [
            "bits per weight".into(),
            format!("{source_bits:.3}"),
            format!("{:.3}", outcome.bits_per_weight),
            String::new(),
        ],
    ];
    if let Some(zeros) = KeptZeros::total(&outcome.tensors) {
        let kept = match zeros.kept == zeros.before {
            true => "all kept".to_owned(),
            false => format!("{} kept", percent(zeros.kept as f64 / zeros.before.max(1) as f64)),
        };
        let count = |n: u64| n.to_string();
        rows.push(["zeros of pruned tensors".into(), count(zeros.before), count(zeros.kept), kept]);
    }
    let Some(evaluation) = &outcome.evaluation else { return rows };
    let summary = &evaluation.evaluation.summary;
    let Some(drift) = &summary.drift else { return rows };
    rows.push([
        format!("perplexity, {}", evaluation.text),
        format!("{:.3}", drift.base_perplexity),
        format!("{:.3}", summary.perplexity),
        format!("{:+.2} %", 100.0 * (drift.perplexity_ratio.mean - 1.0)),
    ]);
    let kl = &drift.kl_divergence;
    rows.push([
        "KL divergence".into(),
        "0".into(),
        format!("{:.5} ± {:.5}", kl.mean, kl.stderr),
        String::new(),
    ]);
    rows.push(["same most likely token".into(), percent(1.0), percent(drift.top1_agreement), String::new()]);
    rows
}

fn worst_tensors(outcome: &QuantizeOutcome) -> Option<String> {
    const SHOWN: usize = 3;
    let mut tensors: Vec<_> = outcome.tensors.iter().filter(|t| t.relative_error > 0.0).collect();
    tensors.sort_by(|a, b| b.relative_error.total_cmp(&a.relative_error).then_with(|| a.name.cmp(&b.name)));
    let shown: Vec<String> = tensors
        .iter()
        .take(SHOWN)
        .map(|t| format!("{} ({}) {:.4}", t.name, t.ty, t.relative_error))
        .collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}
