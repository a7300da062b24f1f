//! The exponential of many numbers at a time.
//!
//! A drift measurement takes two exponentials per vocabulary entry and token, 130 million for one 512-token window of
//! a 128k vocabulary, so it must cost less than the matrix product that made the logits. It is also the one
//! approximation in this crate. It is kept in f64 because a KL divergence of 1e-6 is the difference of two
//! log-partition functions of size 10: relative errors of f32's 6e-8 would drown it.

/// e^x of every lane, for x ≤ 0 or a rounding error above (x is raised to -708 first, where e^x is about 3e-308).
///
/// x = n·ln 2 + r with |r| ≤ ln(2)/2, e^x = 2ⁿ·eʳ, eʳ by its Taylor polynomial of degree 10. The remainder is at most
/// |r|¹¹/11!·e^|r| < 3.1e-13, and n·ln 2 is rounded by at most 2.3e-16·|x|, so the relative error is below
/// 3.2e-13 + 2.3e-16·|x|. NaN does not survive; callers reject it before.
///
/// There is no fused multiply-add in it, so that every processor computes the same bits.
#[inline(always)]
pub(crate) fn exp_of_nonpositive<const LANES: usize>(x: [f64; LANES]) -> [f64; LANES] {
    /// Adding it leaves n + 1023, an exponent field, in the low bits of the sum.
    const TO_EXPONENT: f64 = 6_755_399_441_055_744.0 + 1023.0;
    let mut exps = [0.0; LANES];
    for (exp, x) in exps.iter_mut().zip(x) {
        let x = if x > -708.0 { x } else { -708.0 };
        let shifted = x * std::f64::consts::LOG2_E + TO_EXPONENT;
        let n = shifted - TO_EXPONENT;
        let power_of_two = f64::from_bits(shifted.to_bits() << 52);
        let r = x - n * std::f64::consts::LN_2;
        *exp = power_of_two * exp_taylor(r);
    }
    exps
}

/// Σ rᵏ/k! for k ≤ 10, grouped by Estrin's scheme to shorten the chain of dependent operations.
#[inline(always)]
fn exp_taylor(r: f64) -> f64 {
    let r2 = r * r;
    let r4 = r2 * r2;
    let r8 = r4 * r4;
    let low = (1.0 + r) + r2 * (1.0 / 2.0 + r * (1.0 / 6.0));
    let middle = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let high = (1.0 / 40_320.0 + r * (1.0 / 362_880.0)) + r2 * (1.0 / 3_628_800.0);
    low + r4 * middle + r8 * high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_the_stated_error_of_the_standard_library() {
        let mut x = -1e-9;
        while x > -700.0 {
            let [found] = exp_of_nonpositive([x]);
            let relative = (found / f64::exp(x) - 1.0).abs();
            let bound = 3.2e-13 + 2.3e-16 * x.abs() + 4.0 * f64::EPSILON;
            assert!(relative < bound, "exp({x}) = {found}: relative error {relative:e}");
            x *= 1.000_7;
        }
    }

    #[test]
    fn whole_range_in_even_steps() {
        for step in 0..100_000_i32 {
            let x = -f64::from(step) * 40.0 / 100_000.0;
            let [found] = exp_of_nonpositive([x]);
            assert!((found / x.exp() - 1.0).abs() < 3.4e-13, "exp({x}) = {found}");
        }
    }

    #[test]
    fn zero_is_one_and_the_deep_tail_is_nothing() {
        assert_eq!(exp_of_nonpositive([0.0, -0.0]), [1.0, 1.0]);
        for x in [-708.0, -1e4, -1e38, f64::MIN, f64::NEG_INFINITY] {
            let [found] = exp_of_nonpositive([x]);
            assert!(found > 0.0 && found < 1e-307, "exp({x}) = {found:e}");
        }
    }

    #[test]
    fn lanes_do_not_depend_on_each_other() {
        let x: [f64; 16] = std::array::from_fn(|lane| -(lane as f64) * 3.7);
        let together = exp_of_nonpositive(x);
        for lane in 0..16 {
            assert_eq!(together[lane].to_bits(), exp_of_nonpositive([x[lane]])[0].to_bits());
        }
    }
}
