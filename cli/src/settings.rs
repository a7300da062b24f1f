//! `slmc.toml`: settings that stay the same from call to call. Paths are relative to the file's own directory.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use slmc_pipeline::jobs::quantize::TextSource;
use slmc_pipeline::jobs::tasks::TaskSource;

use crate::failure::Failure;

/// The settings file's name in the working directory.
pub const FILE_NAME: &str = "slmc.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub model: Option<PathBuf>,
    pub threads: Option<u16>,
    pub device: Option<String>,
    #[serde(default)]
    pub quantize: Quantize,
    #[serde(default)]
    pub calibration: Calibration,
    #[serde(default)]
    pub eval: Eval,
    #[serde(default)]
    pub gate: Gate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantize {
    pub method: Option<String>,
    pub effort: Option<String>,
    pub precision: Option<String>,
    pub bits: Option<u32>,
    pub r#type: Option<String>,
    pub target_bpw: Option<f64>,
    pub target_size: Option<String>,
    pub max_kl: Option<f64>,
    #[serde(default)]
    pub tensor_type: Vec<String>,
    #[serde(default)]
    pub keep: Vec<String>,
    pub pre: Option<String>,
    pub max_memory: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    #[serde(default, deserialize_with = "texts")]
    pub files: Vec<TextSource>,
    pub samples: Option<u32>,
    pub seq_len: Option<u32>,
    pub seed: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    #[serde(default, deserialize_with = "text")]
    pub text: Option<TextSource>,
    pub n_ctx: Option<u32>,
    pub stride: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    pub model: Option<PathBuf>,
    pub max_kl: Option<f64>,
    pub max_ppl_increase: Option<String>,
    pub min_top1: Option<String>,
    pub max_size: Option<String>,
    #[serde(default, deserialize_with = "tasks")]
    pub tasks: Vec<TaskSource>,
    pub min_accuracy_ratio: Option<String>,
    pub max_latency_increase: Option<String>,
    pub base_logits: Option<PathBuf>,
    pub baseline: Option<PathBuf>,
    pub max_kl_growth: Option<String>,
    pub min_baseline_accuracy: Option<String>,
    pub confidence: Option<f64>,
}

impl Settings {
    /// The file named by `--config`, else `slmc.toml` of the working directory, else nothing set.
    pub fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => path,
            None if Path::new(FILE_NAME).is_file() => Path::new(FILE_NAME),
            None => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(path)
            .map_err(|source| Failure::failed(format!("{}: {source}", path.display())))?;
        let mut settings: Self = toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("{}: {}", path.display(), error.to_string().trim_end()))
        })?;
        settings.rebase(path.parent().unwrap_or(Path::new("")));
        Ok(settings)
    }

    fn rebase(&mut self, directory: &Path) {
        let Gate { model, base_logits, baseline, .. } = &mut self.gate;
        for path in self.model.iter_mut().chain(model).chain(base_logits).chain(baseline) {
            *path = directory.join(&*path);
        }
        for text in self.eval.text.iter_mut().chain(&mut self.calibration.files) {
            *text = std::mem::take(text).relative_to(directory);
        }
        for tasks in &mut self.gate.tasks {
            *tasks = tasks.clone().relative_to(directory);
        }
    }
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TextSource>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect()
}

fn tasks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TaskSource>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect()
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TextSource>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file() {
        let mut settings: Settings =
            toml::from_str("model = 'm'\n[calibration]\nfiles = ['/abs', 'b', 'bundled:code']\n").unwrap();
        settings.rebase(Path::new("dir"));
        assert_eq!(settings.model.unwrap(), Path::new("dir/m"));
        let files: Vec<_> = settings.calibration.files.iter().map(ToString::to_string).collect();
        assert_eq!(files, ["/abs", "dir/b", "bundled:code"]);
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        assert!(toml::from_str::<Settings>("modell = 'm'").is_err());
    }
}
