//! slmc-model
