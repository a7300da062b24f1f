//! Training for a GGUF mix: what is stored afterwards is what was trained.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use slmc_calibration::TextSource;
use slmc_checkpoint::{Checkpoint, Dtype};
use slmc_distill::{Batch, HeadLoss, Parameter, Sequence, Student, WeightGradients};
use slmc_gguf::TensorType;
use slmc_gguf::blocks::{BlockFormat, FormatVisitor, scale_numbers, visit_format};
use slmc_gguf::container::GgufFile;
use slmc_model::{
    BurnDevice, CheckpointSource, Device, GgufSource, MemorySource, Role, TensorId, WeightSource,
};
use slmc_pipeline::jobs::distill::{
    AdamWSettings, Decay, DistillSettings, Length, Lora, Mix, Objective, PreparedDistill, Schedule,
    StoredGrid, StudentFrom, TeacherFrom, TrainSettings, Trained,
};
use slmc_pipeline::jobs::quantize::{Prepared, QuantizeSettings};
use slmc_pipeline::progress::{Reporter, Silent, Unit};
use slmc_pipeline::{PipelineError, Precision};

/// `slmc quantize --method rtn --type q2_k`.
fn quantize(model: &Path, output: &Path) -> QuantizeSettings {
    quantize_to(Mix::Q2_K, model, output)
}

fn quantize_to(mix: Mix, model: &Path, output: &Path) -> QuantizeSettings {
    QuantizeSettings::conversion(model.to_owned(), mix, output.to_owned(), None)
}

/// The codes of whole blocks; of a type without blocks the bytes.
fn codes(ty: TensorType, bytes: &[u8]) -> Vec<u8> {
    struct Codes<'a>(&'a [u8]);
    impl FormatVisitor for Codes<'_> {
        type Output = Vec<u8>;
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) -> Vec<u8> {
            let block = |bytes: &[u8; BYTES]| {
                let mut codes = [0; N];
                F::unpack(bytes, &mut codes);
                codes
            };
            self.0.as_chunks::<BYTES>().0.iter().flat_map(block).collect()
        }
    }
    visit_format(ty, Codes(bytes)).unwrap_or_else(|| bytes.to_vec())
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")
}

/// Six steps with the bundled model as teacher.
fn settings(student: StudentFrom, output: PathBuf) -> DistillSettings {
    DistillSettings {
        teacher: TeacherFrom::Model(tiny()),
        student,
        trained: Trained::All,
        merge: false,
        texts: vec!["bundled:english".parse::<TextSource>().unwrap()],
        held_out: None,
        all_tokens: false,
        seq_len: 48,
        train: TrainSettings {
            objective: Objective::default(),
            optimizer: AdamWSettings::default(),
            schedule: Schedule { peak: 1e-3, warmup_steps: 1, decay: Decay::Cosine },
            length: Length::Steps(6),
            batch_size: 2,
            accumulation: 2,
            clip_norm: 1.0,
            seed: 0,
            evaluate_every: 6,
            patience: None,
            keep_zeros: true,
            on_policy: 0.0,
            hidden_mse: 0.0,
            precision: Precision::F32,
            gradient_checkpointing: false,
        },
        epochs: None,
        qat: None,
        device: Device::Cpu,
        output,
        modelfile: false,
        resume: false,
    }
}

#[test]
fn what_was_trained_for_a_mix_is_what_the_mix_stores() {
    let directory = tempfile::tempdir().unwrap();
    let trained = directory.path().join("trained");
    let settings =
        DistillSettings { qat: Some(Mix::Q2_K), ..settings(StudentFrom::Layers(2), trained.clone()) };
    let outcome = PreparedDistill::new(settings, &Silent).unwrap().run(&Silent).unwrap();
    assert_eq!((outcome.steps, outcome.best_step), (6, 6));
    assert!(outcome.best.loss < outcome.start.loss);
    let checkpoint = Checkpoint::open(&trained).unwrap();
    assert!(checkpoint.tensors().all(|tensor| tensor.dtype == Dtype::F32));

    let stored = directory.path().join("stored.gguf");
    Prepared::new(quantize(&trained, &stored)).unwrap().run(&Silent).unwrap();
    let stored = GgufSource::new(Arc::new(GgufFile::open(&stored).unwrap())).unwrap();
    let weights = CheckpointSource::open(&trained).unwrap();
    let grid = StoredGrid::new(weights.config(), Mix::Q2_K).unwrap();
    let mut rounded = 0;
    for id in weights.config().tensors() {
        let values = weights.load(id).unwrap().values;
        let seen = grid.round(id, &values).unwrap();
        rounded += usize::from(seen.as_ref().is_some_and(|seen| *seen != values));
        assert!(stored.load(id).unwrap().values == seen.unwrap_or(values), "{id}");
    }
    assert_eq!(rounded, 2 * 7 + 1);
}

