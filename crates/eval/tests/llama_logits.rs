//! llama-perplexity's file in a base model's place.

mod llama_file;

#[path = "../../model/tests/decoder/forward.rs"]
mod forward;

use std::ops::Range;
use std::path::PathBuf;

use slmc_eval::{
    BasePredictions, Evaluation, LlamaLogits, Options, Protocol, Silent, Warning, evaluate, evaluate_against,
};
use slmc_model::{
    CheckpointSource, Device, KvPrecision, ModelConfig, ModelError, Role, TensorId, Weight, WeightSource,
};

const N_CTX: usize = 48;
const WINDOWS: usize = 3;
const SCORED: Range<usize> = N_CTX / 2..N_CTX - 1;
/// Half a step of the codes, whose range is at most 16.
const ROUNDING: f64 = 0.5 * 16.0 / 65535.0;

fn tiny() -> CheckpointSource {
    CheckpointSource::open(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")).unwrap()
}

/// The bundled model with the small weights of its blocks' matrices set to 0.
struct Pruned {
    source: CheckpointSource,
    config: ModelConfig,
}

impl WeightSource for Pruned {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        let mut weight = self.source.load(id)?;
        if !matches!(id.role, Role::InputNorm | Role::PostNorm | Role::FinalNorm | Role::TokenEmbedding) {
            let mean = weight.values.iter().map(|x| x.abs()).sum::<f32>() / weight.values.len() as f32;
            weight.values.iter_mut().filter(|x| x.abs() < 0.3 * mean).for_each(|x| *x = 0.0);
        }
        Ok(weight)
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        self.source.load_rows(id, rows)
    }

    fn release(&self, id: TensorId) {
        self.source.release(id);
    }

    fn kv_precision(&self) -> KvPrecision {
        self.source.kv_precision()
    }
}

fn tokens() -> Vec<u32> {
    (0..N_CTX * WINDOWS + 20).map(|i| ((i * 7919 + i * i * 13 + 5) % 2048) as u32).collect()
}

/// The bundled model's predictions of the windows.
fn logits() -> Vec<f32> {
    let (model, device) = (tiny(), Device::Cpu.burn().unwrap());
    let vocabulary = model.config().vocab_size;
    let windows = tokens();
    let of = |window: &[u32]| forward::logits(&model, window, N_CTX, &device, model.kv_precision());
    let scored = |window| of(window)[SCORED.start * vocabulary..SCORED.end * vocabulary].to_vec();
    windows.chunks_exact(N_CTX).flat_map(scored).collect()
}

fn options(memory_budget: usize) -> Options {
    let protocol = Protocol { n_ctx: N_CTX, stride: None, bos: None, max_windows: None };
    Options { memory_budget, ..Options::new(protocol) }
}

fn against(file: &LlamaLogits, options: &Options) -> Evaluation {
    let source = tiny();
    let model = Pruned { config: source.config().clone(), source };
    let base = BasePredictions::Llama(file);
    evaluate_against(&model, base, &tokens(), Device::Cpu, options, &mut Silent).unwrap()
}

#[test]
fn a_file_of_a_model_measures_as_the_model_does_but_for_its_16_bits() {
    let directory = tempfile::tempdir().unwrap();
    let (path, vocabulary) = (directory.path().join("base.kld"), tiny().config().vocab_size);
    let bytes = llama_file::file(N_CTX, vocabulary, &tokens()[..N_CTX * WINDOWS], &logits());
    std::fs::write(&path, bytes).unwrap();
    let file = LlamaLogits::open(&path).unwrap();
    assert_eq!((file.n_ctx(), file.vocab_size(), file.windows()), (N_CTX, vocabulary, WINDOWS));

    let options = options(768 << 20);
    let source = tiny();
    let model = Pruned { config: source.config().clone(), source };
    let live = evaluate(&model, Some(&tiny()), &tokens(), Device::Cpu, &options, &mut Silent).unwrap();
    let kept = against(&file, &options);
    assert_eq!(kept.windows, WINDOWS);
    assert!(kept.base_logits.is_some_and(|base| !base.kl_is_lower_bound && base.vocab_size == vocabulary));
    assert_eq!(kept.scores.nll, live.scores.nll);
    let rows = |evaluation: &Evaluation| evaluation.scores.drift.clone().unwrap();
    for (kept, live) in rows(&kept).iter().zip(rows(&live)) {
        // each log p is off by up to half a step, and the probabilities, that are not made to add up to 1, as much
        let bound = ROUNDING * (2.0 + live.kl) + 1e-5;
        assert!((kept.kl - live.kl).abs() < bound, "{} {}", kept.kl, live.kl);
        // what is far less likely than the likeliest is raised to what 16 bits reach
        let off = kept.base_nll - live.base_nll;
        assert!(off < ROUNDING + 1e-5 && (off > -ROUNDING - 1e-5 || live.base_nll > 16.0), "{off}");
    }
    let (kept, live) = (kept.summary.drift.unwrap(), live.summary.drift.unwrap());
    assert!(live.kl_divergence.mean > 1e-3, "{}", live.kl_divergence.mean);
    assert!((kept.kl_divergence.mean / live.kl_divergence.mean - 1.0).abs() < 1e-3);
    assert!((kept.delta_p.rms / live.delta_p.rms - 1.0).abs() < 1e-3);
    assert!((kept.top1_agreement - live.top1_agreement).abs() < 0.03);
}

