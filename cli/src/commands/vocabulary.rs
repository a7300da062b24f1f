//! `slmc prune --vocab`

use serde_json::json;
use slmc_pipeline::frames;
use slmc_pipeline::jobs::evaluate::EvaluateOutcome;
use slmc_pipeline::jobs::vocabulary::{PreparedVocabulary, VocabularyOutcome};

use super::{failure, print_json, report};
use crate::args::prune::Prune;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::format::{bytes, parameters, seconds};
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

pub fn run(args: &Prune, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    let prepared = PreparedVocabulary::new(resolver.vocabulary(args)?).map_err(failure)?;
    if args.dry_run {
        return print_plan(&prepared, json);
    }
    let directory = report::directory(&args.report)?;
    let outcome = prepared.run(terminal).map_err(failure)?;
    report::write(directory.as_ref(), || {
        frames::vocabulary::report(&outcome, &report::run()).map_err(failure)
    })?;
    if json {
        return print_json(&outcome);
    }
    print_outcome(&outcome);
    Ok(())
}

fn print_plan(prepared: &PreparedVocabulary, json: bool) -> Result<(), Failure> {
    let ([tokens_before, tokens], [parameters_before, after]) = (prepared.tokens(), prepared.parameters());
    if json {
        return print_json(&json!({
            "corpus_tokens": prepared.corpus_tokens(),
            "tokens_before": tokens_before,
            "tokens": tokens,
            "parameters_before": parameters_before,
            "parameters": after,
            "output_bytes": prepared.output_bytes(),
        }));
    }
    println!(
        "{tokens} of {tokens_before} tokens stay, for a text of {}; {} of {} parameters; weight files of {}.",
        prepared.corpus_tokens(),
        parameters(after),
        parameters(parameters_before),
        bytes(prepared.output_bytes()),
    );
    Ok(())
}

fn print_outcome(outcome: &VocabularyOutcome) {
    let change = |before: f64, after: f64| format!("{:+.1} %", 100.0 * (after / before - 1.0));
    let mut rows = vec![
        [
            "tokens".to_owned(),
            outcome.tokens_before.to_string(),
            outcome.tokens.to_string(),
            change(outcome.tokens_before as f64, outcome.tokens as f64),
        ],
        [
            "parameters".into(),
            parameters(outcome.parameters_before),
            parameters(outcome.parameters),
            change(outcome.parameters_before as f64, outcome.parameters as f64),
        ],
        [
            "size".into(),
            bytes(outcome.bytes_before),
            bytes(outcome.bytes),
            change(outcome.bytes_before as f64, outcome.bytes as f64),
        ],
    ];
    let bits = |evaluation: &EvaluateOutcome| evaluation.evaluation.summary.bits_per_byte;
    if let (Some(before), Some(after)) = (&outcome.evaluation_before, &outcome.evaluation)
        && let (Some(before), Some(bits)) = (bits(before), bits(after))
    {
        let name = format!("bits per byte, {}", after.text);
        rows.push([name, format!("{before:.4}"), format!("{bits:.4}"), change(before, bits)]);
    }
    println!("{}", table(["", "before", "after", "change"], rows));
    println!("{}  {}", outcome.output.display(), seconds(outcome.seconds));
}
