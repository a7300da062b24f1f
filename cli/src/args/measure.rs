//! How a model is measured: the same options wherever one is.

use clap::Args;
use slmc_pipeline::jobs::quantize::TextSource;

#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Text to score: a plain file as it is, of a .jsonl file each record's text; of the bundled corpus or its parts
    /// (bundled:english …), what is held out [default: bundled]
    #[arg(long, value_name = "FILE")]
    pub text: Option<TextSource>,
    /// Tokens a window [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..))]
    pub n_ctx: Option<u32>,
    /// Start a window every N tokens and score what no window before has scored, as Hugging Face's guide to perplexity does
    /// [default: windows side by side, the second half of each scored, as llama-perplexity does]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub stride: Option<u32>,
    /// Score at most this many windows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub windows: Option<u32>,
    /// Where the models run: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}
