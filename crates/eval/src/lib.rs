//! slmc-eval
