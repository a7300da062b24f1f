//! A tokenizer without the tokens that a text never uses.
//!
//! Byte-pair encoding joins, again and again, the pair of neighbours that comes first in its list of merges (Sennrich et al.,
//! arXiv 1508.07909, section 3.2). What becomes one token is built up by merges inside it alone: a pair across its border was never
//! joined. So a list without merges that no token of a text was built with gives the same tokens of that text, as long as the tokens in
//! between are kept, too: those that the token's own spelling goes through.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde_json::{Map, Value};

use crate::CalibrationError;

/// A smaller vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct TrimmedVocabulary {
    /// `tokenizer.json` with the tokens that stay, numbered anew.
    pub json: Value,
    /// Their old numbers, ascending: the new number is the place in this list.
    pub kept: Vec<u32>,
}

impl TrimmedVocabulary {
    /// Keeps the tokens `used`, those that they are built up from, every single character or byte, and all added tokens. `path` says in
    /// errors where `json`, a `tokenizer.json`, is from.
    ///
    /// # Errors
    /// A tokenizer of another kind than byte-pair encoding; a file without its parts.
    pub fn new(json: &Value, used: &BTreeSet<u32>, path: &Path) -> Result<Self, CalibrationError> {
        let failed =
            |reason: &str| CalibrationError::Tokenizer { path: path.to_owned(), reason: reason.to_owned() };
        let model = json.get("model").ok_or_else(|| failed("has no `model`"))?;
        let kind = model.get("type").and_then(Value::as_str).unwrap_or("BPE");
        if kind != "BPE" {
            return Err(failed(&format!(
                "is of kind {kind}; only vocabularies of byte-pair encoding (BPE) can be trimmed"
            )));
        }
        let vocabulary =
            model.get("vocab").and_then(Value::as_object).ok_or_else(|| failed("has no `model.vocab`"))?;
        let ids: HashMap<&str, u32> =
            vocabulary.iter().map(|(token, id)| (token.as_str(), number(id))).collect();
        let spellings: HashMap<u32, &str> = ids.iter().map(|(token, id)| (*id, *token)).collect();
        let merges = merges(model).ok_or_else(|| failed("has no list of `model.merges`"))?;
        let ranks: HashMap<(&str, &str), usize> =
            merges.iter().enumerate().rev().map(|(rank, &pair)| (pair, rank)).collect();
        let added: BTreeSet<u32> = json
            .get("added_tokens")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|token| token.get("id"))
            .map(number)
            .collect();
        let unknown = model.get("unk_token").and_then(Value::as_str);
        let is_elementary =
            |token: &str| token.chars().count() == 1 || is_byte(token) || Some(token) == unknown;
        let mut kept = added;
        kept.extend(ids.iter().filter(|(token, _)| is_elementary(token)).map(|(_, id)| *id));
        for id in used {
            kept.insert(*id);
            let Some(&token) = spellings.get(id) else { continue };
            derivation(token, &ranks).iter().filter_map(|part| ids.get(part.as_str())).for_each(|id| {
                kept.insert(*id);
            });
        }
        let kept: Vec<u32> = kept.into_iter().collect();
        let renumbered: HashMap<u32, u32> = kept.iter().zip(0..).map(|(old, new)| (*old, new)).collect();
        let stays = |token: &str| ids.get(token).is_some_and(|id| renumbered.contains_key(id));
        let mut trimmed = json.clone();
        let tokens: Map<String, Value> = vocabulary
            .iter()
            .filter_map(|(token, id)| Some((token.clone(), Value::from(*renumbered.get(&number(id))?))))
            .collect();
        let stay: Vec<bool> = merges
            .iter()
            .map(|(left, right)| stays(left) && stays(right) && stays(&format!("{left}{right}")))
            .collect();
        if let Some(Value::Array(merges)) = trimmed["model"].get_mut("merges") {
            let mut stay = stay.into_iter();
            merges.retain(|_| stay.next().unwrap_or(false));
        }
        trimmed["model"]["vocab"] = Value::Object(tokens);
        for token in trimmed.get_mut("added_tokens").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(id) = token.get_mut("id") {
                *id = Value::from(renumbered[&number(id)]);
            }
        }
        if let Some(processor) = trimmed.get_mut("post_processor") {
            renumber_processor(processor, &renumbered);
        }
        Ok(Self { json: trimmed, kept })
    }

    /// The new number of a token; `None` for one that went.
    pub fn renumbered(&self, old: u32) -> Option<u32> {
        self.kept.binary_search(&old).ok().map(|new| new as u32)
    }

    /// Renumbers the fields of a checkpoint's other JSON files that name tokens by number. What names a token that went is left out.
    pub fn renumber_ids(&self, json: &mut Value) {
        let Value::Object(fields) = json else { return };
        for (name, value) in fields.iter_mut() {
            if name.ends_with("_token_id") || name.ends_with("_token_ids") {
                match value {
                    Value::Array(ids) => {
                        let new = ids.iter().filter_map(|id| self.renumbered(number(id)));
                        *value = Value::Array(new.map(Value::from).collect());
                    }
                    Value::Number(_) => {
                        *value = self.renumbered(number(value)).map_or(Value::Null, Value::from);
                    }
                    _ => {}
                }
            }
        }
        if let Some(Value::Object(tokens)) = fields.get_mut("added_tokens_decoder") {
            let renumbered = std::mem::take(tokens).into_iter().filter_map(|(id, token)| {
                let new = self.renumbered(id.parse().ok()?)?;
                Some((new.to_string(), token))
            });
            *tokens = renumbered.collect();
        }
    }
}

