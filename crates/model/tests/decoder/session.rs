//! Sequences that are continued, against the golden logits and the forward pass over whole sequences.

use crate::common::{CASES, golden, largest_difference, logits};
use crate::gguf_source::write;
use slmc_gguf::TensorType;
use slmc_model::{BurnDevice, CheckpointSource, Device, GgufSource, ModelError, Session, WeightSource};

fn cpu() -> BurnDevice {
    Device::Cpu.burn().unwrap()
}

/// Reads `tokens` in pieces of these lengths, over and over; every piece's logits must be those of its last token in
/// `expected`, `[tokens, vocab]`.
fn compare(
    session: &mut Session,
    tokens: &[u32],
    expected: &[f32],
    pieces: &[usize],
    limit: f32,
    what: &str,
) {
    let vocab = expected.len() / tokens.len();
    let mut lengths = pieces.iter().cycle();
    session.truncate(0);
    while session.len() < tokens.len() {
        let first = session.len();
        let piece = &tokens[first..tokens.len().min(first + lengths.next().unwrap())];
        let found = session.read(piece).unwrap();
        let last = session.len() - 1;
        assert_eq!(last, first + piece.len() - 1);
        let difference = largest_difference(&found, &expected[last * vocab..][..vocab]);
        assert!(difference <= limit, "{what}, pieces of {pieces:?}, token {last}: {difference:e}");
    }
}

fn compare_with_golden(device: Device, limit: f32) {
    for case in CASES {
        let golden = golden(case);
        let source = CheckpointSource::open(&golden.dir).unwrap();
        let vocab = source.config().vocab_size;
        let mut session = Session::new(&source, golden.seq, device).unwrap();
        for (tokens, logits) in golden.tokens.chunks(golden.seq).zip(golden.logits.chunks(golden.seq * vocab))
        {
            for pieces in [&[1][..], &[2, 1, 5], &[golden.seq]] {
                compare(&mut session, tokens, logits, pieces, limit, &format!("{case} on {device}"));
            }
        }
    }
}

#[test]
fn cpu_gives_the_golden_logits() {
    compare_with_golden(Device::Cpu, 1e-4);
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray_gives_the_golden_logits() {
    compare_with_golden(Device::NdArray, 1e-4);
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_gives_the_golden_logits() {
    if crate::common::wgpu().is_some() {
        compare_with_golden(Device::Wgpu, 1e-3);
    }
}

/// Rounded activations and half-precision keys and values, as in the forward pass over whole sequences. Rounding can turn
/// a difference in the last bit into one step of a byte, hence the wider limit.
#[test]
fn gguf_files_are_read_as_the_whole_forward_pass_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    for (case, ty, limit) in [
        ("llama", TensorType::F32, 1e-4),
        ("qwen2", TensorType::Q8_0, 2e-2),
        ("llama", TensorType::Q4_0, 2e-2),
    ] {
        let golden = golden(case);
        let path = dir.path().join("model.gguf");
        write(&CheckpointSource::open(&golden.dir).unwrap(), &path, ty);
        let source = GgufSource::open(&path).unwrap();
        let expected = logits(&source, &golden.tokens, golden.seq, &cpu(), source.kv_precision());
        let vocab = source.config().vocab_size;
        let mut session = Session::new(&source, golden.seq, Device::Cpu).unwrap();
        for pieces in [&[1][..], &[3, 1]] {
            let (tokens, expected) = (&golden.tokens[..golden.seq], &expected[..golden.seq * vocab]);
            compare(&mut session, tokens, expected, pieces, limit, &format!("{case} in {ty}"));
        }
    }
}

#[test]
fn what_was_forgotten_is_read_again_with_the_same_bits() {
    for case in ["mistral_window", "qwen2"] {
        let golden = golden(case);
        let source = CheckpointSource::open(&golden.dir).unwrap();
        let mut session = Session::new(&source, golden.seq, Device::Cpu).unwrap();
        let (tokens, middle) = (&golden.tokens[..golden.seq], golden.seq / 2);
        session.read(&tokens[..middle]).unwrap();
        let first = session.read(&tokens[middle..]).unwrap();
        session.truncate(middle);
        assert_eq!(session.len(), middle);
        session.read(&[tokens[0]; 3]).unwrap();
        session.truncate(middle);
        let again = session.read(&tokens[middle..]).unwrap();
        assert!(first.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "{case}");
    }
}

/// A prompt of more than one chunk, and tokens after it.
#[test]
fn long_prompts_and_threads_change_no_bit() {
    let golden = golden("mistral_window");
    let source = CheckpointSource::open(&golden.dir).unwrap();
    let tokens: Vec<u32> = golden.tokens.iter().copied().cycle().take(600).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut session = Session::new(&source, 700, Device::Cpu).unwrap();
            let prompt = session.read(&tokens).unwrap();
            [prompt, session.read(&[7]).unwrap(), session.read(&[9]).unwrap()].concat()
        })
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(one.iter().zip(run(threads)).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
    }
    let whole = logits(&source, &tokens, tokens.len(), &cpu(), source.kv_precision());
    let vocab = source.config().vocab_size;
    let difference = largest_difference(&one[..vocab], &whole[599 * vocab..]);
    assert!(difference <= 1e-4, "{difference:e}");
}

#[test]
fn a_refused_piece_leaves_the_sequence_as_it_was() {
    let golden = golden("llama");
    let source = CheckpointSource::open(&golden.dir).unwrap();
    let mut session = Session::new(&source, 4, Device::Cpu).unwrap();
    session.read(&[1, 2]).unwrap();
    let too_long = session.read(&[1, 2, 3]);
    assert!(matches!(too_long, Err(ModelError::SequenceLength { expected: 4, found: 5 })));
    assert!(matches!(session.read(&[1, 100_000]), Err(ModelError::Token { token: 100_000, .. })));
    assert!(matches!(session.read(&[]), Err(ModelError::Length { .. })));
    assert_eq!(session.len(), 2);
    let after = session.read(&[3]).unwrap();
    session.truncate(0);
    session.read(&[1, 2]).unwrap();
    assert_eq!(session.read(&[3]).unwrap(), after);
}

/// NaN in a weight is named when the session is made, not found in the text.
#[test]
fn weights_that_are_no_numbers_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("llama").dir.join(file), dir.path().join(file)).unwrap();
    }
    let weights = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let entry = &json["model.layers.1.mlp.up_proj.weight"];
    let (at, end) = (entry["data_offsets"][0].as_u64().unwrap(), entry["data_offsets"][1].as_u64().unwrap());
    bytes[header + at as usize..header + end as usize].fill(0xff);
    std::fs::write(&weights, bytes).unwrap();
    let source = CheckpointSource::open(dir.path()).unwrap();
    let error = Session::new(&source, 4, Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("model.layers.1.mlp.up_proj.weight"), "{error}");
}
