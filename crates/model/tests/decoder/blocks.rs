//! The parts of a block, its observers, and its independence from the number of threads.

use std::error::Error;

use crate::common::{golden, largest_difference, logits, logits_observed, noise, tensor};
use slmc_model::{
    Block, CheckpointSource, Context, Device, HostView, KvPrecision, LinearInput, LinearObserver, ModelError,
    NoObserver, Role, WeightSource,
};

fn source(case: &str) -> CheckpointSource {
    CheckpointSource::open(&golden(case).dir).unwrap()
}

#[test]
fn parts_add_up_to_the_whole() {
    for case in ["llama_linear_biases", "qwen2_window", "gemma2", "granite", "olmo2", "phi3"] {
        let source = source(case);
        let device = Device::Cpu.burn().unwrap();
        let config = source.config();
        let context = Context::new(config, 20, &device, KvPrecision::F32);
        let block = Block::load(&source, 1, &device).unwrap();
        let hidden = tensor(noise(3 * 20 * config.hidden_size, 1), [3, 20, config.hidden_size], &device);
        let whole = block.forward(hidden.clone(), &context, &mut NoObserver).unwrap();
        let attention =
            block.attention_output(block.attention_input(&hidden), &context, &mut NoObserver).unwrap();
        let middle = hidden + attention;
        let parts = middle.clone() + block.mlp_output(block.mlp_input(&middle), &mut NoObserver).unwrap();
        let difference = largest_difference(&HostView::of(&whole), &HostView::of(&parts));
        assert!(difference < 1e-5, "{case}: {difference:e}");
    }
}

#[test]
fn weights_are_given_back_and_replaced() {
    for case in ["llama_linear_biases", "phi3", "gemma3", "olmo2"] {
        weights_of(case);
    }
}

fn weights_of(case: &str) {
    let source = source(case);
    let device = Device::Cpu.burn().unwrap();
    let config = source.config();
    let mut block = Block::load(&source, 0, &device).unwrap();
    let roles = Role::ALL.into_iter().filter(|role| role.is_per_layer() && config.has(*role));
    for role in roles {
        let stored = source.load(slmc_model::TensorId::block(0, role)).unwrap();
        assert_eq!(block.weight(role).unwrap(), stored.values, "{role:?}");
        let other = noise(stored.values.len(), 7);
        block.set_weight(role, other.clone()).unwrap();
        assert_eq!(block.weight(role).unwrap(), other, "{role:?}");
    }
    assert!(matches!(block.set_weight(Role::Query, vec![0.0; 3]), Err(ModelError::Length { .. })));
    assert!(matches!(block.weight(Role::Head), Err(ModelError::NoSuchTensor { .. })));
}

/// Scaling the columns of a linear layer's weight and dividing its input leaves its output: what AWQ does.
#[test]
fn rescaling_through_the_norm_changes_nothing() {
    let source = source("llama");
    let device = Device::Cpu.burn().unwrap();
    let config = source.config();
    let context = Context::new(config, 16, &device, KvPrecision::F32);
    let mut block = Block::load(&source, 0, &device).unwrap();
    let hidden = tensor(noise(16 * config.hidden_size, 3), [1, 16, config.hidden_size], &device);
    let before = block.forward(hidden.clone(), &context, &mut NoObserver).unwrap();
    let scales: Vec<f32> = noise(config.hidden_size, 5).into_iter().map(|x| 1.5 + x).collect();
    let norm = block.weight(Role::InputNorm).unwrap();
    let scaled = norm.iter().zip(&scales).map(|(norm, scale)| norm / scale).collect();
    block.set_weight(Role::InputNorm, scaled).unwrap();
    for role in [Role::Query, Role::Key, Role::Value] {
        let mut weight = block.weight(role).unwrap();
        weight
            .chunks_mut(config.hidden_size)
            .for_each(|row| row.iter_mut().zip(&scales).for_each(|(w, s)| *w *= s));
        block.set_weight(role, weight).unwrap();
    }
    let after = block.forward(hidden, &context, &mut NoObserver).unwrap();
    let difference = largest_difference(&HostView::of(&before), &HostView::of(&after));
    assert!(difference < 1e-4, "{difference:e}");
}

#[derive(Default)]
struct Recorder(Vec<(LinearInput, usize, Vec<f32>)>);

impl LinearObserver for Recorder {
    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.push((input, d_in, x.to_vec()));
        Ok(())
    }
}

#[test]
fn observers_see_every_input_once() {
    let golden = golden("llama3_tied_head_dim");
    let source = source("llama3_tied_head_dim");
    let device = Device::Cpu.burn().unwrap();
    let mut recorder = Recorder::default();
    logits_observed(&source, &golden.tokens, golden.seq, &device, KvPrecision::F32, &mut recorder);
    let widths = [64, 128, 64, 96];
    let expected: Vec<_> = (0..2).flat_map(|_| LinearInput::ALL.into_iter().zip(widths)).collect();
    let seen: Vec<_> = recorder.0.iter().map(|(input, d_in, _)| (*input, *d_in)).collect();
    assert_eq!(seen, expected);
    assert!(recorder.0.iter().all(|(_, d_in, x)| x.len() == golden.tokens.len() * d_in));
}

struct Refuses;

impl LinearObserver for Refuses {
    fn observe(&mut self, _: LinearInput, _: &[f32], _: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("no".into())
    }
}

#[test]
fn an_objection_stops_the_block() {
    let source = source("llama");
    let device = Device::Cpu.burn().unwrap();
    let context = Context::new(source.config(), 4, &device, KvPrecision::F32);
    let block = Block::load(&source, 0, &device).unwrap();
    let hidden = |seq| tensor(noise(seq * 64, 1), [1, seq, 64], &device);
    assert!(matches!(block.forward(hidden(4), &context, &mut Refuses), Err(ModelError::Observer(_))));
    let long = block.forward(hidden(5), &context, &mut NoObserver);
    assert!(matches!(long, Err(ModelError::SequenceLength { expected: 4, found: 5 })));
}

#[test]
fn threads_do_not_change_a_bit() {
    let golden = golden("mistral_window");
    let source = source("mistral_window");
    let device = Device::Cpu.burn().unwrap();
    // Enough sequences for several tiles.
    let tokens: Vec<u32> = golden.tokens.iter().copied().cycle().take(golden.seq * 30).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| logits(&source, &tokens, golden.seq, &device, KvPrecision::F16))
    };
    let one = run(1);
    for threads in [2, 3, 5] {
        assert!(one.iter().zip(run(threads)).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
    }
}
