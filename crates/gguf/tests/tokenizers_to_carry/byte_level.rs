//! The bundled model's vocabulary with the splitting and the special tokens of every family that has a byte-level tokenizer.

use serde_json::{Value, json};

use super::{LLAMA3, tiny};

const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A family's tokenizer.
pub struct ByteLevel {
    pub family: &'static str,
    /// What llama.cpp calls the splitting.
    pub pre: &'static str,
    splitting: Splitting,
    ignore_merges: bool,
    normalizer: Option<&'static str>,
    /// From id 2048 on; those with a `!` in front are not special.
    added: &'static [&'static str],
    bos: Option<&'static str>,
    eos: &'static str,
    /// `eos_token_id` of `generation_config.json`.
    pub ends: &'static [u32],
}

/// How text is split before merging.
enum Splitting {
    /// By a regular expression whose matches are isolated.
    Isolated(&'static str),
    /// By one between whose matches everything is removed, of which there is nothing.
    Matches(&'static str),
    /// Every digit by itself, then as GPT-2 does.
    Digits,
}

const CHAT: &[&str] = &["<|im_start|>", "<|im_end|>", "!<think>", "!</think>"];

const PLAIN: ByteLevel = ByteLevel {
    family: "",
    pre: "",
    splitting: Splitting::Digits,
    ignore_merges: false,
    normalizer: None,
    added: &[],
    bos: None,
    eos: "<|endoftext|>",
    ends: &[0],
};

pub const FAMILIES: [ByteLevel; 9] = [
    ByteLevel {
        family: "llama 3.2, kanana 1.5",
        pre: "llama-bpe",
        splitting: Splitting::Isolated(LLAMA3),
        ignore_merges: true,
        added: &["<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        bos: Some("<|begin_of_text|>"),
        eos: "<|eot_id|>",
        ends: &[2049, 2050, 2051],
        ..PLAIN
    },
    ByteLevel {
        family: "qwen 2.5, qwen 3",
        pre: "qwen2",
        splitting: Splitting::Isolated(QWEN2),
        normalizer: Some("NFC"),
        added: CHAT,
        eos: "<|im_end|>",
        ends: &[2049, 0],
        ..PLAIN
    },
    ByteLevel {
        family: "phi 4 mini",
        pre: "gpt-4o",
        splitting: Splitting::Matches(O200K),
        added: &["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "!<|tool|>"],
        ends: &[2051, 0],
        ..PLAIN
    },
    ByteLevel {
        family: "phi 4",
        pre: "smaug-bpe",
        splitting: Splitting::Matches(LLAMA3),
        added: &["<|im_start|>", "<|im_sep|>", "<|im_end|>"],
        eos: "<|im_end|>",
        ends: &[2050],
        ..PLAIN
    },
    ByteLevel { family: "smollm 2", pre: "smollm", added: CHAT, eos: "<|im_end|>", ends: &[2049], ..PLAIN },
    ByteLevel {
        family: "smollm 3",
        pre: "llama-bpe",
        splitting: Splitting::Isolated(LLAMA3),
        ignore_merges: true,
        added: CHAT,
        eos: "<|im_end|>",
        ends: &[2049],
        ..PLAIN
    },
    ByteLevel {
        family: "granite 3",
        pre: "smollm",
        added: &["<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"],
        ..PLAIN
    },
    ByteLevel {
        family: "olmo 2",
        pre: "smaug-bpe",
        splitting: Splitting::Matches(LLAMA3),
        added: &["!|||IP_ADDRESS|||", "<|pad|>"],
        ..PLAIN
    },
    ByteLevel {
        family: "ministral",
        pre: "tekken",
        splitting: Splitting::Isolated(TEKKEN),
        ignore_merges: true,
        added: &["<s>", "</s>", "[INST]", "[/INST]"],
        bos: Some("<s>"),
        eos: "</s>",
        ends: &[2049],
        ..PLAIN
    },
];

impl ByteLevel {
    /// `tokenizer.json`.
    pub fn tokenizer(&self) -> Value {
        let mut json = tiny();
        json["pre_tokenizer"] = self.splitting.to_json();
        json["model"]["ignore_merges"] = self.ignore_merges.into();
        json["normalizer"] = self.normalizer.map_or(Value::Null, |kind| json!({"type": kind}));
        let added = json["added_tokens"].as_array_mut().unwrap();
        for (id, name) in (2048..).zip(self.added) {
            added.push(json!({"id": id, "content": name.trim_start_matches('!'), "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": !name.starts_with('!')}));
        }
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        json["post_processor"] = match self.bos {
            None => bytes,
            Some(bos) => {
                let id = 2048 + self.added.iter().position(|name| *name == bos).unwrap();
                let token = |n| json!({"SpecialToken": {"id": bos, "type_id": n}});
                let text = |name, n| json!({"Sequence": {"id": name, "type_id": n}});
                json!({"type": "Sequence", "processors": [bytes, {"type": "TemplateProcessing",
                    "single": [token(0), text("A", 0)], "pair": [token(0), text("A", 0), token(1), text("B", 1)],
                    "special_tokens": {(bos): {"id": bos, "ids": [id], "tokens": [bos]}}}]})
            }
        };
        json
    }

    /// `tokenizer_config.json`.
    pub fn config(&self) -> Value {
        json!({"bos_token": self.bos, "eos_token": self.eos})
    }
}

impl Splitting {
    fn to_json(&self) -> Value {
        let bytes = |use_regex| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let split = |regex, behavior, invert| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert});
        let steps = match self {
            Self::Isolated(regex) => [split(regex, "Isolated", false), bytes(false)],
            Self::Matches(regex) => [split(regex, "Removed", true), bytes(false)],
            Self::Digits => [json!({"type": "Digits", "individual_digits": true}), bytes(true)],
        };
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}
