//! The ggml block formats: decoding bit for bit as ggml does, and choosing scales at least as well.
