//! `slmc prune --structured`: a smaller model of the same architecture, of which less is lost the more is known.

mod common;

use std::path::Path;
use std::process::Output;

use common::{copy_tiny, listing, says, slmc, stderr, stdout};
use serde_json::Value;
use slmc_checkpoint::{Checkpoint, CheckpointPlan, CheckpointWriter, Dtype, ExistingTarget, TensorSpec};

fn prune(directory: &Path, model: &str, output: &str, more: &[&str]) -> Output {
    let first = ["prune", model, "--structured", "--calibration", "bundled:english"];
    let sizes = ["--samples", "16", "--seq-len", "128", "--output", output];
    slmc(directory, [&first[..], &sizes, more].concat())
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap()
}

fn figure(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {report}"))
}

fn config(directory: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(directory.join("config.json")).unwrap()).unwrap()
}

/// All of a checkpoint's weights.
fn weights(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("model.safetensors")).unwrap()
}

#[test]
fn a_share_is_met_and_what_stays_is_an_ordinary_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let evaluated = ["--text", "bundled:english", "--json", "--report", "told"];
    let outcome =
        report(&prune(directory, "model", "out", &[&["--sparsity", "0.25"][..], &evaluated].concat()));
    let share = figure(&outcome, "/sparsity");
    assert!((0.249..0.3).contains(&share), "{share}");
    // every kind was measured, and the best of them predicted to lose least
    let damages = outcome["damages"].as_array().unwrap();
    for kind in ["layers", "key_value_heads", "query_heads", "channels"] {
        assert!(damages.iter().any(|damage| damage["kind"] == kind), "{damages:?}");
    }
    let predicted = figure(&outcome, "/predicted_divergence");
    let measured = figure(&outcome, "/evaluation/kl_divergence/mean");
    assert!(measured < 1.5 * predicted && predicted < 3.0 * measured, "{predicted} {measured}");
    let checkpoint = Checkpoint::open(&directory.join("out")).unwrap();
    let parameters: usize = checkpoint.tensors().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    assert_eq!(parameters as f64, figure(&outcome, "/parameters"));
    assert_eq!(listing(&directory.join("out")), listing(&directory.join("model")));
    assert!(weights(&directory.join("out")).len() < weights(&directory.join("model")).len());
    for next in
        [&["convert", "out", "--dtype", "f16"][..], &["quantize", "out", "--method", "rtn", "--no-eval"]]
    {
        let output = slmc(directory, next);
        assert!(output.status.success(), "{next:?}: {}", stderr(&output));
    }
    let html = std::fs::read_to_string(directory.join("told/report.html")).unwrap();
    assert!(html.contains("What was cut out") && html.contains("Block influence"));
}

#[test]
fn choosing_and_solving_under_the_hessian_loses_least() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    for size in [&["--channels", "352"][..], &["--kv-heads", "1"], &["--query-heads", "2"]] {
        let mut losses = Vec::new();
        for how in [
            &["--importance", "random", "--no-solve"][..],
            &["--importance", "hessian", "--no-solve"],
            &["--effort", "fast"],
            &["--effort", "balanced"],
        ] {
            let more = [size, how, &["--text", "bundled:english", "--json", "--scores", "scores"]].concat();
            let outcome = report(&prune(directory, "model", "out", &more));
            losses.push(figure(&outcome, "/evaluation/kl_divergence/mean"));
        }
        println!("{size:?}: {losses:?}");
        assert!(losses[1..].is_sorted_by(|more, less| more > less), "{size:?}: {losses:?}");
        // with one head of two, the lot may fall on the better one
        assert!(losses[0] > losses[2], "{size:?}: {losses:?}");
    }
}

