//! What is measured: the names, units and readings of all values that a frame can hold.

use serde::{Deserialize, Serialize};

use crate::number::{bytes, seconds};

/// In what a value is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// None: a perplexity, a ratio.
    One,
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
    /// Bits a weight or a byte of text.
    Bits,
    /// Nats per token.
    Nats,
    /// A part of one, shown as a percentage.
    Share,
    /// A part of one by which something grew, shown as a percentage with its sign.
    Growth,
    /// Seconds.
    Seconds,
    /// Tokens a second.
    TokensPerSecond,
    /// No value, only a text.
    Text,
}

impl Unit {
    /// Its name in a frame.
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Bits => "bits",
            Self::Nats => "nats/token",
            Self::Share | Self::Growth => "share",
            Self::Seconds => "s",
            Self::TokensPerSecond => "tokens/s",
            Self::Text => "text",
        }
    }
}

/// Which values of a metric are the better ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The lower ones.
    Lower,
    /// The higher ones.
    Higher,
    /// It says nothing about quality.
    Neither,
}

/// One line a metric: its variant, its name in a frame, what people call it, its unit, and which values are better.
macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident $name:literal, $label:literal, $unit:ident, $better:ident;)*) => {
        /// What a measurement measures.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Metric {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Metric {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in a frame.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What people call it.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),* }
            }

            /// The unit of its values.
            pub const fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit),* }
            }

            /// Which values are better.
            pub const fn better(self) -> Better {
                match self { $(Self::$variant => Better::$better),* }
            }
        }
    };
}

