//! Where the programs are, and what each is asked.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command::{Finished, run};

pub struct Tools {
    pub llama_cpp: PathBuf,
    pub slmc: PathBuf,
    pub threads: usize,
}

impl Tools {
    pub fn llama(&self, name: &str) -> Command {
        Command::new(self.llama_cpp.join(name))
    }

    /// `slmc` with `--quiet --json --threads N`.
    pub fn slmc(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.slmc);
        command.arg(subcommand).args(["--quiet", "--json", "--threads", &self.threads.to_string()]);
        command
    }

    pub fn convert(&self, model: &Path, dtype: &str, output: &Path) -> Result<(), String> {
        run(self.slmc("convert").arg(model).args(["--dtype", dtype]).arg("--output").arg(output)).map(drop)
    }

    /// `method` is slmc's, with the effort behind a comma where it is not the default one.
    pub fn slmc_quantize(
        &self,
        model: &Path,
        method: &str,
        ty: &str,
        calibration: Option<&Path>,
        output: &Path,
    ) -> Result<Finished, String> {
        let mut command = self.slmc("quantize");
        let (method, effort) = method.split_once(", ").unwrap_or((method, "balanced"));
        command.arg(model).args(["--method", method, "--effort", effort, "--type", ty, "--no-eval"]);
        command.arg("--output").arg(output);
        if let Some(text) = calibration {
            command.arg("--calibration").arg(text);
        }
        run(&mut command)
    }

    pub fn llama_imatrix(
        &self,
        gguf: &Path,
        calibration: &Path,
        chunks: usize,
        output: &Path,
    ) -> Result<Finished, String> {
        let mut command = self.llama("llama-imatrix");
        command.arg("-m").arg(gguf).arg("-f").arg(calibration).arg("-o").arg(output);
        let (chunks, threads) = (chunks.to_string(), self.threads.to_string());
        run(command.args(["-c", "512", "--chunks", &chunks, "-t", &threads]))
    }

    pub fn slmc_imatrix(
        &self,
        model: &Path,
        calibration: &Path,
        samples: usize,
        output: &Path,
    ) -> Result<Finished, String> {
        let mut command = self.slmc("imatrix");
        command.arg(model).arg("--calibration").arg(calibration).arg("--output").arg(output);
        run(command.args(["--samples", &samples.to_string(), "--seq-len", "512"]))
    }

    pub fn llama_quantize(
        &self,
        gguf: &Path,
        ty: &str,
        imatrix: Option<&Path>,
        output: &Path,
    ) -> Result<Finished, String> {
        let mut command = self.llama("llama-quantize");
        if let Some(imatrix) = imatrix {
            command.arg("--imatrix").arg(imatrix);
        }
        run(command.arg(gguf).arg(output).arg(ty.to_uppercase()).arg(self.threads.to_string()))
    }
}

/// The number at `pointer` of the JSON object that slmc printed.
pub fn number(finished: &Finished, pointer: &str) -> Result<f64, String> {
    let json: Value = serde_json::from_str(&finished.stdout).map_err(|error| error.to_string())?;
    json.pointer(pointer).and_then(Value::as_f64).ok_or_else(|| format!("slmc printed no {pointer}"))
}
