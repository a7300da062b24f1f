//! Whole evaluations of the bundled model.

use std::ops::Range;
use std::path::PathBuf;

use serde_json::Value;
use slmc_eval::{
    EvaluateError, Evaluation, Options, Progress, Protocol, Reporter, Side, Silent, TextSpans, Warning,
    WindowError, Windowing, evaluate,
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
        Protocol {
            n_ctx: number("n_ctx") as usize,
            stride: None,
            bos: Some(number("bos") as u32),
            max_windows: None,
        }
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
    narrow.positions = expected.positions.clone();
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

/// See `golden/make_strided.py`.
#[test]
fn strided_perplexities_are_those_of_transformers() {
    let golden: Value = serde_json::from_str(include_str!("golden/strided.json")).unwrap();
    let bos = Some(golden["bos"].as_u64().unwrap() as u32);
    let golden = &golden["with_bos"];
    let tokens: Vec<u32> =
        golden["tokens"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect();
    for case in golden["cases"].as_array().unwrap() {
        let number = |name: &str| case[name].as_u64().unwrap() as usize;
        let (n_ctx, stride) = (number("n_ctx"), number("stride"));
        let protocol = Protocol { n_ctx, stride: Some(stride), bos, max_windows: None };
        let evaluation =
            evaluate(&tiny(), None, &tokens, Device::Cpu, &Options::new(protocol), &mut Silent).unwrap();
        assert_eq!((evaluation.n_ctx, evaluation.stride, evaluation.bos), (n_ctx, stride, bos));
        assert_eq!(evaluation.windowing, Windowing::Strided);
        assert_eq!((evaluation.windows, evaluation.summary.tokens), (number("windows"), number("tokens")));
        let found = evaluation.summary.perplexity;
        for (figure, tolerance) in [("perplexity", 1e-5), ("guide_perplexity", 5e-3)] {
            let expected = case[figure].as_f64().unwrap();
            assert!((found / expected - 1.0).abs() < tolerance, "{case}: {found}");
        }
    }
}

#[test]
fn windows_of_different_shapes_score_as_they_do_one_at_a_time() {
    let golden = Golden::read();
    let options = Options::new(Protocol { stride: Some(20), ..golden.protocol() });
    let expected = compare(&options);
    let narrow = compare(&Options { memory_budget: 0, ..options });
    assert_eq!(narrow.read, expected.read);
    assert_close("nll", narrow.scores.nll.iter().copied(), &expected.scores.nll, 1e-5, 0.0);
    // what the rows are made of is all there is
    assert_eq!(expected.summary.tokens, golden.tokens().len() - 1);
    assert_eq!(expected.window_rows().last().unwrap().end, expected.summary.tokens);
    let parts: usize = expected.positions.iter().map(|part| part.figures.tokens).sum();
    assert_eq!(parts, expected.summary.tokens);
}

/// Cancels once some windows are done.
struct Impatient {
    windows: usize,
    done: usize,
}

impl Reporter for Impatient {
    fn progress(&mut self, progress: &Progress) {
        self.done = progress.tokens_done / 48;
    }

    fn is_cancelled(&self) -> bool {
        self.done >= self.windows
    }
}

#[test]
fn a_stopped_evaluation_has_the_windows_before() {
    let golden = Golden::read();
    // one window at a time
    let options = Options { memory_budget: 0, ..Options::new(golden.protocol()) };
    let stopped_after = |windows| {
        let mut reporter = Impatient { windows, done: 0 };
        let tokens = golden.tokens();
        evaluate(&rounded(), Some(&tiny()), &tokens, Device::Cpu, &options, &mut reporter)
    };
    for windows in 1..=5 {
        let stopped = stopped_after(windows).unwrap();
        assert_eq!((stopped.windows, stopped.windows_planned), (windows, 5));
        assert_eq!(stopped.complete, windows == 5);
        let limited = Protocol { max_windows: Some(windows), ..golden.protocol() };
        let expected = compare(&Options { protocol: limited, ..options });
        assert!(expected.complete);
        assert_eq!((stopped.summary, stopped.scores), (expected.summary, expected.scores));
        let json = serde_json::to_value(stopped_after(windows).unwrap()).unwrap();
        assert_eq!(json["complete"], windows == 5);
        assert_eq!(json["windows_planned"], 5);
    }
    assert!(matches!(stopped_after(0), Err(EvaluateError::Cancelled)));
}

/// The bundled model with rows of zeros behind those of its embedding, which is its head.
struct Padded {
    source: CheckpointSource,
    config: ModelConfig,
}

impl Padded {
    fn new(rows: usize) -> Self {
        let source = tiny();
        let config = ModelConfig { vocab_size: 2048 + rows, ..source.config().clone() };
        Self { source, config }
    }
}

impl WeightSource for Padded {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        self.source.load(id)
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        let there = rows.start.min(2048)..rows.end.min(2048);
        let mut weight = self.source.load_rows(id, there)?;
        let width = self.config.hidden_size;
        weight.values.resize(rows.len() * width, 0.0);
        weight.shape[0] = rows.len();
        Ok(weight)
    }

    fn release(&self, id: TensorId) {
        self.source.release(id);
    }

    fn kv_precision(&self) -> KvPrecision {
        self.source.kv_precision()
    }
}

#[test]
fn padded_vocabularies_are_compared_over_what_both_have() {
    let golden = Golden::read();
    let options = Options::new(golden.protocol());
    let shared = Options { shared_vocabulary: Some(2048), ..options };
    let run = |model: &dyn WeightSource, base: &dyn WeightSource, options: &Options| {
        evaluate(model, Some(base), &golden.tokens(), Device::Cpu, options, &mut Silent).unwrap()
    };
    let expected = run(&rounded(), &tiny(), &options);
    // a padded base: its additional rows have logits of 0, which count for nothing here, but for something where it is alone
    let padded = Padded::new(64);
    let found = run(&rounded(), &padded, &shared);
    assert_eq!((&found.scores, &found.summary), (&expected.scores, &expected.summary));
    let warning = Warning::PaddedVocabulary { side: Side::Base, rows: 2112, shared: 2048 };
    assert_eq!(found.warnings, [warning]);
    assert!(warning.to_string().starts_with("the base model's head has 2112 rows, the other's 2048"));
    let alone = evaluate(&padded, None, &golden.tokens(), Device::Cpu, &options, &mut Silent).unwrap();
    assert!(alone.summary.perplexity > found.summary.drift.unwrap().base_perplexity);
    // a padded model
    let found = run(&padded, &tiny(), &shared);
    assert_eq!(found.summary.drift.unwrap().kl_divergence.max, 0.0);
    assert_eq!(found.warnings, [Warning::PaddedVocabulary { side: Side::Model, rows: 2112, shared: 2048 }]);
    // heads that are alike need no word of it
    assert_eq!(run(&rounded(), &tiny(), &shared), expected);
    let beyond = Options { shared_vocabulary: Some(2049), ..options };
    let error =
        evaluate(&padded, Some(&tiny()), &golden.tokens(), Device::Cpu, &beyond, &mut Silent).unwrap_err();
    assert!(matches!(error, EvaluateError::VocabularyMismatch { base: 2048, model: 2112 }), "{error}");
}

#[test]
fn bits_per_byte_are_of_the_bytes_that_scored_tokens_stand_for() {
    let golden = Golden::read();
    let count = golden.tokens().len();
    for stride in [None, Some(20)] {
        let protocol = Protocol { stride, ..golden.protocol() };
        // three bytes a token, and two documents of the same length
        let ends: Vec<usize> = (1..=count).map(|token| 3 * token).collect();
        let half = 3 * (count / 2);
        let text = TextSpans::new(ends, vec![0..half, half..3 * count]);
        let evaluation = compare(&Options::new(protocol)).with_text(&text);
        let summary = &evaluation.summary;
        let expected = summary.perplexity.log2() / 3.0;
        assert!((summary.bits_per_byte.unwrap() / expected - 1.0).abs() < 1e-12);
        let drift = summary.drift.as_ref().unwrap();
        let expected = drift.base_perplexity.log2() / 3.0;
        assert!((drift.base_bits_per_byte.unwrap() / expected - 1.0).abs() < 1e-12);
        let documents = &evaluation.documents;
        assert_eq!(documents.iter().map(|d| d.document).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(documents.iter().map(|d| d.figures.tokens).sum::<usize>(), summary.tokens);
        assert!(documents.iter().all(|d| d.bytes == 3 * d.figures.tokens));
        let bits = documents.iter().map(|d| d.bits_per_byte.unwrap() * d.bytes as f64).sum::<f64>();
        assert!((bits / (summary.bits_per_byte.unwrap() * 3.0 * summary.tokens as f64) - 1.0).abs() < 1e-12);
    }
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
