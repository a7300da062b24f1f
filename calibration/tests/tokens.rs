//! Tokenizer, documents and token batches, with a small byte-level tokenizer made here.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use slmc_calibration::{
    BatchOptions, Calibration, CalibrationError, ChatTemplate, Document, Packing, TextKind, TextStream,
    TokenBatches, Tokenizer, documents,
};

/// One token a byte (GPT-2's byte letters), a merge, `<bos>` put first by the post-processor.
fn tokenizer_json() -> Value {
    let mut vocab = serde_json::Map::new();
    let mut next = 0u32;
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let letter = if printable {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(255 + next).unwrap()
        };
        vocab.insert(letter.to_string(), json!(byte));
    }
    vocab.insert("th".into(), json!(256));
    let special = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    json!({
        "version": "1.0",
        "truncation": { "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0 },
        "padding": null,
        "added_tokens": [special(257, "<bos>"), special(258, "<eos>")],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<bos>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<bos>": { "id": "<bos>", "ids": [257], "tokens": ["<bos>"] } }
        },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                   "ignore_merges": false, "vocab": vocab, "merges": [["t", "h"]] }
    })
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(&tokenizer_json(), Path::new("tokenizer.json")).unwrap()
}

fn options(samples: usize, seq_len: usize) -> BatchOptions {
    BatchOptions { samples, seq_len, bos: Some(257), ..BatchOptions::default() }
}

#[test]
fn special_tokens_are_text_or_tokens_as_asked() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.bos(), Some(257));
    // No truncation, although the file asks for four tokens.
    assert_eq!(
        tokenizer.encode_text("the <eos>").unwrap(),
        [&[256][..], &b"e <eos>".map(u32::from)].concat()
    );
    assert_eq!(tokenizer.encode_markup("the<eos>").unwrap(), [256, 101, 258]);
    assert_eq!(tokenizer.encode_with_special_tokens("a<eos>").unwrap(), [257, 97, 258]);
    assert_eq!(tokenizer.decode(&[257, 256, 101], true).unwrap(), "the");
    assert_eq!(tokenizer.decode(&[257, 256, 101], false).unwrap(), "<bos>the");
}

#[test]
fn a_foreign_tokenizer_is_refused() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.vocab_size(), 259);
    tokenizer.check_vocab_size(259).unwrap();
    tokenizer.check_vocab_size(512).unwrap();
    match tokenizer.check_vocab_size(258).unwrap_err() {
        CalibrationError::VocabularyMismatch { token, id, rows, .. } => {
            assert_eq!((token.as_str(), id, rows), ("<eos>", 258, 258));
        }
        other => panic!("{other}"),
    }
    let broken = Tokenizer::from_json(&json!({ "model": 1 }), Path::new("x/tokenizer.json"));
    assert!(broken.err().unwrap().to_string().starts_with("x/tokenizer.json: "));
}

proptest! {
    /// Byte-level tokens give the text back.
    #[test]
    fn decoding_undoes_encoding(text in "\\PC{0,80}") {
        let tokenizer = tokenizer();
        prop_assert_eq!(tokenizer.decode(&tokenizer.encode_text(&text).unwrap(), false).unwrap(), text);
    }

    /// Byte-level tokens cover as many bytes as they have letters, but for characters that several make up.
    #[test]
    fn ends_are_where_tokens_end(text in "\\PC{0,80}( |\n|수|a){0,20}") {
        let tokenizer = tokenizer();
        let (ids, ends) = tokenizer.encode_text_with_ends(&text).unwrap();
        prop_assert_eq!(&ids, &tokenizer.encode_text(&text).unwrap());
        let vocabulary = tokenizer.vocabulary();
        let mut bytes = 0;
        for (id, &end) in ids.iter().zip(&ends) {
            bytes += vocabulary[id].chars().count();
            let whole = text.ceil_char_boundary(bytes);
            prop_assert_eq!(end, whole, "{:?}", text);
        }
        prop_assert_eq!(ends.last().copied().unwrap_or(0), text.len());
    }

    /// Every window has its length and BOS once, at its beginning or between documents; packed windows, joined,
    /// are documents in some order; the same seed gives the same windows.
    #[test]
    fn windows_hold_the_text(
        lengths in prop::collection::vec(1usize..60, 1..20), seq_len in 2usize..30, seed in 0u64..50,
    ) {
        let letters = |n: usize| char::from(b'A' + (n % 26) as u8);
        let texts: Vec<String> = lengths.iter().enumerate().map(|(n, &l)| letters(n).to_string().repeat(l)).collect();
        let documents: Vec<Document> = texts.iter().map(Document::plain).collect();
        let options = BatchOptions { seed, ..options(usize::MAX, seq_len) };
        let Ok(batches) = Calibration::build(&documents, &tokenizer(), &options) else {
            prop_assert!(lengths.iter().sum::<usize>() + lengths.len() < seq_len);
            return Ok(());
        };
        prop_assert_eq!(&batches, &Calibration::build(&documents, &tokenizer(), &options).unwrap());
        prop_assert_eq!(batches.text_tokens, lengths.iter().sum::<usize>());
        prop_assert_eq!(batches.missing(), usize::MAX - batches.tokens.len());
        let mut runs: Vec<(u32, usize)> = Vec::new();
        for window in &batches.tokens {
            prop_assert_eq!(window.len(), seq_len);
            prop_assert_eq!(window[0], 257);
            prop_assert!(window.windows(2).all(|pair| pair != [257, 257]));
            for &id in window.iter().filter(|&&id| id != 257) {
                match runs.last_mut() {
                    Some((last, count)) if *last == id => *count += 1,
                    _ => runs.push((id, 1)),
                }
            }
        }
        // Each run but the last is one whole document (or two that share a letter).
        runs.pop();
        for (id, count) in runs {
            let same = texts.iter().filter(|t| u32::from(t.as_bytes()[0]) == id).map(String::len);
            let (whole, sum) = same.fold((false, 0), |(whole, sum), l| (whole || l == count, sum + l));
            prop_assert!(whole || sum == count);
        }
    }
}

