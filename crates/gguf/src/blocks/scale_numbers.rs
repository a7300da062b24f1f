//! The numbers that the scales of a block are, for training that leaves its codes alone.
//!
//! A stored value is (d a) · level(code) + m b, where d and, if the format has minima, m are a block's f16 numbers and a and b, one a
//! sub-block, its integers (1 where it has none; b negative where minima are subtracted). All of them are trained, each in a unit
//! of its own so that one step length suits all: d and m in what was stored, integers in the largest that was. What is stored is the
//! nearest f16 and the nearest integers in range. Gradients pass through that rounding as if it were not there (Bengio, Léonard and
//! Courville 2013, arXiv:1308.3432, section 4):
//! ∂L/∂(d a) = Σ ∂L/∂w · level(code) and ∂L/∂(m b) = Σ ∂L/∂w over a sub-block, and the product rule does the rest.

use std::marker::PhantomData;

use half::f16;
use pulp::{Arch, NullaryFnOnce};

use super::format::{BlockFormat, FormatVisitor, Step, first_non_finite, visit_format};
use super::gain::stretched;
use super::iq4_xs::Iq4XsScales;
use super::k_scales::{AffineScales, SignedScales};
use super::q4_1::MinScale;
use super::{BlockError, check_bytes};
use crate::TensorType;

/// Scales as numbers.
pub trait ScaleNumbers: Copy {
    /// Whether there are minima.
    const HAS_MIN: bool;
    /// Integer scales, and as many integer minima if there are any; 0 where a block has one f16 scale and no integers.
    const INTEGERS: usize;
    /// d and m.
    fn halves(&self) -> [f16; 2];
    /// The same scales with other d and m.
    fn with_halves(self, halves: [f16; 2]) -> Self;
    /// The factors a and b of a sub-block.
    fn integers(&self, sub_block: usize) -> [f32; 2];
}

impl ScaleNumbers for f16 {
    const HAS_MIN: bool = false;
    const INTEGERS: usize = 0;

    #[inline(always)]
    fn halves(&self) -> [f16; 2] {
        [*self, f16::ZERO]
    }

    #[inline(always)]
    fn with_halves(self, [d, _]: [f16; 2]) -> Self {
        d
    }

    #[inline(always)]
    fn integers(&self, _: usize) -> [f32; 2] {
        [1.0, 0.0]
    }
}

impl ScaleNumbers for MinScale {
    const HAS_MIN: bool = true;
    const INTEGERS: usize = 0;

    #[inline(always)]
    fn halves(&self) -> [f16; 2] {
        [self.d, self.m]
    }

    #[inline(always)]
    fn with_halves(self, [d, m]: [f16; 2]) -> Self {
        Self { d, m }
    }

    #[inline(always)]
    fn integers(&self, _: usize) -> [f32; 2] {
        [1.0; 2]
    }
}

impl ScaleNumbers for SignedScales {
    const HAS_MIN: bool = false;
    const INTEGERS: usize = 16;

    #[inline(always)]
    fn halves(&self) -> [f16; 2] {
        [self.d, f16::ZERO]
    }

    #[inline(always)]
    fn with_halves(self, [d, _]: [f16; 2]) -> Self {
        Self { d, ..self }
    }

    #[inline(always)]
    fn integers(&self, sub_block: usize) -> [f32; 2] {
        [f32::from(self.scales[sub_block]), 0.0]
    }
}

impl ScaleNumbers for Iq4XsScales {
    const HAS_MIN: bool = false;
    const INTEGERS: usize = 8;

    #[inline(always)]
    fn halves(&self) -> [f16; 2] {
        [self.d, f16::ZERO]
    }

    #[inline(always)]
    fn with_halves(self, [d, _]: [f16; 2]) -> Self {
        Self { d, ..self }
    }

    #[inline(always)]
    fn integers(&self, sub_block: usize) -> [f32; 2] {
        [f32::from(self.scales[sub_block]), 0.0]
    }
}

impl<const S: usize> ScaleNumbers for AffineScales<S>
where
    [u8; S]: Default,
{
    const HAS_MIN: bool = true;
    const INTEGERS: usize = S;

    #[inline(always)]
    fn halves(&self) -> [f16; 2] {
        [self.d, self.dmin]
    }

    #[inline(always)]
    fn with_halves(self, [d, dmin]: [f16; 2]) -> Self {
        Self { d, dmin, ..self }
    }

    #[inline(always)]
    fn integers(&self, sub_block: usize) -> [f32; 2] {
        [f32::from(self.scales[sub_block]), -f32::from(self.mins[sub_block])]
    }
}

/// How many numbers a block's scales are.
const fn count<S: ScaleNumbers>() -> usize {
    (1 + S::INTEGERS) * (1 + S::HAS_MIN as usize)
}

