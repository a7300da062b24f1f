//! From `tokenizer.json` and `tokenizer_config.json`.

use std::collections::HashMap;

use serde_json::Value;

use super::added_tokens::AddedToken;
use super::differences::Differences;
use super::error::{Note, VocabularyError};
use super::json::{self, optional, wrong};
use super::pre_tokenizer::PreTokenizer;
use super::sentence_piece::is_byte_token;
use super::spaces::{flatten_normalizer, sentence_piece};
use super::special::{ChatTemplates, Specials};
use super::unigram;
use super::{MAX_TOKENS, Model, TokenKind, Vocabulary};
use crate::container::Strings;

/// Text and kind of every id, still with gaps.
type Slots = Vec<Option<(String, TokenKind)>>;

impl Vocabulary {
    /// Reads a tokenizer. `vocab_size` is the number of rows of the model's embedding: ids without a token become
    /// `[PAD{id}]`, unused. `pre_override` names the pre-tokenizer where its structure is none that is recognized.
    ///
    /// # Errors
    /// The tokenizer is of a kind that GGUF or llama.cpp has no counterpart for, or contradicts itself; see
    /// [`VocabularyError`].
    pub fn from_tokenizer_json(
        tokenizer: &Value,
        config: Option<&Value>,
        vocab_size: usize,
        pre_override: Option<&str>,
    ) -> Result<Self, VocabularyError> {
        if vocab_size > MAX_TOKENS {
            return Err(VocabularyError::TooManyTokens { size: vocab_size, at_most: MAX_TOKENS });
        }
        let model = tokenizer.get("model").ok_or_else(|| wrong("model", "an object", None))?;
        check_model(model)?;
        let byte_fallback = json::flag(model, "byte_fallback")?;
        let is_unigram = json::kind(model) == "Unigram";
        let pieces = if is_unigram { unigram::pieces(model)? } else { listed(model)? };
        let merges = if is_unigram { Vec::new() } else { read_merges(model)? };
        let mut notes = Vec::new();
        let (added, beyond): (Vec<_>, Vec<_>) = AddedToken::read_all(tokenizer)?
            .into_iter()
            .partition(|token| token.id < vocab_size as u64 || !token.special);
        if !beyond.is_empty() {
            notes.push(Note::BeyondEmbedding(beyond.iter().map(|token| token.content.clone()).collect()));
        }
        let (slots, ids) = place_tokens(
            &pieces,
            unknown_token(model),
            &added,
            &beyond,
            byte_fallback || is_unigram,
            vocab_size,
        )?;
        let (tokens, kinds) = fill_gaps(slots)?;

        if let Some(name) = pre_override.filter(|_| byte_fallback || is_unigram) {
            return Err(VocabularyError::UselessPreName { name: name.to_owned() });
        }
        let parts = if is_unigram {
            unigram::read(tokenizer, vocab_size, &mut notes)?
        } else if byte_fallback {
            sentence_piece(tokenizer, &tokens, &kinds, &merges, &mut notes)?
        } else {
            byte_level(tokenizer, &merges, pre_override, &mut notes)?
        };
        let (gguf_model, mut differences) = parts;
        differences.note_added_tokens(
            &added,
            AddedToken::from_kinds(&gguf_model, &tokens, &kinds),
            &mut notes,
        );

        let id_of = |text: &str| ids.get(text).copied();
        let mut specials = Specials::read(tokenizer, config, id_of)?;
        notes.append(&mut specials.notes);
        let unknown = unknown_token(model).and_then(id_of);
        specials.ids.unk = specials.ids.unk.or(unknown);
        Ok(Self {
            model: gguf_model,
            tokens,
            kinds,
            special: specials.ids,
            add_bos: specials.add_bos,
            add_eos: specials.add_eos,
            chat_templates: ChatTemplates::read(config)?,
            differences,
            notes,
        })
    }
}

