//! llama.cpp as an engine: what users run.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use slmc_eval::Repetition;
use slmc_model::{Sampler, Sampling};

use super::engine::{Engine, time_tokens};
use crate::PipelineError;

/// The library, once a process.
fn backend() -> Result<&'static LlamaBackend, String> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let start = || {
        send_logs_to_tracing(LogOptions::default().with_logs_enabled(false));
        LlamaBackend::init().map_err(|error| error.to_string())
    };
    BACKEND.get_or_init(start).as_ref().map_err(Clone::clone)
}

/// A GGUF file that llama.cpp has loaded.
pub struct LlamaModelFile {
    path: PathBuf,
    model: LlamaModel,
}

/// A model with a context.
pub struct LlamaEngine<'a> {
    file: &'a LlamaModelFile,
    context: LlamaContext<'a>,
}

impl LlamaModelFile {
    /// Loads a file as `llama-bench` does: mapped, on the processor.
    ///
    /// # Errors
    /// llama.cpp does not load it.
    pub fn load(path: &Path) -> Result<Self, PipelineError> {
        let failed =
            |message: String| PipelineError::Engine { message: format!("{}: {message}", path.display()) };
        let model =
            LlamaModel::load_from_file(backend().map_err(failed)?, path, &LlamaModelParams::default())
                .map_err(|error| failed(format!("llama.cpp does not load it: {error}")))?;
        Ok(Self { path: path.to_owned(), model })
    }

    /// A context for `positions` tokens, on as many threads as slmc would use.
    ///
    /// # Errors
    /// llama.cpp does not make it.
    pub fn engine(&self, positions: usize) -> Result<LlamaEngine<'_>, PipelineError> {
        let threads = rayon::current_num_threads() as i32;
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(positions as u32))
            .with_n_batch(positions as u32)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let backend = backend().map_err(|message| self.failed(message))?;
        let context =
            self.model.new_context(backend, params).map_err(|error| self.failed(error.to_string()))?;
        Ok(LlamaEngine { file: self, context })
    }

    fn failed(&self, message: String) -> PipelineError {
        PipelineError::Engine { message: format!("{}: {message}", self.path.display()) }
    }
}

impl Engine for LlamaEngine<'_> {
    fn repeat(&mut self, prompt: &[u32], tokens: usize) -> Result<(Repetition, Vec<u32>), PipelineError> {
        self.context.clear_kv_cache();
        let mut batch = LlamaBatch::new(prompt.len(), 1);
        let mut read = 0;
        time_tokens(prompt, tokens, |tokens| {
            batch.clear();
            for (i, token) in tokens.iter().enumerate() {
                batch
                    .add(LlamaToken(*token as i32), read + i as i32, &[0], i + 1 == tokens.len())
                    .map_err(|error| self.file.failed(error.to_string()))?;
            }
            read += tokens.len() as i32;
            self.context.decode(&mut batch).map_err(|error| self.file.failed(error.to_string()))?;
            let logits = self.context.get_logits_ith(tokens.len() as i32 - 1);
            Ok(Sampler::new(Sampling::default()).choose(logits, &[]))
        })
    }
}
