//! Log-likelihoods of the bundled model, however they are put into batches. (What they are is compared with
//! lm-evaluation-harness where there is a tokenizer: in the pipeline's tests of tasks.)

use std::ops::ControlFlow;
use std::path::PathBuf;

use slmc_eval::likelihood::{Pair, log_likelihoods};
use slmc_eval::{Options, Protocol, Silent, evaluate};
use slmc_model::{CheckpointSource, Device};

fn tiny() -> CheckpointSource {
    CheckpointSource::open(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")).unwrap()
}

fn tokens(count: usize, seed: u32) -> Vec<u32> {
    (0..count as u32).map(|i| (seed.wrapping_mul(7919) + i * i * 31 + i * 17) % 2048).collect()
}

/// Pairs of many lengths, some of them twice or alike but for the end.
fn pairs() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for seed in 0..40 {
        let context = tokens(1 + (seed as usize * 37) % 150, seed);
        pairs.push(Pair { context: context.clone(), continuation: tokens(1 + seed as usize % 5, seed + 1) });
        pairs.push(Pair { context, continuation: tokens(1, seed + 2) });
    }
    pairs.push(pairs[3].clone());
    pairs
}

fn run(pairs: &[Pair], memory: usize) -> Vec<f64> {
    let logs = log_likelihoods(&tiny(), Device::Cpu, pairs, memory, &mut |_| ControlFlow::Continue(()));
    logs.unwrap().into_iter().map(|log| log.expect("nobody stopped it")).collect()
}

#[test]
fn batches_do_not_matter() {
    let pairs = pairs();
    let (all, one_by_one) = (run(&pairs, 1 << 30), run(&pairs, 1));
    for (pair, (all, one)) in all.iter().zip(&one_by_one).enumerate() {
        assert!((all - one).abs() < 1e-4 * all.abs(), "pair {pair}: {all} among others, {one} alone");
    }
    assert_eq!(all[3].to_bits(), all[80].to_bits());
    assert_eq!(run(&pairs, 1 << 30), all);
}

#[test]
fn they_are_what_perplexity_is_made_of() {
    let text = tokens(64, 5);
    let protocol = Protocol { n_ctx: 64, stride: None, bos: None, max_windows: None };
    let evaluation =
        evaluate(&tiny(), None, &text.repeat(2), Device::Cpu, &Options::new(protocol), &mut Silent).unwrap();
    let scored = evaluation.scores.nll.len() / evaluation.windows;
    let (context, continuation) = text.split_at(text.len() - scored);
    let pair = Pair { context: context.to_vec(), continuation: continuation.to_vec() };
    let nll: f64 = evaluation.scores.nll[..scored].iter().sum();
    let log = run(&[pair], 1 << 30)[0];
    assert!((nll + log).abs() < 1e-4 * nll, "{nll} {log}");
}

#[test]
fn work_can_be_watched_and_stopped() {
    let pairs = pairs();
    let mut seen = Vec::new();
    let mut watch = |share| {
        seen.push(share);
        ControlFlow::Continue(())
    };
    log_likelihoods(&tiny(), Device::Cpu, &pairs, 1 << 20, &mut watch).unwrap();
    assert!(seen.is_sorted() && (seen.last().unwrap() - 1.0).abs() < 1e-9, "{seen:?}");
    let mut stop = |share| if share > 0.4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let stopped = log_likelihoods(&tiny(), Device::Cpu, &pairs, 1 << 20, &mut stop);
    let (stopped, all) = (stopped.unwrap(), run(&pairs, 1 << 20));
    let answered = stopped.iter().flatten().count();
    assert!(answered > 0 && answered < pairs.len(), "{answered} of {}", pairs.len());
    for (pair, (stopped, all)) in stopped.iter().zip(&all).enumerate() {
        assert!(stopped.is_none_or(|log| log == *all), "pair {pair}: {stopped:?}, not {all}");
    }
    let empty = [Pair { context: vec![1], continuation: Vec::new() }];
    let error = log_likelihoods(&tiny(), Device::Cpu, &empty, 1 << 20, &mut stop).unwrap_err();
    assert_eq!(error.pair(), Some(0));
}
