//! `slmc imatrix`

use slmc_pipeline::jobs::imatrix::imatrix;

use super::{failure, print_json};
use crate::args::imatrix::Imatrix;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::format::{bytes, seconds};
use crate::terminal::progress::Terminal;

pub fn run(args: &Imatrix, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    let outcome = imatrix(&resolver.imatrix(args)?, terminal).map_err(failure)?;
    if json {
        return print_json(&outcome);
    }
    let memory = outcome.peak_memory_bytes.map_or_else(String::new, |n| format!(", {} at most", bytes(n)));
    println!(
        "{}  {} entries on {} × {} tokens, {} in {}, {:.0} tokens/s{memory}",
        outcome.output.display(),
        outcome.entries,
        outcome.samples,
        outcome.seq_len,
        bytes(outcome.bytes),
        seconds(outcome.seconds),
        outcome.tokens_per_second,
    );
    Ok(())
}
