//! Rescaling is exact: a rescaled model without rounding is the model it was made from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use slmc_calibration::TextSource;
use slmc_checkpoint::Checkpoint;
use slmc_gguf::container::{GgufFile, Layout, Writer};
use slmc_model::{CheckpointSource, Device, KvPrecision, WeightSource};
use slmc_quant::mix::TensorFacts;
use slmc_quant::{Method, Mix, Plan, PlanRequest};

use super::calibrate;
use crate::export::{ExportTensor, RowReader, export_tensors, metadata, model_facts, write_tensors};
use crate::jobs::evaluate::{EvaluateSettings, Measure, evaluate};
use crate::jobs::worst::WorstSettings;
use crate::model_file::ModelFile;
use crate::progress::Silent;
use crate::rescaling::{RescaledSource, Rescaling};
use crate::walker::{BATCH_TOKENS, Walk};
use crate::work::{Fingerprint, Work};

#[path = "../../../model/tests/decoder/forward.rs"]
mod forward;

struct Original {
    model: ModelFile,
    checkpoint: Arc<Checkpoint>,
    source: CheckpointSource,
    tensors: Vec<ExportTensor>,
}

impl Original {
    fn tiny() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
        let model = ModelFile::open(&path).unwrap();
        let ModelFile::Checkpoint(checkpoint) = &model else { panic!("no checkpoint") };
        let checkpoint = Arc::clone(checkpoint);
        let source = CheckpointSource::new(Arc::clone(&checkpoint)).unwrap();
        let (tensors, _) = export_tensors(&checkpoint, source.config()).unwrap();
        Self { model, checkpoint, source, tensors }
    }

    fn plan(&self, mix: Mix, method: Method) -> Plan {
        let facts: Vec<_> = self.tensors.iter().map(ExportTensor::facts).collect();
        Plan::new(&model_facts(self.source.config()), &facts, &PlanRequest::new(mix, method)).unwrap()
    }

    /// Writes the rescaled weights in full precision.
    fn write(&self, path: PathBuf, rescaling: &Rescaling) -> PathBuf {
        let plan = self.plan(Mix::F32, Method::Rtn);
        let config = self.source.config();
        let vocabulary = self.model.vocabulary(config.vocab_size, None).unwrap();
        let provenance = crate::export::Provenance { recipe: "{}".into(), calibration_sha256: None };
        let metadata = metadata("tiny", config, &vocabulary, Mix::F32, &provenance);
        let planned: Vec<_> = plan.tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), t.ty)).collect();
        let writer = Writer::create(&path, Layout::new(metadata, planned).unwrap()).unwrap();
        let reader = RowReader::new(&self.checkpoint, rescaling);
        write_tensors(&reader, &self.tensors, &plan, &Default::default(), Vec::new(), &writer, &Silent)
            .unwrap();
        writer.finish().unwrap();
        path
    }
}

#[test]
fn rescaling_alone_changes_weights_but_not_the_model() {
    let original = Original::tiny();
    let sequences: Vec<Vec<u32>> =
        (0..4).map(|s| (0..48).map(|i| (s * 48 + i) * 29 % 2048).collect()).collect();
    let plan = original.plan(Mix::Q4_0, Method::Awq);
    let directory = tempfile::tempdir().unwrap();
    let work =
        Work::open(&directory.path().join("work"), false, Fingerprint::default(), BATCH_TOKENS).unwrap();
    let device = Device::Cpu.burn().unwrap();
    let walk = Walk::new(&original.source, &sequences, &device, &Silent);
    let calibrated = calibrate(&walk, &plan, Some(&work)).unwrap();
    assert!(calibrated.groups.len() >= 2 * original.source.config().num_hidden_layers);

    let plain = original.write(directory.path().join("plain.gguf"), &Rescaling::default());
    let rescaled = original.write(directory.path().join("rescaled.gguf"), &calibrated.rescaling);
    let (a, b) = (GgufFile::open(&plain).unwrap(), GgufFile::open(&rescaled).unwrap());
    let changed = a.tensors().iter().filter(|t| a.data(t) != b.data(b.tensor(&t.name).unwrap())).count();
    assert!(changed >= 4 * original.source.config().num_hidden_layers, "{changed} tensors were rescaled");

    let measure = Measure {
        text: "bundled:english".parse::<TextSource>().unwrap(),
        n_ctx: 128,
        stride: None,
        max_windows: Some(2),
        device: Device::Cpu,
    };
    let settings = EvaluateSettings {
        model: rescaled,
        base: Some(plain),
        base_logits: None,
        measure,
        worst: WorstSettings::default(),
    };
    let kl = evaluate(&settings, &Silent).unwrap().evaluation.summary.drift.unwrap().kl_divergence;
    // What remains is the rounding of keys and values to half precision, which the scales shift.
    assert!(kl.mean.abs() < 2e-6 && kl.max < 1e-4, "{kl:?}");
}

/// The golden checkpoints of the decoder's tests.
#[test]
fn rescaling_leaves_every_familys_logits() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden");
    let device = Device::Cpu.burn().unwrap();
    for family in [
        "llama_linear_biases",
        "mistral_window",
        "ministral_window",
        "qwen2",
        "qwen3",
        "phi3",
        "phi3_long_rope",
        "gemma2",
        "gemma3",
        "smollm3",
        "granite",
        "olmo2",
        "exaone4",
    ] {
        let source = CheckpointSource::open(&golden.join(family)).unwrap();
        let config = source.config();
        let facts = config.tensors().into_iter().map(|id| TensorFacts {
            name: config.arch.gguf_name(id).unwrap(),
            shape: config.shape(id.role),
            source: slmc_gguf::TensorType::F32,
        });
        let facts: Vec<_> = facts.collect();
        let plan =
            Plan::new(&model_facts(config), &facts, &PlanRequest::new(Mix::Q4_0, Method::Awq)).unwrap();
        let seq = 24;
        let token = |n: usize| (n * 29 % config.vocab_size) as u32;
        let sequences: Vec<Vec<u32>> =
            (0..6).map(|s| (0..seq).map(|i| token(s * seq + i)).collect()).collect();
        let walk = Walk::new(&source, &sequences, &device, &Silent);
        let calibrated = calibrate(&walk, &plan, None).unwrap();
        let scaled = calibrated.groups.iter().filter(|group| group.found.is_scaled()).count();
        assert!(scaled >= config.num_hidden_layers, "{family}: {scaled} groups are scaled");
        let logits = |source: &dyn WeightSource| {
            forward::logits(source, &sequences[0], seq, &device, KvPrecision::F32)
        };
        let rescaled = RescaledSource::new(&source, &calibrated.rescaling);
        let difference = forward::largest_difference(&logits(&source), &logits(&rescaled));
        assert!(difference < 1e-4, "{family}: {difference:e}");
    }
}
