//! `slmc bench`

use slmc_pipeline::frames;
use slmc_pipeline::jobs::bench::{BenchOutcome, Benchmarked, Spread, bench, serve};

use super::{failure, print_json, report};
use crate::args::bench::Bench;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::format::{bytes, seconds};
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

pub fn run(args: &Bench, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    let directory = report::directory(&args.report)?;
    let outcome = bench(&resolver.bench(args)?, terminal).map_err(failure)?;
    report::write(directory.as_ref(), || frames::bench::report(&outcome, &report::run()).map_err(failure))?;
    if json {
        return print_json(&outcome);
    }
    print(&outcome);
    Ok(())
}

/// The other end of `slmc bench`'s pipes.
pub fn worker() -> Result<(), Failure> {
    serve(std::io::stdin().lock(), std::io::stdout().lock())
        .map_err(|error| Failure::failed(format!("not told by `slmc bench` what to do: {error}")))
}

fn print(outcome: &BenchOutcome) {
    let amount = &outcome.amount;
    println!(
        "{}, {} threads: a prompt of {} tokens, {} tokens written, {} repetitions after {}",
        match &outcome.device {
            Some(device) => format!("{} on {device}", outcome.engine),
            None => outcome.engine.to_string(),
        },
        outcome.threads,
        amount.prompt_tokens,
        amount.generated_tokens,
        amount.repetitions,
        amount.warmup,
    );
    let named = |figures: &Benchmarked| figures.model.display().to_string();
    match &outcome.base {
        None => {
            let rows = figures(&outcome.model).map(|(name, value, _)| [name.to_owned(), value]);
            println!("{}", table(["", &named(&outcome.model)], rows));
        }
        Some(base) => {
            let rows = figures(base).into_iter().zip(figures(&outcome.model));
            let rows = rows.map(|((name, before, x), (_, after, y))| {
                [name.to_owned(), before, after, format!("{:.2}×", y / x)]
            });
            println!("{}", table(["", &named(base), &named(&outcome.model), "ratio"], rows));
        }
    }
    if let Some(increase) = &outcome.latency_increase {
        let percent = |x: f64| format!("{:+.1} %", 100.0 * x);
        let between = increase.interval.map_or_else(String::new, |interval| {
            format!(" ({} … {}, 90 % between)", percent(interval.low), percent(interval.high))
        });
        println!(
            "Latency per token beside the original's, pair by pair: {}{between}",
            percent(increase.value)
        );
    }
}

/// Every figure: its name, itself, and the number it is of.
fn figures(of: &Benchmarked) -> [(&'static str, String, f64); 9] {
    let latency = &of.latency;
    let milliseconds = |s: f64| format!("{:.2} ms", 1e3 * s);
    let rate = |speed: f64| format!("{speed:.1}");
    let spread = |spread: &Spread, shown: &dyn Fn(f64) -> String| {
        (format!("{} ({} … {})", shown(spread.median), shown(spread.min), shown(spread.max)), spread.median)
    };
    let (first, first_median) = spread(&latency.first_token_seconds, &milliseconds);
    let (token, token_median) = spread(&latency.token_seconds, &milliseconds);
    let (prompt_rate, prompt_median) = spread(&latency.prompt_tokens_per_second, &rate);
    let (token_rate, rate_median) = spread(&latency.tokens_per_second, &rate);
    let memory = of.peak_memory_bytes;
    [
        ("size", bytes(of.bytes), of.bytes as f64),
        (
            "peak memory",
            memory.map_or_else(|| "unknown".to_owned(), bytes),
            memory.map_or(f64::NAN, |n| n as f64),
        ),
        ("load", seconds(of.load_seconds), of.load_seconds),
        ("first token", first, first_median),
        ("latency per token", token, token_median),
        ("  p50 of all tokens", milliseconds(latency.token_seconds_p50), latency.token_seconds_p50),
        ("  p95 of all tokens", milliseconds(latency.token_seconds_p95), latency.token_seconds_p95),
        ("prompt tokens/s", prompt_rate, prompt_median),
        ("tokens/s", token_rate, rate_median),
    ]
}
