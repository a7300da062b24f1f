//! The loss of hidden states beside PyTorch's (see `golden/make_hidden.py`), and a run that learns a projection.

mod common;

use common::{compare_gradient, golden, models, root, sequences};
use serde_json::Value;
use slmc_distill::{
    AdamWSettings, Batch, Data, Decay, DistillError, HeadLoss, HiddenTargets, Length, Masks, Objective,
    Parameter, Predictor, Record, Schedule, Setup, State, Store, Student, Teacher, Teaching, TrainSettings,
    Trainer, WeightGradients, matched_layers,
};
use slmc_matmul::Precision;
use slmc_model::{BurnDevice, MemorySource, Role, WeightSource};

/// The i-th value of the golden run's projection.
fn value(i: usize) -> f32 {
    ((((i as u64 * 2_654_435_761) % (1 << 32)) as f64 / (1u64 << 32) as f64 - 0.5) * 0.2) as f32
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let (golden, device) = (golden("hidden"), BurnDevice::flex());
    let (teacher, student) = models();
    let sequences = sequences(&common::golden("training"));
    let batch = Batch::new(&sequences[..2]);
    let layers = matched_layers(2, 4);
    let predictor = Predictor::load(&teacher, batch.seq_len, &device).unwrap();
    let states = predictor.predict_with(&batch, &layers, Precision::F32).unwrap();
    let objective = Objective::default();
    let (vocab, width) = (teacher.config().vocab_size, teacher.config().hidden_size);
    let loss = HeadLoss { objective: &objective, vocab, weight: 1.0 / batch.predictions() as f32 };
    let weight = golden["weight"].as_f64().unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let projection: Option<Vec<f32>> =
            case["projected"].as_bool().unwrap().then(|| (0..width * width).map(value).collect());
        let targets = HiddenTargets {
            states: states.layers(),
            width,
            projection: projection.as_deref(),
            weight: weight as f32 / (layers.len() * width * batch.predictions()) as f32,
        };
        let run = |checkpointing| {
            let mut gradients = WeightGradients::default();
            let runner = Student::new(&student, batch.seq_len, &device, checkpointing).unwrap();
            let teaching = (Some(Teaching::Live(predictor.with_head(&states))), Some(targets));
            let sums = runner.accumulate_hidden(&student, &batch, teaching, &loss, &mut gradients).unwrap();
            (sums.hidden / weight, gradients)
        };
        let ((hidden, gradients), (again, _)) = (run(false), run(true));
        let expected = case["hidden"].as_f64().unwrap();
        assert!(
            (hidden - expected).abs() < 1e-5 * expected && (again - hidden).abs() < 1e-9 * hidden,
            "{hidden} {expected}"
        );
        let expected = case["gradients"].as_object().unwrap();
        let mut compared = 0;
        for part in Parameter::all(&student).unwrap() {
            compare_gradient(&part.name, gradients.get(part.parameter).unwrap(), &expected[&part.name]);
            compared += 1;
        }
        if projection.is_some() {
            compare_gradient(
                "projection",
                gradients.get(Parameter::Projection).unwrap(),
                &expected["projection"],
            );
            compared += 1;
        }
        assert_eq!(compared, expected.len());
    }
}

/// A narrower student learns with a projection, which is kept with its state.
#[test]
fn a_narrower_student_learns_a_projection() {
    let (teacher, _) = models();
    let mut config = teacher.config().clone();
    config.num_hidden_layers = 1;
    config.sliding_window.truncate(1);
    config.hidden_size /= 2;
    let mut random = fastrand::Rng::with_seed(1);
    let student = MemorySource::new(config.clone(), |id| {
        let count = config.shape(id.role).iter().product();
        let norm = matches!(id.role, Role::InputNorm | Role::PostNorm | Role::FinalNorm);
        Ok((0..count).map(|_| if norm { 1.0 } else { 0.1 * random.f32() - 0.05 }).collect())
    })
    .unwrap();
    let sequences = sequences(&golden("training"));
    let settings = TrainSettings {
        objective: Objective { alpha: 1.0, ..Objective::default() },
        optimizer: AdamWSettings::default(),
        schedule: Schedule { peak: 2e-3, warmup_steps: 0, decay: Decay::Constant },
        length: Length::Steps(6),
        batch_size: 2,
        accumulation: 1,
        clip_norm: 1e9,
        seed: 0,
        evaluate_every: 3,
        patience: None,
        keep_zeros: true,
        on_policy: 0.0,
        hidden_mse: 1.0,
        precision: Precision::F32,
        gradient_checkpointing: false,
    };
    let setup = |teacher| Setup {
        data: Data { train: &sequences[..2], held_out: &sequences[2..3] },
        teacher,
        vocab: config.vocab_size,
        ends: Vec::new(),
        masks: Masks::default(),
        rounding: None,
        grid: None,
        device: BurnDevice::flex(),
    };
    let run = |trainer: &mut Trainer<'_>, steps: usize| -> Vec<f64> {
        let step = |_| match trainer.step().unwrap() {
            Record::Step { hidden_mse, .. } => hidden_mse.unwrap(),
            Record::HeldOut { .. } => unreachable!(),
        };
        (0..steps).map(step).collect()
    };
    let begin = |state| Trainer::new(settings, setup(Some(Teacher::Model(&teacher))), state).unwrap();
    let mut whole = begin(State::new(student.clone(), &settings));
    let losses = run(&mut whole, 6);
    assert!(losses.is_sorted_by(|before, after| after < before), "{losses:?}");
    // in two pieces
    let text = std::fs::read_to_string(root().join("models/tiny/config.json")).unwrap();
    let config_json: Value = serde_json::from_str(&text).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path(), config_json, Value::Null).unwrap();
    let mut first = begin(State::new(student.clone(), &settings));
    let mut pieces = run(&mut first, 3);
    store.save(&first).unwrap();
    let mut second = begin(store.load(student.clone(), &settings).unwrap());
    pieces.extend(run(&mut second, 3));
    assert_eq!(losses, pieces);
    assert!(whole.projection().is_some() && whole.projection() == second.projection());
    let refused = Trainer::new(settings, setup(None), State::new(student.clone(), &settings)).map(drop);
    assert!(matches!(refused, Err(DistillError::NoHiddenStates)));
}
