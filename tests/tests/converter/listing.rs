//! Metadata as `make.py` lists it, and how ours may differ from the converter's.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use slmc_gguf::container::{Array, Metadata, Value};

/// How a key of ours differs from the converter's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    OnlyOurs,
    OnlyTheirs,
    Other,
}

/// A key without the architecture's name in front, how it may differ, and the cases that it does in: those whose names begin so.
pub type Explained = (&'static str, Difference, &'static str);

/// A difference that was found: the key, how it differs, the case.
pub type Found = (String, Difference, String);

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value as `make.py` lists it.
fn listed(value: &Value) -> Json {
    const LONG: usize = 8;
    let scalar = |kind: &str, value: Json| json!({"type": kind, "value": value});
    match value {
        Value::U32(v) => scalar("uint32", json!(v)),
        Value::I32(v) => scalar("int32", json!(v)),
        Value::U64(v) => scalar("uint64", json!(v)),
        Value::F32(v) => scalar("float32", json!(f64::from(*v))),
        Value::Bool(v) => scalar("bool", json!(v)),
        Value::String(v) => scalar("string", json!(v)),
        Value::Array(array) => {
            let (kind, values, bytes): (_, Vec<Json>, Vec<u8>) = match array {
                Array::Strings(all) => (
                    "string",
                    all.iter().map(Json::from).collect(),
                    all.iter().collect::<Vec<_>>().join("\0").into_bytes(),
                ),
                Array::I32(all) => (
                    "int32",
                    all.iter().map(|v| json!(v)).collect(),
                    all.iter().flat_map(|v| v.to_le_bytes()).collect(),
                ),
                Array::F32(all) => (
                    "float32",
                    all.iter().map(|v| json!(f64::from(*v))).collect(),
                    all.iter().flat_map(|v| v.to_le_bytes()).collect(),
                ),
                Array::Bool(all) => (
                    "bool",
                    all.iter().map(|v| json!(v)).collect(),
                    all.iter().map(|v| u8::from(*v)).collect(),
                ),
                other => panic!("an array of {:?}", other.element_type()),
            };
            let kind = format!("array of {kind}");
            match values.len() > LONG {
                true => json!({"type": kind, "len": values.len(), "sha256": digest(&bytes)}),
                false => json!({"type": kind, "value": values}),
            }
        }
        other => panic!("{:?}", other.value_type()),
    }
}

/// The listing of this name.
pub fn theirs(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/converter/listings/{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; make.py beside the listings makes it", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The keys that differ between ours and a listing of theirs. Fails for one that is not `explained`, or not in `docs/gguf.md`.
pub fn differences(name: &str, ours: &Metadata, theirs: &Json, explained: &[Explained]) -> Vec<Found> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gguf.md");
    let page = std::fs::read_to_string(page).unwrap();
    let architecture = ours.str("general.architecture").unwrap_or_default().to_owned();
    let ours: BTreeMap<String, Json> =
        ours.iter().map(|(key, value)| (key.to_owned(), listed(value))).collect();
    let theirs: BTreeMap<String, Json> = serde_json::from_value(theirs["metadata"].clone()).unwrap();
    let mut found = Vec::new();
    for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
        let difference = match (ours.get(key), theirs.get(key)) {
            (Some(_), None) => Difference::OnlyOurs,
            (None, Some(_)) => Difference::OnlyTheirs,
            (a, b) if a == b => continue,
            _ => Difference::Other,
        };
        let short = key.strip_prefix(&format!("{architecture}.")).unwrap_or(key);
        assert!(
            explained
                .iter()
                .any(|(key, how, case)| *key == short && *how == difference && name.starts_with(case)),
            "{name}, {key}: ours {:?}, theirs {:?}",
            ours.get(key),
            theirs.get(key)
        );
        assert!(page.contains(&format!("`{short}`")), "docs/gguf.md does not explain {short}");
        found.push((short.to_owned(), difference, name.to_owned()));
    }
    found
}

/// Fails for an explanation that nothing needs, of those for cases that there are.
pub fn assert_all_needed(found: &[Found], explained: &[Explained], names: &[String]) {
    let there = |cases: &str| names.iter().any(|name| name.starts_with(cases));
    for (key, difference, cases) in explained.iter().filter(|(.., cases)| there(cases)) {
        let is_it = |(found, how, case): &Found| found == key && how == difference && case.starts_with(cases);
        assert!(found.iter().any(is_it), "{key} of {cases:?} does not differ any more: {difference:?}");
    }
}
