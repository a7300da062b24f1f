//! Vocabularies survive the way through GGUF: the rebuilt tokenizer gives the same tokens as the original.

mod tokenizers_to_carry;

use serde_json::{Value, json};
use slmc_gguf::container::{Header, Layout, Metadata, Writer};
use slmc_gguf::vocabulary::{Model, Note, TokenKind, Vocabulary, VocabularyError};
use tokenizers::Tokenizer;
use tokenizers_to_carry::byte_level::FAMILIES;
use tokenizers_to_carry::{NASTY, gemma, llama3, phi3, sentence_piece, tiny, unigram};

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
fn every_family_with_a_byte_level_tokenizer_survives() {
    for family in &FAMILIES {
        let (original, config) = (family.tokenizer(), family.config());
        let vocabulary = read(&original, Some(&config), 2080);
        let Model::ByteLevel { pre, .. } = vocabulary.model() else { panic!("{}", family.family) };
        assert_eq!(*pre, family.pre, "{}", family.family);
        let mut told = vocabulary.clone();
        told.end_at(family.ends);
        assert!(family.ends.iter().all(|id| told.ends().contains(id)), "{}", family.family);
        assert_eq!(told.notes(), vocabulary.notes(), "{}: nothing is lost", family.family);
        assert_eq!(vocabulary.add_bos(), config["bos_token"].is_string(), "{}", family.family);
        assert_same(&original, &through_a_file(&vocabulary).to_tokenizer_json().unwrap());
    }
}

#[test]
fn a_gemma_tokenizer_survives() {
    let original = gemma();
    let config =
        json!({"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"});
    // one row for each token but the last, which stands for an image
    let vocabulary = read(&original, Some(&config), 1400);
    assert!(matches!(vocabulary.model(), Model::SentencePiece { add_space_prefix: false, .. }));
    assert_eq!(vocabulary.notes(), [Note::BeyondEmbedding(vec!["<image_soft_token>".into()])]);
    let special = vocabulary.special();
    assert_eq!((special.pad, special.eos, special.bos, special.unk), (Some(0), Some(1), Some(2), Some(3)));
    assert_eq!((special.eot, vocabulary.ends()), (Some(10), vec![1, 10]));
    use TokenKind::{Control, Unknown, UserDefined};
    assert_eq!(vocabulary.kinds()[..4], [Control, Control, Control, Unknown]);
    // as in the model's own converter: some that are not marked so are control tokens all the same
    assert_eq!(vocabulary.kinds()[4..11], [Control; 7]);
    assert_eq!(vocabulary.kinds()[11..24], [UserDefined; 13]);
    let texts: Vec<_> = (14..17).map(|id| vocabulary.tokens().get(id).unwrap()).collect();
    assert_eq!(texts, ["\n\n\n\n", "  ", "   "]);
    let back = through_a_file(&vocabulary);
    let mut expected = original.clone();
    expected["added_tokens"].as_array_mut().unwrap().pop();
    let rebuilt = back.to_tokenizer_json().unwrap();
    assert_same(&expected, &rebuilt);
    for text in
        ["a  b   c         d\te", "\n\n\n\n\n\nx<start_of_turn>user\n  y<table>", "<image_soft_token>\t\t"]
    {
        assert_same_ids(&expected, &rebuilt, text);
    }
}

fn assert_same_ids(original: &Value, rebuilt: &Value, text: &str) {
    let ids = |t: &Value| load(t).encode(text, true).unwrap().get_ids().to_vec();
    assert_eq!(ids(original), ids(rebuilt), "{text:?}");
}

#[test]
fn a_phi_3_tokenizer_survives() {
    let original = phi3();
    let config = json!({"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>", "add_bos_token": false});
    let mut vocabulary = read(&original, Some(&config), 1312);
    assert!(matches!(vocabulary.model(), Model::SentencePiece { add_space_prefix: true, .. }));
    assert!(matches!(vocabulary.notes(), [Note::AddedTokenFlags(tokens)] if tokens.len() == 6));
    assert!(!vocabulary.add_bos());
    assert_eq!(vocabulary.kinds()[2], TokenKind::UserDefined);
    // `<|endoftext|>`, `<|end|>` and `<|assistant|>`: the last has no text that llama.cpp knows, and gets a key
    assert_eq!(vocabulary.ends(), [2, 1300, 1304]);
    vocabulary.end_at(&[1300, 1301, 1304]);
    assert_eq!(vocabulary.special().eom, Some(1301));
    assert_eq!(vocabulary.ends(), [2, 1300, 1301, 1304]);
    vocabulary.end_at(&[1302, 1303]);
    assert!(matches!(vocabulary.notes().last(), Some(Note::NoEnd(tokens)) if tokens.len() == 2));
    let rebuilt = through_a_file(&vocabulary).to_tokenizer_json().unwrap();
    assert_same(&original, &rebuilt);
    assert_same_ids(&original, &rebuilt, "<|user|>\n a  b<|end|>\n<|assistant|> </s>  x");
}

#[test]
fn a_unigram_tokenizer_survives() {
    let original = unigram();
    let config = json!({"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"});
    let vocabulary = read(&original, Some(&config), 1008);
    let Model::Unigram { scores, add_space_prefix: true, remove_extra_whitespaces: true, charsmap } =
        vocabulary.model()
    else {
        panic!()
    };
    assert!(!charsmap.is_empty());
    assert_eq!((scores[0], scores[1007]), (0.0, -10000.0));
    assert_eq!(vocabulary.kinds()[2], TokenKind::Unknown);
    let special = vocabulary.special();
    assert_eq!((special.pad, special.eos, special.unk), (Some(0), Some(1), Some(2)));
    assert!(vocabulary.add_eos() && !vocabulary.add_bos());
    assert_eq!(vocabulary.notes(), []);
    let back = through_a_file(&vocabulary);
    assert_eq!(back, vocabulary);
    assert_same(&original, &back.to_tokenizer_json().unwrap());

    let breaks: [Break; 4] = [
        (|t| t["model"]["byte_fallback"] = true.into(), "UnigramBytes"),
        (|t| t["model"]["vocab"][7] = json!(["zzzzz"]), "WrongField"),
        (|t| t["normalizer"]["normalizers"][0]["precompiled_charsmap"] = "?".into(), "Charsmap"),
        (|t| t["pre_tokenizer"] = Value::Null, "UnsupportedNormalizer"),
    ];
    for (change, variant) in breaks {
        let mut broken = original.clone();
        change(&mut broken);
        let error = Vocabulary::from_tokenizer_json(&broken, None, 1008, None).unwrap_err();
        assert!(format!("{error:?}").starts_with(variant), "{error:?} is not {variant}");
    }
}

#[test]
fn ends_of_generation_have_keys() {
    let mut vocabulary = read(&tiny(), None, 2048);
    vocabulary.end_at(&[]);
    assert!(matches!(vocabulary.notes(), [Note::DefaultEnd(_)]));
    let mut vocabulary = read(&tiny(), None, 2048);
    vocabulary.end_at(&[5, 5, 9]);
    assert_eq!((vocabulary.special().eos, vocabulary.special().eom), (Some(5), Some(9)));
    assert_eq!(vocabulary.notes(), []);
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
        (|t| t["model"]["type"] = "WordPiece".into(), "UnsupportedModel"),
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