#[test]
fn layers_that_go_are_made_up_for_and_those_to_keep_stay() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let evaluated = ["--layers", "3", "--text", "bundled:english", "--json"];
    let solved = report(&prune(directory, "model", "solved", &evaluated));
    let plain = report(&prune(directory, "model", "plain", &[&evaluated[..], &["--no-solve"]].concat()));
    let [solved_kl, plain_kl] =
        [&solved, &plain].map(|outcome| figure(outcome, "/evaluation/kl_divergence/mean"));
    assert!(solved_kl < 0.8 * plain_kl, "{solved_kl} {plain_kl}");
    assert_eq!(config(&directory.join("solved"))["num_hidden_layers"], 3);
    // without solving, the blocks that stay are the original's
    let layers: Vec<usize> = serde_json::from_value(plain["shape"]["layers"].clone()).unwrap();
    let [before, after] = ["model", "plain"].map(|name| Checkpoint::open(&directory.join(name)).unwrap());
    for (new, old) in layers.iter().enumerate() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        before.read_f32(&format!("model.layers.{old}.mlp.down_proj.weight"), &mut a).unwrap();
        after.read_f32(&format!("model.layers.{new}.mlp.down_proj.weight"), &mut b).unwrap();
        assert_eq!(a, b);
    }
    let gone = (0..4).find(|layer| !layers.contains(layer)).unwrap().to_string();
    let more = ["--layers", "3", "--keep-layers", &gone, "--json", "--dry-run"];
    let kept = report(&prune(directory, "model", "none", &more));
    let layers: Vec<usize> = serde_json::from_value(kept["plan"]["shape"]["layers"].clone()).unwrap();
    assert!(layers.contains(&gone.parse().unwrap()), "{layers:?}");
    assert!(!directory.join("none").exists());
}

/// A copy of the model, in f32, in which every value is zero whose tensor, row and column `dead` accepts.
fn with_dead_parts(model: &Path, to: &Path, dead: fn(&str, usize, usize) -> bool) {
    let from = Checkpoint::open(model).unwrap();
    let spec = |tensor: &slmc_checkpoint::TensorInfo| TensorSpec {
        name: tensor.name.clone(),
        dtype: Dtype::F32,
        shape: tensor.shape.clone(),
    };
    let plan = CheckpointPlan::new(from.tensors().map(spec).collect(), u64::MAX).unwrap();
    let mut writer = CheckpointWriter::create(to, plan, ExistingTarget::Refuse).unwrap();
    for tensor in from.tensors() {
        let mut values = Vec::new();
        from.read_f32(&tensor.name, &mut values).unwrap();
        let columns = *tensor.shape.last().unwrap();
        for (at, value) in values.iter_mut().enumerate() {
            if dead(&tensor.name, at / columns, at % columns) {
                *value = 0.0;
            }
        }
        writer.write_values_f32(&tensor.name, 0, &values).unwrap();
    }
    writer.write_config(from.config_json()).unwrap();
    writer.copy_side_files(&from).unwrap();
    writer.finish().unwrap();
}

#[test]
fn what_is_dead_goes_and_no_logit_changes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("tiny"));
    // some channels of every block, and the queries of one key and value head
    with_dead_parts(&directory.join("tiny"), &directory.join("model"), |name, _, column| {
        // the second of two heads of 64, each with two queries
        (name.contains("down_proj") && column % 8 == 3) || (name.contains("o_proj") && column >= 128)
    });
    let size = ["--channels", "448", "--kv-heads", "1", "--text", "bundled:english", "--json"];
    for effort in ["fast", "balanced"] {
        let outcome = report(&prune(directory, "model", "out", &[&size[..], &["--effort", effort]].concat()));
        let divergence = figure(&outcome, "/evaluation/kl_divergence/mean");
        assert!(divergence.abs() < 1e-7, "{effort}: {divergence}");
    }
    let config = config(&directory.join("out"));
    let sizes = ["num_key_value_heads", "num_attention_heads", "head_dim", "intermediate_size"];
    assert_eq!(sizes.map(|field| config[field].as_u64().unwrap()), [1, 2, 64, 448]);
    // what stays is bit for bit what it was
    let [before, after] = ["model", "out"].map(|name| Checkpoint::open(&directory.join(name)).unwrap());
    let (mut a, mut b) = (Vec::new(), Vec::new());
    before.read_f32("model.layers.2.mlp.down_proj.weight", &mut a).unwrap();
    after.read_f32("model.layers.2.mlp.down_proj.weight", &mut b).unwrap();
    let staying = a.chunks_exact(512).flat_map(|row| row.iter().enumerate().filter(|(k, _)| k % 8 != 3));
    assert_eq!(staying.map(|(_, w)| *w).collect::<Vec<_>>(), b);
}

