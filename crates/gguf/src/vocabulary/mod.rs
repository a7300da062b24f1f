//! `tokenizer.json` to the `tokenizer.ggml.*` metadata and back.
