//! What the super-blocks of the K-quants store besides codes: an f16 scale of small integer scales.

use half::f16;

use super::format::{MAX_SUB_BLOCKS, Step, clamp, round_ties_even};
use super::gain::stretched;

/// Scales of Q3_K (integers −32..=31) and Q6_K (−128..=127): the step of sub-block i is `d · scales[i]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SignedScales {
    /// Scale of the scales.
    pub d: f16,
    /// One integer a sub-block of 16 weights.
    pub scales: [i8; 16],
}

impl SignedScales {
    /// Multiplies the steps by `factor`.
    #[inline(always)]
    pub(super) fn stretch(&mut self, factor: f32) {
        self.d = stretched(self.d, factor);
    }

    /// Gives sub-block `i` the nearest step with a code from `lowest` to the integer below −`lowest`.
    #[inline(always)]
    pub(super) fn set_step(&mut self, i: usize, step: Step, lowest: f32) {
        if let Some(scale) = nearest_code(step.size, self.d, lowest, -1.0 - lowest) {
            self.scales[i] = scale as i8;
        }
    }

    /// The steps of the 16 sub-blocks.
    #[inline(always)]
    pub(super) fn steps(&self) -> [Step; MAX_SUB_BLOCKS] {
        let d = self.d.to_f32();
        self.scales.map(|scale| Step::symmetric(d * f32::from(scale)))
    }
}

/// Scales and minima of Q2_K (`S` = 16, 4 bits each), Q4_K and Q5_K (`S` = 8, 6 bits each):
/// a value of sub-block i is `d · scales[i] · code − dmin · mins[i]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AffineScales<const S: usize>
where
    [u8; S]: Default,
{
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
    /// One integer a sub-block.
    pub scales: [u8; S],
    /// One integer a sub-block.
    pub mins: [u8; S],
}

impl<const S: usize> AffineScales<S>
where
    [u8; S]: Default,
{
    /// Multiplies the steps by `factor`.
    #[inline(always)]
    pub(super) fn stretch(&mut self, factor: f32) {
        self.d = stretched(self.d, factor);
        self.dmin = stretched(self.dmin, factor);
    }

    /// Gives sub-block `i` the nearest step with codes up to `highest`.
    #[inline(always)]
    pub(super) fn set_step(&mut self, i: usize, step: Step, highest: f32) {
        if let Some(scale) = nearest_code(step.size, self.d, 0.0, highest) {
            self.scales[i] = scale as u8;
        }
        if let Some(min) = nearest_code(-step.offset, self.dmin, 0.0, highest) {
            self.mins[i] = min as u8;
        }
    }

    /// The steps of the `S` sub-blocks.
    #[inline(always)]
    pub(super) fn steps(&self) -> [Step; MAX_SUB_BLOCKS] {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let mut steps = [Step::symmetric(0.0); MAX_SUB_BLOCKS];
        for (step, (scale, min)) in steps.iter_mut().zip(self.scales.iter().zip(&self.mins)) {
            *step = Step { size: d * f32::from(*scale), offset: -(dmin * f32::from(*min)) };
        }
        steps
    }
}

/// The integer of `lowest..=highest` whose product with `unit` is nearest to `value`; `None` where the unit is zero.
#[inline(always)]
pub(super) fn nearest_code(value: f32, unit: f16, lowest: f32, highest: f32) -> Option<f32> {
    let code = clamp(value / unit.to_f32(), lowest, highest);
    code.is_finite().then(|| round_ties_even(code))
}

/// The f16 stored at `bytes[at..at + 2]`.
#[inline(always)]
pub(super) fn read_f16(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Stores `value` at `bytes[at..at + 2]`.
#[inline(always)]
pub(super) fn write_f16(bytes: &mut [u8], at: usize, value: f16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}
