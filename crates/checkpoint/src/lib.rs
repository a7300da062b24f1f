//! slmc-checkpoint