metrics! {
    // The run.
    /// The version of slmc.
    Version "slmc_version", "slmc", Text, Neither;
    /// What was done: `eval`, `quantize` …
    Verb "verb", "slmc command", Text, Neither;
    /// The command line.
    Command "command", "command", Text, Neither;
    /// How values were chosen.
    Method "method", "method", Text, Neither;
    /// Which types were asked for.
    Types "types", "types", Text, Neither;
    /// How much was to be pruned: a share, or N:M.
    AskedSparsity "asked_sparsity", "sparsity asked for", Text, Neither;
    /// Wall time of calibrating and writing a pruned model.
    PruneSeconds "prune_seconds", "time to prune", Seconds, Lower;
    /// Wall time of calibrating and writing.
    QuantizeSeconds "quantize_seconds", "time to quantize", Seconds, Lower;
    /// SHA-256 of the calibration tokens.
    CalibrationSha256 "calibration_sha256", "calibration tokens, SHA-256", Text, Neither;
    /// What was scored.
    MeasuredText "text", "text", Text, Neither;
    /// SHA-256 of its token ids.
    TokensSha256 "tokens_sha256", "tokens, SHA-256", Text, Neither;
    /// How the text is cut: `side_by_side` or `strided`.
    Windowing "windowing", "windows lie", Text, Neither;
    /// Tokens in a window.
    NCtx "n_ctx", "tokens a window", Count, Neither;
    /// Tokens from one window's start to the next.
    Stride "stride", "stride", Count, Neither;
    /// The token in front of every window; without a value, none.
    Bos "bos", "token in front of every window", Count, Neither;
    /// Windows scored.
    Windows "windows", "windows", Count, Neither;
    /// What a file of the base's predictions, which stood in its place, holds of them.
    BaseLogits "base_logits", "known of the original", Text, Neither;
    /// What ran the models.
    Engine "engine", "engine", Text, Neither;
    /// Where.
    Device "device", "device", Text, Neither;
    /// Worker threads.
    Threads "threads", "threads", Count, Neither;
    /// Tokens of the prompt that was timed.
    PromptTokens "prompt_tokens", "tokens of the prompt", Count, Neither;
    /// Tokens written while timed.
    GeneratedTokens "generated_tokens", "tokens written", Count, Neither;
    /// Timed repetitions.
    Repetitions "repetitions", "repetitions", Count, Neither;
    /// Repetitions before those.
    Warmup "warmup", "repetitions before", Count, Neither;
    /// The confidence of each one-sided bound.
    Confidence "confidence", "confidence of each bound", Share, Neither;
    /// Something to know about the figures.
    Warning "warning", "note", Text, Neither;

    // Sizes.
    /// Bytes of the weight files, or of a tensor.
    Bytes "bytes", "size", Bytes, Lower;
    /// Number of weights.
    Weights "weights", "weights", Count, Neither;
    /// Stored bits a weight.
    BitsPerWeight "bits_per_weight", "bits per weight", Bits, Lower;

    /// Weights that were zero before quantizing.
    ZerosBefore "zeros_before", "zeros before", Count, Neither;
    /// Of those, zeros in the file.
    ZerosKept "zeros_kept", "of those kept", Count, Higher;
    /// Share of weights that are zero.
    Sparsity "sparsity", "zeros", Share, Neither;

    /// Share of the blocks' parameters that were cut out.
    CutShare "cut_share", "layers' parameters cut out", Share, Neither;
    /// How many a dimension has.
    Extent "extent", "extent", Count, Neither;
    /// 1 − E\[cos\] of the residual stream in front of a block and behind it.
    BlockInfluence "block_influence", "block influence", One, Neither;
    /// What became of a block: `stays` or `went`.
    Fate "fate", "what became of it", Text, Neither;

    // Losses.
    /// Tokens scored, or in a bin.
    Tokens "tokens", "tokens scored", Count, Neither;
    /// e^(mean nll).
    Perplexity "perplexity", "perplexity", One, Lower;
    /// Perplexity over the base's, less 1.
    PerplexityIncrease "perplexity_increase", "perplexity increase", Growth, Lower;
    /// Bits that a byte of the text takes.
    BitsPerByte "bits_per_byte", "bits per byte", Bits, Lower;
    /// Mean KL divergence from the base.
    KlDivergence "kl_divergence", "KL divergence", Nats, Lower;
    /// Mean KL divergence over that of a baseline, less 1.
    KlDivergenceGrowth "kl_divergence_growth", "KL divergence over the baseline's", Growth, Lower;
    /// Predicted KL divergence.
    PredictedKlDivergence "predicted_kl_divergence", "predicted KL divergence", Nats, Lower;
    /// Share of tokens with the same most likely token.
    Top1Agreement "top1_agreement", "same most likely token", Share, Higher;
    /// Share of tokens whose most likely token is among the other model's five.
    Top5Agreement "top5_agreement", "most likely token among the five", Share, Higher;
    /// Root mean square of the change of the right token's probability.
    DeltaPRms "delta_p_rms", "change of the token's probability, RMS", Share, Lower;

    // Training.
    /// What is trained towards.
    Loss "loss", "loss", One, Lower;
    /// The student's divergence from its teacher, factor τ² included.
    Divergence "divergence", "divergence from the teacher", One, Lower;
    /// Mean negative log-likelihood.
    CrossEntropy "cross_entropy", "cross-entropy", Nats, Lower;
    /// Norm of a step's gradient before it is shortened.
    GradientNorm "gradient_norm", "norm of the gradient", One, Neither;
    /// The learning rate of a step.
    LearningRate "learning_rate", "learning rate", One, Neither;
    /// Numbers that were trained.
    TrainedWeights "trained_weights", "weights trained", Count, Neither;

    // Tensors.
    /// ‖Ŵ − W‖ / ‖W‖.
    RelativeError "relative_error", "weight error", Share, Lower;
    /// Relative output error of what needs no calibration: rounding to nearest, or pruning by magnitude.
    OutputErrorBefore "output_error_before", "output error, the plain way", Share, Lower;
    /// Relative output error as stored.
    OutputError "output_error", "output error, as stored", Share, Lower;

    // Tasks.
    /// Share of right answers.
    Accuracy "acc", "accuracy", Share, Higher;
    /// Share of right answers by length-normalized likelihood.
    AccuracyNormalized "acc_norm", "accuracy, normalized", Share, Higher;
    /// Macro F1 of the choices.
    MacroF1 "f1", "macro F1", Share, Higher;
    /// Share of exact answers.
    ExactMatch "exact_match", "exact match", Share, Higher;
    /// Items answered.
    Items "items", "items", Count, Neither;
    /// Items answered right by the base alone.
    ItemsLost "items_lost", "items lost", Count, Lower;
    /// Items answered right by this model alone.
    ItemsWon "items_won", "items won", Count, Higher;
    /// Accuracy over the base's.
    AccuracyRatio "accuracy_ratio", "accuracy over the base's", Share, Higher;
    /// Accuracy over a baseline's.
    AccuracyOverBaseline "accuracy_over_baseline", "accuracy over the baseline's", Share, Higher;

    // Time and memory.
    /// Wall time.
    Seconds "seconds", "time", Seconds, Lower;
    /// Time until the model is ready.
    LoadSeconds "load_seconds", "load time", Seconds, Lower;
    /// Time to the first token.
    FirstTokenSeconds "first_token_seconds", "time to first token", Seconds, Lower;
    /// Median time of a token.
    LatencyP50 "latency_p50", "time per token, median", Seconds, Lower;
    /// 95th percentile of a token's time.
    LatencyP95 "latency_p95", "time per token, 95 %", Seconds, Lower;
    /// By what part the latency exceeds the base's.
    LatencyIncrease "latency_increase", "latency increase", Growth, Lower;
    /// Tokens a second.
    TokensPerSecond "tokens_per_second", "speed", TokensPerSecond, Higher;
    /// Peak resident memory.
    PeakMemory "peak_memory_bytes", "peak memory", Bytes, Lower;

    // Gates.
    /// What a value was held against.
    Limit "limit", "limit", One, Neither;
    /// How it compares: `passed`, `undecided` or `regression`.
    Verdict "verdict", "verdict", Text, Neither;
    /// Windows, items or repetitions that would decide.
    WindowsNeeded "windows_needed", "windows needed", Count, Neither;
    /// Why nothing was decided.
    Reason "reason", "reason", Text, Neither;
}

