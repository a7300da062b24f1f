//! Training against PyTorch's (see `golden/make_training.py` and `golden/make_packed.py`), and a run that goes on where another stopped.

mod common;

use common::{compare, golden, models, root, sequences};
use serde_json::Value;
use slmc_distill::{
    AdamWSettings, Batch, Data, Decay, DistillError, Document, End, Length, Masks, Objective, Record,
    Schedule, Sequence, Setup, State, Store, Teacher, TrainSettings, Trainer, Watcher,
};
use slmc_matmul::Precision;
use slmc_model::{
    BurnDevice, CheckpointSource, Device, MemorySource, ModelError, Role, TensorId, WeightSource,
};

fn settings(steps: u64) -> TrainSettings {
    TrainSettings {
        objective: Objective::default(),
        optimizer: AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() },
        schedule: Schedule { peak: 1e-3, warmup_steps: 3, decay: Decay::Cosine },
        length: Length::Steps(steps),
        batch_size: 2,
        accumulation: 1,
        clip_norm: 1.0,
        seed: 0,
        evaluate_every: 4,
        patience: None,
        keep_zeros: true,
        on_policy: 0.0,
        hidden_mse: 0.0,
        precision: Precision::F32,
        gradient_checkpointing: false,
    }
}

fn setup<'a>(data: Data<'a>, teacher: &'a CheckpointSource, device: BurnDevice) -> Setup<'a> {
    let vocab = teacher.config().vocab_size;
    Setup {
        data,
        teacher: Some(Teacher::Model(teacher)),
        vocab,
        ends: Vec::new(),
        masks: Masks::default(),
        rounding: None,
        grid: None,
        device,
    }
}

#[test]
fn gradients_of_every_weight_are_those_of_pytorch() {
    let golden = golden("training");
    let sequences = sequences(&golden);
    let expected = golden["losses"][0].as_f64().unwrap();
    compare(&models().1, &Batch::new(&sequences[..2]), (expected, &golden["gradients"]));
}

/// Documents of different lengths side by side, as packed in another order as by best fit: loss and gradients are those of
/// the documents alone.
#[test]
fn packed_documents_are_the_documents_alone() {
    let golden = golden("packed");
    let tokens: Vec<Vec<u32>> = serde_json::from_value(golden["documents"].clone()).unwrap();
    let documents: Vec<Document> =
        tokens.into_iter().map(|tokens| Document { tokens, learned: None }).collect();
    for seq_len in [48, 60, 100] {
        let sequences = Sequence::pack(&documents, seq_len, None);
        assert!(sequences.len() < documents.len());
        let batch = Batch::new(&sequences);
        assert!(batch.documents.is_some());
        compare(&models().1, &batch, (golden["loss"].as_f64().unwrap(), &golden["gradients"]));
    }
}

/// In f32, and in bfloat16 where the processor has it, whose rounding moves losses by less than a hundredth.
#[test]
fn twenty_steps_follow_pytorch() {
    let golden = golden("training");
    let sequences = sequences(&golden);
    for (precision, loss_limit, norm_limit) in [(Precision::F32, 1e-3, 1e-2), (Precision::Bf16, 1e-2, 5e-2)] {
        if !precision.is_native() {
            continue;
        }
        let settings = TrainSettings { precision, ..settings(20) };
        let (teacher, student) = models();
        let mut state = Some(State::new(student, &settings));
        for step in 0..20usize {
            // Batches in the golden run's order: a trainer shuffles, so each step gets its two sequences alone.
            let data = Data { train: &sequences[2 * step..2 * step + 2], held_out: &sequences[..1] };
            let setup = setup(data, &teacher, BurnDevice::flex());
            let mut trainer = Trainer::new(settings, setup, state.take().unwrap()).unwrap();
            let Record::Step { loss, gradient_norm, applied, .. } = trainer.step().unwrap() else {
                unreachable!()
            };
            let expected = golden["losses"][step].as_f64().unwrap();
            let off = (loss - expected).abs();
            assert!(off < loss_limit && applied, "{precision}, step {step}: {loss} {expected}");
            let norm = golden["norms"][step].as_f64().unwrap();
            let off = (gradient_norm / norm - 1.0).abs();
            assert!(off < norm_limit, "{precision}, step {step}: norm {gradient_norm} {norm}");
            state = Some(trainer.into_state());
        }
    }
}

/// Keeps a run and stops it after some steps.
struct Keeper {
    store: Store,
    stop_after: usize,
    steps: usize,
    records: Vec<Record>,
}

impl Watcher for Keeper {
    fn record(&mut self, record: &Record) -> Result<(), DistillError> {
        self.steps += usize::from(matches!(record, Record::Step { .. }));
        self.records.push(*record);
        self.store.record(record)
    }

    fn best(&mut self, trainer: &Trainer<'_>) -> Result<(), DistillError> {
        self.store.save_best(trainer)
    }

    fn save(&mut self, trainer: &Trainer<'_>) -> Result<(), DistillError> {
        self.store.save(trainer)
    }

