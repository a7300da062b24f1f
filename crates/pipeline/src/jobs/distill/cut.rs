//! A student that is cut out of its teacher: structured pruning to the sizes that were asked for, on the text of the run.

use std::io::ErrorKind;
use std::path::PathBuf;

use slmc_checkpoint::check_target;
use slmc_distill::{Store, Trained};
use slmc_prune::structured::StructuredImportance;

use super::DistillSettings;
use super::run::lock;
use super::student::evenly_spaced;
use crate::PipelineError;
use crate::jobs::directory::may_replace;
use crate::jobs::quantize::{BatchOptions, Effort, JobSettings};
use crate::jobs::structured::{Asked, PreparedStructured, StructuredSettings};
use crate::model_file::ModelFile;
use crate::progress::Reporter;
use crate::work::{Work, WorkError};

/// Where the student stands in the work directory.
const STUDENT: &str = "student";

/// The sizes of a student that is cut out of its teacher; what is not asked for stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many of each kind.
    pub asked: Asked,
    /// Whether the layers that stay are evenly spaced, the first and the last among them; else those that change the residual stream
    /// least go.
    pub evenly: bool,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Asked { layers, key_value_heads, query_heads, channels, hidden_size } = self.asked;
        let which = if self.evenly { "layers" } else { "layers of most influence" };
        let counts = [
            (layers, which),
            (key_value_heads, "kv-heads"),
            (query_heads, "query-heads"),
            (channels, "channels"),
        ];
        let counts = counts.into_iter().filter_map(|(count, what)| Some(format!("{} {what}", count?)));
        let hidden = hidden_size.map(|size| format!("hidden size {size}"));
        f.write_str(&counts.chain(hidden).collect::<Vec<_>>().join(", "))
    }
}

/// Cuts a student out of the teacher into the run's work directory, or takes the one that is there where the run goes on.
///
/// # Errors
/// Sizes that the teacher's architecture does not allow; reading, calibrating or writing fails; the user stops it, and what was done
/// stays.
pub fn cut(
    teacher: &std::path::Path,
    cut: Cut,
    settings: &DistillSettings,
    reporter: &dyn Reporter,
) -> Result<PathBuf, PipelineError> {
    let refuse = |reason: &str| Err(PipelineError::Distill { reason: reason.to_owned() });
    match &settings.trained {
        Trained::Scales => {
            return refuse(
                "--train scales trains the scales of a GGUF file's blocks; give one with --student",
            );
        }
        Trained::Lora(_) if !settings.merge => {
            return refuse(
                "a student that is cut out of the teacher for this run is not there afterwards for adapters to stand beside; merge them \
                 with --merge",
            );
        }
        _ => {}
    }
    let directory = Work::path(&settings.output);
    let student = directory.join(STUDENT);
    if let Some((steps, _)) = Store::begun(&directory)? {
        return match settings.resume {
            true => Ok(student),
            false => Err(WorkError::Unfinished { directory, steps: steps as usize }.into()),
        };
    }
    // Known now and not after the cut.
    check_target(&settings.output, may_replace(&settings.output, teacher)?)?;
    match std::fs::create_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.map_err(WorkError::io(&directory))?,
    }
    let _lock = lock(&directory)?;
    let unfinished = Work::path(&student);
    // What a run left that was killed before its first state.
    for left in [Some(&student), Some(&unfinished).filter(|_| !settings.resume)].into_iter().flatten() {
        if left.exists() {
            std::fs::remove_dir_all(left).map_err(WorkError::io(left))?;
        }
    }
    let source = ModelFile::open(teacher)?.source()?;
    let (config, usual) = (source.config(), BatchOptions::default());
    // As much text as usual, in samples as long as the run's sequences.
    let seq_len = settings.seq_len.min(config.max_position_embeddings);
    let samples = (usual.samples * usual.seq_len).div_ceil(seq_len);
    let mut keep_layers = Vec::new();
    if let (Some(layers), true) = (cut.asked.layers, cut.evenly) {
        let available = config.num_hidden_layers;
        if (1..=available).contains(&layers) {
            keep_layers = evenly_spaced(available, layers);
        }
    }
    let job = JobSettings {
        calibration: settings.texts.clone(),
        batches: BatchOptions { samples, seq_len, seed: settings.train.seed, ..usual },
        device: settings.device,
        resume: unfinished.exists(),
        ..JobSettings::new(teacher.to_owned(), student.clone())
    };
    let prune = StructuredSettings {
        job,
        budget: None,
        asked: cut.asked,
        kinds: Vec::new(),
        importance: StructuredImportance::Hessian,
        solves: true,
        compensates: false,
        effort: Effort::default(),
        keep_layers,
        multiple: None,
        scores: None,
        gguf: None,
    };
    PreparedStructured::new(prune)?.planned(reporter)?.run(reporter)?;
    Ok(student)
}
