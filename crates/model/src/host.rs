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
    /// The values of a tensor of f32.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        Self(match tensor.clone().try_into_primitive::<Flex>() {
            Ok(primitive) if primitive.as_slice::<f32>().is_some() => View::Shared(primitive),
            _ => View::Copied(into_vec(tensor.clone())),
        })
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
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec().expect("converted to f32 just now")
}

/// A tensor from values, row-major; takes over their memory if the device is cpu.
///
/// # Panics
/// If the shape does not hold as many values.
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &BurnDevice) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Whether the kernels of [`crate::ops`] work on this tensor's memory: cpu device, no gradients wanted.
pub(crate) fn is_cpu(device: &BurnDevice) -> bool {
    !device.is_autodiff() && *device == BurnDevice::flex()
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
