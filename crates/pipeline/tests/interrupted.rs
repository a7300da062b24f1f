//! Measurements that the user stops: what was measured counts, but decides nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use slmc_model::Device;
use slmc_pipeline::PipelineError;
use slmc_pipeline::jobs::bench::Amount;
use slmc_pipeline::jobs::evaluate::{EvaluateSettings, Measure, evaluate};
use slmc_pipeline::jobs::gate::{GateSettings, Limits, Verdict, gate};
use slmc_pipeline::jobs::tasks::{TaskSource, Tasks, TasksSettings, tasks};
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
        base_logits: None,
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
        base_logits: None,
        measure: measure(directory.path()),
        limits: Limits { max_kl: Some(0.1), ..Limits::default() },
        baseline: None,
        max_kl_growth: 0.1,
        min_baseline_accuracy: 0.98,
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

/// Wants to stop once so much was done of what `begin` calls by this name, in steps or as a share of all.
struct StopsIn {
    what: &'static str,
    after: AtomicU64,
    share: Option<f64>,
    running: std::sync::Mutex<String>,
    done: AtomicU64,
}

impl StopsIn {
    fn new(what: &'static str, after: u64) -> Self {
        let (after, done) = (AtomicU64::new(after), AtomicU64::new(0));
        Self { what, after, share: None, running: std::sync::Mutex::default(), done }
    }

    fn at_share(what: &'static str, share: f64) -> Self {
        Self { share: Some(share), ..Self::new(what, u64::MAX) }
    }
}

impl Reporter for StopsIn {
    fn begin(&self, what: &str, total: u64, _: Unit) {
        if let Some(share) = self.share.filter(|_| what == self.what) {
            self.after.store((share * total as f64) as u64, Ordering::Relaxed);
        }
        *self.running.lock().unwrap() = what.to_owned();
    }
    fn advance(&self, steps: u64) {
        if *self.running.lock().unwrap() == self.what {
            self.done.fetch_add(steps, Ordering::Relaxed);
        }
    }
    fn status(&self, _: &str) {}
    fn end(&self) {}
    fn warn(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.after.load(Ordering::Relaxed)
    }
}

fn items(name: &str) -> TaskSource {
    TaskSource::File(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/tasks/{name}.jsonl")))
}

fn asked(sources: Vec<TaskSource>) -> TasksSettings {
    let tasks = Tasks { sources, ..Tasks::default() };
    TasksSettings { model: tiny(), base: None, tasks, device: Device::Cpu }
}

#[test]
fn answers_given_before_a_stop_count() {
    let settings = asked(vec![items("generation"), items("plain")]);
    let whole = tasks(&settings, &Silent).unwrap();
    assert!(whole.complete && whole.items == whole.items_planned);
    // choices are answered first; then free answers, one by one
    let stopped = tasks(&settings, &StopsIn::new("Writing", 2)).unwrap();
    assert!(!stopped.complete);
    assert_eq!(stopped.items_planned, whole.items);
    let answered: Vec<_> = stopped.tasks.iter().map(|task| (task.name.as_str(), task.items)).collect();
    assert_eq!(answered, [("generation", 2), ("plain", whole.tasks[1].items)]);
    assert_eq!(stopped.tasks[0].items_planned, whole.tasks[0].items);
    assert_eq!(stopped.tasks[0].replies, whole.tasks[0].replies[..2]);
    assert_eq!(stopped.tasks[1].scores, whole.tasks[1].scores);
    let nothing = tasks(&settings, &StopsIn::new("Answering", 1)).unwrap_err();
    assert!(matches!(nothing, PipelineError::NothingMeasured), "{nothing}");
    // what one model alone has answered is no comparison
    let beside = TasksSettings { base: Some(tiny()), ..settings };
    let nothing = tasks(&beside, &StopsIn::new("Writing", 2)).unwrap_err();
    assert!(matches!(nothing, PipelineError::NothingMeasured), "{nothing}");
}

#[test]
fn choices_are_answered_group_by_group() {
    // repeated until there is more than one group of them
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("many.jsonl");
    let line = |n: usize| {
        let words = "the river and the road ".repeat(1 + n % 8);
        format!("{{\"context\": \"{n} {words}\", \"choices\": [\"first\", \"second\"], \"answer\": 0}}\n")
    };
    std::fs::write(&path, (0..1500).map(line).collect::<String>()).unwrap();
    let settings = asked(vec![TaskSource::File(path)]);
    let whole = tasks(&settings, &Silent).unwrap();
    let stopped = tasks(&settings, &StopsIn::at_share("Answering", 0.7)).unwrap();
    assert!(!stopped.complete && 0 < stopped.items && stopped.items < whole.items, "{}", stopped.items);
    let (stopped, whole) = (&stopped.tasks[0], &whole.tasks[0]);
    assert!(stopped.replies.iter().all(|reply| whole.replies.contains(reply)));
}

#[test]
fn stopped_tasks_pass_no_gate() {
    let directory = tempfile::tempdir().unwrap();
    let tasks = Tasks { sources: vec![items("generation")], ..Tasks::default() };
    let settings = GateSettings {
        tasks: Some(tasks),
        model: tiny(),
        base: Some(tiny()),
        base_logits: None,
        measure: measure(directory.path()),
        limits: Limits { min_accuracy_ratio: Some(0.1), max_bytes: Some(1 << 40), ..Limits::default() },
        baseline: None,
        max_kl_growth: 0.1,
        min_baseline_accuracy: 0.98,
        timing: Amount { prompt_tokens: 8, generated_tokens: 2, repetitions: 1, warmup: 0 },
        save_baseline: None,
        confidence: 0.95,
    };
    // the base answers six, then the model two
    let stopped = gate(&settings, &StopsIn::new("Writing", 8)).unwrap();
    assert_eq!(stopped.verdict, Verdict::Undecided);
    assert_eq!(stopped.checks.len(), 1, "the size alone");
    assert_eq!(stopped.incomplete.unwrap(), "the tasks were interrupted after 2 of 6 items");
    let nothing = gate(&settings, &StopsIn::new("Writing", 1)).unwrap();
    assert_eq!(nothing.verdict, Verdict::Undecided);
    assert!(nothing.incomplete.unwrap().ends_with("before an item was answered"));
}
