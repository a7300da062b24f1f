//! Seeded random matrices for tests.

/// A generator of numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// Uniform in (0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// `n` normal values of standard deviation `deviation`.
    pub fn normals(&mut self, n: usize, deviation: f64) -> Vec<f32> {
        (0..n).map(|_| (deviation * self.normal()) as f32).collect()
    }

    /// `n` positive values, log-normal.
    pub fn log_normals(&mut self, n: usize, deviation: f64) -> Vec<f32> {
        (0..n).map(|_| (deviation * self.normal()).exp() as f32).collect()
    }
}
