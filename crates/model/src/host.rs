//! Tensors as slices of f32 in main memory, without a copy where the device is the processor.

use std::ops::Deref;

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};

/// A tensor's values, row-major. On the cpu device they are the tensor's own memory; elsewhere a copy.
#[derive(Debug)]
pub struct HostView(View);

#[derive(Debug)]
enum View {
    Shared(FlexTensor),
    Copied(Vec<f32>),
}

impl HostView {
    /// The values of a tensor of f32; of one that carries gradients, without them.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        let tensor = tensor.clone().inner();
        match tensor.clone().try_into_primitive::<Flex>() {
            Ok(primitive) => Self::of_primitive(primitive),
            Err(_) => Self(View::Copied(into_vec(tensor))),
        }
    }

    /// The values of a tensor of f32 on the cpu device.
    pub(crate) fn of_primitive(primitive: FlexTensor) -> Self {
        match primitive.as_slice::<f32>() {
            Some(_) => Self(View::Shared(primitive)),
            None => {
                let data = primitive.into_data().convert::<f32>();
                Self(View::Copied(data.try_into_vec().expect("converted to f32 just now")))
            }
        }
    }
}

impl Deref for HostView {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            // `of` checked the type and that the elements lie together.
            View::Shared(tensor) => tensor.as_slice().unwrap_or_default(),
            View::Copied(values) => values,
        }
    }
}

/// The values of a tensor, row-major; its own memory if nobody else holds it and the device is cpu.
pub fn into_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.inner().into_data().convert::<f32>();
    data.try_into_vec().expect("converted to f32 just now")
}

/// A tensor from values, row-major; takes over their memory if the device is cpu.
///
/// # Panics
/// If the shape does not hold as many values.
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &BurnDevice) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// As [`tensor`], for a weight: on a device with gradients it wants its own.
///
/// # Panics
/// If the shape does not hold as many values.
pub fn parameter<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &BurnDevice) -> Tensor<D> {
    let tensor = tensor(values, shape, device);
    if device.is_autodiff() { tensor.require_grad() } else { tensor }
}

/// A tensor's values on its device with gradients, without wanting one. (burn's own `detach` leaves a parameter a parameter.)
pub(crate) fn untracked<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().inner().autodiff()
}

/// A tensor on the cpu device as burn's backend knows it.
///
/// # Panics
/// If the shape does not hold as many values.
pub(crate) fn primitive(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

/// Whether tensors are in main memory, where the kernels of [`crate::ops`] work on them.
pub(crate) fn is_cpu(device: &BurnDevice) -> bool {
    // burn compares devices without asking whether gradients are wanted.
    *device == BurnDevice::flex()
}

/// Whether a weight may lie as the kernels like it best, for no gradient of it is wanted.
pub(crate) fn is_cpu_without_gradients(device: &BurnDevice) -> bool {
    is_cpu(device) && !device.is_autodiff()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_passed_through() {
        let device = BurnDevice::flex();
        let values = vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let address = values.as_ptr();
        let tensor = tensor(values, [2, 3], &device);
        assert_eq!(HostView::of(&tensor).as_ptr(), address);
        let back = into_vec(tensor);
        assert_eq!(back.as_ptr(), address);
        assert_eq!(back, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn transposed_tensors_are_read_in_their_own_order() {
        let device = BurnDevice::flex();
        let turned = tensor(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &device).transpose();
        assert_eq!(*HostView::of(&turned), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