#[test]
fn dimensions_that_are_dead_go_and_no_logit_changes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("tiny"));
    with_dead_parts(&directory.join("tiny"), &directory.join("model"), |name, row, column| {
        let ends_half = name.contains("o_proj") || name.contains("down_proj");
        (name.contains("embed_tokens") && column % 8 == 3) || (ends_half && row % 8 == 3)
    });
    let size = ["--hidden-size", "224", "--text", "bundled:english", "--json"];
    for how in [
        &[][..],
        &["--no-solve"],
        &["--importance", "activation"],
        &["--importance", "activation", "--no-solve"],
    ] {
        let outcome = report(&prune(directory, "model", "out", &[&size[..], how].concat()));
        let divergence = figure(&outcome, "/evaluation/kl_divergence/mean");
        assert!(divergence.abs() < 1e-9, "{how:?}: {divergence}");
    }
    let config = config(&directory.join("out"));
    assert_eq!(config["hidden_size"], 224);
    let epsilon = config["rms_norm_eps"].as_f64().unwrap();
    assert!((epsilon - 1e-5 * 256.0 / 224.0).abs() < 1e-12, "{epsilon}");
    let [before, after] = ["model", "out"].map(|name| Checkpoint::open(&directory.join(name)).unwrap());
    for name in ["model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight"] {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        before.read_f32(name, &mut a).unwrap();
        after.read_f32(name, &mut b).unwrap();
        let staying = a.chunks_exact(256).flat_map(|row| row.iter().enumerate().filter(|(k, _)| k % 8 != 3));
        assert_eq!(staying.map(|(_, w)| *w).collect::<Vec<_>>(), b, "{name}");
    }
}

#[test]
fn fewer_dimensions_are_made_up_for() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let size = ["--hidden-size", "224", "--text", "bundled:english", "--json", "--scores", "scores"];
    let mut losses = Vec::new();
    for how in [
        &["--importance", "random", "--no-solve"][..],
        &["--importance", "activation", "--no-solve"],
        &["--importance", "activation"],
        &[],
    ] {
        let outcome = report(&prune(directory, "model", "out", &[&size[..], how].concat()));
        losses.push(figure(&outcome, "/evaluation/kl_divergence/mean"));
    }
    println!("{losses:?}");
    assert!(losses.is_sorted_by(|more, less| more > less), "{losses:?}");
    assert!(losses[2] < 0.6 * losses[1], "{losses:?}");
    // and together with everything else, twice the same
    let all = ["--layers", "3", "--kv-heads", "1", "--channels", "448", "--hidden-size", "192", "--no-eval"];
    for (output, threads) in [("one", "1"), ("two", "2")] {
        let done = prune(directory, "model", output, &[&all[..], &["--threads", threads]].concat());
        assert!(done.status.success(), "{}", stderr(&done));
    }
    assert!(weights(&directory.join("one")) == weights(&directory.join("two")));
}

/// A budget goes by what each kind was measured to cost alone; dimensions, which cost more the less is solved for, cost about that.
#[test]
fn what_dimensions_cost_is_foretold() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let prune = |more: &[&str]| {
        let first = ["prune", "model", "--structured", "--samples", "64", "--seq-len", "256", "--json"];
        report(&slmc(
            directory,
            [&first[..], &["--calibration", "bundled:english", "--output", "out"], more].concat(),
        ))
    };
    let plan = prune(&["--sparsity", "0.15", "--kinds", "hidden-size,channels", "--dry-run"]);
    let damages = plan["plan"]["damages"].as_array().unwrap();
    let dimensions: Vec<&Value> = damages.iter().filter(|damage| damage["kind"] == "hidden_size").collect();
    assert!(!dimensions.is_empty(), "{damages:?}");
    for damage in dimensions {
        let kept = damage["kept"].to_string();
        let outcome = prune(&["--hidden-size", &kept, "--effort", "balanced", "--text", "bundled:english"]);
        let (foretold, measured) =
            (figure(damage, "/divergence"), figure(&outcome, "/evaluation/kl_divergence/mean"));
        println!("{kept}: {foretold}, {measured} measured");
        assert!((0.7..1.4).contains(&(foretold / measured)), "{kept}: {foretold}, {measured} measured");
    }
}

