//! `slmc prune --structured`

use serde_json::json;
use slmc_pipeline::frames;
use slmc_pipeline::jobs::structured::{
    Layer, PlannedStructured, PreparedStructured, Shape, StructuredOutcome, Widths,
};

use super::prune::loss_rows;
use super::quantize::print_modelfile;
use super::{failure, print_json, report};
use crate::args::prune::Prune;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::by_place::output_errors;
use crate::terminal::format::{bytes, parameters, percent, seconds, shape};
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

pub fn run(args: &Prune, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    let prepared = PreparedStructured::new(resolver.structured(args)?).map_err(failure)?;
    let directory = if args.dry_run { None } else { report::directory(&args.report)? };
    let planned = prepared.planned(terminal).map_err(failure)?;
    if args.dry_run {
        return print_plan(&planned, json);
    }
    let outcome = planned.run(terminal).map_err(failure)?;
    report::write(directory.as_ref(), || {
        frames::structured::report(&outcome, &report::run()).map_err(failure)
    })?;
    if json {
        return print_json(&outcome);
    }
    print_outcome(&outcome);
    Ok(())
}

fn print_plan(planned: &PlannedStructured, json: bool) -> Result<(), Failure> {
    let (plan, layers) = (&planned.plan, planned.layers());
    if json {
        return print_json(&json!({
            "output_bytes": planned.output_bytes(),
            "memory": planned.footing(),
            "layers": layers,
            "plan": plan,
        }));
    }
    let rows = plan.tensors.iter().filter(|cut| cut.shape != cut.shape_before || cut.name != cut.from);
    let rows =
        rows.map(|cut| [cut.from.clone(), shape(&cut.shape_before), cut.name.clone(), shape(&cut.shape)]);
    println!("{}", table(["tensor", "shape", "becomes", "shape"], rows));
    println!("{}", table(["", "before", "after", "change"], size_rows(plan.before, &plan.shape, &layers)));
    if !plan.calibrates {
        println!("No calibration is needed: weights and numbers alone say what goes.");
    }
    if let Some(predicted) = plan.predicted_divergence {
        let rows = plan.damages.iter().map(|damage| {
            [damage.kind.to_string(), damage.kept.to_string(), format!("{:.5}", damage.divergence)]
        });
        println!("Measured on calibration text, each kind by itself:");
        println!("{}", table(["kind", "kept", "KL divergence"], rows));
        println!(
            "Together about {predicted:.5}, before what stays is solved towards the original's outputs."
        );
    }
    println!(
        "{} of {} parameters stay, {} of {} in the layers; weight files of {}; about {} of memory.",
        parameters(plan.parameters),
        parameters(plan.parameters_before),
        parameters(plan.block_parameters),
        parameters(plan.block_parameters_before),
        bytes(planned.output_bytes()),
        bytes(planned.footing().peak_bytes),
    );
    Ok(())
}

/// How many of each kind there were and stay.
fn size_rows(before: Widths, shape: &Shape, layers: &[Layer]) -> Vec<[String; 4]> {
    let after = shape.widths;
    let gone: Vec<String> =
        layers.iter().filter(|layer| !layer.kept).map(|layer| layer.layer.to_string()).collect();
    let gone = if gone.is_empty() { String::new() } else { format!("without {}", gone.join(", ")) };
    let row = |name: &str, before: usize, after: usize, note: String| {
        [name.to_owned(), before.to_string(), after.to_string(), note]
    };
    vec![
        row("layers", before.layers, after.layers, gone),
        row("key and value heads", before.key_value_heads, after.key_value_heads, String::new()),
        row("query heads", before.query_heads(), after.query_heads(), String::new()),
        row("channels of the MLP", before.channels, after.channels, String::new()),
        row("hidden size", before.hidden_size, after.hidden_size, String::new()),
    ]
}

fn print_outcome(outcome: &StructuredOutcome) {
    let mut rows = size_rows(outcome.before, &outcome.shape, &outcome.layers);
    let change = |before: u64, after: u64| format!("{:+.1} %", 100.0 * (after as f64 / before as f64 - 1.0));
    rows.extend([
        [
            "parameters".to_owned(),
            parameters(outcome.parameters_before),
            parameters(outcome.parameters),
            format!(
                "{}; {} of the layers' went",
                change(outcome.parameters_before, outcome.parameters),
                percent(outcome.sparsity)
            ),
        ],
        [
            "size".into(),
            bytes(outcome.bytes_before),
            bytes(outcome.bytes),
            change(outcome.bytes_before, outcome.bytes),
        ],
    ]);
    rows.extend(outcome.evaluation.as_ref().map(loss_rows).unwrap_or_default());
    println!("{}", table(["", "before", "after", "change"], rows));
    if let Some((table, _)) = output_errors(&outcome.tensors) {
        println!("Errors of the outputs in %, cut plainly → as stored:\n{table}");
    }
    let memory = outcome.peak_memory_bytes.map_or_else(String::new, |n| format!(", {} at most", bytes(n)));
    println!("{}  {}{memory}", outcome.output.display(), seconds(outcome.seconds));
    print_modelfile(outcome.modelfile.as_deref());
}
