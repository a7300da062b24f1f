//! The losses of one token: from logits to a value and the gradient of the student's logits.
//!
//! With logits z over the temperature τ, q = softmax(z/τ) and g = ∂D/∂q, the gradient of τ² D is τ q ∘ (g − Σ q g). The
//! divergences of [`Divergence`] have
//!
//! | | g |
//! | --- | --- |
//! | KL(p ‖ q) | −p/q |
//! | KL(q ‖ p) | log(q/p) + 1 |
//! | Jensen-Shannon | (1 − β) log(q/m) |
//! | skew KL | −(1 − λ) p/m |

use pulp::NullaryFnOnce;
use slmc_model::ops::exp;

use crate::objective::{Divergence, Objective};

/// Values that are summed side by side, which lets the compiler use vectors.
const LANES: usize = 16;

/// The losses of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenLoss {
    /// Divergence from the teacher, factor τ² included; 0 without one.
    pub divergence: f64,
    /// −log of the probability that the student gives the text's next token, in nats, at temperature 1.
    pub cross_entropy: f64,
}

/// Room for one token's probabilities, used again and again.
#[derive(Debug, Default)]
pub struct Room {
    teacher: Vec<f32>,
    student: Vec<f32>,
}

impl Room {
    /// Room for a row of `len` values, and for some more.
    pub(crate) fn parts(&mut self, len: usize) -> (&mut [f32], &mut Vec<f32>) {
        self.student.resize(len, 0.0);
        (&mut self.student, &mut self.teacher)
    }
}

/// A token's losses. `student` holds its logits and takes the gradient of the objective by them, times `weight`; `teacher`
/// holds the teacher's logits of the same tokens, if the objective needs them; `label` is the token that follows.
///
/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
pub struct Token<'a> {
    /// The student's logits.
    pub student: &'a mut [f32],
    /// The teacher's.
    pub teacher: Option<&'a [f32]>,
    /// The right answer.
    pub label: usize,
    /// What is trained towards.
    pub objective: &'a Objective,
    /// Factor of the gradient.
    pub weight: f32,
    /// Room.
    pub room: &'a mut Room,
}

impl NullaryFnOnce for Token<'_> {
    type Output = TokenLoss;

    #[inline(always)]
    fn call(self) -> TokenLoss {
        let Self { student, teacher, label, objective, weight, room } = self;
        let Objective { divergence, temperature, alpha } = *objective;
        let maximum = maximum(student);
        room.student.resize(student.len(), 0.0);
        // At temperature 1, into room: the cross-entropy, and its gradient for later.
        let sum = exponentials(student, maximum, 1.0, &mut room.student);
        let cross_entropy = sum.ln() - f64::from(student[label] - maximum);
        let hard = (f64::from(alpha) / sum) as f32 * weight;
        let soft = (1.0 - alpha) * weight;
        let Some(teacher) = teacher.filter(|_| objective.needs_teacher()) else {
            student.iter_mut().zip(&room.student).for_each(|(gradient, &e)| *gradient = e * hard);
            student[label] -= alpha * weight;
            return TokenLoss { divergence: 0.0, cross_entropy };
        };
        if divergence == Divergence::LogitMse {
            let divergence = mean_square(student, teacher, soft);
            for (gradient, &e) in student.iter_mut().zip(&room.student) {
                *gradient += e * hard;
            }
            student[label] -= alpha * weight;
            return TokenLoss { divergence, cross_entropy };
        }
        room.teacher.resize(student.len(), 0.0);
        let inverse = 1.0 / temperature;
        let hard_part = |student: &mut [f32], exps: &[f32]| {
            if alpha > 0.0 {
                student.iter_mut().zip(exps).for_each(|(gradient, &e)| *gradient += e * hard);
                student[label] -= alpha * weight;
            }
        };
        let teacher_maximum = self::maximum(teacher);
        let teacher_sum = exponentials(teacher, teacher_maximum, inverse, &mut room.teacher);
        let soft = soft * temperature;
        let scale = f64::from(temperature).powi(2);
        // Forward KL needs each probability of q once, so that they need no room of their own.
        let student_sum = exponential_sum(student, maximum, inverse);
        let logs = Logs {
            student: (f64::from(maximum) * f64::from(inverse) + student_sum.ln()) as f32,
            teacher: (f64::from(teacher_maximum) * f64::from(inverse) + teacher_sum.ln()) as f32,
            inverse,
        };
        let teacher_share = (1.0 / teacher_sum) as f32;
        let student_share = (1.0 / student_sum) as f32;
        let value = match divergence {
            Divergence::ForwardKl => {
                let cross =
                    cross(&room.teacher, teacher, teacher_maximum, student, maximum) * f64::from(inverse);
                let value = cross / teacher_sum - teacher_sum.ln() + student_sum.ln();
                for (gradient, &p) in student.iter_mut().zip(&room.teacher) {
                    let q = exp((*gradient - maximum) * inverse) * student_share;
                    *gradient = soft * (q - p * teacher_share);
                }
                value
            }
            Divergence::ReverseKl => {
                general(student, teacher, &room.teacher, teacher_share, logs, soft, |_, log_p, q, log_q| {
                    let log_ratio = log_q - log_p;
                    (q * log_ratio, log_ratio)
                })
            }
            Divergence::JensenShannon { beta } => general(
                student,
                teacher,
                &room.teacher,
                teacher_share,
                logs,
                soft,
                move |p, log_p, q, log_q| {
                    let log_m = (beta * p + (1.0 - beta) * q).max(f32::MIN_POSITIVE).ln();
                    (
                        beta * p * (log_p - log_m) + (1.0 - beta) * q * (log_q - log_m),
                        (1.0 - beta) * (log_q - log_m),
                    )
                },
            ),
            Divergence::SkewKl { skew } => {
                general(student, teacher, &room.teacher, teacher_share, logs, soft, move |p, log_p, q, _| {
                    let m = (skew * p + (1.0 - skew) * q).max(f32::MIN_POSITIVE);
                    (p * (log_p - m.ln()), -(1.0 - skew) * p / m)
                })
            }
            Divergence::LogitMse => unreachable!("returned above"),
        };
        hard_part(student, &room.student);
        TokenLoss { divergence: scale * value, cross_entropy }
    }
}

