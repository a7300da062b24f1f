//! One decoder on burn tensors, described by data, and the devices it runs on.
//!
//! [`arch`] says what distinguishes the model families, [`config`] what one model's dimensions are, [`source`]
//! where its weights come from, [`decoder`] runs it, [`ops`] computes. [`sampler`] chooses tokens of text from its logits.

pub mod arch;
pub mod config;
pub mod decoder;
pub mod device;
pub mod error;
pub mod host;
pub mod ops;
pub mod rope;
pub mod sampler;
pub mod source;

pub use arch::{ArchSpec, Role, TensorId};
pub use burn;
pub use burn::tensor::{Device as BurnDevice, Gradients, Tensor};
pub use config::{ModelConfig, RopeScaling, Rotation};
pub use decoder::{
    Block, Context, Head, HeadRows, KvPrecision, LinearInput, LinearObserver, NoObserver, Session, embed,
};
pub use device::{Device, DeviceError};
pub use error::ModelError;
pub use host::HostView;
pub use sampler::{Sampler, Sampling};
pub use source::{
    Adapter, CheckpointSource, GgufSource, MemorySource, PartsMut, StoredWeight, Weight, WeightSource,
};