/// What the number 1 stands for: of d, of m, of a and of b.
#[inline(always)]
fn units<S: ScaleNumbers>(stored: &S) -> [f32; 4] {
    let [d, m] = stored.halves().map(|half| half.to_f32().abs());
    let [mut a, mut b] = [0.0f32; 2];
    for [scale, min] in (0..S::INTEGERS).map(|sub_block| stored.integers(sub_block)) {
        (a, b) = (a.max(scale.abs()), b.max(min.abs()));
    }
    // A minimum of 0 may become another where it is a number of its own.
    let m = if m == 0.0 && S::INTEGERS == 0 { d } else { m };
    [d, m, a.max(1.0), b.max(1.0)]
}

/// Where the numbers of d, m, a and b begin: d, m, all a, all b.
const fn places<S: ScaleNumbers>() -> [usize; 4] {
    let halves = 1 + S::HAS_MIN as usize;
    [0, 1, halves, halves + S::INTEGERS]
}

/// The numbers of stored scales.
#[inline(always)]
fn read<S: ScaleNumbers>(stored: &S, numbers: &mut [f32]) {
    let ([d, m, a, b], [d_unit, m_unit, a_unit, b_unit]) = (places::<S>(), units(stored));
    let part = |value: f32, unit: f32| if unit == 0.0 { 0.0 } else { value / unit };
    let halves = stored.halves();
    numbers[d] = part(halves[0].to_f32(), d_unit);
    if S::HAS_MIN {
        numbers[m] = part(halves[1].to_f32(), m_unit);
    }
    for sub_block in 0..S::INTEGERS {
        let [scale, min] = stored.integers(sub_block);
        numbers[a + sub_block] = scale / a_unit;
        if S::HAS_MIN {
            numbers[b + sub_block] = min / b_unit;
        }
    }
}

/// The scales nearest to numbers in the units of `stored`.
#[inline(always)]
fn nearest<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(
    stored: &F::Scales,
    numbers: &[f32],
) -> F::Scales {
    let ([d, m, a, b], [d_unit, m_unit, a_unit, b_unit]) = (places::<F::Scales>(), units(stored));
    let half = |number: f32, unit: f32| stretched(f16::ONE, number * unit);
    let has_min = F::Scales::HAS_MIN;
    let halves = [half(numbers[d], d_unit), if has_min { half(numbers[m], m_unit) } else { f16::ZERO }];
    let mut scales = stored.with_halves(halves);
    let [d, m] = halves.map(f16::to_f32);
    for sub_block in 0..F::Scales::INTEGERS {
        let size = d * (numbers[a + sub_block] * a_unit);
        let offset = if has_min { m * (numbers[b + sub_block] * b_unit) } else { -0.0 };
        F::set_step(&mut scales, sub_block, Step { size, offset });
    }
    scales
}

/// Gives whole blocks the scales nearest to numbers in the units of what they hold, their codes as they are.
struct Rescale<'a, F, const N: usize, const BYTES: usize> {
    numbers: &'a [f32],
    bytes: &'a mut [[u8; BYTES]],
    format: PhantomData<F>,
}

impl<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> NullaryFnOnce
    for Rescale<'_, F, N, BYTES>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut codes = [0; N];
        for (numbers, bytes) in self.numbers.chunks_exact(count::<F::Scales>()).zip(self.bytes) {
            let stored = F::unpack(bytes, &mut codes);
            F::pack(&nearest::<F, N, BYTES>(&stored, numbers), &codes, bytes);
        }
    }
}

/// The gradient by numbers in the units of what blocks hold, from that by values.
struct Gradient<'a, F, const N: usize, const BYTES: usize> {
    numbers: &'a [f32],
    bytes: &'a [[u8; BYTES]],
    values: &'a [[f32; N]],
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> NullaryFnOnce
    for Gradient<'_, F, N, BYTES>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (mut codes, count, has_min) = ([0; N], count::<F::Scales>(), F::Scales::HAS_MIN);
        let blocks = self.numbers.chunks_exact(count).zip(self.out.chunks_exact_mut(count));
        for ((numbers, out), (bytes, values)) in blocks.zip(self.bytes.iter().zip(self.values)) {
            let stored = F::unpack(bytes, &mut codes);
            let now = nearest::<F, N, BYTES>(&stored, numbers);
            let ([d_at, m_at, a_at, b_at], units) = (places::<F::Scales>(), units(&stored));
            let [d, m] = now.halves().map(f16::to_f32);
            let (mut by_d, mut by_m) = (0.0f32, 0.0f32);
            let sub_blocks = values.chunks_exact(F::SUB_BLOCK).zip(codes.chunks_exact(F::SUB_BLOCK));
            for (sub_block, (values, codes)) in sub_blocks.enumerate() {
                let (mut by_size, mut by_offset) = (0.0f32, 0.0f32);
                for (&value, &code) in values.iter().zip(codes) {
                    by_size += value * F::LEVELS.level(code);
                    by_offset += value;
                }
                let [a, b] = now.integers(sub_block);
                by_d += by_size * a;
                by_m += by_offset * b;
                if F::Scales::INTEGERS > 0 {
                    out[a_at + sub_block] = by_size * d * units[2];
                    if has_min {
                        out[b_at + sub_block] = by_offset * m * units[3];
                    }
                }
            }
            out[d_at] = by_d * units[0];
            if has_min {
                out[m_at] = by_m * units[1];
            }
        }
    }
}

