//! `slmc quantize`

use std::path::PathBuf;

use clap::Args;
use slmc_pipeline::jobs::quantize::TextSource;

use super::calibration::CalibrationArgs;
use super::report::ReportArgs;

/// Quantize a checkpoint to a GGUF file that llama.cpp and Ollama run, or to packed integers that vLLM and transformers load
///
/// Reads a Hugging Face checkpoint (F16, BF16 or F32 safetensors) tensor by tensor, calibrates where the method asks for it,
/// writes the file whole or not at all, and measures perplexity and KL divergence before and after.
#[derive(Debug, Args)]
#[command(after_help = "\
Methods:
  rtn       round to nearest: scales fitted to the weights alone; fastest, needs no calibration
  imatrix   round to nearest, each column's error weighed by its inputs' second moment on calibration text
  awq       activation-aware rescaling, searched on calibration text, then as imatrix
  gptq      error feedback: what rounding a column loses, the columns behind it make up for
  awq+gptq  the rescaling of awq, then gptq

Examples:
  slmc quantize --method awq --bits 4
  slmc quantize MODEL --method gptq --bits 4 --calibration train.txt --effort best
  slmc quantize MODEL --method rtn --type q6_k --output model-q6_k.gguf
  slmc quantize MODEL --method gptq --target-bpw 4.25
  slmc quantize MODEL --method gptq --target-size 700MB --dry-run
  slmc quantize MODEL --method gptq --max-kl 0.02
  slmc quantize MODEL --method gptq --bits 4 --fallback measured    hidden 576, 896 or 1152, which K-quants do not fit
  slmc quantize MODEL --bits 4 --tensor-type 'attn_v=q6_k' --keep 'blk\\.0\\.'
  slmc quantize MODEL --bits 4 --calibration chats.jsonl --samples 64
  slmc quantize MODEL --bits 4 --imatrix model.imatrix.gguf
  slmc quantize MODEL --type q3_k_m --dry-run
  slmc quantize PRUNED --method gptq --type q4_0 --keep-zeros
  slmc quantize MODEL --bits 4 --report report
  slmc quantize MODEL --bits 4 --modelfile    then: ollama create NAME -f OUTPUT.Modelfile
  slmc quantize MODEL --method gptq --bits 4 --max-memory 4GiB
  slmc quantize MODEL --method gptq --bits 4 --max-memory 4GiB --resume    after a kill or Ctrl-C
  slmc quantize MODEL --method gptq --bits 4 --group-size 128 --output model-w4a16

With --group-size the output is a checkpoint directory in compressed-tensors' pack-quantized layout: the linear layers of the
blocks become integers of 2, 3, 4 or 8 bits, everything else stays as it is.

Zeros of a pruned checkpoint stay zeros in the types q3_k, q4_0, q5_0, q6_k and q8_0 and in integers in groups: gptq then makes up for
what they lose as for any other error. Types with minima (q2_k, q4_k, q5_k, q4_1, q5_1) and iq4 have no exact zero.

