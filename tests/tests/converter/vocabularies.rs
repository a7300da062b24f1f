//! What becomes of every family's tokenizer.

use std::path::Path;

use serde_json::{Value as Json, json};
use slmc_gguf::container::Metadata;
use slmc_gguf::vocabulary::Vocabulary;

use crate::listing::{Difference, Explained, assert_all_needed, differences, theirs};
use crate::tokenizers_to_carry::byte_level::FAMILIES;
use crate::tokenizers_to_carry::{gemma, phi3};

const EXPLAINED: [Explained; 9] = [
    ("tokenizer.ggml.tokens", Difference::Other, ""),
    ("tokenizer.ggml.token_type", Difference::Other, ""),
    ("tokenizer.ggml.scores", Difference::Other, ""),
    ("tokenizer.ggml.add_eos_token", Difference::OnlyOurs, ""),
    ("tokenizer.ggml.add_space_prefix", Difference::OnlyOurs, ""),
    ("tokenizer.ggml.add_sep_token", Difference::OnlyTheirs, ""),
    ("tokenizer.ggml.eot_token_id", Difference::OnlyOurs, ""),
    ("tokenizer.ggml.eom_token_id", Difference::OnlyOurs, ""),
    ("slmc.tokenizer.differences", Difference::OnlyOurs, ""),
];

/// What `make.py` told the converter, which it would look up by a hash of tokens.
const TOLD: &str = "tokenizer.ggml.pre";

/// A tokenizer with its configuration; rows of the embedding.
struct Case {
    name: String,
    architecture: &'static str,
    tokenizer: Json,
    config: Json,
    rows: usize,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = FAMILIES
        .iter()
        .map(|family| Case {
            name: family.family.replace([' ', ',', '.'], "_"),
            architecture: "LlamaForCausalLM",
            tokenizer: family.tokenizer(),
            config: family.config(),
            rows: 2080,
        })
        .collect();
    cases.push(Case {
        name: "gemma".into(),
        architecture: "Gemma2ForCausalLM",
        tokenizer: gemma(),
        config: json!({"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>",
            "added_tokens_decoder": added_tokens(&gemma())}),
        rows: 1400,
    });
    cases.push(Case {
        name: "phi_3".into(),
        architecture: "Phi3ForCausalLM",
        tokenizer: phi3(),
        config: json!({"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>", "add_bos_token": false,
            "added_tokens_decoder": added_tokens(&phi3())}),
        rows: 1312,
    });
    cases
}

/// `added_tokens_decoder` of a `tokenizer_config.json`, which repeats what `tokenizer.json` has.
fn added_tokens(tokenizer: &Json) -> Json {
    let added = tokenizer["added_tokens"].as_array().unwrap();
    added
        .iter()
        .map(|token| (token["id"].to_string(), token.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn vocabularies_differ_where_it_is_explained() {
    let mut found = Vec::new();
    for Case { name, tokenizer, config, rows, .. } in cases() {
        let vocabulary = Vocabulary::from_tokenizer_json(&tokenizer, Some(&config), rows, None).unwrap();
        let mut ours = Metadata::new();
        vocabulary.write(&mut ours);
        ours.remove(TOLD);
        let mut theirs = theirs(&format!("vocabularies/{name}"));
        theirs["metadata"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| key.starts_with("tokenizer.") && key != TOLD);
        found.extend(differences(&name, &ours, &theirs, &EXPLAINED));
    }
    let names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
    assert_all_needed(&found, &EXPLAINED, &names);
}

/// Writes what `make.py --vocabularies DIRECTORY` reads: `CONVERTER_VOCABULARIES=DIRECTORY cargo test … -- --ignored`.
#[test]
#[ignore = "writes files for make.py"]
fn write_the_tokenizers() {
    let dir = std::env::var_os("CONVERTER_VOCABULARIES").expect("CONVERTER_VOCABULARIES names a directory");
    for Case { name, architecture, tokenizer, mut config, rows } in cases() {
        let dir = Path::new(&dir).join(&name);
        std::fs::create_dir_all(&dir).unwrap();
        config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
        let model = json!({"architectures": [architecture], "vocab_size": rows, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
            "head_dim": 16, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "original_max_position_embeddings": 64,
            "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 32,
            "model_type": architecture.strip_suffix("ForCausalLM").unwrap().to_lowercase()});
        for (file, json) in
            [("config.json", &model), ("tokenizer.json", &tokenizer), ("tokenizer_config.json", &config)]
        {
            std::fs::write(dir.join(file), json.to_string()).unwrap();
        }
    }
}