#[test]
fn tokens_that_the_file_knows_only_to_be_unlikely_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (path, vocabulary) = (directory.path().join("base.kld"), tiny().config().vocab_size);
    let tokens = tokens();
    let targets = (0..WINDOWS).flat_map(|window| SCORED.map(move |at| window * N_CTX + at + 1));
    let targets: Vec<usize> = targets.map(|at| tokens[at] as usize).collect();
    for (sharper, expected) in [(0.5, false), (2.0, true)] {
        let logits: Vec<f32> = logits().iter().map(|x| sharper * x).collect();
        let unlikely = |(row, target): (&[f32], &usize)| {
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
            f64::from(largest - row[*target]) + sum.ln() > 16.0
        };
        let count = logits.chunks(vocabulary).zip(&targets).filter(|pair| unlikely(*pair)).count();
        assert_eq!(count > 0, expected, "{count}");
        std::fs::write(&path, llama_file::file(N_CTX, vocabulary, &tokens[..N_CTX * WINDOWS], &logits))
            .unwrap();
        let found = against(&LlamaLogits::open(&path).unwrap(), &options(768 << 20)).warnings;
        let warning = Warning::UnlikelyTokens { tokens: count, of: targets.len() };
        assert_eq!(found, if expected { vec![warning] } else { Vec::new() });
    }
}

#[test]
fn windows_are_read_in_slices_of_the_vocabulary_in_little_memory_as_in_much() {
    let directory = tempfile::tempdir().unwrap();
    let (path, vocabulary) = (directory.path().join("base.kld"), tiny().config().vocab_size);
    let logits = logits();
    std::fs::write(&path, llama_file::file(N_CTX, vocabulary, &tokens()[..N_CTX * WINDOWS], &logits))
        .unwrap();
    let file = LlamaLogits::open(&path).unwrap();
    let (much, little) = (against(&file, &options(768 << 20)), against(&file, &options(1)));
    for (a, b) in much.scores.drift.unwrap().iter().zip(&little.scores.drift.unwrap()) {
        assert!((a.kl - b.kl).abs() < 1e-6 && a.base_nll == b.base_nll, "{a:?} {b:?}");
    }
    let positions = SCORED.len();
    let whole = file.read(0..WINDOWS, 0..vocabulary).unwrap();
    assert_eq!(whole.len(), WINDOWS * positions * vocabulary);
    for (row, logits) in whole.chunks(vocabulary).zip(logits.chunks(vocabulary)) {
        let sum: f64 = row.iter().map(|log_p| f64::from(*log_p).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-3, "{sum}");
        let (a, b) = (row[7] - row[1900], logits[7] - logits[1900]);
        assert!((a - b).abs() < 3.0 * ROUNDING as f32, "{a} {b}");
    }
    for (entries, windows) in [(0..5, 1..3), (5..6, 0..1), (1000..2048, 2..3)] {
        let slice = file.read(windows.clone(), entries.clone()).unwrap();
        let rows = whole.chunks(vocabulary).skip(windows.start * positions).take(windows.len() * positions);
        let expected: Vec<f32> = rows.flat_map(|row| row[entries.clone()].to_vec()).collect();
        assert_eq!(slice, expected);
    }
}

#[test]
fn files_that_are_not_whole_or_hold_no_predictions_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("base.kld");
    // an odd vocabulary, whose rows are padded
    let tokens: Vec<u32> = (0..16).collect();
    let logits: Vec<f32> = (0..2 * 3 * 5).map(|i| (i * i % 11) as f32).collect();
    let whole = llama_file::file(8, 5, &tokens, &logits);
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        LlamaLogits::open(&path)
    };
    let refused = |bytes: &[u8], expected: &str| {
        let message = open(bytes).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("base.kld"), "{message}");
    };
    let read = open(&whole).unwrap().read(0..2, 0..5).unwrap();
    for (row, logits) in read.chunks(5).zip(logits.chunks(5)) {
        let sum: f32 = row.iter().map(|log_p| log_p.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-3 && (row[1] - row[3] - logits[1] + logits[3]).abs() < 1e-3);
    }
    for end in 0..whole.len() {
        assert!(open(&whole[..end]).is_err(), "{end} bytes");
    }
    refused(&whole[..whole.len() - 1], "write it again");
    refused(&whole[..15], "within its header");
    refused(&[&whole[..], &[0]].concat(), "write it again");
    let with = |at: usize, value: i32| {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    for (at, value) in [(8, 2), (8, 0), (12, 0), (12, -1), (16, 0), (16, i32::MIN)] {
        refused(&with(at, value), "its header tells of");
    }
    refused(&with(16, i32::MAX), "write it again");
    // the scale and the least value of the last row
    let row = whole.len() - 20;
    for (at, value) in
        [(row, f32::NAN), (row, -1.0), (row, 1.0), (row + 4, f32::NEG_INFINITY), (row + 4, 0.5)]
    {
        let file = open(&with(at, value.to_bits() as i32)).unwrap();
        let message = file.read(1..2, 0..2).unwrap_err().to_string();
        assert!(message.contains("window 1, position 6 has no prediction"), "{message}");
        assert!(file.read(0..1, 0..5).is_ok());
    }
}