#[test]
fn biases_make_up_for_what_goes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let size = ["--channels", "256", "--kv-heads", "1", "--text", "bundled:english", "--json"];
    for how in [&["--importance", "variance", "--no-solve"][..], &["--effort", "fast"]] {
        let [without, with] = [&[][..], &["--compensate-bias"]].map(|more| {
            let outcome = report(&prune(directory, "model", "out", &[&size[..], how, more].concat()));
            figure(&outcome, "/evaluation/kl_divergence/mean")
        });
        println!("{how:?}: {without} {with}");
        assert!(with < without, "{how:?}: {with} {without}");
    }
    let config = config(&directory.join("out"));
    assert!(config["attention_bias"] == true && config["mlp_bias"] == true);
    let checkpoint = Checkpoint::open(&directory.join("out")).unwrap();
    for (name, is_zero) in [("q_proj", true), ("o_proj", false)] {
        let mut values = Vec::new();
        checkpoint.read_f32(&format!("model.layers.0.self_attn.{name}.bias"), &mut values).unwrap();
        assert_eq!(values.iter().all(|value| *value == 0.0), is_zero, "{name}");
    }
}

#[test]
fn a_gguf_file_is_what_converting_the_checkpoint_gives() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let size = [
        "--channels",
        "448",
        "--hidden-size",
        "224",
        "--effort",
        "fast",
        "--text",
        "bundled:english",
        "--json",
    ];
    let checkpoint = report(&prune(directory, "model", "out", &size));
    let file = report(&prune(directory, "model", "out.gguf", &size));
    let loss = "/evaluation/kl_divergence/mean";
    // keys and values are rounded to half precision where llama.cpp does so
    assert!((figure(&checkpoint, loss) / figure(&file, loss) - 1.0).abs() < 1e-2);
    assert_eq!(figure(&checkpoint, "/parameters"), figure(&file, "/parameters"));
    let bytes = std::fs::metadata(directory.join("out.gguf")).unwrap().len();
    assert!(figure(&file, "/bytes") as u64 <= bytes, "{bytes}");
    assert_eq!(listing(directory), ["model", "out", "out.gguf"]);
}

#[test]
fn a_target_may_be_the_size_of_the_quantized_file() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let target = ["--target-size", "1.5MB", "--target-type", "q4_k_m", "--kinds", "channels,hidden-size"];
    report(&prune(directory, "model", "out", &[&target[..], &["--no-eval", "--json"]].concat()));
    let quantize = ["quantize", "out", "--method", "rtn", "--type", "q4_k_m", "--no-eval", "--json"];
    let file = report(&slmc(directory, [&quantize[..], &["--output", "out.gguf"]].concat()));
    let bytes = |tensor: &Value| tensor["bytes"].as_f64().unwrap();
    let bytes: f64 = file["tensors"].as_array().unwrap().iter().map(bytes).sum();
    assert!((1.2e6..=1.5e6).contains(&bytes), "{bytes}");
}

#[test]
fn without_solving_nothing_is_walked_through() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let size = ["--channels", "448", "--no-solve", "--no-eval", "--resume"];
    for (importance, walks) in [("wanda", false), ("hessian", true)] {
        let done =
            prune(directory, "model", importance, &[&size[..], &["--importance", importance]].concat());
        assert!(done.status.success(), "{}", stderr(&done));
        assert_eq!(says(&stderr(&done), "there is nothing to resume"), !walks, "{}", stderr(&done));
    }
}

