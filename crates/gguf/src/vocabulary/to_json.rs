//! Back to a `tokenizer.json`, so that a GGUF file alone can be tokenized for.

use serde_json::{Map, Value, json};

use super::added_tokens::AddedToken;
use super::error::VocabularyError;
use super::pre_tokenizer::PreTokenizer;
use super::{Model, TokenKind, Vocabulary, sentence_piece, unigram};

impl Vocabulary {
    /// A `tokenizer.json` for the `tokenizers` crate (0.20 and later: merges are pairs).
    ///
    /// For a vocabulary that slmc wrote it tokenizes as the original did. For another, as llama.cpp does, except that
    /// llama.cpp breaks ties between merges of equal score by position, where Hugging Face needs an order of merges.
    ///
    /// # Errors
    /// A merge is malformed, or a token is unreasonably long.
    pub fn to_tokenizer_json(&self) -> Result<Value, VocabularyError> {
        let added: Vec<Value> = match &self.differences.added_tokens {
            Some(list) => list.iter().map(AddedToken::to_json).collect(),
            None => AddedToken::from_kinds(&self.model, &self.tokens, &self.kinds)
                .iter()
                .map(AddedToken::to_json)
                .collect(),
        };
        let mut out = match &self.model {
            Model::ByteLevel { merges, pre } => {
                let (_, pre) = PreTokenizer::named(pre)?;
                let pairs = merges.iter().enumerate().map(|(index, merge)| {
                    let bad = || VocabularyError::BadMerge { index, merge: merge.to_owned() };
                    // As llama.cpp: the first byte belongs to the left token whatever it is.
                    let at = merge.as_bytes().iter().skip(1).position(|&b| b == b' ').ok_or_else(bad)? + 1;
                    Ok(json!([merge[..at], merge[at + 1..]]))
                });
                json!({
                    "version": "1.0",
                    "truncation": null,
                    "padding": null,
                    "added_tokens": added,
                    "normalizer": null,
                    "pre_tokenizer": pre.to_json(),
                    "post_processor": self.post_processor(),
                    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
                    "model": {
                        "type": "BPE",
                        "dropout": null,
                        "unk_token": null,
                        "continuing_subword_prefix": null,
                        "end_of_word_suffix": null,
                        "fuse_unk": false,
                        "byte_fallback": false,
                        "ignore_merges": pre.ignore_merges,
                        "vocab": self.vocab_json(),
                        "merges": pairs.collect::<Result<Vec<Value>, VocabularyError>>()?,
                    },
                })
            }
            Model::SentencePiece { scores, add_space_prefix } => {
                let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
                let back = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
                let mut normalizers = vec![replace];
                let mut decoders = vec![back, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
                if *add_space_prefix {
                    normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
                    decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
                }
                let mut merges = self.differences.added_merges.clone();
                merges.extend(sentence_piece::merges(&self.tokens, &self.kinds, scores)?);
                json!({
                    "version": "1.0",
                    "truncation": null,
                    "padding": null,
                    "added_tokens": added,
                    "normalizer": {"type": "Sequence", "normalizers": normalizers},
                    "pre_tokenizer": null,
                    "post_processor": self.post_processor(),
                    "decoder": {"type": "Sequence", "decoders": decoders},
                    "model": {
                        "type": "BPE",
                        "dropout": null,
                        "unk_token": self.special.unk.and_then(|id| self.tokens.get(id as usize)),
                        "continuing_subword_prefix": null,
                        "end_of_word_suffix": null,
                        "fuse_unk": true,
                        "byte_fallback": true,
                        "ignore_merges": false,
                        "vocab": self.vocab_json(),
                        "merges": merges,
                    },
                })
            }
            Model::Unigram { scores, add_space_prefix, remove_extra_whitespaces, charsmap } => {
                let scheme = if *add_space_prefix { "always" } else { "never" };
                let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
                let vocab: Vec<Value> =
                    self.tokens.iter().zip(scores).map(|(text, score)| json!([text, score])).collect();
                json!({
                    "version": "1.0",
                    "truncation": null,
                    "padding": null,
                    "added_tokens": added,
                    "normalizer": unigram::normalizer(charsmap, *remove_extra_whitespaces),
                    "pre_tokenizer": metaspace.clone(),
                    "post_processor": self.post_processor(),
                    "decoder": metaspace,
                    "model": {
                        "type": "Unigram",
                        "unk_id": self.special.unk,
                        "vocab": vocab,
                        "byte_fallback": false,
                    },
                })
            }
        };
        if let Some(normalizer) = &self.differences.normalizer {
            out["normalizer"] = normalizer.clone();
        }
        if let Some(pre_tokenizer) = &self.differences.pre_tokenizer {
            out["pre_tokenizer"] = pre_tokenizer.clone();
        }
        if let Some(ignore_merges) = self.differences.ignore_merges {
            out["model"]["ignore_merges"] = ignore_merges.into();
        }
        Ok(out)
    }

    /// Every token but the unused ones, by id; user-defined tokens in the tokenizer's own spelling.
    fn vocab_json(&self) -> Value {
        let mut vocab = Map::new();
        for (id, (text, kind)) in self.tokens.iter().zip(&self.kinds).enumerate() {
            if *kind != TokenKind::Unused {
                vocab.insert(text.to_owned(), id.into());
            }
        }
        for token in self.differences.added_tokens.iter().flatten() {
            if token.stored_text() != token.content {
                vocab.remove(&token.stored_text());
                vocab.insert(token.content.clone(), token.id.into());
            }
        }
        Value::Object(vocab)
    }

    fn post_processor(&self) -> Value {
        let text = |id: u32| self.tokens.get(id as usize).unwrap_or_default();
        let bos = self.special.bos.filter(|_| self.add_bos);
        let eos = self.special.eos.filter(|_| self.add_eos);
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let special = |id: u32, type_id: u32| json!({"SpecialToken": {"id": text(id), "type_id": type_id}});
        let around = |sequence: &str, type_id: u32| {
            let mut items = Vec::new();
            items.extend(bos.map(|id| special(id, type_id)));
            items.push(json!({"Sequence": {"id": sequence, "type_id": type_id}}));
            items.extend(eos.map(|id| special(id, type_id)));
            items
        };
        let pair = [around("A", 0), around("B", 1)].concat();
        let mut tokens = Map::new();
        for id in [bos, eos].into_iter().flatten() {
            tokens.insert(text(id).to_owned(), json!({"id": text(id), "ids": [id], "tokens": [text(id)]}));
        }
        json!({
            "type": "TemplateProcessing",
            "single": around("A", 0),
            "pair": pair,
            "special_tokens": tokens,
        })
    }
}
