//! Rounding on the grid of blocks that were stored before: what training on a stored grid sees and writes.

use std::marker::PhantomData;

use pulp::NullaryFnOnce;

use super::format::{BlockFormat, Levels, quantize};

/// Gives whole blocks the codes that are nearest to `values`, their scales as they are; the caller has checked lengths and values.
///
/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
pub(super) struct Recode<'a, F, const N: usize, const BYTES: usize> {
    pub values: &'a [[f32; N]],
    pub bytes: &'a mut [[u8; BYTES]],
    pub format: PhantomData<F>,
}

impl<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> NullaryFnOnce for Recode<'_, F, N, BYTES> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut codes = [0; N];
        for (x, bytes) in self.values.iter().zip(self.bytes) {
            let scales = F::unpack(bytes, &mut codes);
            quantize::<F, N, BYTES>(x, &scales, &mut codes);
            F::pack(&scales, &codes, bytes);
        }
    }
}

/// How far from a stored value another may lie that shall be rounded to it, in distances to the next level.
const REACH: f32 = 0.45;

/// How far down and up from the level of `code` that is, in levels.
#[inline(always)]
fn reach(levels: Levels, code: u8) -> [f32; 2] {
    match levels {
        Levels::Uniform { .. } => [REACH; 2],
        Levels::Codebook(table) => {
            let gap = |i: usize| f32::from(table[i + 1]) - f32::from(table[i]);
            let (code, last) = (usize::from(code), table.len() - 1);
            [gap(code.saturating_sub(1)), gap(code.min(last - 1))].map(|gap| REACH * gap)
        }
    }
}

/// Moves `values` to where the blocks' own codes are the nearest ones.
pub(super) struct Settle<'a, F, const N: usize, const BYTES: usize> {
    pub values: &'a mut [[f32; N]],
    pub bytes: &'a [[u8; BYTES]],
    pub format: PhantomData<F>,
}

impl<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> NullaryFnOnce for Settle<'_, F, N, BYTES> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut codes = [0; N];
        for (x, bytes) in self.values.iter_mut().zip(self.bytes) {
            let steps = F::steps(&F::unpack(bytes, &mut codes));
            for (i, (x, &code)) in x.iter_mut().zip(&codes).enumerate() {
                let step = steps[i / F::SUB_BLOCK];
                let [below, above] = reach(F::LEVELS, code);
                let held = step.size * F::LEVELS.level(code) + step.offset;
                let ends = [held - step.size * below, held + step.size * above];
                *x = x.clamp(ends[0].min(ends[1]), ends[0].max(ends[1]));
            }
        }
    }
}