#[test]
fn weights_and_numbers_alone_need_no_calibration() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    // a calibration text that is not there is not missed where none is needed
    let plain =
        ["prune", "model", "--structured", "--calibration", "nowhere.txt", "--no-solve", "--output", "out"];
    let run = |more: &[&str]| slmc(directory, [&plain[..], more].concat());
    let sizes = ["--channels", "448", "--kv-heads", "1", "--hidden-size", "224"];
    let by_weights = [&sizes[..], &["--importance", "magnitude"]].concat();
    for (more, calibrates) in [
        (&by_weights[..], false),
        (&["--query-heads", "2", "--importance", "random"], false),
        (&["--sparsity", "0.1", "--kinds", "channels", "--importance", "magnitude"], false),
        (&["--channels", "448", "--importance", "wanda"], true),
        (&["--layers", "3", "--importance", "magnitude"], true),
        (&["--sparsity", "0.1", "--kinds", "channels,kv-heads", "--importance", "magnitude"], true),
        (&["--channels", "448", "--importance", "magnitude", "--compensate-bias"], true),
    ] {
        let output = run(&[more, &["--dry-run"]].concat());
        assert_eq!(output.status.success(), !calibrates, "{more:?}: {}", stderr(&output));
        match calibrates {
            true => assert!(says(&stderr(&output), "nowhere.txt"), "{more:?}: {}", stderr(&output)),
            false => assert!(stdout(&output).contains("No calibration is needed"), "{more:?}"),
        }
    }
    let output =
        run(&[&by_weights[..], &["--no-eval", "--json", "--report", "told", "--scores", "scores"]].concat());
    assert!(says(&stderr(&output), "the file of --scores is left alone"), "{}", stderr(&output));
    let outcome = report(&output);
    assert!(outcome.get("calibration_sha256").is_none() && outcome["layers"][0].get("influence").is_none());
    assert_eq!(listing(directory), ["model", "out", "told"]);
    let html = std::fs::read_to_string(directory.join("told/report.html")).unwrap();
    assert!(html.contains("by weights alone"));
    // what stays is what weighs most, as it was
    let [before, after] = ["model", "out"].map(|name| Checkpoint::open(&directory.join(name)).unwrap());
    let dimensions: Vec<usize> = serde_json::from_value(outcome["shape"]["dimensions"].clone()).unwrap();
    for layer in 0..4 {
        let name = format!("model.layers.{layer}.mlp.down_proj.weight");
        let (mut whole, mut cut) = (Vec::new(), Vec::new());
        before.read_f32(&name, &mut whole).unwrap();
        after.read_f32(&name, &mut cut).unwrap();
        let rows: Vec<&[f32]> = dimensions.iter().map(|row| &whole[row * 512..][..512]).collect();
        let weight = |k: &usize| rows.iter().map(|row| f64::from(row[*k]).powi(2)).sum::<f64>();
        let mut channels: Vec<usize> = (0..512).collect();
        channels.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        channels.truncate(448);
        channels.sort_unstable();
        let staying = rows.iter().flat_map(|row| channels.iter().map(|k| row[*k]));
        assert_eq!(staying.collect::<Vec<_>>(), cut, "{name}");
    }
}

#[test]
fn bytes_depend_neither_on_threads_nor_on_saved_scores() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let size = ["--sparsity", "0.3", "--kinds", "channels,kv-heads", "--no-eval"];
    let run = |output: &str, more: &[&str]| {
        let output = prune(directory, "model", output, &[&size[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    };
    run("two", &["--threads", "2", "--scores", "scores"]);
    run("one", &["--threads", "1", "--scores", "scores"]);
    run("none", &["--threads", "1"]);
    assert!(weights(&directory.join("two")) == weights(&directory.join("one")));
    assert!(weights(&directory.join("two")) == weights(&directory.join("none")));
    let other =
        prune(directory, "model", "other", &[&size[..], &["--scores", "scores", "--seed", "7"]].concat());
    assert_eq!(other.status.code(), Some(1));
    assert!(says(&stderr(&other), "other calibration tokens"), "{}", stderr(&other));
    std::fs::write(directory.join("scores"), "{}").unwrap();
    let broken = prune(directory, "model", "other", &[&size[..], &["--scores", "scores"]].concat());
    assert!(says(&stderr(&broken), "is no file of scores"), "{}", stderr(&broken));
    assert!(!directory.join("other").exists());
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let refused = |more: &[&str], message: &str| {
        let output = prune(directory, "model", "out", more);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", stderr(&output));
        assert!(says(&stderr(&output), message), "{more:?}: {}", stderr(&output));
    };
    refused(&[], "say how much to cut out");
    refused(&["--sparsity", "1.2"], "expected a share");
    refused(&["--channels", "0"], "0 channels cannot be kept: the model has 512");
    refused(&["--layers", "5"], "5 layers cannot be kept: the model has 4");
    refused(&["--hidden-size", "300"], "300 dimensions cannot be kept: the model has 256");
    refused(&["--query-heads", "3"], "3 query heads do not share 2 key and value heads evenly");
    refused(&["--channels", "512"], "nothing would be pruned");
    refused(&["--target-params", "1B"], "nothing would be pruned");
    refused(&["--target-params", "20K"], "no smaller size");
    refused(&["--layers", "1", "--keep-layers", "0,3"], "2 layers are to be kept");
    refused(&["--layers", "3", "--keep-layers", "4"], "there is no layer 4");
    refused(&["--sparsity", "0.2", "--kinds", "rows"], "unknown kind");
    refused(&["--sparsity", "0.2", "--importance", "x"], "unknown importance");
    assert_eq!(listing(directory), ["model"]);
}
