//! `slmc distill`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use slmc_pipeline::jobs::quantize::TextSource;

use super::report::ReportArgs;

/// Train a student to predict what its teacher predicts
///
/// Gives back what pruning took, or makes a smaller model of a part of the teacher. The student with the lowest loss on
/// held-out text is written as a checkpoint of the same element types, whole or not at all; zeros of a pruned student stay zero. What
/// was measured on the way stands beside the weights in metrics.jsonl.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    group = clap::ArgGroup::new("sizes").multiple(true),
    after_help = "\
Losses (--loss), of the teacher's p and the student's q at the temperature, times its square:
  forward-kl      KL(p, q), the default (arXiv 1503.02531)
  reverse-kl      KL(q, p)
  js[:BETA]       generalized Jensen-Shannon (arXiv 2306.13649) [BETA: 0.5]
  skew-kl[:SKEW]  KL(p, SKEW p + (1 - SKEW) q) (arXiv 2402.03898) [SKEW: 0.1]
  logit-mse       mean squared difference of the logits, without a temperature

Examples:
  slmc distill --teacher MODEL --student MODEL-pruned --text train.txt --output healed
  slmc distill --teacher MODEL --layers 8 --text train.txt --max-minutes 15 --output small
  slmc distill --teacher MODEL --layers 12 --channels 2048 --text train.txt --epochs 2 --output narrow
  slmc distill --teacher MODEL --student MODEL-pruned --text train.txt --loss js:0.1 --alpha 0 --steps 500 --output healed
  slmc distill --teacher MODEL --student model-q2_k.gguf --text train.txt --max-minutes 15 --output better-q2_k.gguf
  slmc distill --teacher MODEL --student model-q4_0.gguf --train scales --text train.txt --output better-q4_0.gguf
  slmc distill --teacher MODEL --student MODEL --text train.txt --qat q2_k --learning-rate 1e-4 --output for-q2_k
  slmc distill --teacher MODEL --student model-q4_k_m.gguf --lora-rank 16 --text train.txt --output adapter
  slmc distill --teacher MODEL --student MODEL-pruned --lora-rank 16 --merge --text chats.jsonl --output healed
  slmc distill cache-logits --teacher MODEL --text train.txt --output teacher.logits
  slmc distill --teacher-logits teacher.logits --student MODEL-pruned --text train.txt --output healed
  slmc distill run.toml               the same options as keys: teacher = \"MODEL\", text = [\"train.txt\"], learning-rate = 1e-4 …
  slmc distill run.toml --resume      after a kill or Ctrl-C: the same weights in the end"
)]
pub struct Distill {
    #[command(subcommand)]
    pub action: Option<Action>,
    /// TOML file with any of the options below as keys, paths relative to it; flags win
    #[arg(value_name = "RUN.toml")]
    pub run: Option<PathBuf>,
    /// Model to learn from: a checkpoint directory or GGUF file [default: `model` of slmc.toml]
    #[arg(long, value_name = "MODEL")]
    pub teacher: Option<PathBuf>,
    /// Learn from a teacher's predictions that `slmc distill cache-logits` wrote, without the teacher; same --text, --held-out, --seq-len and
    /// --temperature
    #[arg(long, value_name = "FILE", conflicts_with_all = ["teacher", "sizes"])]
    pub teacher_logits: Option<PathBuf>,
    /// The model that learns: a checkpoint directory; a GGUF file, which is trained on the grid that it is stored on and written as a GGUF file
    /// again; or a config.json, for a fresh student of its dimensions with the teacher's tokenizer
    #[arg(long, value_name = "MODEL", conflicts_with = "sizes")]
    pub student: Option<PathBuf>,
    /// Instead of a student: so many layers of the teacher
    #[arg(long, value_name = "N", group = "sizes", help_heading = "A student cut out of the teacher")]
    pub layers: Option<u32>,
    /// Which layers stay: even (evenly spaced, the first and the last among them) or influence (those go that change the residual stream least)
    /// [default: even]
    #[arg(long, value_name = "HOW", requires = "layers", help_heading = "A student cut out of the teacher")]
    pub layer_choice: Option<String>,
    /// Dimensions of the residual stream that stay, chosen and solved for as by `slmc prune --structured` on --text; so are the next three
    #[arg(long, value_name = "N", group = "sizes", help_heading = "A student cut out of the teacher")]
    pub hidden_size: Option<u32>,
    /// Channels of the MLP (the intermediate size) that stay in each layer
    #[arg(long, value_name = "N", group = "sizes", help_heading = "A student cut out of the teacher")]
    pub channels: Option<u32>,
    /// Query heads that stay in each layer
    #[arg(long, value_name = "N", group = "sizes", help_heading = "A student cut out of the teacher")]
    pub query_heads: Option<u32>,
    /// Key and value heads that stay in each layer, with the query heads that share them
    #[arg(long, value_name = "N", group = "sizes", help_heading = "A student cut out of the teacher")]
    pub kv_heads: Option<u32>,
    /// What is trained: all weights; norms (and biases) alone; or, of a GGUF student, the scales of its blocks under codes that stay
    /// [default: all]; see also --lora-rank
    #[arg(long, value_name = "PART", help_heading = "Parts", conflicts_with = "lora_rank")]
    pub train: Option<String>,
    /// Train low-rank adapters of this rank beside linear layers, nothing else (LoRA; over a GGUF student: QLoRA), and write them as PEFT does
    #[arg(long, value_name = "R", help_heading = "Parts")]
    pub lora_rank: Option<u32>,
    /// Adapters count this over their rank [default: twice the rank]
    #[arg(long, value_name = "A", help_heading = "Parts")]
    pub lora_alpha: Option<f32>,
    /// Linear layers with adapters: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, of phi3 qkv_proj, o_proj, gate_up_proj,
    /// down_proj, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", help_heading = "Parts")]
    pub lora_targets: Option<String>,
    /// Merge the adapters into the student, and write that as a checkpoint
    #[arg(long, help_heading = "Parts")]
    pub merge: bool,
    /// Text to train on: a text or JSON-lines file (records with a `text`, or chat `messages`), `bundled` or parts of it (repeatable)
    #[arg(long, value_name = "FILE")]
    pub text: Vec<TextSource>,
    /// Text to judge by, up to 32 sequences of it [default: every sixteenth sequence of --text, up to 32, which are not trained on]
    #[arg(long, value_name = "FILE")]
    pub held_out: Option<TextSource>,
    /// Learn all of a chat, and not the assistant's answers alone
    #[arg(long)]
    pub all_tokens: bool,
    /// Directory, or GGUF file, to write [default: STUDENT-distilled in the working directory]
    #[arg(long, short, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Write an Ollama Modelfile beside a GGUF file, with the ending .Modelfile
    #[arg(long)]
    pub modelfile: bool,
    /// Continue a run that was killed or interrupted: same command, same inputs, the same weights in the end
    #[arg(long)]
    pub resume: bool,

