//! Measurements that the user stops: what was measured counts, but decides nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use slmc_model::Device;
use slmc_pipeline::PipelineError;
use slmc_pipeline::jobs::bench::Amount;
use slmc_pipeline::jobs::evaluate::{EvaluateSettings, Measure, evaluate};
use slmc_pipeline::jobs::gate::{GateSettings, Limits, Verdict, gate};
use slmc_pipeline::jobs::worst::WorstSettings;
use slmc_pipeline::progress::{Reporter, Silent, Unit};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")
}

/// Wants to stop once a running figure was shown so many times; remembers the warnings.
struct Impatient {
    patience: u64,
    shown: AtomicU64,
    warnings: std::sync::Mutex<Vec<String>>,
}

impl Impatient {
    fn after(patience: u64) -> Self {
        Self { patience, shown: AtomicU64::new(0), warnings: std::sync::Mutex::default() }
    }
}

impl Reporter for Impatient {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn status(&self, text: &str) {
        assert!(text.starts_with("perplexity "), "{text}");
        self.shown.fetch_add(1, Ordering::Relaxed);
    }
    fn end(&self) {}
    fn warn(&self, message: &str) {
        self.warnings.lock().unwrap().push(message.to_owned());
    }
    fn is_cancelled(&self) -> bool {
        self.shown.load(Ordering::Relaxed) >= self.patience
    }
}

/// More tokens than one group of windows has, so that there is something between the beginning and the end.
fn measure(directory: &Path) -> Measure {
    let path = directory.join("text.txt");
    let sentence =
        "The ferryman counted the coins twice, and then the waves. Nobody else came that evening. ";
    std::fs::write(&path, sentence.repeat(1200)).unwrap();
    let text = path.to_str().unwrap().parse().unwrap();
    Measure { text, n_ctx: 128, stride: None, max_windows: None, device: Device::Cpu }
}

#[test]
fn a_stopped_evaluation_says_how_far_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let settings = EvaluateSettings {
        model: tiny(),
        base: None,
        measure: measure(directory.path()),
        worst: WorstSettings::default(),
    };
    let reporter = Impatient::after(1);
    let stopped = evaluate(&settings, &reporter).unwrap().evaluation;
    let (done, planned) = (stopped.windows, stopped.windows_planned);
    assert!(!stopped.complete && 0 < done && done < planned, "{done} of {planned}");
    let warnings = reporter.warnings.lock().unwrap();
    assert_eq!(*warnings, [format!("interrupted: the figures are of the first {done} of {planned} windows")]);
    let measure = Measure { max_windows: Some(done), ..settings.measure.clone() };
    let same = evaluate(&EvaluateSettings { measure, ..settings.clone() }, &Silent).unwrap().evaluation;
    assert_eq!(stopped.summary, same.summary);
    let nothing = evaluate(&settings, &Impatient::after(0)).unwrap_err();
    assert!(matches!(nothing, PipelineError::NothingMeasured), "{nothing}");
}

#[test]
fn a_stopped_evaluation_passes_no_gate_and_makes_no_baseline() {
    let directory = tempfile::tempdir().unwrap();
    let baseline = directory.path().join("baseline.json");
    let settings = GateSettings {
        tasks: None,
        model: tiny(),
        base: Some(tiny()),
        measure: measure(directory.path()),
        limits: Limits { max_kl: Some(0.1), ..Limits::default() },
        baseline: None,
        max_kl_growth: 0.1,
        timing: Amount { prompt_tokens: 8, generated_tokens: 2, repetitions: 1, warmup: 0 },
        save_baseline: Some(baseline.clone()),
        confidence: 0.95,
    };
    let stopped = gate(&settings, &Impatient::after(1)).unwrap();
    // what was measured is within the limit by itself
    assert_eq!(stopped.checks[0].verdict, Verdict::Passed);
    assert_eq!(stopped.verdict, Verdict::Undecided);
    assert!(stopped.incomplete.unwrap().starts_with("the evaluation was interrupted after "));
    assert!(!baseline.exists());
    let nothing = gate(&settings, &Impatient::after(0)).unwrap();
    assert_eq!((nothing.verdict, nothing.checks.len()), (Verdict::Undecided, 0));
    assert!(nothing.incomplete.unwrap().ends_with("before anything was measured"));
    assert!(!baseline.exists());
    let whole = gate(&settings, &Silent).unwrap();
    assert_eq!((whole.verdict, whole.incomplete), (Verdict::Passed, None));
    assert!(baseline.exists());
}
