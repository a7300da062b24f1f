//! What products are computed in.

use slmc_matmul::Precision;
use slmc_model::Device;

/// Why a precision cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrecisionUnavailable {
    /// The processor has no instructions for it.
    #[error("this processor does not multiply {0} (AVX512_BF16 does); leave --precision out, or say f32")]
    Processor(Precision),
    /// Only our own kernels have it.
    #[error("{0} is for the device cpu, not {1}; leave --precision out, or say f32")]
    Device(Precision, Device),
}

/// The precision that was asked for; else the fastest of the processor, and f32 on other devices.
///
/// # Errors
/// What was asked for cannot be had.
pub fn choose_precision(asked: Option<Precision>, device: Device) -> Result<Precision, PrecisionUnavailable> {
    match (asked, device) {
        (None, Device::Cpu) => Ok(Precision::fastest()),
        (None, _) => Ok(Precision::F32),
        (Some(Precision::F32), _) => Ok(Precision::F32),
        (Some(precision), Device::Cpu) if precision.is_native() => Ok(precision),
        (Some(precision), Device::Cpu) => Err(PrecisionUnavailable::Processor(precision)),
        (Some(precision), device) => Err(PrecisionUnavailable::Device(precision, device)),
    }
}
