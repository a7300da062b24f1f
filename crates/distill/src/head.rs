//! The output head and the loss in one: from the normed residual stream to a loss and its gradients, a few tokens at a time, so
//! that `[tokens, vocab]` never exists whole (as in Hsu et al. 2024, arXiv:2410.10989, section 3.2).

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;
use slmc_model::ops::{LogitTransform, Operand, product, product_into};

use crate::objective::Objective;
use crate::rows::{Room, Token, TokenLoss};

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
}

impl LossSums {
    /// The mean over tokens of the objective.
    pub fn loss(&self, objective: &Objective) -> f64 {
        let alpha = f64::from(objective.alpha);
        ((1.0 - alpha) * self.divergence + alpha * self.cross_entropy) / self.tokens.max(1) as f64
    }

    /// Adds another's sums.
    pub fn add(&mut self, other: &Self) {
        self.divergence += other.divergence;
        self.cross_entropy += other.cross_entropy;
        self.tokens += other.tokens;
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
        teacher: Option<HeadInput<'_>>,
        labels: &[Option<u32>],
        mut d_weight: Option<&mut [f32]>,
    ) -> (LossSums, Vec<f32>) {
        let (tokens, width, vocab) = (labels.len(), student.width, self.vocab);
        assert_eq!(student.hidden.len(), tokens * width, "hidden states of the student");
        let teacher = teacher.filter(|_| self.objective.needs_teacher());
        let (mut sums, mut d_hidden) = (LossSums::default(), vec![0.0; tokens * width]);
        for piece in self.pieces(tokens) {
            let mut logits = self.logits(student, piece.clone());
            let teacher = teacher.map(|teacher| self.logits(teacher, piece.clone()));
            let capped = (!student.logits.is_identity()).then(|| logits.clone());
            sums.add(&self.gradients(&mut logits, teacher.as_deref(), &labels[piece.clone()]));
            if let Some(capped) = capped {
                student.logits.back(&capped, &mut logits);
            }
            let logits = Operand::new(&logits, [piece.len(), vocab]);
            let head = Operand::new(&student.weight[..vocab * width], [vocab, width]);
            let rows = piece.start * width..piece.end * width;
            product_into(&mut d_hidden[rows.clone()], logits, head, false);
            if let Some(d_weight) = &mut d_weight {
                let hidden = Operand::new(&student.hidden[rows], [piece.len(), width]);
                product_into(&mut d_weight[..vocab * width], logits.transposed(), hidden, true);
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
        teacher: Option<HeadInput<'_>>,
        labels: &[Option<u32>],
    ) -> LossSums {
        let teacher = teacher.filter(|_| self.objective.needs_teacher());
        let mut sums = LossSums::default();
        for piece in self.pieces(labels.len()) {
            let mut logits = self.logits(student, piece.clone());
            let teacher = teacher.map(|teacher| self.logits(teacher, piece.clone()));
            sums.add(&self.gradients(&mut logits, teacher.as_deref(), &labels[piece]));
        }
        sums
    }

    /// Tokens that are gone through together.
    fn pieces(&self, tokens: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let piece = (LOGITS / self.vocab.max(1)).max(TOKENS);
        (0..tokens).step_by(piece).map(move |first| first..tokens.min(first + piece))
    }

    /// Logits of some tokens, `[tokens, vocab]`.
    fn logits(&self, model: HeadInput<'_>, tokens: Range<usize>) -> Vec<f32> {
        let HeadInput { hidden, weight, width, logits: transform } = model;
        let hidden = &hidden[tokens.start * width..tokens.end * width];
        let weight = Operand::new(&weight[..self.vocab * width], [self.vocab, width]);
        let mut logits = product(Operand::new(hidden, [tokens.len(), width]), weight.transposed());
        transform.apply(&mut logits);
        logits
    }

    /// Turns the student's logits into their gradients.
    fn gradients(&self, student: &mut [f32], teacher: Option<&[f32]>, labels: &[Option<u32>]) -> LossSums {
        let (vocab, arch) = (self.vocab, Arch::new());
        let losses: Vec<Option<TokenLoss>> = student
            .par_chunks_exact_mut(vocab)
            .enumerate()
            .map_init(Room::default, |room, (token, student)| {
                let Some(label) = labels[token] else {
                    student.fill(0.0);
                    return None;
                };
                let teacher = teacher.map(|teacher| &teacher[token * vocab..][..vocab]);
                let (objective, weight) = (self.objective, self.weight);
                let token = Token { student, teacher, label: label as usize, objective, weight, room };
                Some(arch.dispatch(token))
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
