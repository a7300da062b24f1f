//! slmc-pipeline
