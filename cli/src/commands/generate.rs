//! `slmc generate`

use std::io::Write;
use std::ops::ControlFlow;

use slmc_pipeline::jobs::generate::{Continuation, GenerateOutcome, Stop, Written, generate};

use super::{failure, print_json};
use crate::args::generate::Generate;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::progress::Terminal;

pub fn run(args: &Generate, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    let settings = resolver.generate(args)?;
    let side_by_side = settings.base.is_some();
    let mut show = |written: Written<'_>| {
        if json {
            return ControlFlow::Continue(());
        }
        match print(&written, side_by_side, terminal) {
            Ok(()) => ControlFlow::Continue(()),
            // whoever read has gone
            Err(_) => ControlFlow::Break(()),
        }
    };
    let outcome = generate(&settings, terminal, &mut show).map_err(failure)?;
    if json {
        print_json(&outcome)?;
    }
    let GenerateOutcome { model, base } = &outcome;
    let interrupted = [Some(model), base.as_ref()].into_iter().flatten().any(|c| c.stop == Stop::Interrupted);
    if interrupted { Err(Failure::failed("interrupted")) } else { Ok(()) }
}

/// Text on standard output, as it comes; what was measured on standard error.
fn print(written: &Written<'_>, side_by_side: bool, terminal: &Terminal) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match written {
        Written::Begin(path) if side_by_side => writeln!(out, "── {}", path.display())?,
        Written::Begin(_) => {}
        Written::Text(text) => write!(out, "{text}")?,
        Written::End(continuation) => {
            writeln!(out)?;
            out.flush()?;
            terminal.note(&speed(continuation));
        }
    }
    out.flush()
}

fn speed(continuation: &Continuation) -> String {
    let Continuation { prompt_tokens, prompt_tokens_per_second, ids, .. } = continuation;
    let written = match continuation.tokens_per_second {
        Some(speed) => format!("{} written, {speed:.1} a second", ids.len()),
        None => format!("{} written", ids.len()),
    };
    format!("{prompt_tokens} tokens of prompt, {prompt_tokens_per_second:.1} a second; {written}")
}
