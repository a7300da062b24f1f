//! `slmc distill`

use slmc_pipeline::frames;
use slmc_pipeline::jobs::distill::{
    CacheOutcome, DistillOutcome, PreparedDistill, Records, Trained, cache_logits,
};

use super::quantize::print_modelfile;
use super::{failure, print_json, report};
use crate::args::distill::{Action, Distill};
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::format::{bytes, parameters, seconds};
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

pub fn run(args: &Distill, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    if let Some(Action::CacheLogits(args)) = &args.action {
        let outcome = cache_logits(resolver.cache_logits(args)?, terminal).map_err(failure)?;
        if json {
            return print_json(&outcome);
        }
        print_cache(&outcome);
        return Ok(());
    }
    let prepared = PreparedDistill::new(resolver.distill(args)?, terminal).map_err(failure)?;
    let directory = report::directory(&args.report)?;
    let outcome = prepared.run(terminal).map_err(failure)?;
    report::write(directory.as_ref(), || frames::distill::report(&outcome, &report::run()).map_err(failure))?;
    if json {
        return print_json(&outcome);
    }
    print_outcome(&outcome);
    Ok(())
}

fn print_cache(outcome: &CacheOutcome) {
    let header = &outcome.header;
    let rest = 100.0 * outcome.mean_rest;
    let what = match header.records {
        Records::Sequences => "sequences",
        Records::Windows => "windows",
    };
    println!(
        "{} {what} of {} tokens; the {} likeliest tokens of each position, which leave {rest:.2} % to others at temperature {}",
        header.sequences, header.seq_len, header.k, header.temperature
    );
    println!("{}  {}", outcome.output.display(), bytes(outcome.bytes));
}

fn print_outcome(outcome: &DistillOutcome) {
    let (start, best) = (&outcome.start, &outcome.best);
    let row = |name: &str, before: f64, after: f64| {
        let change = 100.0 * (after / before - 1.0);
        let change = if change.is_finite() { format!("{change:+.2} %") } else { String::new() };
        [name.to_owned(), format!("{before:.5}"), format!("{after:.5}"), change]
    };
    let mut rows = vec![row("loss, held-out text", start.loss, best.loss)];
    if outcome.objective.needs_teacher() {
        rows.push(row(&outcome.objective.divergence.to_string(), start.divergence, best.divergence));
    }
    rows.push(row("perplexity", start.cross_entropy.exp(), best.cross_entropy.exp()));
    println!("{}", table(["", "before", "after", "change"], rows));
    if outcome.trained != Trained::All {
        let (trained, all) = (outcome.trained_parameters as u64, outcome.parameters as u64);
        println!("{} of {} weights trained", parameters(trained), parameters(all));
    }
    if outcome.kept_zeros > 0 {
        println!("{} zeros kept", parameters(outcome.kept_zeros));
    }
    if outcome.skipped_steps > 0 {
        println!("{} steps skipped, their losses or gradients not finite", outcome.skipped_steps);
    }
    if let Some(mix) = outcome.qat {
        let output = outcome.output.display();
        println!("slmc quantize {output} --method rtn --type {mix}  stores what was trained");
    }
    let memory = outcome.peak_memory_bytes.map_or_else(String::new, |n| format!(", {} at most", bytes(n)));
    println!(
        "{} steps, {} tokens, {:.0} tokens/s in {}; best after step {}",
        outcome.steps, outcome.tokens, outcome.tokens_per_second, outcome.precision, outcome.best_step
    );
    println!("{}  {}{memory}", outcome.output.display(), seconds(outcome.seconds));
    print_modelfile(outcome.modelfile.as_deref());
}
