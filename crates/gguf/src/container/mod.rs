//! GGUF v3: metadata and tensor directory, read from a mapped file and written as a stream.
