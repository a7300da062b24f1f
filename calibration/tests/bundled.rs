//! The bundled corpus is what its manifest says, and reads as documents.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use slmc_calibration::bundled::{self, FILES, Parts};
use slmc_calibration::{ChatTemplate, TextKind};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

fn entry(name: &str, contents: &[u8]) -> Value {
    let hash: String = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "file": name, "bytes": contents.len(), "sha256": hash })
}

/// With `SLMC_UPDATE_MANIFEST` set, rewrites the manifest instead.
#[test]
fn the_manifest_holds() {
    let read = |name: &str| std::fs::read(data(name)).unwrap();
    let entries: Vec<Value> = FILES.iter().map(|file| entry(file.name, &read(file.name))).collect();
    let actual = json!({ "files": entries });
    if std::env::var_os("SLMC_UPDATE_MANIFEST").is_some() {
        std::fs::write(data("manifest.json"), format!("{actual:#}\n")).unwrap();
        return;
    }
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
    assert_eq!(manifest, actual, "rewrite it: SLMC_UPDATE_MANIFEST=1 cargo test -p slmc-calibration");
    // What is compiled in is what is on disk.
    assert_eq!(serde_json::from_str::<Value>(bundled::MANIFEST).unwrap(), manifest);
    for file in FILES {
        assert_eq!(file.text.as_bytes(), read(file.name), "{}", file.name);
    }
}

#[test]
fn every_text_of_the_directory_is_bundled() {
    for entry in std::fs::read_dir(data("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let listed = FILES.iter().any(|file| file.name == name);
        assert!(listed || ["manifest.json", "README.md"].contains(&name.as_str()), "{name} is not bundled");
    }
}

#[test]
fn it_reads_as_documents() {
    let documents = bundled::documents(&Parts::default(), None).unwrap();
    let held_out = bundled::held_out(&Parts::default()).unwrap();
    let bytes: usize = documents.iter().map(|d| d.text.len()).sum();
    assert!((180_000..400_000).contains(&(bytes + held_out.len())), "{bytes}");
    assert!(held_out.len() > 10_000 && !documents.iter().any(|d| held_out.contains(&d.text)));
    assert!(documents.len() > 100, "{}", documents.len());
    for document in &documents {
        assert_eq!(document.kind, TextKind::Plain);
        assert!(!document.text.trim().is_empty() && !document.text.lines().any(|line| line == "---"));
    }
    assert!(documents.iter().any(|d| d.text.starts_with("User: ") || d.text.starts_with("System: ")));
}

#[test]
fn parts_make_up_the_whole() {
    let (mut documents, mut held_out) = (Vec::new(), Vec::new());
    for name in Parts::default().names() {
        let part = Parts::named(name).unwrap();
        documents.extend(bundled::documents(&part, None).unwrap());
        let held = bundled::held_out(&part).unwrap();
        assert!(held.len() > 1000, "{name}: only {} bytes held out", held.len());
        held_out.push(held);
    }
    assert_eq!(documents, bundled::documents(&Parts::default(), None).unwrap());
    assert_eq!(held_out.join("\n\n"), bundled::held_out(&Parts::default()).unwrap());
}

#[test]
fn conversations_go_through_the_models_template() {
    let source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}";
    let template = ChatTemplate::new(source, None).unwrap();
    let documents = bundled::documents(&Parts::default(), Some(&template)).unwrap();
    let chats: Vec<_> = documents.iter().filter(|d| d.kind == TextKind::Markup).collect();
    assert!(chats.len() >= 10);
    assert!(chats.iter().all(|d| d.text.starts_with("<|") && d.text.contains("<|assistant|>")));
}
