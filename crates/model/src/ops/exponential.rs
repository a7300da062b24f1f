//! e^x in arithmetic that compilers vectorize.

/// e^x to about 1 ulp for −87 ≤ x ≤ 88; 0 below −87.3, and clamped above 88.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r by its Taylor polynomial of degree 7 (error below 2⁻²⁷); 2^n through
/// the exponent bits. ln 2 in two parts after Cody and Waite.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5·2²³ rounds to an integer in the default rounding mode.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x > 88.0 { 88.0 } else { x };
    let clamped = if clamped < -87.3 { -87.3 } else { clamped };
    let shifted = clamped.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, coefficient);
    }
    // The low bits of `shifted` hold n; moved to the exponent they scale by 2^n.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = p * power;
    if x < -87.3 { 0.0 } else { value }
}

/// tanh x to about 2 ulp, ± 1 far from 0.
///
/// Near 0 its Taylor polynomial (up to x⁹, whose rest is below 10⁻⁸ of the value), elsewhere 1 − 2/(1 + e^2|x|) with the sign.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let far = (1.0 - 2.0 / (1.0 + exp(2.0 * size))).copysign(x);
    let square = x * x;
    let mut p = 62.0 / 2835.0;
    for coefficient in [-17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0] {
        p = square.mul_add(p, coefficient);
    }
    if size < 0.25 { x * p } else { far }
}

#[cfg(test)]
mod tests {
    use super::{exp, tanh};

    #[test]
    fn tanh_agrees_with_the_standard_library() {
        let mut worst = 0.0f64;
        for i in -20_000..20_000 {
            let x = i as f32 * 1e-3 + 1e-5;
            worst = worst.max((f64::from(tanh(x)) / f64::from(x).tanh() - 1.0).abs());
        }
        assert!(worst < 4e-7, "{worst}");
        assert_eq!((tanh(0.0), tanh(1e9), tanh(f32::NEG_INFINITY)), (0.0, 1.0, -1.0));
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn agrees_with_the_standard_library() {
        let mut worst = 0.0f64;
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3;
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / expected - 1.0).abs());
        }
        assert!(worst < 1.2e-7, "{worst}");
        assert_eq!((exp(0.0), exp(-1e9), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn not_a_number_stays_visible() {
        assert!(exp(f32::NAN).is_nan());
    }
}
