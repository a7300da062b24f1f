//! llama.cpp, as far as these tests need it.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::OnceLock;

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

/// The library, once a process.
fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        send_logs_to_tracing(LogOptions::default().with_logs_enabled(false));
        LlamaBackend::init().expect("llama.cpp starts")
    })
}

/// A model that llama.cpp has loaded.
pub struct Engine {
    model: LlamaModel,
}

impl Engine {
    pub fn load(path: &Path) -> Self {
        let model = LlamaModel::load_from_file(backend(), path, &LlamaModelParams::default())
            .unwrap_or_else(|error| panic!("llama.cpp does not load {}: {error}", path.display()));
        Self { model }
    }

    /// Token ids of a text, with nothing added; `markup` says whether spellings of special tokens mean the tokens.
    pub fn tokenize(&self, text: &str, markup: bool) -> Vec<u32> {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), false, markup);
        tokens.iter().map(|t| t.0 as u32).collect()
    }

    /// The token llama.cpp puts first, if it puts one.
    pub fn bos(&self) -> Option<u32> {
        let vocab = self.model.vocab();
        vocab.should_add_bos().then(|| vocab.bos().0 as u32)
    }

    /// Logits `[tokens, vocab]`, by the code that `llama-perplexity` runs.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let context = LlamaContextParams::default().with_n_ctx(NonZeroU32::new(tokens.len() as u32));
        let mut context = self.model.new_context(backend(), context).expect("a context");
        let mut batch = LlamaBatch::new(tokens.len(), 1);
        for (position, token) in tokens.iter().enumerate() {
            batch.add(LlamaToken(*token as i32), position as i32, &[0], true).expect("room for the token");
        }
        context.decode(&mut batch).expect("llama.cpp runs the model");
        (0..tokens.len() as i32).flat_map(|i| context.get_logits_ith(i).to_vec()).collect()
    }
}