    fn is_cancelled(&self) -> bool {
        self.steps >= self.stop_after
    }
}

/// A pruned student trained in pieces, each of which may be killed after its last state: the weights in the end, the best ones and
/// the metrics' steps are those of a run in one piece; and its zeros are zeros still.
#[test]
fn a_resumed_run_is_an_undisturbed_one() {
    let golden = golden("training");
    let (teacher, mut student) = models();
    for (id, values) in student.values_mut() {
        if Role::LINEAR.contains(&id.role) {
            values.iter_mut().enumerate().filter(|(i, _)| i % 3 == 0).for_each(|(_, value)| *value = 0.0);
        }
    }
    let masks = Masks::of_pruned(&student).unwrap();
    assert_eq!(masks.tensors(), 14);
    let (settings, config) = (settings(10), student.config().clone());
    let config_json: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("models/tiny/config.json")).unwrap())
            .unwrap();
    let sequences = sequences(&golden);
    let run = |pieces: &[usize]| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path(), config_json.clone(), Value::from("this run")).unwrap();
        let mut ends = Vec::new();
        for &stop_after in pieces {
            let state = store.load(student.clone(), &settings).unwrap();
            let data = Data { train: &sequences[..7], held_out: &sequences[7..9] };
            let setup = Setup { masks: masks.clone(), ..setup(data, &teacher, BurnDevice::flex()) };
            let mut trainer = Trainer::new(settings, setup, state).unwrap();
            let mut keeper = Keeper { store: store.clone(), stop_after, steps: 0, records: Vec::new() };
            ends.push(trainer.run(&mut keeper).unwrap());
        }
        assert_eq!(Store::begun(directory.path()).unwrap(), Some((10, Value::from("this run"))));
        let state = store.load(student.clone(), &settings).unwrap();
        let best = store.load_best(student.clone(), &state.progress).unwrap();
        let metrics: Vec<Value> =
            store.metrics().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let losses: Vec<(u64, f64)> =
            metrics.iter().map(|m| (m["step"].as_u64().unwrap(), m["loss"].as_f64().unwrap())).collect();
        (ends, state, best, losses)
    };
    let (ends, whole, best, losses) = run(&[100]);
    assert_eq!(ends, [End::Finished]);
    assert_eq!(losses.len(), 10 + 4, "ten steps, evaluations at 0, 4, 8 and 10");
    let (ends, pieces, best_of_pieces, losses_of_pieces) = run(&[1, 2, 4, 100]);
    assert_eq!(ends, [End::Interrupted, End::Interrupted, End::Interrupted, End::Finished]);
    assert_eq!(losses, losses_of_pieces);
    let progress = whole.progress;
    assert_eq!((progress.best, progress.updates, progress.sequences), (pieces.progress.best, 10, 20));
    let mut zeros = 0;
    for id in config.tensors() {
        assert!(whole.weights.values(id).unwrap() == pieces.weights.values(id).unwrap(), "{id}");
        assert!(best.values(id).unwrap() == best_of_pieces.values(id).unwrap(), "{id}");
        let (before, after) = (student.values(id).unwrap(), whole.weights.values(id).unwrap());
        assert!(before != after, "{id} did not change");
        if Role::LINEAR.contains(&id.role) {
            assert!(before.iter().zip(after).all(|(before, after)| *before != 0.0 || *after == 0.0), "{id}");
            zeros += after.iter().filter(|&&value| value == 0.0).count() as u64;
        }
    }
    assert!(zeros >= masks.zeros() && masks.zeros() > 100_000);
}

/// Weights that overflow have no finite loss: every step is skipped, and the run says so.
#[test]
fn losses_that_are_not_finite_stop_the_run() {
    let golden = golden("training");
    let (teacher, mut student) = models();
    student.values_mut().filter(|(id, _)| id.role == Role::Down).for_each(|(_, values)| values.fill(3e38));
    let before = student.clone();
    let sequences = sequences(&golden);
    let settings = settings(10);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path(), serde_json::json!({}), Value::Null).unwrap();
    let data = Data { train: &sequences[..7], held_out: &sequences[7..9] };
    let state = State::new(student, &settings);
    let mut trainer = Trainer::new(settings, setup(data, &teacher, BurnDevice::flex()), state).unwrap();
    let mut steps = 0;
    while trainer.progress().skipped_in_a_row < 3 {
        let Record::Step { applied, .. } = trainer.step().unwrap() else { unreachable!() };
        assert!(!applied);
        steps += 1;
    }
    assert_eq!((steps, trainer.progress().skipped), (3, 3));
    for id in before.config().tensors() {
        assert!(trainer.weights().values(id).unwrap() == before.values(id).unwrap(), "{id}");
    }
    let mut keeper = Keeper { store, stop_after: 100, steps: 0, records: Vec::new() };
    assert!(matches!(trainer.run(&mut keeper), Err(DistillError::Start)));
}

