//! The training loop.

use std::borrow::Cow;
use std::time::Instant;

use slmc_matmul::Precision;
use slmc_model::{BurnDevice, MemorySource, ModelError, WeightSource};

use crate::adamw::AdamW;
use crate::batch::{Batch, Order};
use crate::error::DistillError;
use crate::gradients::WeightGradients;
use crate::head::{HeadLoss, LossSums};
use crate::hidden::Comparison;
use crate::masks::Masks;
use crate::on_policy::{is_on_policy, write};
use crate::parameter::Parameter;
use crate::predictor::Predictor;
use crate::progress::{Best, End, HeldOut, Progress, Record};
use crate::scales::{ScaledGrid, pull_back, scaled};
use crate::sequence::Sequence;
use crate::settings::{Length, TrainSettings};
use crate::setup::{Data, Rounding, Setup, State};
use crate::student::Student;
use crate::teacher::{Teacher, TeacherAtWork};

/// Steps in a row that may be skipped.
const MOST_SKIPPED: u32 = 5;

/// Evaluations in a row that may be worse than the start: a learning rate that is still high makes some so.
const MOST_WORSE: u32 = 3;

/// Follows a run.
pub trait Watcher {
    /// Something was measured.
    ///
    /// # Errors
    /// Whatever the watcher objects to; the run stops.
    fn record(&mut self, record: &Record) -> Result<(), DistillError>;
    /// The student is the best so far.
    ///
    /// # Errors
    /// It cannot be kept.
    fn best(&mut self, trainer: &Trainer<'_>) -> Result<(), DistillError>;
    /// A good moment to keep the whole state.
    ///
    /// # Errors
    /// It cannot be kept.
    fn save(&mut self, trainer: &Trainer<'_>) -> Result<(), DistillError>;
    /// True once the run shall stop; asked after every step.
    fn is_cancelled(&self) -> bool;
}

/// A student in training.
pub struct Trainer<'a> {
    settings: TrainSettings,
    data: Data<'a>,
    order: Order,
    teacher: Option<TeacherAtWork<'a>>,
    student: Student,
    vocab: usize,
    ends: Vec<u32>,
    masks: Masks,
    rounding: Option<Box<Rounding<'a>>>,
    grid: Option<&'a dyn ScaledGrid>,
    device: BurnDevice,
    weights: MemorySource,
    optimizer: AdamW,
    progress: Progress,
    hidden: Option<Comparison>,
}

impl<'a> Trainer<'a> {
    /// A run that begins, or goes on, at `state`.
    ///
    /// # Errors
    /// Too few sequences; a teacher that cannot be loaded.
    pub fn new(settings: TrainSettings, setup: Setup<'a>, state: State) -> Result<Self, DistillError> {
        let Setup { data, teacher, vocab, ends, masks, rounding, grid, device } = setup;
        let seq_len = data.train.first().map_or(0, |sequence| sequence.tokens.len());
        let needed = settings.sequences_per_step();
        if data.train.len() < needed || data.held_out.is_empty() {
            let found = data.train.len() + data.held_out.len();
            return Err(DistillError::TooLittleText { found, needed: needed + 1, seq_len });
        }
        let longest = seq_len.max(data.held_out[0].tokens.len());
        let teacher = teacher.filter(|_| settings.objective.needs_teacher() || settings.hidden_mse > 0.0);
        let hidden = match (settings.hidden_mse > 0.0, teacher) {
            (false, _) => None,
            (true, Some(Teacher::Model(model))) => {
                let configs = [model.config(), state.weights.config()];
                Some(Comparison::begin(configs, state.projection, settings.seed))
            }
            (true, _) => return Err(DistillError::NoHiddenStates),
        };
        Ok(Self {
            order: Order { sequences: data.train.len(), seed: settings.seed },
            teacher: teacher.map(|teacher| TeacherAtWork::new(teacher, longest, &device)).transpose()?,
            student: Student::new(&state.weights, seq_len, &device, settings.gradient_checkpointing)?
                .in_precision(settings.precision),
            weights: state.weights,
            optimizer: state.optimizer,
            progress: state.progress,
            hidden,
            settings,
            data,
            vocab,
            ends,
            masks,
            rounding,
            grid,
            device,
        })
    }

    /// The weights as the forward pass sees them.
    fn seen(&self) -> Result<Cow<'_, MemorySource>, ModelError> {
        if let Some(grid) = self.grid {
            return scaled(&self.weights, grid).map(Cow::Owned);
        }
        let Some(rounding) = &self.rounding else { return Ok(Cow::Borrowed(&self.weights)) };
        let config = self.weights.config().clone();
        let rounded = MemorySource::new(config, |id| {
            let values = self.weights.values(id)?;
            Ok(rounding(id, values)?.unwrap_or_else(|| values.to_vec()))
        });
        rounded.map(Cow::Owned)
    }

    /// The student's weights.
    pub fn weights(&self) -> &MemorySource {
        &self.weights
    }

    /// The student as it is now, to go on elsewhere.
    pub fn into_state(self) -> State {
        let projection = self.hidden.and_then(|hidden| hidden.projection);
        State { weights: self.weights, optimizer: self.optimizer, progress: self.progress, projection }
    }

