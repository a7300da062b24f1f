//! Tokenizers of every kind that GGUF carries, and the text they are most likely to disagree on.

#![allow(dead_code)] // not every test program uses everything

pub mod byte_level;

use std::collections::HashSet;

use serde_json::{Value, json};
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};

/// Everything that tokenizers are known to disagree on.
pub const NASTY: &str = "Hello, world!  two  spaces   three\ttab\t\ttabs\n\nlines\r\n\r\nCRLF \u{a0}nbsp \u{3000}wide \
    I'm you'LL we'Ve 'S 3 33 333 3333 33333 3.14 1,000,000 ½ Ⅷ ٣ 안녕하세요 세계, 한국어 문장. \u{1112}\u{1161}\u{11ab} \
    e\u{301}\u{323} é nai\u{308}ve 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 \u{200d}\u{200b}zero\u{feff} \u{fffd}\u{fffd} 漢字かな交じり文 नमस्ते \
    <|endoftext|><s> </s> <0x41> ▁under▁score __init__ a==b!=c // /* x */ \"quotes\" “curly” … -- — ------ ======== \
    snake_case camelCase HTTPServer ǅ ﬁ ß ẞ İ \u{0} \u{7f} end ";

pub const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub fn tiny() -> Value {
    serde_json::from_str(include_str!("../../../../models/tiny/tokenizer.json")).unwrap()
}

/// Pieces learned by SentencePiece with the structure of Gemma's tokenizer. `make.py` beside this file made it.
pub fn gemma() -> Value {
    serde_json::from_str(include_str!("gemma.json")).unwrap()
}

/// SentencePiece's unigram model of the same text, with a table of characters.
pub fn unigram() -> Value {
    serde_json::from_str(include_str!("unigram.json")).unwrap()
}

/// The same with the structure of Phi 3's.
pub fn phi3() -> Value {
    serde_json::from_str(include_str!("phi3.json")).unwrap()
}

/// The bundled model's vocabulary under Llama 3's splitting, special tokens and template.
pub fn llama3() -> Value {
    let mut t = tiny();
    t["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    t["model"]["ignore_merges"] = true.into();
    let added = t["added_tokens"].as_array_mut().unwrap();
    for (i, name) in ["<|begin_of_text|>", "<|eot_id|>", "<think>"].into_iter().enumerate() {
        added.push(
            json!({"id": 2048 + i, "content": name, "single_word": false, "lstrip": false, "rstrip": i == 1,
            "normalized": false, "special": i < 2}),
        );
    }
    let bos = |id| json!({"SpecialToken": {"id": "<|begin_of_text|>", "type_id": id}});
    let text = |name, id| json!({"Sequence": {"id": name, "type_id": id}});
    t["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        {"type": "TemplateProcessing", "single": [bos(0), text("A", 0)],
         "pair": [bos(0), text("A", 0), bos(1), text("B", 1)],
         "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [2048], "tokens": ["<|begin_of_text|>"]}}},
    ]});
    t
}

/// A tokenizer as converted from a SentencePiece model: pieces learned from text, byte tokens, every way to make up
/// a piece listed as a merge.
pub fn sentence_piece() -> Value {
    let text = [NASTY, include_str!("../vocabulary.rs")].concat();
    let mut trained = Tokenizer::new(BPE::default());
    trained.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::Always, true)));
    let mut trainer: tokenizers::models::TrainerWrapper =
        BpeTrainer::builder().vocab_size(900).show_progress(false).build().into();
    trained.train(&mut trainer, text.split('\n')).unwrap();
    let learned: Value = serde_json::from_str(&trained.to_string(false).unwrap()).unwrap();
    let mut merged: Vec<String> = learned["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| format!("{}{}", m[0].as_str().unwrap(), m[1].as_str().unwrap()))
        .collect();
    // A piece can be learned from two pairs, or spell a special token; SentencePiece has it once.
    let mut seen: HashSet<String> = ["<unk>", "<s>", "</s>", "<0x41>"].map(str::to_owned).into();
    merged.retain(|piece| seen.insert(piece.clone()));

    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    pieces.extend((0..=255).map(|b: u8| format!("<0x{b:02X}>")));
    pieces.extend(merged.iter().cloned());
    // A few characters stay out, for byte fallback to have work.
    let chars: HashSet<char> = merged.iter().flat_map(|m| m.chars()).collect();
    let mut chars: Vec<char> = chars.into_iter().collect();
    chars.sort();
    pieces.extend(chars.iter().map(char::to_string));

    let known: HashSet<&str> = pieces[259..].iter().map(String::as_str).collect();
    let mut merges = Vec::new();
    for piece in &merged {
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if known.contains(left) && known.contains(right) {
                merges.push(json!([left, right]));
            }
        }
    }
    let vocab: serde_json::Map<String, Value> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id.into())).collect();
    let special = |id: usize| {
        json!({"id": id, "content": pieces[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let bos = |id| json!({"SpecialToken": {"id": "<s>", "type_id": id}});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [bos(0), {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos(0), {"Sequence": {"id": "A", "type_id": 0}}, bos(1), {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    })
}
