//! Special tokens, what is added around every text, and chat templates.

use serde_json::Value;

use super::ends::TURN_ENDS;
use super::error::{Note, VocabularyError};
use super::json::{self, optional, wrong};

/// Ids of the special tokens; `None` where the model has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the field's own names
pub struct SpecialIds {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub sep: Option<u32>,
    pub pad: Option<u32>,
    pub mask: Option<u32>,
    /// End of a turn, where it differs from the end of the text.
    pub eot: Option<u32>,
    /// End of a message that calls a tool.
    pub eom: Option<u32>,
}

/// Role in `tokenizer_config.json`, GGUF key, place.
type Role = (&'static str, &'static str, fn(&mut SpecialIds) -> &mut Option<u32>);

/// The roles in the order in which they are written.
pub(super) const ROLES: [Role; 8] = [
    ("bos", "tokenizer.ggml.bos_token_id", |s| &mut s.bos),
    ("eos", "tokenizer.ggml.eos_token_id", |s| &mut s.eos),
    ("unk", "tokenizer.ggml.unknown_token_id", |s| &mut s.unk),
    ("sep", "tokenizer.ggml.seperator_token_id", |s| &mut s.sep), // the key is spelled so
    ("pad", "tokenizer.ggml.padding_token_id", |s| &mut s.pad),
    ("mask", "tokenizer.ggml.mask_token_id", |s| &mut s.mask),
    ("eot", "tokenizer.ggml.eot_token_id", |s| &mut s.eot),
    ("eom", "tokenizer.ggml.eom_token_id", |s| &mut s.eom),
];

impl SpecialIds {
    pub(super) fn fill(&mut self, config: &Value, vocab_size: usize) {
        for (role, _, place) in ROLES {
            let id = config.get(format!("{role}_token_id")).and_then(Value::as_u64);
            let id = id.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < vocab_size);
            let slot = place(self);
            *slot = slot.or(id);
        }
    }
}

/// What `tokenizer_config.json` and the post-processor say together.
#[derive(Debug, Default)]
pub(super) struct Specials {
    pub ids: SpecialIds,
    pub add_bos: bool,
    pub add_eos: bool,
    pub notes: Vec<Note>,
}

/// Special tokens put around a text by a `TemplateProcessing`.
#[derive(Debug, Default)]
struct Around {
    first: Option<String>,
    last: Option<String>,
}

impl Specials {
    /// `id_of` finds the id of a token's text.
    ///
    /// A post-processor decides what is added; only without one that says so does `add_bos_token` of the configuration.
    /// A template that ends with another token than the configured EOS makes that one EOS, and the configured one the end
    /// of turn (as in `SpecialVocab._try_load_from_tokenizer_json`).
    pub(super) fn read(
        tokenizer: &Value,
        config: Option<&Value>,
        id_of: impl Fn(&str) -> Option<u32>,
    ) -> Result<Self, VocabularyError> {
        let mut out = Self::default();
        let mut names: [Option<String>; ROLES.len()] = Default::default();
        if let Some(config) = config {
            for (name, (role, ..)) in names.iter_mut().zip(ROLES) {
                *name = token_text(config, role)?;
            }
        }
        let [bos, eos, _, _, _, _, eot, _] = &mut names;
        let post = optional(tokenizer, "post_processor").map(read_post_processor).transpose()?;
        let configured = |field| config.map_or(Ok(false), |c| json::flag(c, field));
        match post {
            None => {
                out.add_bos = configured("add_bos_token")?;
                out.add_eos = configured("add_eos_token")?;
            }
            Some(around) => {
                out.add_bos = around.first.is_some();
                out.add_eos = around.last.is_some();
                *bos = around.first.or(bos.take());
                if let Some(last) = around.last {
                    let previous = eos.replace(last);
                    if previous != *eos && eot.is_none() {
                        *eot = previous;
                    }
                }
            }
        }
        for (name, (role, _, place)) in names.into_iter().zip(ROLES) {
            let Some(name) = name else { continue };
            let id = id_of(&name);
            *place(&mut out.ids) = id;
            if id.is_none() {
                if (role == "bos" && out.add_bos) || (role == "eos" && out.add_eos) {
                    return Err(VocabularyError::UnknownSpecialToken { role, token: name });
                }
                out.notes.push(Note::UnknownSpecialToken(role, name));
            }
        }
        // llama.cpp finds these by their text too, if no key names them.
        out.ids.eot = out.ids.eot.or_else(|| TURN_ENDS.iter().find_map(|text| id_of(text)));
        out.ids.eom = out.ids.eom.or_else(|| id_of("<|eom_id|>"));
        for (add, id, key) in
            [(out.add_bos, out.ids.bos, "add_bos_token"), (out.add_eos, out.ids.eos, "add_eos_token")]
        {
            if add && id.is_none() {
                return Err(VocabularyError::NothingToAdd { key });
            }
        }
        Ok(out)
    }
}

