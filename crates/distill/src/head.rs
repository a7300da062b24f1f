//! The output head and the loss in one: from the normed residual stream to a loss and its gradients, a few tokens at a time, so
//! that `[tokens, vocab]` never exists whole (as in Hsu et al. 2024, arXiv:2410.10989, section 3.2).

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;
use slmc_matmul::{Onto, Operand, Precision, product, product_into};
use slmc_model::ops::LogitTransform;

use crate::objective::Objective;
use crate::rows::{Room, Token, TokenLoss};
use crate::teacher::Teaching;
use crate::top_k::TopToken;

/// Logits of each model that are in memory at a time, at most (and of 32 tokens at least).
const LOGITS: usize = 2 << 20;

/// The least number of tokens of a piece: fewer would read the head for hardly any work.
const TOKENS: usize = 32;

/// What a model hands its head, and the head.
#[derive(Clone, Copy, Debug)]
pub struct HeadInput<'a> {
    /// The normed residual stream, `[tokens, width]`.
    pub hidden: &'a [f32],
    /// The head, `[vocab, width]`; it may have more rows than are scored.
    pub weight: &'a [f32],
    /// Its columns.
    pub width: usize,
    /// What makes logits of its products.
    pub logits: LogitTransform,
    /// What is rounded to before it is multiplied, in the backward pass too.
    pub precision: Precision,
}

impl HeadInput<'_> {
    /// Logits of the first `vocab` tokens for some of the positions, `[positions, vocab]`.
    pub(crate) fn logits(&self, vocab: usize, tokens: Range<usize>) -> Vec<f32> {
        let Self { hidden, weight, width, logits: transform, precision } = *self;
        let hidden = &hidden[tokens.start * width..tokens.end * width];
        let weight = Operand::new(&weight[..vocab * width], [vocab, width]);
        let mut logits = product(precision, Operand::new(hidden, [tokens.len(), width]), weight.transposed());
        transform.apply(&mut logits);
        logits
    }
}

/// Sums over tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// Divergence from the teacher, factor τ² included.
    pub divergence: f64,
    /// Cross-entropy in nats.
    pub cross_entropy: f64,
    /// Tokens that had a label.
    pub tokens: usize,
    /// The hidden states' part of the loss, as it is weighted: not a sum over tokens.
    pub hidden: f64,
}

impl LossSums {
    /// The mean over tokens of the objective, and the hidden states' part.
    pub fn loss(&self, objective: &Objective) -> f64 {
        let alpha = f64::from(objective.alpha);
        ((1.0 - alpha) * self.divergence + alpha * self.cross_entropy) / self.tokens.max(1) as f64
            + self.hidden
    }

    /// Adds another's sums.
    pub fn add(&mut self, other: &Self) {
        self.divergence += other.divergence;
        self.cross_entropy += other.cross_entropy;
        self.tokens += other.tokens;
        self.hidden += other.hidden;
    }
}

/// The loss of the first `vocab` entries of the vocabulary, and what is to be changed.
#[derive(Clone, Copy, Debug)]
pub struct HeadLoss<'a> {
    /// What is trained towards.
    pub objective: &'a Objective,
    /// Entries of the vocabulary that both models share.
    pub vocab: usize,
    /// Factor of all gradients: 1 / number of tokens for the gradient of a mean.
    pub weight: f32,
}