/// A token's number; one that no vocabulary has for anything else.
fn number(id: &Value) -> u32 {
    id.as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or(u32::MAX)
}

/// `<0x0A>`: what stands for a byte where no character does.
fn is_byte(token: &str) -> bool {
    token.len() == 6 && token.starts_with("<0x") && token.ends_with('>')
}

/// The merges in their order, in either spelling: `"a b"` or `["a", "b"]`.
fn merges(model: &Value) -> Option<Vec<(&str, &str)>> {
    let mut all = Vec::new();
    for merge in model.get("merges")?.as_array()? {
        all.push(match merge {
            Value::String(text) => text.split_once(' ')?,
            Value::Array(two) => (two.first()?.as_str()?, two.get(1)?.as_str()?),
            _ => return None,
        });
    }
    Some(all)
}

/// Every token that byte-pair encoding goes through on its way to a spelling.
fn derivation(token: &str, ranks: &HashMap<(&str, &str), usize>) -> Vec<String> {
    let mut parts: Vec<String> = token.chars().map(String::from).collect();
    let mut all = Vec::new();
    loop {
        let rank = |at: usize| ranks.get(&(parts[at].as_str(), parts[at + 1].as_str())).copied();
        let best = (0..parts.len().saturating_sub(1)).filter_map(|at| Some((rank(at)?, at))).min();
        let Some((_, at)) = best else { return all };
        let right = parts.remove(at + 1);
        parts[at].push_str(&right);
        all.push(parts[at].clone());
    }
}

/// The special tokens that a post-processor adds, in a template or in a sequence of processors.
fn renumber_processor(processor: &mut Value, renumbered: &HashMap<u32, u32>) {
    for processor in processor.get_mut("processors").and_then(Value::as_array_mut).into_iter().flatten() {
        renumber_processor(processor, renumbered);
    }
    let tokens = processor.get_mut("special_tokens").and_then(Value::as_object_mut);
    for token in tokens.into_iter().flat_map(Map::values_mut) {
        for id in token.get_mut("ids").and_then(Value::as_array_mut).into_iter().flatten() {
            // a token of a template that the vocabulary does not have is none of ours
            if let Some(new) = renumbered.get(&number(id)) {
                *id = Value::from(*new);
            }
        }
    }
    // BertProcessing and RobertaProcessing: ["[SEP]", 102]
    for end in ["sep", "cls"] {
        if let Some(id) = processor.get_mut(end).and_then(|pair| pair.get_mut(1))
            && let Some(new) = renumbered.get(&number(id))
        {
            *id = Value::from(*new);
        }
    }
}
