//! Whole evaluations of the bundled model.

use std::ops::Range;
use std::path::PathBuf;

use serde_json::Value;
use slmc_eval::{
    EvaluateError, Evaluation, Options, Progress, Protocol, Reporter, Side, Silent, Warning, WindowError,
    evaluate,
};
use slmc_model::{
    CheckpointSource, Device, KvPrecision, ModelConfig, ModelError, Role, TensorId, Weight, WeightSource,
};

fn tiny() -> CheckpointSource {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    CheckpointSource::open(&path).unwrap()
}

/// A model some of whose weights are changed as they are read.
struct Altered<F> {
    source: CheckpointSource,
    config: ModelConfig,
    alter: F,
}

impl<F: Fn(TensorId, &mut [f32]) + Send + Sync> Altered<F> {
    fn new(alter: F) -> Self {
        let source = tiny();
        let config = source.config().clone();
        Self { source, config, alter }
    }
}

impl<F: Fn(TensorId, &mut [f32]) + Send + Sync> WeightSource for Altered<F> {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        let mut weight = self.source.load(id)?;
        (self.alter)(id, &mut weight.values);
        Ok(weight)
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        let mut weight = self.source.load_rows(id, rows)?;
        (self.alter)(id, &mut weight.values);
        Ok(weight)
    }

    fn release(&self, id: TensorId) {
        self.source.release(id);
    }

    fn kv_precision(&self) -> KvPrecision {
        self.source.kv_precision()
    }
}

/// Matrices rounded to bfloat16, to nearest, ties to even.
fn rounded() -> impl WeightSource {
    Altered::new(|id: TensorId, values: &mut [f32]| {
        if !matches!(id.role, Role::InputNorm | Role::PostNorm | Role::FinalNorm) {
            for value in values {
                let bits = value.to_bits();
                *value = f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000);
            }
        }
    })
}

/// What transformers finds; see `golden/make_tiny.py`.
struct Golden(Value);

impl Golden {
    fn read() -> Self {
        Self(serde_json::from_str(include_str!("golden/tiny.json")).unwrap())
    }

    fn tokens(&self) -> Vec<u32> {
        self.0["tokens"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect()
    }

    fn figures(&self, name: &str) -> Vec<f64> {
        self.0[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn protocol(&self) -> Protocol {
        let number = |name: &str| self.0[name].as_u64().unwrap();
        Protocol { n_ctx: number("n_ctx") as usize, bos: Some(number("bos") as u32), max_windows: None }
    }
}

fn compare(options: &Options) -> Evaluation {
    let tokens = Golden::read().tokens();
    evaluate(&rounded(), Some(&tiny()), &tokens, Device::Cpu, options, &mut Silent).unwrap()
}

fn assert_close(
    name: &str,
    found: impl Iterator<Item = f64>,
    expected: &[f64],
    absolute: f64,
    relative: f64,
) {
    let found: Vec<f64> = found.collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    for (found, expected) in found.iter().zip(expected) {
        let bound = absolute + relative * expected.abs();
        assert!((found - expected).abs() <= bound, "{name}: {found}, transformers finds {expected}");
    }
}

#[test]
fn every_token_scores_as_in_transformers() {
    let golden = Golden::read();
    let evaluation = compare(&Options::new(golden.protocol()));
    assert_eq!((evaluation.n_ctx, evaluation.stride, evaluation.windows), (48, 48, 5));
    assert_eq!(evaluation.summary.tokens, 115);
    let drift = evaluation.scores.drift.unwrap();
    assert_close("nll", evaluation.scores.nll.iter().copied(), &golden.figures("nll"), 1e-4, 0.0);
    assert_close("base", drift.iter().map(|row| row.base_nll), &golden.figures("base_nll"), 1e-4, 0.0);
    // The two models' logits differ by 3e-3, and f32 leaves noise of 1e-5 in them.
    assert_close("KL", drift.iter().map(|row| row.kl), &golden.figures("kl"), 1e-8, 0.05);
    let kl = golden.figures("kl");
    let mean = kl.iter().sum::<f64>() / kl.len() as f64;
    let found = evaluation.summary.drift.unwrap().kl_divergence.mean;
    assert!((found / mean - 1.0).abs() < 0.005, "mean KL {found:e}, transformers finds {mean:e}");
}

#[test]
fn the_compared_models_score_as_they_do_alone() {
    let golden = Golden::read();
    let options = Options::new(golden.protocol());
    let together = compare(&options);
    let drift = together.scores.drift.unwrap();
    let alone = |source: &dyn WeightSource| {
        evaluate(source, None, &golden.tokens(), Device::Cpu, &options, &mut Silent).unwrap().scores
    };
    let base = alone(&tiny());
    assert_eq!(base.drift, None);
    assert_eq!(alone(&rounded()).nll, together.scores.nll);
    assert_eq!(base.nll, drift.iter().map(|row| row.base_nll).collect::<Vec<_>>());
}

#[test]
fn neither_threads_nor_groups_change_a_bit() {
    let options = Options::new(Golden::read().protocol());
    let expected = compare(&options);
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| compare(&options)), expected, "{threads} threads");
    }
    // One window at a time, and the narrowest slices of the head.
    let mut narrow = compare(&Options { memory_budget: 0, ..options });
    assert_close("nll", narrow.scores.nll.iter().copied(), &expected.scores.nll, 1e-5, 0.0);
    narrow.scores = expected.scores.clone();
    narrow.summary = expected.summary.clone();
    assert_eq!(narrow, expected);
}

