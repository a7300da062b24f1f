//! What a model is calibrated on: the same options wherever one is.

use clap::Args;
use slmc_pipeline::jobs::quantize::TextSource;

#[derive(Debug, Args)]
pub struct CalibrationArgs {
    /// Calibration text (.txt), JSON lines (.jsonl with `text` or `messages`) or parts of the bundled corpus
    /// (bundled:english,korean,code,mathematics,dialogue); repeatable [default: bundled]
    #[arg(long, value_name = "FILE")]
    pub calibration: Vec<TextSource>,
    /// Calibration samples [default: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: Option<u32>,
    /// Tokens a calibration sample [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub seq_len: Option<u32>,
    /// Seed that chooses the calibration samples [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}
