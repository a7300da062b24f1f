//! The matrix product under calibration, rounding, pruning and training, in f32 or bfloat16.
//!
//! * [`Operand`]: a matrix in a slice;
//! * [`Precision`]: what its values are while they are multiplied;
//! * [`multiply`], [`multiply_in`], [`multiply_at`]: the product on the calling thread; [`product`], [`product_into`], [`products_into`]: on all threads, the same bits however many;
//! * [`parts_of_product`]: some parts of one, handed on as they are ready;
//! * [`memory`]: room for results.

mod bf16;
pub mod memory;
mod operand;
mod parts;
mod precision;
mod single;
mod tiled;

pub use operand::Operand;
pub use parts::{PART_GRID, Part, parts_of_product};
pub use precision::{Precision, PrecisionError};
pub use single::{Onto, multiply, multiply_at, multiply_in};
pub use tiled::{product, product_into, products_into};
