//! Vocabularies survive the way through GGUF: the rebuilt tokenizer gives the same tokens as the original.

use std::collections::HashSet;

use serde_json::{Value, json};
use slmc_gguf::container::{Header, Layout, Metadata, Writer};
use slmc_gguf::vocabulary::{Model, Note, TokenKind, Vocabulary, VocabularyError};
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};

/// Everything that tokenizers are known to disagree on.
const NASTY: &str = "Hello, world!  two  spaces   three\ttab\t\ttabs\n\nlines\r\n\r\nCRLF \u{a0}nbsp \u{3000}wide \
    I'm you'LL we'Ve 'S 3 33 333 3333 33333 3.14 1,000,000 ½ Ⅷ ٣ 안녕하세요 세계, 한국어 문장. \u{1112}\u{1161}\u{11ab} \
    e\u{301}\u{323} é nai\u{308}ve 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 \u{200d}\u{200b}zero\u{feff} \u{fffd}\u{fffd} 漢字かな交じり文 नमस्ते \
    <|endoftext|><s> </s> <0x41> ▁under▁score __init__ a==b!=c // /* x */ \"quotes\" “curly” … -- — ------ ======== \
    snake_case camelCase HTTPServer ǅ ﬁ ß ẞ İ \u{0} \u{7f} end ";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn tiny() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny/tokenizer.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The bundled model's vocabulary under Llama 3's splitting, special tokens and template.