#[test]
fn seeds_choose_and_hashes_tell() {
    let text: String = (0..5000).map(|n| format!("{n} ")).collect();
    let documents = [Document::plain(text)];
    let build = |options: &BatchOptions| Calibration::build(&documents, &tokenizer(), options).unwrap();
    let first = build(&options(8, 64));
    assert_eq!((first.tokens.len(), first.total_tokens(), first.missing()), (8, 512, 0));
    assert_eq!(first.hash, TokenBatches::hash_of(&first.tokens, &options(8, 64)));
    assert_eq!(first.hash.len(), 64);
    let other_seed = build(&BatchOptions { seed: 1, ..options(8, 64) });
    assert_ne!(first.tokens, other_seed.tokens);
    assert_ne!(first.hash, other_seed.hash);
    let no_bos = build(&BatchOptions { bos: None, ..options(8, 64) });
    assert!(no_bos.tokens.iter().flatten().all(|&id| id != 257));
}

/// Long documents are tokenized in pieces; with lines to cut at, that changes nothing.
#[test]
fn pieces_of_a_long_document_do_not_show() {
    let text: String = (0..30_000).map(|n| format!("the {n}th line\n")).collect();
    let tokenizer = tokenizer();
    let options = BatchOptions { bos: None, ..options(usize::MAX, 100) };
    let batches = Calibration::build(&[Document::plain(text.as_str())], &tokenizer, &options).unwrap();
    let whole = tokenizer.encode_text(&text).unwrap();
    assert_eq!(batches.text_tokens, whole.len());
    assert!(batches.tokens.concat() == whole[..whole.len() / 100 * 100]);
}

#[test]
fn truncated_windows_are_beginnings_of_long_documents() {
    let documents = ["abcdefgh", "xyz", "ABCDEFG"].map(Document::plain);
    let options = BatchOptions { packing: Packing::Truncated, ..options(5, 6) };
    let batches = Calibration::build(&documents, &tokenizer(), &options).unwrap();
    let mut windows: Vec<String> =
        batches.tokens.iter().map(|ids| tokenizer().decode(ids, false).unwrap()).collect();
    windows.sort();
    assert_eq!(windows, ["<bos>ABCDE", "<bos>abcde"]);
    assert_eq!((batches.short_documents, batches.missing(), batches.documents), (1, 3, 3));
    let too_long = BatchOptions { seq_len: 10, ..options };
    let found = Calibration::build(&documents, &tokenizer(), &too_long).unwrap_err();
    assert!(matches!(found, CalibrationError::TooShort { needed: 10, found: 9, .. }), "{found}");
}

#[test]
fn too_little_text_says_how_much_there_was() {
    let build = |text: &str, options: BatchOptions| {
        Calibration::build(&[Document::plain(text)], &tokenizer(), &options).unwrap_err()
    };
    let found = build("12345", options(1, 7));
    assert!(matches!(found, CalibrationError::TooShort { needed: 7, found: 6, documents: 1, .. }), "{found}");
    assert!(matches!(build("", options(1, 7)), CalibrationError::EmptyText { documents: 1 }));
    assert!(matches!(build("a", options(0, 7)), CalibrationError::BatchOption { option: "samples", .. }));
    assert!(matches!(build("a", options(1, 1)), CalibrationError::BatchOption { option: "seq_len", .. }));
}

