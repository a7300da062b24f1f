//! The losses of one token against a teacher of whom the likeliest tokens are known, and the mass of all others together.
//!
//! Divergences are those between the distributions over k + 1 events, the k tokens and "another one". With q_r = Σ q over the
//! others, the gradient of τ² D is τ q_j (g_j − ḡ) for the k tokens and τ q_j (g_r − ḡ) for all others, where g is as in
//! [`crate::rows`] and ḡ = Σ q g over the events. That is a lower bound of the divergence between the whole distributions, and the same
//! where k is the vocabulary.

use pulp::NullaryFnOnce;
use slmc_model::ops::exp;

use crate::objective::{Divergence, Objective};
use crate::rows::{Room, TokenLoss, exponential_sum, exponentials, maximum};

/// What a teacher predicts for one token, at the objective's temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopK<'a> {
    /// Its likeliest tokens.
    pub ids: &'a [u32],
    /// The logarithms of their probabilities, in nats.
    pub log_probs: &'a [f32],
    /// That of the probability of all others together; −∞ for none.
    pub log_rest: f32,
}

/// As [`crate::rows::Token`].
pub struct TopToken<'a> {
    /// The student's logits, which take the gradient.
    pub student: &'a mut [f32],
    /// The teacher's prediction.
    pub teacher: TopK<'a>,
    /// The right answer.
    pub label: usize,
    /// What is trained towards, not by logits.
    pub objective: &'a Objective,
    /// Factor of the gradient.
    pub weight: f32,
    /// Room.
    pub room: &'a mut Room,
}

/// The least logarithm: that of the smallest number.
const LEAST: f32 = -87.3;

/// One event's part of the divergence, and q g.
#[inline(always)]
fn event(divergence: Divergence, log_p: f32, log_q: f32) -> (f32, f32) {
    let (log_p, log_q) = (log_p.max(LEAST), log_q.max(LEAST));
    let (p, q) = (log_p.exp(), log_q.exp());
    match divergence {
        Divergence::ForwardKl => (p * (log_p - log_q), -p),
        Divergence::ReverseKl => (q * (log_q - log_p), q * (log_q - log_p)),
        Divergence::JensenShannon { beta } => {
            let log_m = (beta * p + (1.0 - beta) * q).max(f32::MIN_POSITIVE).ln();
            let value = beta * p * (log_p - log_m) + (1.0 - beta) * q * (log_q - log_m);
            (value, q * (1.0 - beta) * (log_q - log_m))
        }
        Divergence::SkewKl { skew } => {
            let m = (skew * p + (1.0 - skew) * q).max(f32::MIN_POSITIVE);
            (p * (log_p - m.ln()), -q * (1.0 - skew) * p / m)
        }
        Divergence::LogitMse => {
            unreachable!("refused where a run is set up: the teacher's logits are not known")
        }
    }
}

impl NullaryFnOnce for TopToken<'_> {
    type Output = TokenLoss;

    #[inline(always)]
    fn call(self) -> TokenLoss {
        let Self { student, teacher: TopK { ids, log_probs, log_rest }, label, objective, weight, room } =
            self;
        let Objective { divergence, temperature, alpha } = *objective;
        let (maximum, inverse) = (maximum(student), 1.0 / temperature);
        let (exps, logits) = room.parts(student.len());
        let sum = exponentials(student, maximum, 1.0, exps);
        let cross_entropy = sum.ln() - f64::from(student[label] - maximum);
        // The others by themselves, as what the k tokens leave of 1 would be lost in rounding.
        logits.clear();
        for &id in ids {
            logits.push(std::mem::replace(&mut student[id as usize], f32::NEG_INFINITY));
        }
        let rest = exponential_sum(student, maximum, inverse);
        let total = rest + logits.iter().map(|&z| f64::from(exp((z - maximum) * inverse))).sum::<f64>();
        let log_total = total.ln();
        let log_q = |z: f32| ((z - maximum) * inverse) - log_total as f32;
        let log_q_rest = ((rest / total).ln()) as f32;
        let (mut value, mut mean) = (0.0f64, 0.0f64);
        let mut add = |(part, qg): (f32, f32)| {
            value += f64::from(part);
            mean += f64::from(qg);
        };
        logits.iter().zip(log_probs).for_each(|(&z, &log_p)| add(event(divergence, log_p, log_q(z))));
        let of_rest = event(divergence, log_rest, log_q_rest);
        add(of_rest);
        let (mean, soft) = (mean as f32, (1.0 - alpha) * weight * temperature);
        // g − ḡ of the others, over the sum of all exponentials.
        let factor = soft * (of_rest.1 / log_q_rest.max(LEAST).exp() - mean) / total as f32;
        student.iter_mut().for_each(|z| *z = exp((*z - maximum) * inverse) * factor);
        for ((&id, &z), &log_p) in ids.iter().zip(&*logits).zip(log_probs) {
            let (_, qg) = event(divergence, log_p, log_q(z));
            student[id as usize] = soft * (qg - log_q(z).exp() * mean);
        }
        if alpha > 0.0 {
            let hard = (f64::from(alpha) / sum) as f32 * weight;
            student.iter_mut().zip(&*exps).for_each(|(gradient, &e)| *gradient += e * hard);
            student[label] -= alpha * weight;
        }
        TokenLoss { divergence: f64::from(temperature).powi(2) * value, cross_entropy }
    }
}
