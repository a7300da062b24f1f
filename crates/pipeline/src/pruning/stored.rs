//! Values in a checkpoint's own element types.

use slmc_checkpoint::Dtype;
use slmc_quant::QuantError;
use slmc_quant::plan::StoredType;
use slmc_quant::rtn::{dequantize_rows, quantize_rows};

/// The bytes of `values` (`[n, columns]`), rounded to nearest.
///
/// # Errors
/// No whole rows; values that are not finite.
pub fn encode(dtype: Dtype, values: &[f32], columns: usize) -> Result<Vec<u8>, QuantError> {
    let mut bytes = vec![0; values.len() * dtype.bytes()];
    quantize_rows(StoredType::as_it_is(dtype), values, columns, None, &mut bytes)?;
    Ok(bytes)
}

/// The values of `bytes`, in rows of `columns`.
///
/// # Errors
/// No whole rows.
pub fn decode(dtype: Dtype, bytes: &[u8], columns: usize) -> Result<Vec<f32>, QuantError> {
    let mut values = vec![0.0; bytes.len() / dtype.bytes()];
    dequantize_rows(StoredType::as_it_is(dtype), bytes, columns, &mut values)?;
    Ok(values)
}
