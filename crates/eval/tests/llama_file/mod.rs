//! llama-perplexity's file of a base model's predictions, written as `perplexity()` and the `log_softmax` of 16 bits in llama.cpp's
//! `tools/perplexity/perplexity.cpp` write it.

#![allow(dead_code)] // not every test program uses everything

/// A file of as many windows as there are in `tokens`, whose scored positions have the predictions of `logits`, `[positions,
/// vocabulary]`.
pub fn file(n_ctx: usize, vocabulary: usize, tokens: &[u32], logits: &[f32]) -> Vec<u8> {
    let mut bytes = header(n_ctx, vocabulary, tokens);
    logits.chunks_exact(vocabulary).for_each(|row| bytes.extend(encode(row)));
    bytes
}

/// One whose predictions are that every token is as likely.
pub fn undecided(n_ctx: usize, vocabulary: usize, tokens: &[u32]) -> Vec<u8> {
    let positions = tokens.len() / n_ctx * (n_ctx - 1 - n_ctx / 2);
    let mut bytes = header(n_ctx, vocabulary, tokens);
    let row = encode(&vec![0.0; vocabulary]);
    (0..positions).for_each(|_| bytes.extend(&row));
    bytes
}

fn header(n_ctx: usize, vocabulary: usize, tokens: &[u32]) -> Vec<u8> {
    let mut bytes = b"_logits_".to_vec();
    let numbers = [n_ctx, vocabulary, tokens.len() / n_ctx].map(|number| number as u32);
    numbers.iter().chain(tokens).for_each(|number| bytes.extend(number.to_le_bytes()));
    bytes
}

/// The row of a position.
pub fn encode(logits: &[f32]) -> Vec<u8> {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let min = logits.iter().copied().fold(f32::MAX, f32::min).max(max - 16.0);
    let sum: f64 = logits.iter().map(|x| f64::from((x - max).exp())).sum();
    let (least, scale) = (min - max - sum.ln() as f32, (max - min) / 65535.0);
    let code = |x: f32| if x > min { ((x - min) * (1.0 / scale)).round_ties_even() as u16 } else { 0 };
    let mut codes: Vec<u16> = logits.iter().map(|&x| code(x)).collect();
    codes.resize(codes.len().next_multiple_of(2), 0);
    let mut row = [scale.to_le_bytes(), least.to_le_bytes()].concat();
    codes.iter().for_each(|code| row.extend(code.to_le_bytes()));
    row
}
