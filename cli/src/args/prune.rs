//! `slmc prune`

use std::path::PathBuf;

use clap::Args;
use slmc_pipeline::jobs::quantize::TextSource;

use super::calibration::CalibrationArgs;
use super::report::ReportArgs;
use super::structured::StructuredArgs;

/// Make weights of the linear layers zero, or cut out whole channels, heads and layers, and what stays make up for it
///
/// Without --structured: a checkpoint of the same shapes and element types, whose zeros are counted in the file. Zeros alone make no file
/// smaller and no model faster; they are for runtimes with sparse kernels (2:4), and for compressing what is sent.
///
/// With --structured: a smaller checkpoint of the same architecture, which everything that loads the original loads too. A budget is spread
/// over the kinds by measuring what each does to the model.
///
/// Either is written whole or not at all, and perplexity and KL divergence are measured.
#[derive(Debug, Args)]
#[command(after_help = "\
Methods:
  magnitude  the smallest weights of each row; needs no calibration
  wanda      the smallest weights times their inputs' norms (arXiv 2306.11695)
  sparsegpt  masks chosen while errors are fed forward (arXiv 2301.00774), towards the float model's outputs; then the weights that
             remain are solved again, and with --effort best exchanged with pruned ones where that lessens the loss

Examples:
  slmc prune --sparsity 0.5
  slmc prune MODEL --method wanda --sparsity 50% --calibration train.txt
  slmc prune MODEL --pattern 2:4 --effort best --output model-2of4
  slmc prune MODEL --sparsity 0.5 --output model-pruned.gguf
  slmc prune MODEL --sparsity 0.6 --layer-sparsity owl --dry-run
  slmc prune MODEL --sparsity 0.6 --layer-sparsity measured --scores model.scores
  slmc prune MODEL --sparsity 0.5 --method wanda --scores model.scores
  slmc prune MODEL --sparsity 0.3 --keep 'ffn_down' --dry-run
  slmc prune MODEL --sparsity 0.5 --resume      after a kill or Ctrl-C
  slmc prune MODEL --structured --sparsity 0.25
  slmc prune MODEL --structured --target-params 0.9B --kinds channels,layers --dry-run
  slmc prune MODEL --structured --target-size 600MB --target-type q4_k_m
  slmc prune MODEL --structured --layers 14 --channels 6144 --output model-small
  slmc prune MODEL --structured --hidden-size 1792 --output model-small.gguf
  slmc prune MODEL --vocab english.txt --vocab bundled:english,code")]
pub struct Prune {
    /// Checkpoint directory [default: `model` of slmc.toml]
    pub model: Option<PathBuf>,
    /// Of a model with a vision part, take the text model and leave the rest out (Gemma 3, Mistral 3, Qwen 2 and 2.5 VL)
    #[arg(long)]
    pub text_only: bool,
    /// How weights are chosen: magnitude, wanda or sparsegpt [default: sparsegpt]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Share of each linear layer's weights that become zero, met exactly: 0.5 or 50%; with --structured the
    /// share of the layers' parameters that goes
    #[arg(long, value_name = "SHARE", required_unless_present_any = ["pattern", "structured", "vocab"])]
    pub sparsity: Option<String>,
    /// Keep N of every M neighbours in a row: 2:4, 4:8
    #[arg(long, value_name = "N:M", conflicts_with = "sparsity")]
    pub pattern: Option<String>,
    /// Where magnitude and wanda seek the least important weights: row, tensor or, magnitude alone, global (all linear layers
    /// together) [default: row]
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<String>,
    /// How the share is spread over the layers: uniform, owl (blocks with many outliers lose less, arXiv 2310.05175) or measured
    /// (blocks lose after what pruning each of them costs in KL divergence) [default: uniform]
    #[arg(long, value_name = "WAY", conflicts_with = "pattern")]
    pub layer_sparsity: Option<String>,
    /// owl: a weight is an outlier from this many times its block's mean importance on [default: 5]
    #[arg(long, value_name = "M")]
    pub owl_threshold: Option<f64>,
    /// owl: by how much a block's share may differ from the mean [default: 0.08]
    #[arg(long, value_name = "LAMBDA")]
    pub owl_lambda: Option<f64>,
    /// File that keeps the dense model's statistics: its linear layers' inputs and, with --layer-sparsity measured, what pruning
    /// each block costs. Taken from there where they are the same model's on the same calibration text, else gathered and written.
    /// With it wanda goes by the dense model, not by what is pruned so far, and runs nothing through the model. With --structured it keeps
    /// the influence of every layer and the moments of heads, channels and dimensions. One file holds all of it
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// How long sparsegpt looks for better weights: fast (the paper's algorithm), balanced (also aims at the float model's outputs, and
    /// solves again) or best (also changes masks) [default: balanced]
    #[arg(long, value_name = "EFFORT")]
    pub effort: Option<String>,
    /// Leave linear layers whole whose GGUF or checkpoint name matches the regular expression (repeatable)
    #[arg(long, value_name = "REGEX")]
    pub keep: Vec<String>,
    /// Leave out tokens that this text never uses, and their rows of the embedding and the head: .txt, .jsonl or the bundled corpus
    /// (repeatable). The tokenizer is rebuilt, and checked to give the same tokens of the text
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sparsity", "pattern", "structured", "method", "scope", "effort", "keep", "layer_sparsity", "scores", "format", "dtype", "modelfile", "resume", "calibration"])]
    pub vocab: Vec<TextSource>,
    #[command(flatten)]
    pub structured: StructuredArgs,
    #[command(flatten, next_help_heading = "Calibration")]
    pub calibration: CalibrationArgs,
    /// Where the model runs: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Directory to write, or GGUF file (ending .gguf) [default: MODEL-METHOD-SPARSITY in the working directory]
    #[arg(long, short, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// What to write: safetensors (a checkpoint directory) or gguf [default: gguf where the output ends in .gguf, else safetensors]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Type of a GGUF file's matrices: f16, bf16 or f32 [default: f16]; a checkpoint keeps its element types
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<String>,
    /// Write an Ollama Modelfile beside the GGUF file, with the ending .Modelfile
    #[arg(long)]
    pub modelfile: bool,
    /// Continue a run that was killed or interrupted: same command, same inputs, the same files in the end
    #[arg(long)]
    pub resume: bool,
    /// Resident memory that calibrating and writing may take, for example 4GiB
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<String>,
    /// Text on which perplexity and KL divergence are measured; of the bundled corpus or its parts, what is held out [default: bundled]
    #[arg(long, value_name = "FILE")]
    pub text: Option<TextSource>,
    /// Write the checkpoint without measuring the loss
    #[arg(long, conflicts_with = "text")]
    pub no_eval: bool,
    #[command(flatten)]
    pub report: ReportArgs,
    /// Print the plan (every tensor and how many of its weights become zero) and write nothing
    #[arg(long, conflicts_with = "report")]
    pub dry_run: bool,
}
