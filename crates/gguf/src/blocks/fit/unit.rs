//! The unit of small integers: u such that the reals r of a super-block's sub-blocks are near u · code.

use pulp::Simd;

use super::lanes::{F32, LANES, groups, load};

/// What the code of the largest real is tried to be, as parts of the longest code. Above 1 it is cut off.
pub type TopCodes = [f32; LANES];

/// From `first` to `last` in equal steps.
pub const fn even_steps(first: f32, last: f32) -> TopCodes {
    let mut codes = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        codes[i] = first + (last - first) * (i as f32 / (LANES - 1) as f32);
        i += 1;
    }
    codes
}

/// From 1.3 to 66, for sub-blocks that are large but do not matter.
pub const FAR_BEYOND: TopCodes = {
    let mut codes = [1.3; LANES];
    let mut i = 1;
    while i < LANES {
        codes[i] = codes[i - 1] * 1.3;
        i += 1;
    }
    codes
};

/// The unit for which Σ cost (real − unit · code)² with codes in `lowest..=highest` is least among those that give
/// the largest real the `top` codes; 0 where all reals are.
#[inline(always)]
pub(super) fn cheapest_unit<S: Simd, const N: usize>(
    simd: S,
    reals: &[f32; N],
    cost: &[f32; N],
    (lowest, highest): (f32, f32),
    top: &[TopCodes],
) -> f32 {
    let mut extreme = 0.0f32;
    for real in reals {
        if real.abs() > extreme.abs() {
            extreme = *real;
        }
    }
    if extreme == 0.0 {
        return 0.0;
    }
    let splat = |value| F32::splat(simd, value);
    let longest = if -lowest > highest { lowest } else { highest };
    let (mut best, mut unit) = (f32::INFINITY, 0.0);
    for top in top {
        let mut totals = [0.0; LANES];
        for group in 0..groups::<S>() {
            let top = load(simd, top, group) * splat(longest);
            let (inverse, unit) = (top / splat(extreme), splat(extreme) / top);
            let mut total = splat(0.0);
            for (real, cost) in reals.iter().zip(cost) {
                let real = splat(*real);
                let left = real - unit * (real * inverse).round_clamped(splat(lowest), splat(highest));
                total = total + splat(*cost) * left * left;
            }
            total.store(&mut totals, group);
        }
        for (total, top) in totals.iter().zip(top) {
            if *total < best {
                (best, unit) = (*total, extreme / (longest * top));
            }
        }
    }
    unit
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Op<'a>([f32; 4], [f32; 4], (f32, f32), &'a [TopCodes]);
    impl WithSimd for Op<'_> {
        type Output = f32;
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            cheapest_unit(simd, &self.0, &self.1, self.2, self.3)
        }
    }

    fn unit(reals: [f32; 4], cost: [f32; 4], codes: (f32, f32)) -> f32 {
        Arch::new().dispatch(Op(reals, cost, codes, &[even_steps(1.15, 0.8), FAR_BEYOND]))
    }

    #[test]
    fn largest_gets_the_longer_side_of_the_codes() {
        assert!(unit([3.0, -1.0, 0.5, 0.0], [1.0; 4], (-32.0, 31.0)) < 0.0);
        assert!(unit([-3.0, 1.0, 0.5, 0.0], [1.0; 4], (-32.0, 31.0)) > 0.0);
        assert_eq!(unit([0.0; 4], [1.0; 4], (0.0, 63.0)), 0.0);
    }

    #[test]
    fn what_costs_nothing_is_cut_off() {
        let left = |cost: [f32; 4], reals: [f32; 4]| {
            let unit = unit(reals, cost, (0.0, 15.0));
            let code = |real: f32| (real / unit).round().clamp(0.0, 15.0);
            reals.map(|real| (real - unit * code(real)).abs())
        };
        let reals = [20.0, 1.0, 0.55, 0.3];
        let cut = left([1e-9, 1.0, 1.0, 1.0], reals);
        assert!(cut[1..].iter().all(|left| *left < 0.05), "{cut:?}");
        assert!(left([1.0; 4], reals)[0] < 0.8);
    }
}
