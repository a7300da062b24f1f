//! Statistics of what one linear layer is fed with: activations `[tokens, d_in]`, row-major f32.
//!
//! Sums that grow with the number of tokens are f64. The work is divided by columns, never by tokens, so that
//! every sum is taken in the order of the tokens, at any number of threads.

mod block_moments;
mod column_moments;
mod cross_moment;
mod product;
mod second_moment;

pub use block_moments::BlockMoments;
pub use column_moments::ColumnMoments;
pub use cross_moment::CrossMoment;
pub use product::VALUES_AT_ONCE;
pub use second_moment::SecondMoment;

use rayon::prelude::*;

use crate::CalibrationError;

/// Values looked through at a time.
const CHUNK: usize = 4096;

/// Number of tokens in `x`, which must be whole rows of finite values.
///
/// `first` is the number of tokens seen before; errors count from the beginning.
fn check(input: &str, d_in: usize, first: u64, x: &[f32]) -> Result<usize, CalibrationError> {
    if d_in == 0 || !x.len().is_multiple_of(d_in) {
        return Err(CalibrationError::ActivationShape { input: input.to_owned(), d_in, found: x.len() });
    }
    // The exponent of NaN and infinity is all ones: one unit more carries into the sign bit.
    let finite = |values: &[f32]| {
        values.iter().fold(0, |carries, v| carries | ((v.to_bits() & 0x7fff_ffff) + 0x0080_0000)) >> 31 == 0
    };
    let chunks = x.par_chunks(CHUNK).with_min_len(16).enumerate();
    if let Some((chunk, values)) = chunks.find_first(|(_, values)| !finite(values))
        && let Some(n) = values.iter().position(|value| !value.is_finite())
    {
        let index = chunk * CHUNK + n;
        return Err(CalibrationError::NonFinite {
            input: input.to_owned(),
            token: first + (index / d_in) as u64,
            column: index % d_in,
            value: values[n],
        });
    }
    Ok(x.len() / d_in)
}