/// Devices without kernels of their own train alike: burn's operations carry the gradients there.
#[test]
fn other_devices_follow_the_cpu() {
    let golden = golden("training");
    let (teacher, student) = models();
    let sequences = sequences(&golden);
    let losses = |device: &BurnDevice| -> Vec<f64> {
        let data = Data { train: &sequences[..6], held_out: &sequences[6..7] };
        let state = State::new(student.clone(), &settings(3));
        let mut trainer = Trainer::new(settings(3), setup(data, &teacher, device.clone()), state).unwrap();
        let step = |_| match trainer.step().unwrap() {
            Record::Step { loss, .. } => loss,
            Record::HeldOut { .. } => unreachable!(),
        };
        (0..3).map(step).collect()
    };
    let expected = losses(&BurnDevice::flex());
    assert!(expected[2] != expected[0]);
    for device in [Device::NdArray, Device::Wgpu] {
        match device.burn() {
            Ok(burn) => {
                for (found, expected) in losses(&burn).iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-3, "{device}: {found} {expected}");
                }
            }
            Err(error) => {
                let required = std::env::var_os("SLMC_REQUIRE_WGPU").is_some_and(|value| value == "1");
                assert!(!required || device != Device::Wgpu, "SLMC_REQUIRE_WGPU=1, but {error}");
                eprintln!("*** SKIPPED {device}: {error} ***");
            }
        }
    }
}

fn coarse(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| (value * 64.0).round() / 64.0).collect()
}

fn coarse_up(id: TensorId, values: &[f32]) -> Result<Option<Vec<f32>>, ModelError> {
    Ok((id.role == Role::Up).then(|| coarse(values)))
}

/// With rounding the loss is that of the rounded weights, and the weights themselves are what changes.
#[test]
fn rounded_weights_are_what_the_loss_sees() {
    let golden = golden("training");
    let (teacher, student) = models();
    let sequences = sequences(&golden);
    let mut rounded = student.clone();
    for (_, values) in rounded.values_mut().filter(|(id, _)| id.role == Role::Up) {
        let new = coarse(values);
        values.copy_from_slice(&new);
    }
    let start = |weights: &MemorySource, rounds: bool| {
        let data = Data { train: &sequences[..4], held_out: &sequences[4..5] };
        let mut setup = setup(data, &teacher, BurnDevice::flex());
        if rounds {
            setup.rounding = Some(Box::new(coarse_up));
        }
        Trainer::new(settings(3), setup, State::new(weights.clone(), &settings(3))).unwrap()
    };
    let [seen, expected, plain] = [(&student, true), (&rounded, false), (&student, false)]
        .map(|(weights, rounds)| start(weights, rounds).evaluate().unwrap().loss);
    assert_eq!(seen, expected);
    assert!((seen - plain).abs() > 1e-4, "{seen} {plain}");
    // The gradient is that of the rounded weights; it moves the weights themselves.
    let [mut seen, mut expected] = [start(&student, true), start(&rounded, false)];
    let norms = [seen.step().unwrap(), expected.step().unwrap()].map(|record| match record {
        Record::Step { gradient_norm, .. } => gradient_norm,
        Record::HeldOut { .. } => unreachable!(),
    });
    assert_eq!(norms[0], norms[1]);
    let id = TensorId::block(0, Role::Up);
    let (before, after) = (student.values(id).unwrap(), seen.weights().values(id).unwrap());
    assert!(before.iter().zip(after).any(|(before, after)| before != after));
    assert!(
        before.iter().zip(after).all(|(before, after)| (before - after).abs() < 3e-4),
        "steps, not roundings"
    );
}

/// A student that is its teacher writes what the teacher would: nothing to learn. Another learns from what it wrote, the same in
/// every run.
#[test]
fn what_the_student_writes_is_judged_by_the_teacher() {
    let golden = golden("training");
    let (teacher, student) = models();
    let sequences = sequences(&golden);
    let settings = TrainSettings { on_policy: 1.0, ..settings(3) };
    let run = |student: MemorySource| {
        let data = Data { train: &sequences[..4], held_out: &sequences[4..5] };
        let mut trainer =
            Trainer::new(settings, setup(data, &teacher, BurnDevice::flex()), State::new(student, &settings))
                .unwrap();
        let steps = [(); 3].map(|()| match trainer.step().unwrap() {
            Record::Step { loss, divergence, on_policy, .. } => {
                assert!(on_policy && loss == divergence, "no hard labels: {loss} {divergence}");
                loss
            }
            Record::HeldOut { .. } => unreachable!(),
        });
        (steps, trainer.into_state().weights)
    };
    let (same, _) = run(MemorySource::copy_of(&teacher).unwrap());
    assert!(same[0] < 1e-4, "{same:?}");
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let ((first, weights), (again, others)) = (run(student.clone()), alone.install(|| run(student)));
    assert!(first[0] > 0.1, "{first:?}");
    assert_eq!(first, again);
    for id in weights.config().tensors() {
        assert!(weights.values(id).unwrap() == others.values(id).unwrap(), "{id}");
    }
}