fn llama3() -> Value {
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
fn sentence_piece() -> Value {
    let text = [NASTY, include_str!("vocabulary.rs")].concat();
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

fn read(tokenizer: &Value, config: Option<&Value>, size: usize) -> Vocabulary {
    Vocabulary::from_tokenizer_json(tokenizer, config, size, None).unwrap()
}

/// Through a GGUF file on disk.
fn through_a_file(vocabulary: &Vocabulary) -> Vocabulary {
    let mut metadata = Metadata::new();
    vocabulary.write(&mut metadata);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vocabulary.gguf");
    Writer::create(&path, Layout::new(metadata, []).unwrap()).unwrap().finish().unwrap();
    let header = Header::parse(&std::fs::read(&path).unwrap()).unwrap();
    Vocabulary::from_metadata(&header.metadata).unwrap()
}

fn load(tokenizer: &Value) -> Tokenizer {
    tokenizer.to_string().parse().unwrap()
}

/// Tokens and decoded text agree for the nasty text, its words and many of its prefixes and suffixes.
fn assert_same(original: &Value, rebuilt: &Value) {
    let (a, b) = (load(original), load(rebuilt));
    let prefixes = NASTY.char_indices().step_by(5).map(|(at, _)| &NASTY[..at]);
    let suffixes = NASTY.char_indices().step_by(3).map(|(at, _)| &NASTY[at..]);
    for text in prefixes.chain(suffixes).chain(NASTY.split_inclusive(['\n', ' '])).chain([NASTY]) {
        for special in [false, true] {
            let (x, y) = (a.encode(text, special).unwrap(), b.encode(text, special).unwrap());
            assert_eq!(x.get_ids(), y.get_ids(), "{text:?}, special {special}");
            assert_eq!(a.decode(x.get_ids(), false).unwrap(), b.decode(y.get_ids(), false).unwrap());
        }
    }
}

#[test]
fn the_bundled_tokenizer_survives() {
    let original = tiny();
    let config = json!({"bos_token": "<|endoftext|>", "eos_token": {"content": "<|endoftext|>"}});
    let vocabulary = read(&original, Some(&config), 2048);
    assert!(matches!(vocabulary.model(), Model::ByteLevel { pre: "gpt-2", merges } if merges.len() == 1791));
    assert_eq!((vocabulary.special().bos, vocabulary.special().eos), (Some(0), Some(0)));
    assert_eq!((vocabulary.add_bos(), vocabulary.add_eos()), (false, false));
    assert_eq!(vocabulary.kinds()[..2], [TokenKind::Control, TokenKind::Normal]);
    assert_eq!(vocabulary.notes(), []);
    let back = through_a_file(&vocabulary);
    assert_eq!(back, vocabulary);
    assert_same(&original, &back.to_tokenizer_json().unwrap());
}

#[test]
fn a_llama_3_tokenizer_survives() {
    let original = llama3();
    let config = json!({"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": [
        {"name": "default", "template": "{{ x }}"}, {"name": "tool use", "template": "{{ y }}"}]});
    let vocabulary = read(&original, Some(&config), 2060);
    assert!(matches!(vocabulary.model(), Model::ByteLevel { pre: "llama-bpe", .. }));
    let special = vocabulary.special();
    assert_eq!((special.bos, special.eos, special.eot), (Some(2048), Some(2049), Some(2049)));
    assert!(vocabulary.add_bos() && !vocabulary.add_eos());
    assert_eq!(
        vocabulary.kinds()[2049..2052],
        [TokenKind::Control, TokenKind::UserDefined, TokenKind::Unused]
    );
    assert_eq!(vocabulary.tokens().get(2059), Some("[PAD2059]"));
    assert_eq!(vocabulary.notes(), [Note::AddedTokenFlags(vec!["<|eot_id|>".into()])]);
    assert_eq!(vocabulary.chat_templates().default.as_deref(), Some("{{ x }}"));
    assert_eq!(vocabulary.chat_templates().named, [("tool_use".to_owned(), "{{ y }}".to_owned())]);
    let back = through_a_file(&vocabulary);
    assert_eq!((back.tokens(), back.kinds()), (vocabulary.tokens(), vocabulary.kinds()));
    assert_eq!((back.special(), back.chat_templates()), (vocabulary.special(), vocabulary.chat_templates()));
    let rebuilt = back.to_tokenizer_json().unwrap();
    assert_same(&original, &rebuilt);
    let text = "a<|eot_id|>  b <think> c";
    let ids = |t: &Value| load(t).encode(text, true).unwrap().get_ids().to_vec();
    assert_eq!(ids(&original), ids(&rebuilt));
}

#[test]
fn a_sentence_piece_tokenizer_survives() {
    let original = sentence_piece();
    let size = original["model"]["vocab"].as_object().unwrap().len() + 5;
    let config =
        json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": true});
    let vocabulary = read(&original, Some(&config), size);
    let Model::SentencePiece { scores, add_space_prefix: true } = vocabulary.model() else { panic!() };
    assert_eq!(scores[..4], [0.0; 4]);
    // Scores fall in the order in which the pieces were learned.
    assert!(scores[259..600].windows(2).all(|w| w[0] > w[1]), "{:?}", &scores[259..600]);
    assert_eq!(
        vocabulary.kinds()[..4],
        [TokenKind::Unknown, TokenKind::Control, TokenKind::Control, TokenKind::Byte]
    );
    assert_eq!(vocabulary.special().unk, Some(0));
    assert!(vocabulary.add_bos());
    assert_eq!(vocabulary.notes(), []);
    let back = through_a_file(&vocabulary);
    assert_eq!(back, vocabulary);
    assert_same(&original, &back.to_tokenizer_json().unwrap());
}

#[test]
fn metaspace_and_missing_merges_are_noted_and_kept() {
    let mut original = sentence_piece();
    original["normalizer"] = Value::Null;
    original["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
    let size = original["model"]["vocab"].as_object().unwrap().len();
    let vocabulary = read(&original, None, size);
    assert_eq!(vocabulary.notes(), [Note::SpacePrefix]);
    assert_same(&original, &through_a_file(&vocabulary).to_tokenizer_json().unwrap());

    let merges = original["model"]["merges"].as_array_mut().unwrap();
    let dropped = merges.pop().unwrap();
    let vocabulary = read(&original, None, size);
    let text = |i: usize| dropped[i].as_str().unwrap().to_owned();
    assert!(
        vocabulary.notes().contains(&Note::ExtraMerges { pairs: 1, example: (text(0), text(1)) }),
        "{:?}",
        vocabulary.notes()
    );
}

#[test]
fn what_llama_cpp_leaves_out_is_noted_and_kept() {
    let mut original = tiny();
    original["normalizer"] = json!({"type": "NFC"});
    original["model"]["ignore_merges"] = true.into();
    let vocabulary = read(&original, None, 2048);
    assert_eq!(
        vocabulary.notes(),
        [Note::IgnoreMerges(true), Note::NotNormalized("{\"type\":\"NFC\"}".into())]
    );
    assert_same(&original, &through_a_file(&vocabulary).to_tokenizer_json().unwrap());
}

#[test]
fn an_unknown_pre_tokenizer_needs_a_name() {
    let mut original = llama3();
    original["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\s+|[^\w\s]+".into();
    let convert = |pre| Vocabulary::from_tokenizer_json(&original, None, 2051, pre);
    let error = convert(None).unwrap_err();
    assert!(matches!(error, VocabularyError::UnknownPreTokenizer { .. }));
    let message = error.to_string();
    assert!(
        message.contains(r"\\w+") && message.contains("--pre") && message.contains("llama-bpe"),
        "{message}"
    );
    assert!(matches!(convert(Some("no-such")), Err(VocabularyError::UnknownPreName { .. })));
    let vocabulary = convert(Some("stablelm2")).unwrap();
    assert!(matches!(vocabulary.model(), Model::ByteLevel { pre: "stablelm2", .. }));
    assert!(vocabulary.notes().contains(&Note::PreTokenizerOverridden));
    assert_same(&original, &through_a_file(&vocabulary).to_tokenizer_json().unwrap());
}

/// A change to a sound tokenizer, and the error's variant it must cause.
type Break = (fn(&mut Value), &'static str);

#[test]
fn contradictions_have_their_own_errors() {
    let byte_level: [Break; 14] = [
        (|t| t["model"] = Value::Null, "UnsupportedModel"),
        (|t| t["model"]["type"] = "Unigram".into(), "UnsupportedModel"),
        (|t| t["model"]["end_of_word_suffix"] = "</w>".into(), "UnsupportedOption"),
        (|t| t["model"]["dropout"] = 0.1.into(), "UnsupportedOption"),
        (|t| t["model"]["vocab"] = json!([]), "WrongField"),
        (|t| t["model"]["vocab"]["zzz"] = "1".into(), "WrongField"),
        (|t| t["model"]["vocab"]["zzz"] = 2048.into(), "IdOutOfRange"),
        (|t| t["model"]["vocab"]["zzz"] = 5.into(), "SharedId"),
        (|t| t["model"]["merges"][7] = "nosuchtoken x".into(), "BadMerge"),
        (|t| t["model"]["merges"][7] = json!(["a"]), "BadMerge"),
        (|t| t["added_tokens"][0]["content"] = "!".into(), "SharedId"),
        (|t| t["added_tokens"][0]["id"] = (-1).into(), "WrongField"),
        (|t| t["normalizer"] = json!({"type": "Lowercase"}), "UnsupportedNormalizer"),
        (|t| t["post_processor"] = json!({"type": "BertProcessing"}), "UnsupportedPostProcessor"),
    ];
    let sentence_pieces: [Break; 4] = [
        (|t| t["normalizer"]["normalizers"][0]["prepend"] = "x".into(), "UnsupportedNormalizer"),
        (|t| t["post_processor"]["single"] = json!([]), "UnsupportedPostProcessor"),
        (|t| t["post_processor"]["single"][0]["SpecialToken"]["id"] = "<t>".into(), "UnknownSpecialToken"),
        (
            |t| {
                let id = t["model"]["vocab"].as_object_mut().unwrap().remove("<0x0A>").unwrap();
                t["model"]["vocab"]["<0x0A >"] = id;
            },
            "MissingByteToken",
        ),
    ];
    for (sound, breaks) in [(tiny(), &byte_level[..]), (sentence_piece(), &sentence_pieces[..])] {
        let size = sound["model"]["vocab"].as_object().unwrap().len();
        read(&sound, None, size);
        for (number, (change, variant)) in breaks.iter().enumerate() {
            let mut broken = sound.clone();
            change(&mut broken);
            let error = Vocabulary::from_tokenizer_json(&broken, None, size, None).unwrap_err();
            assert!(format!("{error:?}").starts_with(variant), "{number}: {error:?} is not {variant}");
        }
    }
    assert!(matches!(
        Vocabulary::from_tokenizer_json(&tiny(), None, usize::MAX, None),
        Err(VocabularyError::TooManyTokens { .. })
    ));
}

#[test]
fn broken_metadata_has_its_own_errors() {
    let mut sound = Metadata::new();
    read(&sentence_piece(), None, 2000).write(&mut sound);
    type Change = (fn(&mut Metadata), &'static str);
    let changes: [Change; 8] = [
        (|m| drop(m.remove("tokenizer.ggml.tokens")), "Metadata(Missing"),
        (|m| drop(m.insert("tokenizer.ggml.tokens", vec![1u32])), "Metadata(WrongType"),
        (|m| drop(m.insert("tokenizer.ggml.model", "bert")), "UnsupportedFileModel"),
        (|m| drop(m.insert("tokenizer.ggml.token_type", vec![1i32])), "LengthMismatch"),
        (|m| drop(m.insert("tokenizer.ggml.scores", vec![1f32])), "LengthMismatch"),
        (|m| drop(m.insert("tokenizer.ggml.token_type", vec![9i32; 2000])), "UnknownTokenType"),
        (|m| drop(m.insert("tokenizer.ggml.bos_token_id", 2000u32)), "SpecialIdOutOfRange"),
        (|m| drop(m.insert("slmc.tokenizer.differences", "[")), "WrongField"),
    ];
    Vocabulary::from_metadata(&sound).unwrap();
    for (change, variant) in changes {
        let mut broken = sound.clone();
        change(&mut broken);
        let error = Vocabulary::from_metadata(&broken).unwrap_err();
        assert!(format!("{error:?}").starts_with(variant), "{error:?} is not {variant}");
    }
}

#[test]
fn special_ids_come_from_the_model_configuration_last() {
    let mut vocabulary = read(&tiny(), Some(&json!({"eos_token": "<|endoftext|>"})), 2048);
    vocabulary.fill_special_ids(&json!({"bos_token_id": 7, "eos_token_id": 9, "pad_token_id": 2048}));
    assert_eq!(
        (vocabulary.special().bos, vocabulary.special().eos, vocabulary.special().pad),
        (Some(7), Some(0), None)
    );
}
