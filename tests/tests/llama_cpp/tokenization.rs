//! llama.cpp's tokens are those of the tokenizer the file was made from.

use serde_json::{Value, json};
use slmc_calibration::Tokenizer;
use slmc_gguf::vocabulary::PreTokenizer;
use slmc_pipeline::jobs::quantize::Mix;

use crate::engine::Engine;
use crate::models::{Family, quantize};
use crate::tokenizers_to_carry::byte_level::FAMILIES;
use crate::tokenizers_to_carry::{NASTY, gemma, llama3, phi3, sentence_piece, tiny, unigram};

/// The nasty text, whole, in words and from many places on.
fn texts() -> impl Iterator<Item = &'static str> {
    let suffixes = NASTY.char_indices().step_by(3).map(|(at, _)| &NASTY[at..]);
    // llama.cpp takes a text as C does and ends it at a zero byte when it comes from a file; not here
    suffixes.chain(NASTY.split_inclusive(['\n', ' '])).chain([NASTY])
}

/// Texts on which llama.cpp and the tokenizer disagree, with both readings.
fn disagreements(tokenizer: &Value, config: &Value, pre: Option<&str>) -> Vec<String> {
    disagreements_on(tokenizer, config, pre, |_, _| true)
}

/// The same, of the texts and readings that are `meant`.
fn disagreements_on(
    tokenizer: &Value,
    config: &Value,
    pre: Option<&str>,
    meant: impl Fn(&str, bool) -> bool,
) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    Family::Llama.write(&model, tokenizer, config);
    let engine = Engine::load(&quantize(&model, Mix::Q4_0, pre));
    let ours = Tokenizer::from_json(tokenizer, &model).unwrap();
    assert_eq!(engine.bos(), ours.bos());
    let mut found = Vec::new();
    for text in texts() {
        for (markup, expected) in [(false, ours.encode_text(text)), (true, ours.encode_markup(text))] {
            let (expected, theirs) = (expected.unwrap(), engine.tokenize(text, markup));
            if expected != theirs && meant(text, markup) {
                let at = expected.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
                let show = |ids: &[u32]| {
                    let near = &ids[at.min(ids.len())..ids.len().min(at + 6)];
                    near.iter().map(|id| ours.decode(&[*id], false).unwrap()).collect::<Vec<_>>()
                };
                found.push(format!(
                    "{text:?}, markup {markup}: from token {at} on {:?}, llama.cpp {:?}",
                    show(&expected),
                    show(&theirs)
                ));
            }
        }
    }
    found
}

fn assert_agreement(tokenizer: &Value, config: &Value, pre: Option<&str>) {
    let found = disagreements(tokenizer, config, pre);
    assert!(found.is_empty(), "{} texts, such as {}", found.len(), found[found.len() - 1]);
}

#[test]
fn the_bundled_tokenizer() {
    assert_agreement(&tiny(), &json!({"eos_token": "<|endoftext|>"}), None);
}

#[test]
fn llama_3() {
    let config = json!({"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"});
    let mut tokenizer = llama3();
    // Left and right stripping of special tokens is not in GGUF, and noted when a file is written.
    for token in tokenizer["added_tokens"].as_array_mut().unwrap() {
        token["rstrip"] = false.into();
    }
    assert_agreement(&tokenizer, &config, None);
}

#[test]
fn sentence_pieces() {
    let config =
        json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": true});
    assert_agreement(&sentence_piece(), &config, None);
}

/// llama.cpp has Gemma's runs of spaces as spaces: the sign that stands for them, said in a text, does not join them.
#[test]
fn gemma_s() {
    let config =
        json!({"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"});
    let found = disagreements_on(&gemma(), &config, None, |text, _| !text.contains('▁'));
    assert!(found.is_empty(), "{} texts, such as {}", found.len(), found[found.len() - 1]);
}

#[test]
fn phi_3() {
    let config = json!({"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>"});
    let mut tokenizer = phi3();
    for token in tokenizer["added_tokens"].as_array_mut().unwrap() {
        token["rstrip"] = false.into();
        // llama.cpp knows `</s>` by its text, whatever the file says
        token["special"] = true.into();
    }
    assert_agreement(&tokenizer, &config, None);
}

#[test]
fn unigrams() {
    let config = json!({"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"});
    // The `tokenizers` crate takes the pieces of control tokens for text as well, and puts no sign for a space before another one.
    let meant = |text: &str, markup| !text.contains('▁') && (markup || !text.contains("</s>"));
    let found = disagreements_on(&unigram(), &config, None, meant);
    assert!(found.is_empty(), "{} texts, such as {}", found.len(), found[found.len() - 1]);
}

#[test]
fn every_family_with_a_byte_level_tokenizer() {
    for family in &FAMILIES {
        let mut tokenizer = family.tokenizer();
        // llama.cpp does not normalize, which is noted when a file is written
        tokenizer["normalizer"] = Value::Null;
        assert_agreement(&tokenizer, &family.config(), None);
    }
}

#[test]
fn every_named_pre_tokenizer() {
    let mut wrong = Vec::new();
    for (name, pre) in PreTokenizer::all() {
        let mut tokenizer = tiny();
        tokenizer["pre_tokenizer"] = pre.to_json();
        tokenizer["model"]["ignore_merges"] = pre.ignore_merges.into();
        let found = disagreements(&tokenizer, &json!({"eos_token": "<|endoftext|>"}), Some(name));
        if let Some(last) = found.last() {
            wrong.push(format!("{name}: {} texts, such as {last}", found.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