/// The same step over a quantized file, decoded where it is used, and over its decoded copy.
#[test]
fn adapters_learn_over_a_quantized_file() {
    let directory = tempfile::tempdir().unwrap();
    let quantized = directory.path().join("q2_k.gguf");
    Prepared::new(quantize(&tiny(), &quantized)).unwrap().run(&Silent).unwrap();
    let lora = Trained::Lora(Lora { rank: 4, alpha: 8.0, targets: Lora::all_targets() });
    let file = GgufSource::new(Arc::new(GgufFile::open(&quantized).unwrap())).unwrap();
    let copy = MemorySource::copy_of(&file).unwrap();
    let sources: [Arc<dyn WeightSource>; 2] = [Arc::new(file), Arc::new(copy)];
    let tokens: Vec<u32> = (0..48).map(|n| n * 37 % 2000).collect();
    let batch = Batch::new(&[Sequence::from(tokens)]);
    let objective = Objective { alpha: 1.0, ..Objective::default() };
    let [stored, decoded] = sources.map(|source| {
        let student = lora.begin(source, 5).unwrap();
        let loss = HeadLoss { objective: &objective, vocab: student.config().vocab_size, weight: 1.0 / 47.0 };
        let mut gradients = WeightGradients::default();
        let runner = Student::new(&student, 48, &BurnDevice::flex(), false).unwrap();
        let sums = runner.accumulate(&student, &batch, None, &loss, &mut gradients).unwrap();
        let gradient = gradients.get(Parameter::LoraB(TensorId::block(1, Role::Down))).unwrap().to_vec();
        (sums.loss(&objective), gradient)
    });
    assert!((stored.0 - decoded.0).abs() < 1e-5, "{} {}", stored.0, decoded.0);
    let size = decoded.1.iter().fold(0.0f32, |most, g| most.max(g.abs()));
    assert!(size > 0.0 && stored.1.iter().zip(&decoded.1).all(|(a, b)| (a - b).abs() < 1e-4 * size));

    // A run over it gives adapters in PEFT's layout, and nothing else.
    let output = directory.path().join("adapter");
    let mut settings = settings(StudentFrom::Checkpoint(quantized), output.clone());
    settings.trained = lora;
    settings.train.length = Length::Steps(12);
    let outcome = PreparedDistill::new(settings.clone(), &Silent).unwrap().run(&Silent).unwrap();
    assert!(outcome.best.loss < outcome.start.loss, "{outcome:?}");
    let mut names: Vec<_> = std::fs::read_dir(&output)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors", "metrics.jsonl"]);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../distill/tests/golden/lora.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(output.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(4), &json!(8.0)));
    for (key, value) in config.as_object().unwrap() {
        if !["r", "lora_alpha", "target_modules", "base_model_name_or_path"].contains(&key.as_str()) {
            assert_eq!(golden["config"].get(key), Some(value), "{key}");
        }
    }
    // Again to the same place: its own output may be replaced. Merging is refused.
    PreparedDistill::new(settings.clone(), &Silent).unwrap();
    let refused =
        PreparedDistill::new(DistillSettings { merge: true, ..settings }, &Silent).map(drop).unwrap_err();
    assert!(refused.to_string().contains("quantized student"), "{refused}");
}

/// Stops a run after so many steps.
struct Stop(AtomicU64);

impl Stop {
    fn after(steps: u64) -> Self {
        Self(steps.into())
    }
}

