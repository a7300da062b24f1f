//! The decoder: the one forward pass that calibration, evaluation and everything else share.
//!
//! It is run a part at a time, so that a model never has to fit in memory: [`embed`] the tokens, load each
//! [`Block`] and run the hidden states through it, then the [`Head`]. Whoever has many sequences keeps them in
//! batches of a few thousand tokens and runs all of them through a block before the next one is loaded. Whoever writes
//! one sequence on, token by token, has a [`Session`].

mod block;
mod context;
mod embedding;
mod head;
mod linear;
mod observer;
mod session;
mod weights;

pub use block::Block;
pub use context::{Context, KvPrecision};
pub use embedding::embed;
pub use head::{Head, HeadRows};
pub use observer::{LinearInput, LinearObserver, NoObserver};
pub use session::Session;
