//! Where tensors live and are computed.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device as BurnDevice;

/// A backend of burn, by the name users give it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor, through burn-flex and the kernels of [`crate::ops`].
    #[default]
    Cpu,
    /// The processor, through burn-ndarray.
    NdArray,
    /// A graphics processor (or a software driver) through wgpu.
    Wgpu,
}

/// Why a device cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeviceError {
    /// No device of this name.
    #[error("unknown device {found:?}; expected cpu, ndarray or wgpu")]
    Unknown {
        /// The name given.
        found: String,
    },
    /// The program was built without this backend.
    #[error("this build has no {device} device; build with the feature `{device}`")]
    NotBuilt {
        /// The device.
        device: Device,
    },
    /// No graphics adapter or driver, or it does not start.
    #[error("device {device} does not start: {reason}")]
    Unavailable {
        /// The device.
        device: Device,
        /// What the driver says.
        reason: String,
    },
}

impl Device {
    /// Every device.
    pub const ALL: [Device; 3] = [Device::Cpu, Device::NdArray, Device::Wgpu];

    /// The name users give it.
    pub const fn name(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::NdArray => "ndarray",
            Device::Wgpu => "wgpu",
        }
    }

    /// burn's handle of this device. The first call for [`Device::Wgpu`] starts the driver.
    ///
    /// # Errors
    /// The backend was not built in, or no adapter is there.
    pub fn burn(self) -> Result<BurnDevice, DeviceError> {
        match self {
            Device::Cpu => Ok(BurnDevice::flex()),
            Device::NdArray => ndarray(),
            Device::Wgpu => wgpu(),
        }
    }
}

#[cfg(feature = "ndarray")]
fn ndarray() -> Result<BurnDevice, DeviceError> {
    #[allow(deprecated)] // offered for as long as burn has it
    Ok(BurnDevice::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Result<BurnDevice, DeviceError> {
    Err(DeviceError::NotBuilt { device: Device::NdArray })
}

/// The driver can be started once only; later calls get the same device or the same error.
#[cfg(feature = "wgpu")]
fn wgpu() -> Result<BurnDevice, DeviceError> {
    use std::panic::catch_unwind;
    use std::sync::OnceLock;
    static DEVICE: OnceLock<Result<BurnDevice, DeviceError>> = OnceLock::new();
    let unavailable = |reason| DeviceError::Unavailable { device: Device::Wgpu, reason };
    let start = || match catch_unwind(|| BurnDevice::wgpu_options().init()) {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable("the driver panicked".to_owned())),
    };
    DEVICE.get_or_init(start).clone()
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<BurnDevice, DeviceError> {
    Err(DeviceError::NotBuilt { device: Device::Wgpu })
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        Self::ALL
            .into_iter()
            .find(|device| device.name() == name)
            .ok_or_else(|| DeviceError::Unknown { found: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_the_device() {
        for device in Device::ALL {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert!("cuda".parse::<Device>().is_err());
    }
}
