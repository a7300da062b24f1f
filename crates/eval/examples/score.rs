//! Scores a checkpoint directory or a GGUF file on a text, for comparison with llama-perplexity.
//!
//! cargo run --release -p slmc-eval --example score -- MODEL TEXT TOKENIZER.json BOS|none [BASE]
//!
//! BOS is the id of the token that the tokenizer puts in front of a text. `SLMC_N_CTX`, `SLMC_STRIDE` and `SLMC_WINDOWS` set
//! the window, its stride and how many are scored, `RAYON_NUM_THREADS` the threads. The figures go to standard output as JSON.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use slmc_eval::{Options, Protocol, Silent, evaluate};
use slmc_model::{CheckpointSource, Device, GgufSource, WeightSource};
use tokenizers::Tokenizer;

fn open(path: &str) -> Result<Box<dyn WeightSource>, Box<dyn Error>> {
    let path = Path::new(path);
    Ok(if path.is_dir() {
        Box::new(CheckpointSource::open(path)?)
    } else {
        Box::new(GgufSource::open(path)?)
    })
}

fn number(variable: &str) -> Result<Option<usize>, Box<dyn Error>> {
    Ok(std::env::var(variable).ok().map(|value| value.parse()).transpose()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, text, tokenizer, bos, base @ ..] = &arguments[..] else {
        return Err("usage: score MODEL TEXT TOKENIZER.json BOS|none [BASE]".into());
    };
    let tokenizer = Tokenizer::from_file(tokenizer).map_err(|error| error.to_string())?;
    let encoding =
        tokenizer.encode(std::fs::read_to_string(text)?, true).map_err(|error| error.to_string())?;
    let bos = if bos == "none" { None } else { Some(bos.parse()?) };
    let n_ctx = number("SLMC_N_CTX")?.unwrap_or(512);
    let protocol =
        Protocol { n_ctx, stride: number("SLMC_STRIDE")?, bos, max_windows: number("SLMC_WINDOWS")? };
    let model = open(model)?;
    let base = base.first().map(|base| open(base)).transpose()?;

    let start = Instant::now();
    let options = Options::new(protocol);
    let base = base.as_deref();
    let evaluation = evaluate(&*model, base, encoding.get_ids(), Device::Cpu, &options, &mut Silent)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string_pretty(&evaluation)?);
    let models = 1 + usize::from(base.is_some());
    let tokens = evaluation.tokens_read() * models;
    eprintln!("{seconds:.2} s, {:.1} tokens/s", tokens as f64 / seconds);
    Ok(())
}
