//! `slmc`: arguments, settings file, progress bars, error rendering. Nothing else knows a terminal exists.

mod args;
mod commands;
mod failure;
mod recipe;
mod resolve;
mod settings;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::Failure;
use resolve::Resolver;
use settings::Settings;
use terminal::progress::Terminal;

fn main() -> ExitCode {
    slmc_pipeline::memory::keep_freed_blocks();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(failure) => {
            let code = failure.code;
            eprintln!("{:?}", miette::Report::new(failure));
            ExitCode::from(code)
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let settings = Settings::load(cli.global.config.as_deref())?;
    if let Some(threads) = cli.global.threads.or(settings.threads) {
        rayon::ThreadPoolBuilder::new()
            .num_threads(usize::from(threads))
            .build_global()
            .map_err(|error| Failure::failed(format!("cannot start {threads} threads: {error}")))?;
    }
    let resolver = Resolver::new(settings);
    let terminal = Terminal::new(cli.global.quiet);
    let json = cli.global.json;
    match &cli.command {
        Command::Inspect(args) => commands::inspect::run(args, &resolver, json),
        Command::Convert(args) => commands::convert::run(args, &resolver, &terminal, json),
        Command::Quantize(args) => commands::quantize::run(args, &resolver, &terminal, json),
        Command::Imatrix(args) => commands::imatrix::run(args, &resolver, &terminal, json),
        Command::Prune(args) => commands::prune::run(args, &resolver, &terminal, json),
        Command::Distill(args) => commands::distill::run(args, &resolver, &terminal, json),
        Command::Eval(args) => return commands::eval::run(args, &resolver, &terminal, json),
        Command::Bench(args) => commands::bench::run(args, &resolver, &terminal, json),
        Command::BenchWorker(_) => commands::bench::worker(),
        Command::Generate(args) => commands::generate::run(args, &resolver, &terminal, json),
        Command::Run(args) => return commands::run::run(args, &cli.global, &resolver, &terminal),
        Command::Compare(args) => commands::compare::run(args, json),
        Command::Gate(args) => return commands::gate::run(args, &resolver, &terminal, json),
    }
    .map(|()| ExitCode::SUCCESS)
}
