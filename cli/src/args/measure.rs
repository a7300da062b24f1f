//! How a model is measured: the same options wherever one is.

use clap::Args;
use slmc_pipeline::jobs::quantize::TextSource;

#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Text to score; of the bundled corpus or its parts (bundled:english …), what is held out [default: bundled]
    #[arg(long, value_name = "FILE")]
    pub text: Option<TextSource>,
    /// Tokens a window [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..))]
    pub n_ctx: Option<u32>,
    /// Score at most this many windows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub windows: Option<u32>,
    /// Where the models run: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}