/// `bos_token` and the like: a string, or an object with `content`.
fn token_text(config: &Value, role: &str) -> Result<Option<String>, VocabularyError> {
    let field = format!("{role}_token");
    let Some(entry) = optional(config, &field) else { return Ok(None) };
    let text = entry.as_str().or_else(|| entry.get("content").and_then(Value::as_str));
    match text {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(wrong(field, "a token", Some(entry))),
    }
}

/// What a post-processor puts around a single text. `ByteLevel` adds nothing.
fn read_post_processor(post: &Value) -> Result<Around, VocabularyError> {
    let mut around = Around::default();
    let processors = match post.get("processors") {
        Some(Value::Array(all)) => all.as_slice(),
        _ => std::slice::from_ref(post),
    };
    let unsupported = || VocabularyError::UnsupportedPostProcessor { found: post.to_string() };
    for processor in processors {
        match json::kind(processor) {
            "ByteLevel" => {}
            "TemplateProcessing" => {
                let special = |item: &Value| Some(item.get("SpecialToken")?.get("id")?.as_str()?.to_owned());
                let single = json::array(processor, "single")?;
                let at =
                    single.iter().position(|item| item.get("Sequence").is_some()).ok_or_else(unsupported)?;
                // llama.cpp can put one token before the text and one after it.
                let (before, after) = (&single[..at], &single[at + 1..]);
                if before.len() > 1 || after.len() > 1 {
                    return Err(unsupported());
                }
                around.first = before.first().map(|i| special(i).ok_or_else(unsupported)).transpose()?;
                around.last = after.first().map(|i| special(i).ok_or_else(unsupported)).transpose()?;
            }
            _ => return Err(unsupported()),
        }
    }
    Ok(around)
}

/// Jinja templates for chats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatTemplates {
    /// The one used unless another is asked for.
    pub default: Option<String>,
    /// Others with their names, made of letters, digits and `_`.
    pub named: Vec<(String, String)>,
}

impl ChatTemplates {
    /// Adds a named one, in place of one of the same name. GGUF makes a key of the name.
    pub(super) fn add(&mut self, name: &str, template: String) {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        self.named.retain(|(known, _)| *known != name);
        self.named.push((name, template));
    }

    /// `chat_template` of a `tokenizer_config.json`: a string, or a list of `{name, template}`.
    pub(super) fn read(config: Option<&Value>) -> Result<Self, VocabularyError> {
        let mut out = Self::default();
        match config.and_then(|c| optional(c, "chat_template")) {
            None => {}
            Some(Value::String(template)) => out.default = Some(template.clone()),
            Some(Value::Array(list)) => {
                for entry in list {
                    let text = |field| {
                        entry.get(field).and_then(Value::as_str).ok_or_else(|| {
                            wrong(format!("chat_template[].{field}"), "a string", entry.get(field))
                        })
                    };
                    let (name, template) = (text("name")?, text("template")?.to_owned());
                    if name == "default" {
                        out.default = Some(template);
                    } else {
                        out.add(name, template);
                    }
                }
            }
            other => return Err(wrong("chat_template", "a string or a list of templates", other)),
        }
        Ok(out)
    }
}
