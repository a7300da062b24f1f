//! From logits to the next token.
//!
//! Steps and their order are those of transformers' `generate`: the repetition penalty, the temperature, then the filters
//! top-k, top-p and min-p, each on what the one before it left.

use std::cmp::Ordering;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token, whatever the filters say.
    pub temperature: f32,
    /// Only so many of the most likely tokens.
    pub top_k: Option<usize>,
    /// Only the fewest most likely tokens that together have this probability (Holtzman et al. 2019, arXiv:1904.09751,
    /// section 3.1).
    pub top_p: Option<f32>,
    /// Only tokens at least this share as likely as the most likely one (Nguyen et al. 2024, arXiv:2407.01082, section 3).
    pub min_p: Option<f32>,
    /// Logits of tokens that occurred are divided by it where positive, multiplied where negative (Keskar et al. 2019,
    /// arXiv:1909.05858, section 4.1); 1 for no penalty.
    pub repeat_penalty: f32,
    /// The same seed chooses the same tokens from the same logits.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy, without a penalty.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: None, top_p: None, min_p: None, repeat_penalty: 1.0, seed: 0 }
    }
}

/// Chooses tokens, one after the other.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: fastrand::Rng,
}

impl Sampler {
    /// A sampler at the beginning of its seed's random numbers.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, random: fastrand::Rng::with_seed(sampling.seed) }
    }

    /// The next token by its logits, `[vocab_size]` and finite; `before` are the tokens that occurred.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn choose(&mut self, logits: &[f32], before: &[u32]) -> u32 {
        let candidates = self.sampling.candidates(logits, before);
        let mut left = self.random.f64();
        for &(token, probability) in &candidates {
            left -= probability;
            if left < 0.0 {
                return token;
            }
        }
        // Rounding may leave a rest: it is the least likely token's.
        candidates.last().map(|&(token, _)| token).expect("a vocabulary has tokens")
    }
}

impl Sampling {
    /// The tokens that can be chosen with their probabilities, the most likely first; of equally likely ones the smaller
    /// id. The probabilities add up to 1.
    pub fn candidates(&self, logits: &[f32], before: &[u32]) -> Vec<(u32, f64)> {
        let mut logits = logits.to_vec();
        self.penalize(&mut logits, before);
        let mut tokens: Vec<(u32, f32)> = (0..).zip(logits).collect();
        let keep = if self.temperature > 0.0 { self.top_k.unwrap_or(tokens.len()).max(1) } else { 1 };
        if keep < tokens.len() {
            tokens.select_nth_unstable_by(keep - 1, more_likely);
            tokens.truncate(keep);
        }
        tokens.sort_unstable_by(more_likely);
        let Some(&(_, highest)) = tokens.first() else { return Vec::new() };
        let temperature = f64::from(if self.temperature > 0.0 { self.temperature } else { 1.0 });
        let weight = |logit: f32| ((f64::from(logit) - f64::from(highest)) / temperature).exp();
        let mut candidates: Vec<(u32, f64)> =
            tokens.into_iter().map(|(token, logit)| (token, weight(logit))).collect();
        if let Some(top_p) = self.top_p {
            let all: f64 = candidates.iter().map(|(_, weight)| weight).sum();
            let mut mass = 0.0;
            let enough = candidates.iter().position(|(_, weight)| {
                mass += weight / all;
                mass >= f64::from(top_p)
            });
            candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));
        }
        if let Some(min_p) = self.min_p {
            // The most likely token's weight is 1.
            candidates.retain(|(_, weight)| *weight >= f64::from(min_p).min(1.0));
        }
        let all: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        candidates.iter_mut().for_each(|(_, weight)| *weight /= all);
        candidates
    }

    fn penalize(&self, logits: &mut [f32], before: &[u32]) {
        if self.repeat_penalty == 1.0 {
            return;
        }
        let mut seen = before.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit =
                    if *logit > 0.0 { *logit / self.repeat_penalty } else { *logit * self.repeat_penalty };
            }
        }
    }
}