fn check_model(model: &Value) -> Result<(), VocabularyError> {
    match json::kind(model) {
        "BPE" | "Unigram" => {}
        "" if model.get("merges").is_some() => {} // older files leave the type out
        other => return Err(VocabularyError::UnsupportedModel { found: format!("{other:?}") }),
    }
    for option in ["continuing_subword_prefix", "end_of_word_suffix", "dropout"] {
        let neutral = |v: &&Value| v.as_str() == Some("") || v.as_f64() == Some(0.0);
        if let Some(value) = optional(model, option).filter(|v| !neutral(v)) {
            return Err(VocabularyError::UnsupportedOption { option, value: value.to_string() });
        }
    }
    Ok(())
}

/// The tokens of a vocabulary that lists them with their ids.
fn listed(model: &Value) -> Result<Vec<(&str, u64)>, VocabularyError> {
    let id_of = |id: &Value| id.as_u64().ok_or_else(|| wrong("model.vocab", "token ids", Some(id)));
    json::object(model, "vocab")?.iter().map(|(text, id)| Ok((text.as_str(), id_of(id)?))).collect()
}

/// The token for what no other covers: by its text, or by its place in the vocabulary.
fn unknown_token(model: &Value) -> Option<&str> {
    let by_place =
        || model.get("vocab")?.get(usize::try_from(model.get("unk_id")?.as_u64()?).ok()?)?.get(0)?.as_str();
    optional(model, "unk_token").and_then(Value::as_str).or_else(by_place)
}

/// Merges as pairs, from either of their two spellings; every one makes a token of the vocabulary of two others.
fn read_merges(model: &Value) -> Result<Vec<(String, String)>, VocabularyError> {
    let vocab = json::object(model, "vocab")?;
    let mut merges = Vec::new();
    for (index, merge) in json::array(model, "merges")?.iter().enumerate() {
        let pair = match merge {
            // A token can be a space by itself, but none starts with one.
            Value::String(s) => {
                s.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| (&s[..at], &s[at + 1..]))
            }
            Value::Array(two) => match two.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        let known = |text: &str| vocab.contains_key(text);
        match pair {
            Some((left, right)) if known(left) && known(right) && known(&format!("{left}{right}")) => {
                merges.push((left.to_owned(), right.to_owned()));
            }
            _ => return Err(VocabularyError::BadMerge { index, merge: merge.to_string() }),
        }
    }
    Ok(merges)
}

/// Puts every token at its id. Also returns the ids by the tokenizer's own spelling. Those `beyond` the embedding have no place:
/// Gemma 3's text models have a tokenizer with one for images.
fn place_tokens<'a>(
    pieces: &[(&'a str, u64)],
    unknown: Option<&str>,
    added: &'a [AddedToken],
    beyond: &[AddedToken],
    from_pieces: bool,
    vocab_size: usize,
) -> Result<(Slots, HashMap<&'a str, u32>), VocabularyError> {
    let mut slots: Slots = vec![None; vocab_size];
    let mut ids: HashMap<&str, u32> = HashMap::new();
    let place = |slots: &mut Slots, text: &str, id: u64| match usize::try_from(id) {
        Ok(at) if at < vocab_size => match slots[at].replace((text.to_owned(), TokenKind::Normal)) {
            Some((first, _)) if first != text => {
                Err(VocabularyError::SharedId { id: at, first, second: text.to_owned() })
            }
            _ => Ok(at),
        },
        _ => Err(VocabularyError::IdOutOfRange { token: text.to_owned(), id, vocab_size }),
    };
    for &(text, id) in pieces {
        if beyond.iter().any(|token| token.id == id && token.content == text) {
            continue;
        }
        let at = place(&mut slots, text, id)?;
        if from_pieces && is_byte_token(text) {
            slots[at] = Some((text.to_owned(), TokenKind::Byte));
        }
        ids.insert(text, at as u32);
    }
    for token in added {
        let at = place(&mut slots, &token.content, token.id)?;
        slots[at] = Some((token.stored_text(), token.kind()));
        if let Some(first) = ids.insert(&token.content, at as u32).filter(|&first| first as usize != at) {
            return Err(VocabularyError::DuplicateToken {
                token: token.content.clone(),
                first: first as usize,
                second: at,
            });
        }
    }
    if from_pieces && let Some(&at) = unknown.and_then(|text| ids.get(text)) {
        slots[at as usize] = Some((unknown.unwrap_or_default().to_owned(), TokenKind::Unknown));
    }
    Ok((slots, ids))
}

/// Names the ids without a token, and makes sure that no text occurs twice: llama.cpp aborts on that.
fn fill_gaps(slots: Slots) -> Result<(Strings, Vec<TokenKind>), VocabularyError> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(slots.len());
    for (id, slot) in slots.iter().enumerate() {
        if let Some((text, _)) = slot
            && let Some(first) = seen.insert(text.clone(), id)
        {
            return Err(VocabularyError::DuplicateToken { token: text.clone(), first, second: id });
        }
    }
    let mut tokens = Strings::with_capacity(slots.len(), slots.len() * 8);
    let mut kinds = Vec::with_capacity(slots.len());
    for (id, slot) in slots.into_iter().enumerate() {
        let (text, kind) = slot.unwrap_or_else(|| {
            let mut text = format!("[PAD{id}]");
            while seen.contains_key(&text) {
                text.push('_');
            }
            (text, TokenKind::Unused)
        });
        tokens.push(&text);
        kinds.push(kind);
    }
    Ok((tokens, kinds))
}