impl Metric {
    /// The metric of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|metric| metric.name() == name)
    }

    /// A value as people read it, with its unit.
    pub fn show(self, value: f64) -> String {
        match self.unit() {
            Unit::Bytes if value >= 0.0 => bytes(value as u64),
            Unit::Share => format!("{:.2} %", 100.0 * value),
            Unit::Growth => format!("{:+.2} %", 100.0 * value),
            Unit::Seconds if value.abs() < 0.1 => format!("{:.2} ms", 1e3 * value),
            Unit::Seconds => seconds(value),
            Unit::TokensPerSecond => format!("{value:.1} tokens/s"),
            Unit::Count | Unit::Bytes | Unit::Text => format!("{value}"),
            Unit::Nats => format!("{value:.5}"),
            Unit::One | Unit::Bits => format!("{value:.3}"),
        }
    }

    /// A value's error, in the value's own unit.
    pub fn show_error(self, error: f64) -> String {
        match self.unit() {
            Unit::Growth => format!("{:.2} %", 100.0 * error),
            _ => self.show(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for metric in Metric::ALL {
            assert_eq!(Metric::named(metric.name()), Some(*metric));
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
        }
        assert_eq!(Metric::named("perplexitty"), None);
    }

    #[test]
    fn values_read_well() {
        assert_eq!(Metric::Bytes.show(7_515_872.0), "7.17 MiB");
        assert_eq!(Metric::Top1Agreement.show(0.958), "95.80 %");
        assert_eq!(Metric::PerplexityIncrease.show(0.0073), "+0.73 %");
        assert_eq!(Metric::PerplexityIncrease.show_error(0.0073), "0.73 %");
        assert_eq!(Metric::KlDivergence.show(0.002284), "0.00228");
        assert_eq!(Metric::LatencyP50.show(0.0123), "12.30 ms");
        assert_eq!(Metric::Tokens.show(16384.0), "16384");
    }
}