fn more_likely(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(-20.0f32..20.0, 1..60)
    }

    /// softmax(logits / temperature), in the order of the tokens.
    fn softmax(logits: &[f32], temperature: f32) -> Vec<f64> {
        let weights: Vec<f64> =
            logits.iter().map(|&x| (f64::from(x) / f64::from(temperature)).exp()).collect();
        let all: f64 = weights.iter().sum();
        weights.iter().map(|w| w / all).collect()
    }

    proptest! {
        #[test]
        fn without_temperature_the_most_likely_token_is_chosen(logits in logits(), seed: u64, top_p in 0.01f32..1.0) {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sampling = Sampling { seed, top_p: Some(top_p), ..Sampling::default() };
            let token = Sampler::new(sampling).choose(&logits, &[]);
            prop_assert_eq!(token as usize, logits.iter().position(|&x| x == best).unwrap());
        }

        #[test]
        fn without_filters_the_candidates_are_the_softmax(logits in logits(), temperature in 0.2f32..3.0) {
            let expected = softmax(&logits, temperature);
            let candidates = Sampling { temperature, ..Sampling::default() }.candidates(&logits, &[]);
            prop_assert_eq!(candidates.len(), logits.len());
            for (token, probability) in candidates {
                prop_assert!((probability - expected[token as usize]).abs() < 1e-12);
            }
        }

        #[test]
        fn top_p_keeps_the_fewest_tokens_with_that_mass(logits in logits(), top_p in 0.01f32..1.0) {
            let probabilities = softmax(&logits, 1.0);
            let sampling = Sampling { temperature: 1.0, top_p: Some(top_p), ..Sampling::default() };
            let kept = sampling.candidates(&logits, &[]);
            let mass: f64 = kept.iter().map(|(token, _)| probabilities[*token as usize]).sum();
            let last = probabilities[kept.last().unwrap().0 as usize];
            prop_assert!(mass >= f64::from(top_p) - 1e-9);
            prop_assert!(mass - last < f64::from(top_p) + 1e-9);
            // none that was left out is more likely than one that was kept
            let out = (0..logits.len() as u32).filter(|token| kept.iter().all(|(kept, _)| kept != token));
            prop_assert!(out.into_iter().all(|token| probabilities[token as usize] <= last));
            prop_assert!((kept.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
        }

        #[test]
        fn top_k_and_min_p_keep_what_they_say(logits in logits(), k in 1usize..70, min_p in 0.0f32..1.0) {
            let sampling = Sampling { temperature: 1.0, top_k: Some(k), ..Sampling::default() };
            let kept = sampling.candidates(&logits, &[]);
            prop_assert_eq!(kept.len(), k.min(logits.len()));
            prop_assert!(kept.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            let sampling = Sampling { temperature: 1.0, min_p: Some(min_p), ..Sampling::default() };
            let kept = sampling.candidates(&logits, &[]).len();
            let probabilities = softmax(&logits, 1.0);
            let best = probabilities.iter().copied().fold(0.0, f64::max);
            let share = |p: &f64| p / best - f64::from(min_p);
            let (surely, at_most) = (
                probabilities.iter().filter(|p| share(p) > 1e-9).count(),
                probabilities.iter().filter(|p| share(p) > -1e-9).count(),
            );
            prop_assert!((surely..=at_most).contains(&kept));
        }

        #[test]
        fn seeds_are_reproducible(logits in logits(), seed: u64) {
            let sampling = Sampling { temperature: 1.5, seed, ..Sampling::default() };
            let draw = || {
                let mut sampler = Sampler::new(sampling);
                (0..20).map(|_| sampler.choose(&logits, &[])).collect::<Vec<_>>()
            };
            prop_assert_eq!(draw(), draw());
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [0.0, 1.0, -1.0, 2.0];
        let expected = softmax(&logits, 1.0);
        let mut sampler = Sampler::new(Sampling { temperature: 1.0, seed: 3, ..Sampling::default() });
        let mut counts = [0.0; 4];
        const DRAWS: usize = 20_000;
        (0..DRAWS).for_each(|_| counts[sampler.choose(&logits, &[]) as usize] += 1.0);
        for (count, p) in counts.iter().zip(expected) {
            // five standard deviations
            let error = 5.0 * (p * (1.0 - p) / DRAWS as f64).sqrt();
            assert!((count / DRAWS as f64 - p).abs() < error, "{count} of {DRAWS} for {p}");
        }
    }

    #[test]
    fn tokens_that_occurred_are_penalized_once() {
        let sampling = Sampling { repeat_penalty: 2.0, ..Sampling::default() };
        // 3 becomes 1.5, below 2
        assert_eq!(Sampler::new(sampling).choose(&[3.0, 2.0, -1.0], &[0, 0, 7]), 1);
        // -1 becomes -2
        assert_eq!(Sampler::new(sampling).choose(&[-1.0, -1.5], &[0]), 1);
        assert_eq!(Sampler::new(sampling).choose(&[3.0, 1.0], &[0, 0]), 0);
    }
}