A calibrated run keeps its finished blocks in OUTPUT.work until the output is whole; with --resume it goes on there.")]
pub struct Quantize {
    /// Checkpoint directory [default: `model` of slmc.toml]
    pub model: Option<PathBuf>,
    /// Of a model with a vision part, take the text model and leave the rest out (Gemma 3, Mistral 3, Qwen 2 and 2.5 VL)
    #[arg(long)]
    pub text_only: bool,
    /// How values are chosen: rtn, imatrix, awq, gptq or awq+gptq [default: awq; imatrix with --imatrix]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// How long gptq looks for better values: fast (error feedback), balanced (also aims at the float model's outputs and descends
    /// over codes and steps) or best (descends longer) [default: balanced]
    #[arg(long, value_name = "EFFORT")]
    pub effort: Option<String>,
    /// Bits a weight, for the natural mix of that size: 2, 3, 4, 5, 6, 8 or 16 [default: 4]
    #[arg(long, value_name = "N", conflicts_with = "r#type")]
    pub bits: Option<u32>,
    /// GGUF mix, for example q4_k_m, q5_k_s, iq4_xs, q8_0
    #[arg(long, value_name = "MIX")]
    pub r#type: Option<String>,
    /// Choose each tensor's type by its bytes and its measured loss: the least loss at this many bits a weight
    #[arg(long, value_name = "BITS", group = "target", conflicts_with_all = ["bits", "type", "group_size"])]
    pub target_bpw: Option<f64>,
    /// The same for a file of at most this size, metadata included: 700MB, 1.5GiB or a number of bytes
    #[arg(long, value_name = "SIZE", group = "target", conflicts_with_all = ["bits", "type", "group_size"])]
    pub target_size: Option<String>,
    /// The same for the smallest file whose predicted mean KL divergence from the original is at most this
    #[arg(long, value_name = "KL", group = "target", conflicts_with_all = ["bits", "type", "group_size"])]
    pub max_kl: Option<f64>,
    /// Types of tensors whose columns the mix's super-blocks do not divide: mix (the block of 32 next to each) or measured (those that
    /// were measured to lose least, in no more bytes; calibrates) [default: mix]
    #[arg(long, value_name = "HOW", conflicts_with_all = ["group_size", "target_bpw", "target_size", "max_kl"])]
    pub fallback: Option<String>,
    /// Write packed integers instead of GGUF: columns that share a scale, 32, 64, 128 or channel (a whole row)
    #[arg(long, value_name = "N")]
    pub group_size: Option<String>,
    /// Give every group of integers a zero point of its own
    #[arg(long, requires = "group_size")]
    pub asymmetric: bool,
    /// Let gptq round columns with large activations first; in GGUF formats, whose blocks stay together, whole blocks
    #[arg(long)]
    pub act_order: bool,
    /// Store tensors whose GGUF name matches the regular expression as TYPE (repeatable; the first match wins)
    #[arg(long, value_name = "REGEX=TYPE")]
    pub tensor_type: Vec<String>,
    /// Keep tensors whose GGUF name matches in high precision (repeatable)
    #[arg(long, value_name = "REGEX")]
    pub keep: Vec<String>,
    /// Which zeros of a pruned checkpoint stay exactly zero: auto (those of tensors with at least 20 % zeros, where their type
    /// can hold them), always (all; types that cannot are refused; what the option means without a value) or never
    /// [default: auto]
    #[arg(long, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub keep_zeros: Option<String>,
    #[command(flatten)]
    pub calibration: CalibrationArgs,
    /// Importance matrix to take instead of calibrating: a file of `slmc imatrix` or llama-imatrix (GGUF or .dat); makes
    /// imatrix the default method
    #[arg(long, value_name = "FILE", conflicts_with_all = ["calibration", "samples", "seq_len", "seed"])]
    pub imatrix: Option<PathBuf>,
    /// What calibration multiplies in: f32, or bf16, which takes about 0.7 of the time where the processor has it (AVX512_BF16); the file's
    /// bytes depend on it [default: for gptq below --effort best bf16 where it is, else f32]
    #[arg(long, value_name = "FORMAT")]
    pub precision: Option<String>,
    /// Where the model runs: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// File to write, with --group-size a directory [default: MODEL-METHOD-MIX.gguf in the working directory]
    #[arg(long, short, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Write an Ollama Modelfile beside the file, with the ending .Modelfile: the chat template in Ollama's terms where the model's
    /// own can be said so, stop tokens and sampling parameters
    #[arg(long, conflicts_with = "group_size")]
    pub modelfile: bool,
    /// Continue a run that was killed or interrupted: same command, same inputs, the same file in the end
    #[arg(long)]
    pub resume: bool,
    /// Resident memory that calibrating and writing may take, for example 4GiB; hidden states go to a file where they
    /// would not fit [default: they may take a quarter of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<String>,
    /// Name of the pre-tokenizer (tokenizer.ggml.pre), where it is not recognized by itself
    #[arg(long, value_name = "NAME")]
    pub pre: Option<String>,
    /// Text on which perplexity and KL divergence are measured; of the bundled corpus or its parts, what is held out [default: bundled]
    #[arg(long, value_name = "FILE")]
    pub text: Option<TextSource>,
    /// Write the file without measuring the loss
    #[arg(long, conflicts_with = "text")]
    pub no_eval: bool,
    /// Print the plan (every tensor's type, bytes and why) and write nothing
    #[arg(long, conflicts_with = "report")]
    pub dry_run: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}