impl Reporter for Stop {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn status(&self, _: &str) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
    fn end(&self) {}
    fn warn(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// One f16 a block, with a minimum, with integers, with integer minima, and types side by side.
#[test]
fn scales_are_trained_under_codes_that_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut settings = settings(StudentFrom::Checkpoint(path("stored.gguf")), path("trained.gguf"));
    settings.trained = Trained::Scales;
    settings.train.objective = Objective { temperature: 1.0, alpha: 0.0, ..Objective::default() };
    settings.train.length = Length::Steps(20);
    settings.train.evaluate_every = 10;
    for mix in [Mix::Q4_0, Mix::Q4_1, Mix::Q2_K, Mix::Q3_K_S, Mix::IQ4_XS] {
        for name in ["stored.gguf", "trained.gguf"] {
            let _ = std::fs::remove_file(path(name));
        }
        Prepared::new(quantize_to(mix, &tiny(), &path("stored.gguf"))).unwrap().run(&Silent).unwrap();
        let outcome = PreparedDistill::new(settings.clone(), &Silent).unwrap().run(&Silent).unwrap();
        assert!(outcome.best.divergence < 0.99 * outcome.start.divergence, "{mix}: {outcome:?}");
        let [before, after] =
            ["stored.gguf", "trained.gguf"].map(|name| GgufFile::open(&path(name)).unwrap());
        let (mut changed, mut scales) = (0, 0);
        for (old, new) in before.tensors().iter().zip(after.tensors()) {
            assert_eq!((&old.name, old.ty, &old.shape), (&new.name, new.ty, &new.shape));
            let (old_bytes, new_bytes) = (before.data(old), after.data(new));
            assert!(codes(old.ty, old_bytes) == codes(new.ty, new_bytes), "{mix}: codes of {}", old.name);
            changed += usize::from(old_bytes != new_bytes);
            scales += scale_numbers(old.ty, old_bytes).unwrap().map_or(0, |numbers| numbers.len());
        }
        assert_eq!((changed, outcome.trained_parameters), (4 * 7 + 1, scales), "{mix}");
        // What was written is what was judged.
        let again = DistillSettings {
            student: StudentFrom::Checkpoint(path("trained.gguf")),
            output: path("again.gguf"),
            train: TrainSettings { length: Length::Steps(1), ..settings.train },
            ..settings.clone()
        };
        let again = PreparedDistill::new(again, &Silent).unwrap().run(&Silent).unwrap();
        assert_eq!(again.start, outcome.best, "{mix}");
        std::fs::remove_file(path("again.gguf")).unwrap();
    }
    // Stopped on its way and gone on with: the same bytes.
    let stopped = DistillSettings { output: path("stopped.gguf"), ..settings.clone() };
    let error = PreparedDistill::new(stopped.clone(), &Silent).unwrap().run(&Stop::after(7)).unwrap_err();
    assert!(matches!(error, PipelineError::Interrupted { steps: 7, .. }), "{error}");
    let resumed = DistillSettings { resume: true, ..stopped };
    PreparedDistill::new(resumed, &Silent).unwrap().run(&Silent).unwrap();
    let [whole, resumed] = ["trained.gguf", "stopped.gguf"].map(|name| std::fs::read(path(name)).unwrap());
    assert!(whole == resumed);
    // There are none in a checkpoint, nor in a file that is not quantized.
    let refusal = |student: PathBuf| {
        let asked = DistillSettings { student: StudentFrom::Checkpoint(student), ..settings.clone() };
        PreparedDistill::new(asked, &Silent)
            .and_then(|prepared| prepared.run(&Silent))
            .unwrap_err()
            .to_string()
    };
    assert!(refusal(tiny()).contains("is a checkpoint"), "{}", refusal(tiny()));
    Prepared::new(quantize_to(Mix::F16, &tiny(), &path("f16.gguf"))).unwrap().run(&Silent).unwrap();
    assert!(refusal(path("f16.gguf")).contains("no scales to train"), "{}", refusal(path("f16.gguf")));
}

#[test]
fn merged_adapters_are_an_ordinary_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let [alone, merged] = [false, true].map(|merge| {
        let output = directory.path().join(if merge { "merged" } else { "alone" });
        let mut settings = settings(StudentFrom::Layers(2), output.clone());
        settings.trained = Trained::Lora(Lora { rank: 2, alpha: 4.0, targets: vec!["v_proj".into()] });
        settings.merge = merge;
        settings.train.schedule.peak = 1e-2;
        PreparedDistill::new(settings, &Silent).unwrap().run(&Silent).unwrap()
    });
    assert_eq!((alone.best, alone.trained_parameters), (merged.best, merged.trained_parameters));
    let bytes = std::fs::read(alone.output.join("adapter_model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |name: &str| -> Vec<f32> {
        let name = format!("base_model.model.model.layers.1.self_attn.v_proj.{name}.weight");
        let data = tensors.tensor(&name).unwrap().data();
        data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let (a, b) = (values("lora_A"), values("lora_B"));
    let (student, teacher) =
        (CheckpointSource::open(&merged.output).unwrap(), CheckpointSource::open(&tiny()).unwrap());
    let weight =
        |source: &CheckpointSource, layer| source.load(TensorId::block(layer, Role::Value)).unwrap().values;
    let (found, before) = (weight(&student, 1), weight(&teacher, 3));
    let width = a.len() / 2;
    let mut moved = 0.0f32;
    for (i, (found, before)) in found.iter().zip(&before).enumerate() {
        let (row, column) = (i / width, i % width);
        let change = 2.0 * (0..2).map(|k| b[row * 2 + k] * a[k * width + column]).sum::<f32>();
        // F16 holds 11 bits
        assert!(
            (found - (before + change)).abs() < 5e-4 * found.abs() + 1e-6,
            "{i}: {found} {before} {change}"
        );
        moved = moved.max(change.abs());
    }
    assert!(moved > 1e-4, "{moved}");
    let query = |source: &CheckpointSource, layer| source.load(TensorId::block(layer, Role::Query)).unwrap();
    assert_eq!(query(&student, 1), query(&teacher, 3));
}