#[test]
fn a_model_does_not_drift_from_itself() {
    let golden = Golden::read();
    let options = Options::new(golden.protocol());
    let evaluation =
        evaluate(&tiny(), Some(&tiny()), &golden.tokens(), Device::Cpu, &options, &mut Silent).unwrap();
    let drift = evaluation.summary.drift.unwrap();
    assert_eq!((drift.kl_divergence.max, drift.delta_p.rms, drift.top1_agreement), (0.0, 0.0, 1.0));
    assert_eq!(drift.base_perplexity, evaluation.summary.perplexity);
}

#[test]
fn progress_only_grows_and_ends_complete() {
    #[derive(Default)]
    struct Log(Vec<Progress>);
    impl Reporter for Log {
        fn progress(&mut self, progress: &Progress) {
            self.0.push(*progress);
        }
    }
    let golden = Golden::read();
    let options = Options { memory_budget: 0, ..Options::new(golden.protocol()) };
    let mut log = Log::default();
    let evaluation =
        evaluate(&rounded(), Some(&tiny()), &golden.tokens(), Device::Cpu, &options, &mut log).unwrap();
    assert!(
        log.0.windows(2).all(|pair| {
            pair[0].fraction <= pair[1].fraction && pair[0].tokens_done <= pair[1].tokens_done
        })
    );
    assert_eq!(log.0[0].running, None);
    let last = log.0.last().unwrap();
    assert!((last.fraction - 1.0).abs() < 1e-9, "{last:?}");
    assert_eq!((last.tokens_done, last.tokens_total), (240, 240));
    let running = last.running.unwrap();
    let drift = evaluation.summary.drift.unwrap();
    assert!((running.perplexity / evaluation.summary.perplexity - 1.0).abs() < 1e-12);
    assert!((running.base_perplexity.unwrap() / drift.base_perplexity - 1.0).abs() < 1e-12);
    assert!((running.kl_divergence.unwrap() / drift.kl_divergence.mean - 1.0).abs() < 1e-12);
}

#[test]
fn logits_that_are_not_finite_name_the_model_and_the_place() {
    let golden = Golden::read();
    let options = Options::new(golden.protocol());
    // A norm weight so large that the product with the head overflows.
    let broken = Altered::new(|id: TensorId, values: &mut [f32]| {
        if id.role == Role::FinalNorm {
            values.fill(f32::MAX);
        }
    });
    let tokens = golden.tokens();
    let error = evaluate(&broken, Some(&tiny()), &tokens, Device::Cpu, &options, &mut Silent).unwrap_err();
    assert!(
        matches!(error, EvaluateError::NonFiniteLogits { side: Side::Model, window: 0, position: 24, .. }),
        "{error}"
    );
    let error = evaluate(&tiny(), Some(&broken), &tokens, Device::Cpu, &options, &mut Silent).unwrap_err();
    assert!(matches!(error, EvaluateError::NonFiniteLogits { side: Side::Base, .. }), "{error}");
}

#[test]
fn vocabularies_and_texts_that_do_not_fit_are_refused() {
    let golden = Golden::read();
    let options = Options::new(golden.protocol());
    let mut larger = Altered::new(|_: TensorId, _: &mut [f32]| {});
    larger.config.vocab_size += 1;
    let error =
        evaluate(&tiny(), Some(&larger), &golden.tokens(), Device::Cpu, &options, &mut Silent).unwrap_err();
    assert!(matches!(error, EvaluateError::VocabularyMismatch { base: 2049, model: 2048 }), "{error}");

    let mut tokens = golden.tokens();
    tokens[7] = 2048;
    let error = evaluate(&tiny(), None, &tokens, Device::Cpu, &options, &mut Silent).unwrap_err();
    assert!(
        matches!(
            error,
            EvaluateError::Window(WindowError::TokenOutOfRange { token: 2048, vocab_size: 2048 })
        ),
        "{error}"
    );
    let error = evaluate(&tiny(), None, &tokens[..95], Device::Cpu, &options, &mut Silent).unwrap_err();
    assert_eq!(error.to_string(), "the text has 95 tokens; a context of 48 needs at least 96");
}

#[test]
fn windows_beyond_the_trained_context_are_warned_of() {
    let golden = Golden::read();
    let mut short = Altered::new(|_: TensorId, _: &mut [f32]| {});
    short.config.max_position_embeddings = 47;
    let options = Options::new(golden.protocol());
    let evaluation =
        evaluate(&short, Some(&tiny()), &golden.tokens(), Device::Cpu, &options, &mut Silent).unwrap();
    let expected =
        Warning::ContextExceedsTraining { side: Side::Model, n_ctx: 48, max_position_embeddings: 47 };
    assert_eq!(evaluation.warnings, [expected]);
}
