//! `slmc bench`.

use slmc_pipeline::jobs::bench::{Amount, BenchSettings, EngineKind, WorkerProgram};

use super::Resolver;
use super::parse::parse_or;
use crate::args::bench::{AmountArgs, Bench};
use crate::failure::Failure;

impl Resolver {
    pub fn bench(&self, args: &Bench) -> Result<BenchSettings, Failure> {
        Ok(BenchSettings {
            model: self.model(args.model.as_deref())?,
            base: args.base.clone(),
            engine: parse_or("--engine", args.engine.as_deref(), EngineKind::Slmc)?,
            device: self.device(args.device.as_deref())?,
            amount: amount(&args.amount),
            worker: worker()?,
        })
    }
}

fn amount(args: &AmountArgs) -> Amount {
    Amount {
        prompt_tokens: args.prompt_tokens as usize,
        generated_tokens: args.tokens as usize,
        repetitions: args.repetitions as usize,
        warmup: args.warmup as usize,
    }
}

/// This program, as a worker on as many threads.
fn worker() -> Result<WorkerProgram, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program to start it again: {error}")))?;
    let threads = rayon::current_num_threads().to_string();
    let arguments = ["bench-worker", "--quiet", "--threads", &threads].map(Into::into).to_vec();
    Ok(WorkerProgram { program, arguments })
}
