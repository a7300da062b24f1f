//! What a model is run on to be timed.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use slmc_eval::Repetition;
use slmc_model::{Device, Sampler, Sampling, Session, WeightSource};

use crate::PipelineError;
use crate::progress::{Reporter, Unit};

/// Which program runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// slmc's own decoder.
    #[default]
    Slmc,
    /// llama.cpp, built into this program.
    LlamaCpp,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Slmc => "slmc",
            Self::LlamaCpp => "llama-cpp",
        })
    }
}

/// A name that is no engine's.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown engine {0:?}; expected slmc or llama-cpp")]
pub struct UnknownEngine(String);

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        [Self::Slmc, Self::LlamaCpp]
            .into_iter()
            .find(|engine| engine.to_string() == name)
            .ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

/// A loaded model that can be timed.
pub trait Engine {
    /// Reads the prompt from nothing and writes `tokens` tokens, the most likely ones, whether or not one of them ends the
    /// text; gives their times and ids.
    ///
    /// # Errors
    /// The model does not run.
    fn repeat(&mut self, prompt: &[u32], tokens: usize) -> Result<(Repetition, Vec<u32>), PipelineError>;
}

/// slmc's own decoder.
pub struct OwnEngine<'a> {
    session: Session<'a>,
}

impl<'a> OwnEngine<'a> {
    /// A model with room for `positions` tokens.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn new(
        source: &'a dyn WeightSource,
        positions: usize,
        device: Device,
    ) -> Result<Self, PipelineError> {
        Ok(Self { session: Session::new(source, positions, device)? })
    }
}

impl Engine for OwnEngine<'_> {
    fn repeat(&mut self, prompt: &[u32], tokens: usize) -> Result<(Repetition, Vec<u32>), PipelineError> {
        self.session.truncate(0);
        time_tokens(prompt, tokens, |tokens| {
            let logits = self.session.read(tokens)?;
            Ok(Sampler::new(Sampling::default()).choose(&logits, &[]))
        })
    }
}

/// Times `next`, which reads tokens behind those read before and gives the most likely one after them.
pub(super) fn time_tokens(
    prompt: &[u32],
    tokens: usize,
    mut next: impl FnMut(&[u32]) -> Result<u32, PipelineError>,
) -> Result<(Repetition, Vec<u32>), PipelineError> {
    let mut timed = |read: &[u32]| {
        let started = Instant::now();
        next(read).map(|token| (token, started.elapsed().as_secs_f64()))
    };
    let (mut token, first_token_seconds) = timed(prompt)?;
    let (mut ids, mut token_seconds) = (vec![token], Vec::with_capacity(tokens));
    for _ in 1..tokens {
        let seconds;
        (token, seconds) = timed(&[token])?;
        ids.push(token);
        token_seconds.push(seconds);
    }
    Ok((Repetition { first_token_seconds, token_seconds }, ids))
}

/// How often, and on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The prompt's token ids.
    pub prompt: Vec<u32>,
    /// Tokens to write; at least 2, as the first one's time is the prompt's.
    pub tokens: usize,
    /// Repetitions of each model that count.
    pub repetitions: usize,
    /// Repetitions before those.
    pub warmup: usize,
}

impl Schedule {
    /// Runs the engines in turn, the order turned round from repetition to repetition, so that whatever the machine does
    /// meanwhile meets all of them; gives each engine's repetitions.
    ///
    /// # Errors
    /// An engine's; the user stopped it.
    pub fn run(
        &self,
        engines: &mut [&mut dyn Engine],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Vec<Repetition>>, PipelineError> {
        let all = self.warmup + self.repetitions;
        reporter.begin("Timing", (all * engines.len()) as u64, Unit::Steps);
        let mut times = vec![Vec::new(); engines.len()];
        let done = (0..all).try_for_each(|round| {
            let mut order: Vec<usize> = (0..engines.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            order.into_iter().try_for_each(|engine| {
                if reporter.is_cancelled() {
                    return Err(PipelineError::Cancelled);
                }
                let (repetition, ids) = engines[engine].repeat(&self.prompt, self.tokens)?;
                debug_assert_eq!(ids.len(), self.tokens);
                if round >= self.warmup {
                    times[engine].push(repetition);
                }
                reporter.advance(1);
                Ok(())
            })
        });
        reporter.end();
        done.map(|()| times)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::progress::Silent;

    struct Recorder<'a>(char, &'a RefCell<String>);

    impl Engine for Recorder<'_> {
        fn repeat(&mut self, prompt: &[u32], tokens: usize) -> Result<(Repetition, Vec<u32>), PipelineError> {
            self.1.borrow_mut().push(self.0);
            let mut read = Vec::new();
            let timed = time_tokens(prompt, tokens, |tokens| {
                read.push(tokens.to_vec());
                Ok(10 + read.len() as u32)
            });
            assert_eq!(read, [vec![1, 2, 3], vec![11], vec![12]]);
            timed
        }
    }

    #[test]
    fn engines_take_turns_and_only_what_counts_is_kept() {
        let order = RefCell::default();
        let (mut a, mut b) = (Recorder('a', &order), Recorder('b', &order));
        let schedule = Schedule { prompt: vec![1, 2, 3], tokens: 3, repetitions: 3, warmup: 1 };
        let times = schedule.run(&mut [&mut a, &mut b], &Silent).unwrap();
        assert_eq!(order.into_inner(), "abbaabba");
        assert_eq!(times.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        assert!(times.iter().flatten().all(|repetition| repetition.token_seconds.len() == 2));
    }

    #[test]
    fn names_lead_back_to_the_engine() {
        for engine in [EngineKind::Slmc, EngineKind::LlamaCpp] {
            assert_eq!(engine.to_string().parse::<EngineKind>().unwrap(), engine);
        }
        assert!("vllm".parse::<EngineKind>().is_err());
    }
}
