//! The importance matrix beside llama-imatrix's, on the same tokens.

use std::path::{Path, PathBuf};

use slmc_gguf::imatrix::ImportanceMatrix;
use slmc_model::{Device, WeightSource};
use slmc_pipeline::imatrix::gather;
use slmc_pipeline::jobs::quantize::{Mix, Prepared, QuantizeSettings};
use slmc_pipeline::model_file::ModelFile;
use slmc_pipeline::progress::Silent;
use slmc_pipeline::walker::Walk;

const SEQ_LEN: usize = 64;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What llama-imatrix makes of the bundled model's F16 file; `llama_imatrix.sh` beside the file says how.
fn golden() -> ImportanceMatrix {
    ImportanceMatrix::read(&root().join("crates/gguf/tests/golden/llama_imatrix.gguf")).unwrap()
}

/// llama-imatrix's chunks: the text's tokens, BOS first, cut; in each chunk BOS takes the first token's place.
fn chunks(model: &ModelFile, source: &dyn WeightSource) -> Vec<Vec<u32>> {
    let text = std::fs::read_to_string(root().join("calibration/data/english.txt")).unwrap();
    let tokenizer = model.tokenizer(source.config().vocab_size).unwrap();
    let bos = tokenizer.bos();
    let tokens: Vec<u32> = bos.into_iter().chain(tokenizer.encode_text(&text[..6000]).unwrap()).collect();
    let chunk = |tokens: &[u32]| bos.into_iter().chain(tokens[bos.iter().len()..].iter().copied()).collect();
    tokens.chunks_exact(SEQ_LEN).map(chunk).collect()
}

fn settings(mix: Mix, output: PathBuf) -> QuantizeSettings {
    QuantizeSettings::conversion(root().join("models/tiny"), mix, output, None)
}

#[test]
fn the_sums_are_llama_imatrix_s() {
    let directory = tempfile::tempdir().unwrap();
    let f16 = directory.path().join("f16.gguf");
    Prepared::new(settings(Mix::F16, f16.clone())).unwrap().run(&Silent).unwrap();
    let theirs = golden().entries;
    for path in [f16, root().join("models/tiny")] {
        let model = ModelFile::open(&path).unwrap();
        let source = model.source().unwrap();
        let (chunks, device) = (chunks(&model, source.as_ref()), Device::Cpu.burn().unwrap());
        let ours = gather(&Walk::new(source.as_ref(), &chunks, &device, &Silent), None).unwrap();
        // the head's is ours alone: llama-imatrix has none for a tied embedding
        assert_eq!(
            ours.keys().filter(|name| !theirs.contains_key(*name)).collect::<Vec<_>>(),
            ["token_embd.weight"]
        );
        for (name, theirs) in &theirs {
            let ours = &ours[name];
            assert_eq!(ours.counts(), theirs.counts(), "{name}");
            for (column, (a, b)) in ours.sums().iter().zip(theirs.sums()).enumerate() {
                assert!(
                    (a / b - 1.0).abs() < 0.001,
                    "{}: {name}, column {column}: {a}, llama-imatrix {b}",
                    path.display()
                );
            }
        }
    }
}