impl HeadLoss<'_> {
    /// The sums over tokens and the gradient of the student's `hidden`, `[tokens, width]`. `labels` has the token that each
    /// position shall predict, `None` where there is nothing to predict: such tokens have no loss and no gradient. The gradient of
    /// the student's head is added to `d_weight`, `[vocab or more, width]`, if it is wanted.
    ///
    /// # Panics
    /// If slices do not have the shapes they are said to have, or a label is outside the vocabulary.
    pub fn evaluate(
        &self,
        student: HeadInput<'_>,
        teacher: Option<Teaching<'_>>,
        labels: &[Option<u32>],
        mut d_weight: Option<&mut [f32]>,
    ) -> (LossSums, Vec<f32>) {
        let (tokens, width, vocab, precision) = (labels.len(), student.width, self.vocab, student.precision);
        assert_eq!(student.hidden.len(), tokens * width, "hidden states of the student");
        let teacher = teacher.filter(|_| self.objective.needs_teacher());
        let (mut sums, mut d_hidden) = (LossSums::default(), vec![0.0; tokens * width]);
        for piece in self.pieces(tokens) {
            let mut logits = student.logits(vocab, piece.clone());
            let capped = (!student.logits.is_identity()).then(|| logits.clone());
            sums.add(&self.gradients(&mut logits, teacher, &labels[piece.clone()], piece.start));
            if let Some(capped) = capped {
                student.logits.back(&capped, &mut logits);
            }
            let logits = Operand::new(&logits, [piece.len(), vocab]);
            let head = Operand::new(&student.weight[..vocab * width], [vocab, width]);
            let rows = piece.start * width..piece.end * width;
            product_into(precision, &mut d_hidden[rows.clone()], Onto::Zero, logits, head);
            if let Some(d_weight) = &mut d_weight {
                let hidden = Operand::new(&student.hidden[rows], [piece.len(), width]);
                product_into(
                    precision,
                    &mut d_weight[..vocab * width],
                    Onto::Itself,
                    logits.transposed(),
                    hidden,
                );
            }
        }
        (sums, d_hidden)
    }

    /// The sums over tokens alone.
    ///
    /// # Panics
    /// As [`HeadLoss::evaluate`].
    pub fn measure(
        &self,
        student: HeadInput<'_>,
        teacher: Option<Teaching<'_>>,
        labels: &[Option<u32>],
    ) -> LossSums {
        let teacher = teacher.filter(|_| self.objective.needs_teacher());
        let mut sums = LossSums::default();
        for piece in self.pieces(labels.len()) {
            let mut logits = student.logits(self.vocab, piece.clone());
            sums.add(&self.gradients(&mut logits, teacher, &labels[piece.clone()], piece.start));
        }
        sums
    }

    /// Tokens that are gone through together.
    fn pieces(&self, tokens: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let piece = (LOGITS / self.vocab.max(1)).max(TOKENS);
        (0..tokens).step_by(piece).map(move |first| first..tokens.min(first + piece))
    }

    /// Turns the student's logits of the tokens from `first` on into their gradients.
    fn gradients(
        &self,
        student: &mut [f32],
        teacher: Option<Teaching<'_>>,
        labels: &[Option<u32>],
        first: usize,
    ) -> LossSums {
        let (vocab, arch) = (self.vocab, Arch::new());
        let (teacher_logits, cached) = match teacher {
            Some(Teaching::Live(teacher)) => (Some(teacher.logits(vocab, first..first + labels.len())), None),
            Some(Teaching::Cached(rows)) => (None, Some(rows)),
            None => (None, None),
        };
        let losses: Vec<Option<TokenLoss>> = student
            .par_chunks_exact_mut(vocab)
            .enumerate()
            .map_init(Room::default, |room, (token, student)| {
                let Some(label) = labels[token] else {
                    student.fill(0.0);
                    return None;
                };
                let (objective, weight, label) = (self.objective, self.weight, label as usize);
                if let Some(rows) = cached {
                    let teacher = rows.token(first + token);
                    return Some(arch.dispatch(TopToken {
                        student,
                        teacher,
                        label,
                        objective,
                        weight,
                        room,
                    }));
                }
                let teacher = teacher_logits.as_ref().map(|teacher| &teacher[token * vocab..][..vocab]);
                Some(arch.dispatch(Token { student, teacher, label, objective, weight, room }))
            })
            .collect();
        let mut sums = LossSums::default();
        for loss in losses.into_iter().flatten() {
            sums.divergence += loss.divergence;
            sums.cross_entropy += loss.cross_entropy;
            sums.tokens += 1;
        }
        sums
    }
}
