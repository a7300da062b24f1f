//! llama.cpp's names for the ways in which byte-level BPE splits text before merging.
//!
//! llama.cpp has the regexes in its code and finds them by `tokenizer.ggml.pre` (`src/llama-vocab.cpp`). Here each
//! name stands with the pre-tokenizer of the Hugging Face tokenizers it was made for, so that a tokenizer is
//! recognized by its structure and can be rebuilt from the name.

use serde_json::{Value, json};

use super::error::VocabularyError;

/// One step of a `Sequence` of pre-tokenizers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step<S> {
    /// `Split` by regex, behavior `Isolated`.
    Split(S),
    /// `Digits`, each by itself.
    Digits,
    /// `ByteLevel` without a space put in front; whether it splits by GPT-2's regex.
    ByteLevel { use_regex: bool },
}

/// A named pre-tokenizer.
#[derive(Debug)]
pub struct PreTokenizer {
    /// The name to write.
    pub name: &'static str,
    /// Other names that llama.cpp treats alike, as far as tokenization goes.
    aliases: &'static [&'static str],
    /// Whether llama.cpp takes a word that is a token without merging it.
    pub ignore_merges: bool,
    /// The steps, and other steps that split alike.
    steps: &'static [&'static [Step<&'static str>]],
}

const BYTES: Step<&str> = Step::ByteLevel { use_regex: false };
const GPT2_STEP: Step<&str> = Step::ByteLevel { use_regex: true };

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// Every pre-tokenizer that can be recognized. Of several with the same steps, the first whose `ignore_merges` fits.
static TABLE: [PreTokenizer; 12] = [
    PreTokenizer {
        name: "gpt-2",
        aliases: &["phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "gigachat", "a.x-4.0", "mellum"],
        ignore_merges: false,
        steps: &[&[GPT2_STEP], &[Step::Split(GPT2), BYTES]],
    },
    PreTokenizer {
        name: "smollm",
        aliases: &["starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        ignore_merges: false,
        steps: &[&[Step::Digits, GPT2_STEP], &[Step::Digits, Step::Split(GPT2), BYTES]],
    },
    PreTokenizer {
        name: "llama-bpe",
        aliases: &["llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "glm4"],
        ignore_merges: true,
        steps: &[&[Step::Split(LLAMA3), BYTES]],
    },
    PreTokenizer {
        name: "smaug-bpe",
        aliases: &["dbrx", "chatglm-bpe"],
        ignore_merges: false,
        steps: &[&[Step::Split(LLAMA3), BYTES]],
    },
    PreTokenizer {
        name: "qwen2",
        aliases: &["stablelm2", "deepseek-r1-qwen", "kormo", "megrez", "hunyuan", "solar-open", "grok-2"],
        ignore_merges: false,
        steps: &[&[Step::Split(QWEN2), BYTES]],
    },
    PreTokenizer {
        name: "qwen35",
        aliases: &[],
        ignore_merges: false,
        steps: &[&[Step::Split(QWEN35), BYTES]],
    },
    PreTokenizer {
        name: "tekken",
        aliases: &[],
        ignore_merges: true,
        steps: &[&[Step::Split(TEKKEN), BYTES]],
    },
    PreTokenizer {
        name: "gpt-4o",
        aliases: &["llama4", "kanana2", "minimax-m2"],
        ignore_merges: false,
        steps: &[&[Step::Split(GPT4O), BYTES]],
    },
    PreTokenizer {
        name: "seed-coder",
        aliases: &[],
        ignore_merges: false,
        steps: &[&[Step::Split(SEED_CODER), BYTES]],
    },
    PreTokenizer {
        name: "bailingmoe",
        aliases: &["bailingmoe2", "llada-moe"],
        ignore_merges: false,
        steps: &[&[Step::Split(BAILING), BYTES]],
    },
    PreTokenizer {
        name: "deepseek-v3",
        aliases: &["hunyuan-dense", "joyai-llm"],
        ignore_merges: false,
        steps: &[&[
            Step::Split(r"\p{N}{1,3}"),
            Step::Split("[一-龥぀-ゟ゠-ヿ]+"),
            Step::Split(DEEPSEEK3),
            BYTES,
        ]],
    },
    PreTokenizer {
        name: "deepseek-coder",
        aliases: &[],
        ignore_merges: false,
        steps: &[&[
            Step::Split(r"[\r\n]"),
            Step::Split(r"\s?\p{L}+"),
            Step::Split(r"\s?\p{P}+"),
            Step::Split("[一-龥ࠀ-一가-퟿]+"),
            Step::Digits,
            BYTES,
        ]],
    },
];

impl PreTokenizer {
    /// Every name that [`named`](Self::named) knows, with what it stands for.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static Self)> {
        TABLE.iter().flat_map(|p| p.names().map(move |name| (name, p)))
    }

    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// The pre-tokenizer of this name or alias, and the name in the spelling of llama.cpp.
    ///
    /// # Errors
    /// The name is not known; the error lists those that are.
    pub fn named(name: &str) -> Result<(&'static str, &'static Self), VocabularyError> {
        Self::all()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| VocabularyError::UnknownPreName { name: name.to_owned(), known: known_names() })
    }

    /// Finds the pre-tokenizer with the structure of `pre_tokenizer` (of a `tokenizer.json`), preferring one whose
    /// `ignore_merges` is as given.
    ///
    /// # Errors
    /// None has this structure; the error shows it and lists the known names.
    pub fn recognize(pre_tokenizer: &Value, ignore_merges: bool) -> Result<&'static Self, VocabularyError> {
        let steps = read_steps(pre_tokenizer);
        let alike = || TABLE.iter().filter(|p| steps.as_ref().is_some_and(|s| p.has(s)));
        alike().find(|p| p.ignore_merges == ignore_merges).or_else(|| alike().next()).ok_or_else(|| {
            VocabularyError::UnknownPreTokenizer { found: pre_tokenizer.to_string(), known: known_names() }
        })
    }

    /// True where `pre_tokenizer` splits as this one does.
    pub fn matches(&self, pre_tokenizer: &Value) -> bool {
        read_steps(pre_tokenizer).is_some_and(|s| self.has(&s))
    }

    fn has(&self, steps: &[Step<String>]) -> bool {
        self.steps.iter().any(|known| {
            known.len() == steps.len()
                && known.iter().zip(steps).all(|(a, b)| a.as_ref_str() == b.as_ref_str())
        })
    }

    /// The pre-tokenizer as `tokenizer.json` has it.
    pub fn to_json(&self) -> Value {
        let steps: Vec<Value> = self.steps[0].iter().map(Step::to_json).collect();
        match <[Value; 1]>::try_from(steps) {
            Ok([single]) => single,
            Err(steps) => json!({"type": "Sequence", "pretokenizers": steps}),
        }
    }
}