    /// How the teacher is followed: forward-kl, reverse-kl, js[:BETA], skew-kl[:SKEW] or logit-mse [default: forward-kl]
    #[arg(long, value_name = "LOSS", help_heading = "Objective")]
    pub loss: Option<String>,
    /// What logits are divided by before the softmax [default: 2; of a GGUF student 1]
    #[arg(long, value_name = "T", help_heading = "Objective")]
    pub temperature: Option<f32>,
    /// Weight of the text's own next token (cross-entropy) beside the teacher: 0 to 1, at 1 without the teacher [default: 0.1; of a GGUF student 0]
    #[arg(long, value_name = "A", help_heading = "Objective")]
    pub alpha: Option<f32>,
    /// Weight of the hidden states' mean squared difference from the teacher's, layer beside layer; with a learned projection where widths differ [default: 0]
    #[arg(long, value_name = "W", help_heading = "Objective")]
    pub hidden_mse: Option<f32>,
    /// Share of steps trained on what the student writes itself, going on from the text (GKD's lambda): 0 to 1 [default: 0]
    #[arg(long, value_name = "L", help_heading = "Objective")]
    pub on_policy: Option<f64>,
    /// Train for a GGUF mix such as q2_k: the loss is that of the weights rounded to it, and the student is written in F32, for
    /// `slmc quantize --method rtn --type MIX` to store exactly what was trained
    #[arg(long, value_name = "MIX", help_heading = "Objective")]
    pub qat: Option<String>,