/// The numbers that the scales of whole blocks of type `ty` are, one block's after another's: of each d, m if it has minima, and its
/// integer scales and minima, in the units of these blocks (see the top of `scale_numbers.rs`). `None` for types without scales.
///
/// # Errors
/// [`BlockError::Bytes`] where `bytes` are no whole blocks.
pub fn scale_numbers(ty: TensorType, bytes: &[u8]) -> Result<Option<Vec<f32>>, BlockError> {
    struct Read<'a>(&'a [u8]);
    impl FormatVisitor for Read<'_> {
        type Output = Vec<f32>;
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) -> Vec<f32> {
            let (blocks, count) = (self.0.as_chunks::<BYTES>().0, count::<F::Scales>());
            let (mut numbers, mut codes) = (vec![0.0; blocks.len() * count], [0; N]);
            for (bytes, numbers) in blocks.iter().zip(numbers.chunks_exact_mut(count)) {
                read(&F::unpack(bytes, &mut codes), numbers);
            }
            numbers
        }
    }
    check_bytes(ty, bytes.len() / ty.block_bytes() * ty.block_len(), bytes.len())?;
    Ok(visit_format(ty, Read(bytes)))
}

/// Gives blocks of type `ty` the scales nearest to `numbers`, which are in the units of what `bytes` hold; their codes stay. The numbers
/// of [`scale_numbers`] change nothing, and types without scales stay as they are. Serial, and every block by itself.
///
/// # Errors
/// [`BlockError::Bytes`], [`BlockError::ScaleNumbers`] and [`BlockError::NonFinite`].
pub fn rescale(ty: TensorType, numbers: &[f32], bytes: &mut [u8]) -> Result<(), BlockError> {
    struct Again<'a>(&'a [f32], &'a mut [u8]);
    impl FormatVisitor for Again<'_> {
        type Output = ();
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) {
            let (numbers, bytes) = (self.0, self.1.as_chunks_mut::<BYTES>().0);
            Arch::new().dispatch(Rescale { numbers, bytes, format: PhantomData::<F> });
        }
    }
    check_numbers(ty, numbers, bytes.len())?;
    visit_format(ty, Again(numbers, bytes));
    Ok(())
}

/// The gradient of something by the `numbers` of blocks of type `ty`, as [`rescale`] takes them, from its gradient by the values that the
/// blocks then have: into `out`, which is as long as `numbers`. The rounding of scales is passed as if it were not there.
///
/// # Errors
/// As [`rescale`].
pub fn scale_gradient(
    ty: TensorType,
    numbers: &[f32],
    bytes: &[u8],
    values: &[f32],
    out: &mut [f32],
) -> Result<(), BlockError> {
    struct Back<'a>(&'a [f32], &'a [u8], &'a [f32], &'a mut [f32]);
    impl FormatVisitor for Back<'_> {
        type Output = ();
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) {
            let Self(numbers, bytes, values, out) = self;
            let (bytes, values) = (bytes.as_chunks::<BYTES>().0, values.as_chunks::<N>().0);
            Arch::new().dispatch(Gradient { numbers, bytes, values, out, format: PhantomData::<F> });
        }
    }
    check_numbers(ty, numbers, bytes.len())?;
    check_bytes(ty, values.len(), bytes.len())?;
    if out.len() != numbers.len() {
        return Err(BlockError::ScaleNumbers { ty, expected: numbers.len(), found: out.len() });
    }
    visit_format(ty, Back(numbers, bytes, values, out));
    Ok(())
}

/// Whether `numbers` are finite and as many as the scales of whole blocks of so many bytes are.
fn check_numbers(ty: TensorType, numbers: &[f32], bytes: usize) -> Result<(), BlockError> {
    struct Count;
    impl FormatVisitor for Count {
        type Output = usize;
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) -> usize {
            count::<F::Scales>()
        }
    }
    let blocks = bytes / ty.block_bytes();
    check_bytes(ty, blocks * ty.block_len(), bytes)?;
    let (expected, found) = (blocks * visit_format(ty, Count).unwrap_or(0), numbers.len());
    if expected != found {
        return Err(BlockError::ScaleNumbers { ty, expected, found });
    }
    match first_non_finite(numbers) {
        Some(index) => Err(BlockError::NonFinite { index, value: numbers[index] }),
        None => Ok(()),
    }
}