/// log q = z/τ − student, log p likewise.
#[derive(Clone, Copy)]
struct Logs {
    student: f32,
    teacher: f32,
    inverse: f32,
}

/// A divergence Σ value(p, q) with gradient g(p, q) by q: `of` gives both from p, log p, q, log q. Turns the student's logits into
/// `soft` q (g − Σ q g).
#[inline(always)]
fn general(
    student: &mut [f32],
    teacher: &[f32],
    teacher_exps: &[f32],
    teacher_share: f32,
    logs: Logs,
    soft: f32,
    of: impl Fn(f32, f32, f32, f32) -> (f32, f32),
) -> f64 {
    let terms = |z: f32, zt: f32, e: f32| {
        let (log_q, log_p) = (z * logs.inverse - logs.student, zt * logs.inverse - logs.teacher);
        let q = exp(log_q);
        let (value, g) = of(e * teacher_share, log_p, q, log_q);
        (value, q, g)
    };
    let (mut sum, mut mean) = (0.0f64, 0.0f64);
    for ((&z, &zt), &e) in student.iter().zip(teacher).zip(teacher_exps) {
        let (value, q, g) = terms(z, zt, e);
        sum += f64::from(value);
        mean += f64::from(q * g);
    }
    let mean = mean as f32;
    for ((z, &zt), &e) in student.iter_mut().zip(teacher).zip(teacher_exps) {
        let (_, q, g) = terms(*z, zt, e);
        *z = soft * q * (g - mean);
    }
    sum
}

/// Mean of squared differences; `student` takes its gradient times `weight`.
#[inline(always)]
fn mean_square(student: &mut [f32], teacher: &[f32], weight: f32) -> f64 {
    let (mut sum, factor) = (0.0f64, 2.0 * weight / student.len() as f32);
    for (z, &t) in student.iter_mut().zip(teacher) {
        let difference = *z - t;
        sum += f64::from(difference) * f64::from(difference);
        *z = factor * difference;
    }
    sum / student.len() as f64
}

#[inline(always)]
pub(crate) fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// Writes e^((z − maximum) · inverse) and gives the sum: f32 in each lane over a piece of the row, f64 across.
#[inline(always)]
pub(crate) fn exponentials(row: &[f32], maximum: f32, inverse: f32, out: &mut [f32]) -> f64 {
    for (out, &z) in out.iter_mut().zip(row) {
        *out = exp((z - maximum) * inverse);
    }
    sum(out, |e| e)
}

#[inline(always)]
pub(crate) fn exponential_sum(row: &[f32], maximum: f32, inverse: f32) -> f64 {
    sum(row, |z| exp((z - maximum) * inverse))
}

/// Values that are added up in f32 before f64 takes over.
const PIECE: usize = 64 * LANES;

#[inline(always)]
fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0f64;
    for piece in row.chunks(PIECE) {
        let mut lanes = [0.0f32; LANES];
        let (chunks, rest) = piece.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += of(value);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        total += rest.iter().map(|&value| f64::from(of(value))).sum::<f64>();
    }
    total
}

/// Σ e ((t − teacher's maximum) − (z − student's maximum)).
#[inline(always)]
fn cross(exps: &[f32], teacher: &[f32], teacher_maximum: f32, student: &[f32], maximum: f32) -> f64 {
    let mut total = 0.0f64;
    for ((exps, teacher), student) in exps.chunks(PIECE).zip(teacher.chunks(PIECE)).zip(student.chunks(PIECE))
    {
        let mut lanes = [0.0f32; LANES];
        let term = |e: f32, t: f32, z: f32| e * ((t - teacher_maximum) - (z - maximum));
        let ((e, e_rest), (t, t_rest), (z, z_rest)) =
            (exps.as_chunks::<LANES>(), teacher.as_chunks::<LANES>(), student.as_chunks::<LANES>());
        for ((e, t), z) in e.iter().zip(t).zip(z) {
            for lane in 0..LANES {
                lanes[lane] += term(e[lane], t[lane], z[lane]);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        let rest = e_rest.iter().zip(t_rest).zip(z_rest);
        total += rest.map(|((&e, &t), &z)| f64::from(term(e, t, z))).sum::<f64>();
    }
    total
}
