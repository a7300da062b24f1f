//! How fast a whole file becomes tokens, as one string, and how the time grows with its length.
//!
//! `cargo run --release -p slmc-calibration --example tokenize_speed -- tokenizer.json TEXT`

use std::path::Path;
use std::time::Instant;

use slmc_calibration::{BatchOptions, Calibration, Document, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tokenizer, text] = arguments.as_slice() else {
        return Err("usage: tokenize_speed tokenizer.json TEXT".into());
    };
    let tokenizer = Tokenizer::from_file(Path::new(tokenizer))?;
    let text = std::fs::read_to_string(text)?;
    for parts in [16, 8, 4, 2, 1] {
        let mut end = text.len() / parts;
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let start = Instant::now();
        let ids = tokenizer.encode_text(&text[..end])?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{end:9} bytes, {:8} tokens: {seconds:6.2} s, {:5.2} MB/s",
            ids.len(),
            end as f64 / seconds / 1e6
        );
    }
    let (start, documents) = (Instant::now(), [Document::plain(text)]);
    let batches = Calibration::build(&documents, &tokenizer, &BatchOptions::default())?;
    println!(
        "calibration: {} windows of {} tokens chosen from {} in {:.2} s",
        batches.tokens.len(),
        batches.seq_len,
        batches.text_tokens,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
