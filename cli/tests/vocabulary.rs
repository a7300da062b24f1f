//! `slmc prune --vocab`: fewer tokens, the same text.

mod common;

use common::{copy_tiny, listing, says, slmc, stderr, stdout};
use serde_json::Value;
use slmc_calibration::Tokenizer;

const TEXT: &str =
    "The little boat went over the water. A bird was singing in the old tree, and the children laughed.\n";

#[test]
fn what_the_text_uses_stays_and_scores_as_before() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    std::fs::write(directory.join("text.txt"), TEXT.repeat(40)).unwrap();
    let arguments =
        ["prune", "model", "--vocab", "text.txt", "--output", "out", "--text", "text.txt", "--json"];
    let output = slmc(directory, [&arguments[..], &["--report", "told"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let html = std::fs::read_to_string(directory.join("told/report.html")).unwrap();
    for told in ["vocabulary", "2048", "bits per byte"] {
        assert!(html.contains(told), "{told}");
    }
    let outcome: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let (before, after) = (outcome["tokens_before"].as_u64().unwrap(), outcome["tokens"].as_u64().unwrap());
    // every byte, and a few words
    assert!(before == 2048 && (257..600).contains(&after), "{outcome}");
    let bits = |of: &str| outcome[of]["bits_per_byte"].as_f64().unwrap();
    // the mass of what went is the others' now
    assert!(bits("evaluation") <= bits("evaluation_before") + 1e-6, "{outcome}");
    let [old, new] = ["model", "out"]
        .map(|name| Tokenizer::from_file(&directory.join(name).join("tokenizer.json")).unwrap());
    let spelled = |tokenizer: &Tokenizer, text: &str| -> Vec<String> {
        let vocabulary = tokenizer.vocabulary();
        tokenizer.encode_with_special_tokens(text).unwrap().iter().map(|id| vocabulary[id].clone()).collect()
    };
    assert_eq!(spelled(&old, TEXT), spelled(&new, TEXT));
    // other text is spelled out, and comes back whole
    let other = "Zürich, 7 × 8 = 56 \u{1f600} unquestionably";
    let ids = new.encode_text(other).unwrap();
    assert_eq!(new.decode(&ids, true).unwrap(), other);
    assert!(ids.len() > old.encode_text(other).unwrap().len());
    assert!(ids.iter().all(|id| u64::from(*id) < after));
    // rows moved with their tokens
    let [from, to] =
        ["model", "out"].map(|name| slmc_checkpoint::Checkpoint::open(&directory.join(name)).unwrap());
    let name = "model.embed_tokens.weight";
    let (mut a, mut b) = (Vec::new(), Vec::new());
    from.read_f32(name, &mut a).unwrap();
    to.read_f32(name, &mut b).unwrap();
    for (id, token) in new.vocabulary() {
        let was = old.token_to_id(&token).unwrap() as usize;
        assert_eq!(a[was * 256..][..256], b[id as usize * 256..][..256], "{token}");
    }
    for file in ["config.json", "generation_config.json"] {
        let [old_ids, new_ids] = ["model", "out"].map(|name| -> Option<Value> {
            serde_json::from_slice(&std::fs::read(directory.join(name).join(file)).ok()?).ok()
        });
        let (Some(old_ids), Some(new_ids)) = (old_ids, new_ids) else { continue };
        for field in ["bos_token_id", "eos_token_id"] {
            let (Some(was), Some(is)) = (old_ids[field].as_u64(), new_ids[field].as_u64()) else { continue };
            assert_eq!(old.vocabulary()[&(was as u32)], new.vocabulary()[&(is as u32)], "{file}: {field}");
        }
    }
    let converted = slmc(directory, ["convert", "out", "--dtype", "f16"]);
    assert!(converted.status.success(), "{}", stderr(&converted));
    let evaluated =
        slmc(directory, ["eval", "out-f16.gguf", "--base", "out", "--text", "text.txt", "--json"]);
    let evaluated: Value = serde_json::from_str(&stdout(&evaluated))
        .unwrap_or_else(|_| panic!("{} {:?}", stderr(&evaluated), listing(directory)));
    assert!(evaluated["kl_divergence"]["mean"].as_f64().unwrap() < 1e-4);
}

#[test]
fn what_cannot_be_trimmed_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    std::fs::write(directory.join("empty.txt"), "").unwrap();
    let empty = slmc(directory, ["prune", "model", "--vocab", "empty.txt"]);
    assert!(!empty.status.success());
    let both = slmc(directory, ["prune", "model", "--vocab", "bundled:english", "--sparsity", "0.5"]);
    assert_eq!(both.status.code(), Some(2));
    let path = directory.join("model/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    tokenizer["model"] =
        serde_json::json!({"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"});
    tokenizer["added_tokens"] = serde_json::json!([]);
    tokenizer["post_processor"] = Value::Null;
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let other = slmc(directory, ["prune", "model", "--vocab", "bundled:english", "--no-eval"]);
    assert!(says(&stderr(&other), "only vocabularies of byte-pair encoding"), "{}", stderr(&other));
    assert_eq!(listing(directory), ["empty.txt", "model"]);
}