fn byte_level(
    tokenizer: &Value,
    merges: &[(String, String)],
    pre_override: Option<&str>,
    notes: &mut Vec<Note>,
) -> Result<(Model, Differences), VocabularyError> {
    let ignore_merges = json::flag(&tokenizer["model"], "ignore_merges")?;
    let pre_tokenizer = &tokenizer["pre_tokenizer"];
    let (pre, known) = match pre_override {
        Some(name) => PreTokenizer::named(name)?,
        None if is_byte_level(pre_tokenizer) => {
            let known = PreTokenizer::recognize(pre_tokenizer, ignore_merges)?;
            (known.name, known)
        }
        None => {
            let found = "BPE without byte fallback and without byte-level pre-tokenizer".to_owned();
            return Err(VocabularyError::UnsupportedModel { found });
        }
    };
    let mut differences = Differences::default();
    if !known.matches(pre_tokenizer) {
        notes.push(Note::PreTokenizerOverridden);
        differences.pre_tokenizer = Some(pre_tokenizer.clone());
    }
    if known.ignore_merges != ignore_merges {
        notes.push(Note::IgnoreMerges(ignore_merges));
        differences.ignore_merges = Some(ignore_merges);
    }
    match optional(tokenizer, "normalizer").map(flatten_normalizer) {
        None => {}
        Some(steps) if steps.is_empty() => {}
        Some(steps) if steps.iter().all(|s| json::kind(s) == "NFC") => {
            let normalizer = &tokenizer["normalizer"];
            notes.push(Note::NotNormalized(normalizer.to_string()));
            differences.normalizer = Some(normalizer.clone());
        }
        Some(_) => {
            let found = tokenizer["normalizer"].to_string();
            return Err(VocabularyError::UnsupportedNormalizer { found });
        }
    }
    let mut all = Strings::default();
    for (index, (left, right)) in merges.iter().enumerate() {
        // GGUF separates the two by a space, so neither may hold one; byte-level tokens spell it `Ġ`.
        if left.contains(' ') || right.contains(' ') {
            return Err(VocabularyError::BadMerge { index, merge: format!("{left} {right}") });
        }
        all.push(&format!("{left} {right}"));
    }
    Ok((Model::ByteLevel { merges: all, pre }, differences))
}

fn is_byte_level(pre_tokenizer: &Value) -> bool {
    let steps = pre_tokenizer.get("pretokenizers").and_then(Value::as_array);
    let steps = steps.map_or(std::slice::from_ref(pre_tokenizer), Vec::as_slice);
    steps.iter().any(|step| json::kind(step) == "ByteLevel")
}