    /// What turns the student's hidden states into the teacher's width, `[teacher's, student's]` with the teacher's width, where that is in training.
    pub fn projection(&self) -> Option<(&[f32], usize)> {
        let hidden = self.hidden.as_ref()?;
        Some((hidden.projection.as_deref()?, hidden.width))
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// Where the run is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The zeros that stay.
    pub fn masks(&self) -> &Masks {
        &self.masks
    }

    /// The share of the run that lies behind, 0 to 1.
    pub fn done(&self) -> f64 {
        match self.settings.length {
            Length::Steps(steps) => self.progress.step as f64 / steps.max(1) as f64,
            Length::Seconds(seconds) => self.progress.seconds / seconds.max(f64::MIN_POSITIVE),
        }
    }

    /// Trains until the end, and says why it came.
    ///
    /// # Errors
    /// See [`DistillError`]; those of the watcher.
    pub fn run(&mut self, watcher: &mut dyn Watcher) -> Result<End, DistillError> {
        if self.progress.start.is_none() {
            let held_out = self.evaluate_timed()?;
            if !held_out.loss.is_finite() {
                return Err(DistillError::Start);
            }
            self.progress.start = Some(held_out);
            self.judge(held_out, watcher)?;
        }
        loop {
            let finished = self.done() >= 1.0;
            if finished || watcher.is_cancelled() {
                if finished && self.progress.evaluated != Some(self.progress.step) {
                    let held_out = self.evaluate_timed()?;
                    self.judge(held_out, watcher)?;
                }
                watcher.save(self)?;
                return Ok(if finished { End::Finished } else { End::Interrupted });
            }
            let record = self.step()?;
            watcher.record(&record)?;
            if self.progress.skipped_in_a_row >= MOST_SKIPPED {
                let (step, count) = (self.progress.step, self.progress.skipped_in_a_row);
                return Err(DistillError::NonFinite { step, count });
            }
            if self.progress.step.is_multiple_of(self.settings.evaluate_every) {
                let held_out = self.evaluate_timed()?;
                self.judge(held_out, watcher)?;
                watcher.save(self)?;
                if self.progress.worse_in_a_row >= MOST_WORSE {
                    return Ok(End::WorseThanStart);
                }
                if self.settings.patience.is_some_and(|patience| self.progress.since_best >= patience) {
                    return Ok(End::NoImprovement);
                }
            }
        }
    }

    /// One step: the gradients of its batches, and what the optimizer makes of them.
    ///
    /// # Errors
    /// A model that cannot be run.
    pub fn step(&mut self) -> Result<Record, DistillError> {
        let started = Instant::now();
        let (learning_rate, count) = (self.learning_rate(), self.settings.sequences_per_step());
        let chosen = self.order.take(self.progress.sequences, count);
        let (seed, step) = (self.settings.seed, self.progress.step);
        let on_policy = is_on_policy(self.settings.on_policy, seed, step);
        let (mut objective, precision) = (self.settings.objective, self.settings.precision);
        let seen = self.seen()?;
        let mut sequences: Vec<&Sequence> = chosen.iter().map(|&n| &self.data.train[n]).collect();
        let written = match on_policy {
            true => write(seen.as_ref(), &sequences, &self.ends, seed.wrapping_add(step << 20))?,
            false => Vec::new(),
        };
        if on_policy {
            objective.alpha = 0.0;
            sequences = written.iter().collect();
        }
        let batches: Vec<Batch> = sequences
            .chunks(self.settings.batch_size)
            .map(|chunk| Batch::new(chunk.iter().copied()))
            .collect();
        let predictions: usize = batches.iter().map(Batch::predictions).sum();
        let loss =
            HeadLoss { objective: &objective, vocab: self.vocab, weight: 1.0 / predictions.max(1) as f32 };
        let (mut sums, mut gradients) = (LossSums::default(), WeightGradients::default());
        for (batch, sequences) in batches.iter().zip(chosen.chunks(self.settings.batch_size)) {
            let layers = self.hidden.as_ref().map_or(&[][..], |hidden| &hidden.layers);
            let said = self
                .teacher
                .as_ref()
                .map(|teacher| teacher.say(batch, sequences, layers, precision))
                .transpose()?;
            let teacher = self.teacher.as_ref().zip(said.as_ref()).map(|(teacher, said)| teacher.teach(said));
            let weight = self.settings.hidden_mse / predictions.max(1) as f32;
            let compared = self.hidden.as_ref().zip(said.as_ref());
            let targets = compared.map(|(hidden, said)| hidden.targets(said.layers(), weight));
            sums.add(&self.student.accumulate_hidden(
                &seen,
                batch,
                (teacher, targets),
                &loss,
                &mut gradients,
            )?);
        }
        drop(seen);
        if let Some(grid) = self.grid {
            pull_back(&self.weights, grid, &mut gradients)?;
        }
        if self.settings.keep_zeros {
            self.masks.apply(&mut gradients);
        }
        let gradient_norm = gradients.norm();
        let value = sums.loss(&objective);
        let applied = value.is_finite() && gradient_norm.is_finite();
        if applied {
            if gradient_norm > f64::from(self.settings.clip_norm) {
                gradients.scale((f64::from(self.settings.clip_norm) / gradient_norm) as f32);
            }
            let projection = self.hidden.as_mut().and_then(|hidden| hidden.projection.as_mut());
            let parameters = Parameter::all_mut(&mut self.weights)
                .chain(projection.map(|values| (Parameter::Projection, values)));
            self.optimizer.step(parameters, &gradients, learning_rate as f32);
        }
        let (seconds, tokens) =
            (started.elapsed().as_secs_f64(), batches.iter().map(|b| b.tokens.len() as u64).sum::<u64>());
        let progress = &mut self.progress;
        progress.step += 1;
        progress.updates = self.optimizer.steps();
        progress.sequences += count as u64;
        progress.tokens += tokens;
        progress.seconds += seconds;
        progress.skipped += u64::from(!applied);
        progress.skipped_in_a_row = if applied { 0 } else { progress.skipped_in_a_row + 1 };
        let per_token = |sum: f64| sum / sums.tokens.max(1) as f64;
        Ok(Record::Step {
            step: progress.step,
            loss: value,
            divergence: per_token(sums.divergence),
            cross_entropy: per_token(sums.cross_entropy),
            gradient_norm,
            learning_rate,
            hidden_mse: self.hidden.as_ref().map(|_| sums.hidden / f64::from(self.settings.hidden_mse)),
            on_policy,
            applied,
            tokens: progress.tokens,
            tokens_per_second: tokens as f64 / seconds.max(f64::MIN_POSITIVE),
            seconds: progress.seconds,
        })
    }

    fn learning_rate(&self) -> f64 {
        let total = match self.settings.length {
            Length::Steps(steps) => steps,
            // As many steps as there will be at the pace so far.
            Length::Seconds(seconds) => {
                let pace = self.progress.seconds / self.progress.step.max(1) as f64;
                (seconds / pace.max(1e-9)).ceil() as u64
            }
        };
        self.settings.schedule.learning_rate(self.progress.step, self.done(), total)
    }

    /// The losses on held-out text, in f32 whatever the precision of training.
    ///
    /// # Errors
    /// A model that cannot be run.
    pub fn evaluate(&self) -> Result<HeldOut, DistillError> {
        let seq_len = self.data.held_out[0].tokens.len();
        let seen = self.seen()?;
        let student = match self.weights.has_base() {
            true => Predictor::open(seen.as_ref(), seq_len, &self.device)?,
            false => Predictor::load(seen.as_ref(), seq_len, &self.device)?,
        };
        let objective = self.settings.objective;
        let loss = HeadLoss { objective: &objective, vocab: self.vocab, weight: 1.0 };
        let mut sums = LossSums::default();
        let mut first = self.data.train.len();
        for chunk in self.data.held_out.chunks(self.settings.batch_size) {
            let batch = Batch::new(chunk);
            let sequences: Vec<usize> = (first..first + chunk.len()).collect();
            first += chunk.len();
            let said = self
                .teacher
                .as_ref()
                .map(|teacher| teacher.say(&batch, &sequences, &[], Precision::F32))
                .transpose()?;
            let teacher = self.teacher.as_ref().zip(said.as_ref()).map(|(teacher, said)| teacher.teach(said));
            let states = student.predict(&batch)?;
            sums.add(&loss.measure(student.with_head(&states), teacher, &batch.labels));
        }
        let per_token = |sum: f64| sum / sums.tokens.max(1) as f64;
        Ok(HeldOut {
            loss: sums.loss(&objective),
            divergence: per_token(sums.divergence),
            cross_entropy: per_token(sums.cross_entropy),
        })
    }

    fn evaluate_timed(&mut self) -> Result<HeldOut, DistillError> {
        let started = Instant::now();
        let held_out = self.evaluate();
        self.progress.seconds += started.elapsed().as_secs_f64();
        held_out
    }

    /// Takes note of an evaluation.
    fn judge(&mut self, held_out: HeldOut, watcher: &mut dyn Watcher) -> Result<(), DistillError> {
        let progress = &mut self.progress;
        // A loss that is not a number is no better than any.
        let best = progress.best.is_none_or(|best| held_out.loss < best.held_out.loss);
        let worse = progress.start.is_some_and(|start| held_out.loss.is_nan() || held_out.loss > start.loss);
        progress.evaluated = Some(progress.step);
        progress.worse_in_a_row = if worse { progress.worse_in_a_row + 1 } else { 0 };
        progress.since_best = if best { 0 } else { progress.since_best + 1 };
        let HeldOut { loss, divergence, cross_entropy } = held_out;
        let (step, seconds) = (progress.step, progress.seconds);
        if best {
            progress.best = Some(Best { step, held_out });
        }
        watcher.record(&Record::HeldOut { step, loss, divergence, cross_entropy, best, seconds })?;
        if best { watcher.best(self) } else { Ok(()) }
    }
}
