//! Work on the project that is neither the program nor a test: measuring slmc beside its peers.

mod accuracy;
mod command;
mod imatrix;
mod integers;
mod measure;
mod pruning;
mod quantize;
mod report;
mod scored;
mod structured;
mod targets;
mod tools;
mod training;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Development tasks of slmc.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Xtask {
    /// Run slmc and its peers on the same work, one after the other, and print both
    Peers {
        #[command(flatten)]
        tools: ToolPaths,
        #[command(subcommand)]
        work: Work,
    },
}

#[derive(Args)]
struct ToolPaths {
    /// Directory with llama-quantize, llama-imatrix and llama-perplexity
    #[arg(long, env = "LLAMA_CPP_BIN", default_value = ".")]
    llama_cpp: PathBuf,
    /// The slmc to measure
    #[arg(long, default_value = "target/release/slmc")]
    slmc: PathBuf,
    /// Threads of every program
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

#[derive(Subcommand)]
enum Work {
    /// Wall time and peak memory of rounding to nearest, from BF16
    Quantize {
        /// Checkpoint directory
        model: PathBuf,
        /// Mixes
        #[arg(long, value_delimiter = ',', default_value = "q8_0,q4_0,q6_k,q4_k_m")]
        types: Vec<String>,
        /// Times that each pair is run
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Tokens a second of measuring perplexity on an F16 file
    Eval {
        /// Checkpoint directory
        model: PathBuf,
        /// Text to score
        #[arg(long)]
        text: PathBuf,
        /// Windows of 512 tokens
        #[arg(long, default_value_t = 8)]
        windows: usize,
        /// Times that the pair is run
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Tokens a second of an importance matrix, on an F16 file
    Imatrix {
        /// Checkpoint directory
        model: PathBuf,
        /// Calibration text
        #[arg(long)]
        calibration: PathBuf,
        /// Chunks of 512 tokens
        #[arg(long, default_value_t = 8)]
        chunks: usize,
        /// Times that the pair is run
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Bytes, perplexity and mean KL divergence of every mix and method, all scored by llama-perplexity
    Accuracy {
        /// Checkpoint directory
        model: PathBuf,
        /// Text to score
        #[arg(long)]
        text: PathBuf,
        /// Calibration text
        #[arg(long)]
        calibration: PathBuf,
        /// Mixes
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "q8_0,q6_k,q5_k_m,q4_k_m,q4_0,iq4_xs,q3_k_m,q2_k"
        )]
        types: Vec<String>,
    },
    /// INT4 with groups of 128: accuracy, time and memory of GPTQ beside llm-compressor's and AutoRound
    Integers {
        #[command(flatten)]
        compared: Compared,
        /// AutoRound's iterations; 0 leaves it out
        #[arg(long, default_value_t = 200)]
        iterations: usize,
    },
    /// Half of the weights pruned: accuracy, time and memory beside llm-compressor's Wanda and SparseGPT
    Pruning {
        #[command(flatten)]
        compared: Compared,
        /// Two of every four instead
        #[arg(long)]
        pattern: bool,
    },
    /// A quarter of the layers' parameters cut out: accuracy beside other ways to choose, time and memory
    Structured {
        #[command(flatten)]
        compared: Compared,
        /// Share of the layers' parameters
        #[arg(long, default_value = "0.25")]
        sparsity: String,
    },
    /// Distillation steps: tokens a second and memory beside PyTorch in float32 and bfloat16
    Training {
        /// Checkpoint directory of the teacher
        teacher: PathBuf,
        /// Checkpoint directory of the student
        student: PathBuf,
        /// Text to train on
        #[arg(long)]
        text: PathBuf,
        /// Python with torch and transformers
        #[arg(long)]
        python: PathBuf,
        /// Steps; the first does not count
        #[arg(long, default_value_t = 9)]
        steps: usize,
    },
    /// Types chosen by measured cost, beside the mixes of the same size
    Targets {
        /// Checkpoint directory
        model: PathBuf,
        /// Text to score
        #[arg(long)]
        text: PathBuf,
        /// Calibration text
        #[arg(long)]
        calibration: PathBuf,
        /// Method of both
        #[arg(long, default_value = "gptq")]
        method: String,
        /// Mixes whose sizes are the targets
        #[arg(long, value_delimiter = ',', default_value = "q4_k_m")]
        types: Vec<String>,
    },
}

/// What slmc and the Python peers are run on.
#[derive(Args)]
struct Compared {
    /// Checkpoint directory
    model: PathBuf,
    /// Text to score
    #[arg(long)]
    text: PathBuf,
    /// Calibration text
    #[arg(long)]
    calibration: PathBuf,
    /// Python with torch, transformers, compressed-tensors, llmcompressor and auto-round
    #[arg(long)]
    python: PathBuf,
    /// Calibration samples of 512 tokens
    #[arg(long, default_value_t = 64)]
    samples: usize,
    /// Windows of 512 tokens to score
    #[arg(long, default_value_t = 100)]
    windows: usize,
}

impl Compared {
    fn comparison(&self) -> scored::Comparison<'_> {
        let Self { model, text, calibration, python, samples, windows } = self;
        let (samples, windows) = (*samples, *windows);
        scored::Comparison { model, calibration, text, python, samples, windows }
    }
}

fn main() -> ExitCode {
    let Xtask::Peers { tools, work } = Xtask::parse();
    let tools = tools::Tools { llama_cpp: tools.llama_cpp, slmc: tools.slmc, threads: tools.threads };
    let done = match work {
        Work::Quantize { model, types, rounds } => quantize::run(&tools, &model, &types, rounds),
        Work::Eval { model, text, windows, rounds } => measure::run(&tools, &model, &text, windows, rounds),
        Work::Imatrix { model, calibration, chunks, rounds } => {
            imatrix::run(&tools, &model, &calibration, chunks, rounds)
        }
        Work::Accuracy { model, text, calibration, types } => {
            accuracy::run(&tools, &model, &text, &calibration, &types)
        }
        Work::Integers { compared, iterations } => integers::run(&tools, &compared.comparison(), iterations),
        Work::Pruning { compared, pattern } => pruning::run(&tools, &compared.comparison(), pattern),
        Work::Structured { compared, sparsity } => structured::run(&tools, &compared.comparison(), &sparsity),
        Work::Training { teacher, student, text, python, steps } => training::run(
            &tools,
            &training::Training {
                teacher: &teacher,
                student: &student,
                text: &text,
                python: &python,
                steps: steps.max(2),
            },
        ),
        Work::Targets { model, text, calibration, method, types } => {
            targets::run(&tools, &model, &text, &calibration, &method, &types)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