    /// Steps [default: as many as --epochs gives]
    #[arg(long, value_name = "N", conflicts_with_all = ["epochs", "max_minutes"], help_heading = "Training")]
    pub steps: Option<u64>,
    /// Passes over the text [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "max_minutes", help_heading = "Training")]
    pub epochs: Option<f64>,
    /// Minutes of training and evaluation instead, the learning rate falling with them
    #[arg(long, value_name = "M", help_heading = "Training")]
    pub max_minutes: Option<f64>,
    /// Highest learning rate [default: 2e-4; of scales 1e-3]; a student of few layers bears more
    #[arg(long, value_name = "LR", help_heading = "Training")]
    pub learning_rate: Option<f64>,
    /// What follows the warm-up: cosine, linear or constant [default: cosine]
    #[arg(long, value_name = "SCHEDULE", help_heading = "Training")]
    pub schedule: Option<String>,
    /// Steps in which the learning rate rises, a fifth of --steps at most [default: 20]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub warmup_steps: Option<u64>,
    /// Sequences that run through the models at a time [default: 8]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub batch_size: Option<u32>,
    /// Batches in a step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub accumulation: Option<u32>,
    /// Tokens of a sequence [default: 256]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub seq_len: Option<u32>,
    /// Longest gradient; longer ones are shortened to it [default: 1]
    #[arg(long, value_name = "NORM", help_heading = "Training")]
    pub clip_norm: Option<f32>,
    /// AdamW's weight decay, on matrices alone [default: 0]
    #[arg(long, value_name = "W", help_heading = "Training")]
    pub weight_decay: Option<f32>,
    /// Decides the order of sequences [default: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub seed: Option<u64>,
    /// Steps between two evaluations on held-out text, after which the state is kept [default: 50]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub evaluate_every: Option<u64>,
    /// Stop after so many evaluations in a row without a better one [default: never]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub patience: Option<u32>,
    /// Run each block again in the backward pass instead of keeping what it computed: less memory for a second forward pass
    #[arg(long, help_heading = "Training")]
    pub gradient_checkpointing: bool,
    /// What weights, activations and gradients are rounded to where they are multiplied in a step: f32, or bf16, with which a step takes about 0.6 of the
    /// time where the processor has it (AVX512_BF16); everything else is f32 [default: bf16 where it is, on the cpu]
    #[arg(long, value_name = "FORMAT", help_heading = "Training")]
    pub precision: Option<String>,
    /// Let the zeros of a pruned student change; kept zero where a matrix is at least a fifth zeros otherwise
    #[arg(long, help_heading = "Training")]
    pub train_zeros: bool,
    /// Where models run: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE", help_heading = "Training")]
    pub device: Option<String>,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// What else `slmc distill` does.
#[derive(Debug, Subcommand)]
pub enum Action {
    CacheLogits(CacheLogits),
}

/// Write what a teacher predicts for a text, to train or measure students without running it again
///
/// Of every position the likeliest tokens with their log-probabilities at a temperature, and the mass of all others. A run that takes the file
/// (--teacher-logits) compares the distributions over these tokens and the rest as one. With --for-eval the positions are those that `slmc
/// eval` scores, for its --base-logits and that of `slmc gate`. The file names its teacher's tokenizer and its text by hash, and is
/// refused on others.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc distill cache-logits --teacher MODEL --text train.txt --output teacher.logits
  slmc distill cache-logits --teacher MODEL --text train.txt --top-k 128 --temperature 1 --output teacher.logits --resume
  slmc distill cache-logits --teacher MODEL --text heldout.txt --for-eval --top-k 1024 --output base.logits
  slmc eval model-q4_k_m.gguf --text heldout.txt --base-logits base.logits")]
pub struct CacheLogits {
    /// Model to learn from: a checkpoint directory or GGUF file [default: `model` of slmc.toml]
    #[arg(long, value_name = "MODEL")]
    pub teacher: Option<PathBuf>,
    /// Text that will be trained on (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    pub text: Vec<TextSource>,
    /// Text that will be judged by [default: a part of --text]
    #[arg(long, value_name = "FILE")]
    pub held_out: Option<TextSource>,
    /// For runs that learn all of a chat
    #[arg(long)]
    pub all_tokens: bool,
    /// Tokens of a sequence [default: 256]
    #[arg(long, value_name = "N")]
    pub seq_len: Option<u32>,
    /// Of the windows that `slmc eval` and `slmc gate` score, for their --base-logits: at temperature 1, with the probability of the text's
    /// own next token
    #[arg(long, conflicts_with_all = ["held_out", "all_tokens", "seq_len", "temperature"])]
    pub for_eval: bool,
    /// Tokens of a window, with --for-eval [default: 512]
    #[arg(long, value_name = "N", requires = "for_eval", value_parser = clap::value_parser!(u32).range(8..))]
    pub n_ctx: Option<u32>,
    /// So many windows at most, with --for-eval
    #[arg(long, value_name = "N", requires = "for_eval", value_parser = clap::value_parser!(u32).range(1..))]
    pub windows: Option<u32>,
    /// Likeliest tokens that are kept of each position [default: 64; with --for-eval 256]
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// What logits are divided by before the softmax [default: 2]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Sequences that run through the model at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch_size: u32,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Continue a run that was killed or interrupted: same command, the same bytes in the end
    #[arg(long)]
    pub resume: bool,
    /// Where the model runs: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}