fn known_names() -> String {
    TABLE.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}

impl<S: AsRef<str>> Step<S> {
    fn as_ref_str(&self) -> Step<&str> {
        match self {
            Step::Split(regex) => Step::Split(regex.as_ref()),
            Step::Digits => Step::Digits,
            Step::ByteLevel { use_regex } => Step::ByteLevel { use_regex: *use_regex },
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Step::Split(regex) => json!({
                "type": "Split", "pattern": {"Regex": regex.as_ref()}, "behavior": "Isolated", "invert": false
            }),
            Step::Digits => json!({"type": "Digits", "individual_digits": true}),
            Step::ByteLevel { use_regex } => json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex
            }),
        }
    }
}

/// The steps of a `tokenizer.json` pre-tokenizer; `None` where one is of another kind.
fn read_steps(pre_tokenizer: &Value) -> Option<Vec<Step<String>>> {
    match pre_tokenizer.get("pretokenizers") {
        Some(all) => all.as_array()?.iter().map(read_step).collect(),
        None => Some(vec![read_step(pre_tokenizer)?]),
    }
}

fn read_step(step: &Value) -> Option<Step<String>> {
    let flag = |name| step.get(name).and_then(Value::as_bool);
    match step.get("type")?.as_str()? {
        "Split" => {
            let regex = step.get("pattern")?.get("Regex")?.as_str()?;
            let behavior = (step.get("behavior")?.as_str()?, flag("invert").unwrap_or(false));
            // Keeping the matches alone is the same for a regex that matches everything.
            let same = behavior == ("Isolated", false)
                || (behavior == ("Removed", true) && regex.ends_with(r"|\s+"));
            // Some files hold the line ends themselves where others have their escapes.
            same.then(|| Step::Split(regex.replace('\r', r"\r").replace('\n', r"\n")))
        }
        "Digits" if flag("individual_digits") == Some(true) => Some(Step::Digits),
        "ByteLevel" if flag("add_prefix_space") == Some(false) => {
            Some(Step::ByteLevel { use_regex: flag("use_regex").unwrap_or(true) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = TABLE.iter().flat_map(|p| p.aliases.iter().chain([&p.name])).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn every_pre_tokenizer_is_recognized_from_its_json() {
        for p in &TABLE {
            let found = PreTokenizer::recognize(&p.to_json(), p.ignore_merges).unwrap();
            assert_eq!(found.name, p.name);
            assert!(p.matches(&p.to_json()));
            assert_eq!(PreTokenizer::named(p.name).unwrap().1.name, p.name);
        }
        let by_ignore_merges = |v| PreTokenizer::recognize(&TABLE[2].to_json(), v).unwrap().name;
        assert_eq!((by_ignore_merges(true), by_ignore_merges(false)), ("llama-bpe", "smaug-bpe"));
    }

    #[test]
    fn unknown_ones_are_shown() {
        let strange =
            json!({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false});
        let message = PreTokenizer::recognize(&strange, false).unwrap_err().to_string();
        assert!(
            message.contains("x+") && message.contains("--pre") && message.contains("qwen2"),
            "{message}"
        );
        let prefix = json!({"type": "ByteLevel", "add_prefix_space": true});
        assert!(PreTokenizer::recognize(&prefix, false).is_err());
        let message = PreTokenizer::named("llama-4711").unwrap_err().to_string();
        assert!(message.contains("llama-4711") && message.contains("llama-bpe"), "{message}");
    }

    #[test]
    fn line_ends_may_stand_for_themselves() {
        let raw = QWEN2.replace(r"\r", "\r").replace(r"\n", "\n");
        let json = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": raw}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
        ]});
        assert_eq!(PreTokenizer::recognize(&json, false).unwrap().name, "qwen2");
    }
}