#[test]
fn a_templates_own_bos_is_not_doubled() {
    let document = Document { text: "<bos>abc<eos>".into(), kind: TextKind::Markup };
    let batches = Calibration::build(&[document], &tokenizer(), &options(1, 5)).unwrap();
    assert_eq!(batches.tokens, [[257, 97, 98, 99, 258]]);
}

fn read(
    name: &str,
    contents: &[u8],
    template: Option<&ChatTemplate>,
) -> Result<Vec<Document>, CalibrationError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, contents).unwrap();
    documents::read(&path, template)
}

#[test]
fn files_become_documents() {
    let plain = read("a.txt", "one\n\n---\n\ntwo\n".as_bytes(), None).unwrap();
    assert_eq!(plain, [Document::plain("one\n\n---\n\ntwo\n")]);
    let lines = b"{\"text\": \"one\"}\n\n{\"text\": \"\"}\n{\"text\": \"two\", \"id\": 7}\n";
    assert_eq!(read("a.jsonl", lines, None).unwrap(), [Document::plain("one"), Document::plain("two")]);
    let template =
        ChatTemplate::new("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", None).unwrap();
    let chat = br#"{"messages": [{"role": "user", "content": "hi"}]}"#;
    let rendered = Document { text: "user:hi;".into(), kind: TextKind::Markup };
    assert_eq!(read("a.JSONL", chat, Some(&template)).unwrap(), [rendered]);
    assert!(matches!(read("a.jsonl", chat, None), Err(CalibrationError::NoChatTemplate { line: 1, .. })));
    let template =
        ChatTemplate::new("{{ tools | length if tools else 0 }}{{ messages[0].content }}", None).unwrap();
    let lines = [
        r#"{"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}, {}]}"#,
        r#"{"messages": [{"role": "user", "content": "b"}], "tools": null}"#,
    ];
    let found = read("a.jsonl", lines.join("\n").as_bytes(), Some(&template)).unwrap();
    assert_eq!(found.iter().map(|document| document.text.as_str()).collect::<Vec<_>>(), ["2a", "0b"]);
}

#[test]
fn bad_files_are_refused_with_their_line() {
    let not_text = read("a.txt", &[b'a', 0xff], None);
    assert!(matches!(not_text, Err(CalibrationError::NotUtf8 { valid_up_to: 1, .. })));
    for bad in [
        "{",
        "[]",
        "{\"text\": 1}",
        "{\"prompt\": \"x\"}",
        "{\"messages\": []}",
        "{\"messages\": [{}]}",
        "{\"messages\": [{\"role\": \"user\"}], \"tools\": {}}",
        "{\"text\": \"a\", \"messages\": []}",
    ] {
        let found = read("a.jsonl", format!("{{\"text\": \"x\"}}\n{bad}").as_bytes(), None).unwrap_err();
        assert!(matches!(found, CalibrationError::Record { line: 2, .. }), "{bad}: {found}");
    }
    let template = ChatTemplate::new("{{ raise_exception('no system role') }}", None).unwrap();
    let chat = br#"{"messages": [{"role": "system", "content": "hi"}]}"#;
    match read("a.jsonl", chat, Some(&template)).unwrap_err() {
        CalibrationError::ChatRender { line: 1, reason, .. } => assert!(reason.contains("no system role")),
        other => panic!("{other}"),
    }
    assert!(matches!(documents::read(Path::new("missing.txt"), None), Err(CalibrationError::Io { .. })));
}

proptest! {
    /// A token a byte: characters come whole, and nothing is lost or comes twice.
    #[test]
    fn streamed_text_is_the_text(prompt in "[a-zé ]{0,9}", text in "(\\PC|th){0,20}") {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode_text(&text).unwrap();
        let mut stream = TextStream::after(&tokenizer, &tokenizer.encode_with_special_tokens(&prompt).unwrap());
        let mut found = String::new();
        for (i, &id) in ids.iter().enumerate() {
            found.push_str(&stream.push(id).unwrap());
            prop_assert!(text.starts_with(&found), "{found:?} of {text:?}");
            // all characters that are complete are out
            let complete = tokenizer.decode(&ids[..=i], true).unwrap();
            prop_assert!(found.len() >= complete.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
        }
        found.push_str(&stream.finish().unwrap());
        prop_assert_eq!(found, text);
    }
}

#[test]
fn a_character_that_never_ends_is_marked() {
    let tokenizer = tokenizer();
    let mut stream = TextStream::after(&tokenizer, &[257]);
    // é without its second byte; special tokens have no text
    assert_eq!(stream.push(u32::from(b'a')).unwrap(), "a");
    assert_eq!(stream.push(258).unwrap(), "");
    assert_eq!(stream.push(0xc3).unwrap(), "");
    assert_eq!(stream.finish().unwrap(), "\u{fffd}");
}
