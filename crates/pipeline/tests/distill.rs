//! Training for a GGUF mix: what is stored afterwards is what was trained.

use std::path::Path;
use std::sync::Arc;

use slmc_calibration::TextSource;
use slmc_checkpoint::{Checkpoint, Dtype};
use slmc_gguf::container::GgufFile;
use slmc_model::{CheckpointSource, Device, GgufSource, WeightSource};
use slmc_pipeline::jobs::distill::{
    AdamWSettings, Decay, DistillSettings, Length, Mix, Objective, PreparedDistill, Schedule, StoredGrid,
    StudentFrom, TrainSettings,
};
use slmc_pipeline::jobs::quantize::{Prepared, QuantizeSettings};
use slmc_pipeline::progress::Silent;

/// `slmc quantize --method rtn --type q2_k`.
fn quantize(model: &Path, output: &Path) -> QuantizeSettings {
    QuantizeSettings::conversion(model.to_owned(), Mix::Q2_K, output.to_owned(), None)
}

#[test]
fn what_was_trained_for_a_mix_is_what_the_mix_stores() {
    let directory = tempfile::tempdir().unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    let trained = directory.path().join("trained");
    let settings = DistillSettings {
        teacher: tiny,
        student: StudentFrom::Layers(2),
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
        },
        epochs: None,
        qat: Some(Mix::Q2_K),
        device: Device::Cpu,
        output: trained.clone(),
        resume: false,
    };
    let outcome = PreparedDistill::new(settings).unwrap().run(&Silent).unwrap();
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
