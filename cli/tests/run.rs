//! `slmc run`: a recipe as one job that goes on where it stopped.

mod common;

use std::path::Path;
use std::process::Output;

use common::{copy_tiny, listing, says, slmc, stderr, stdout, tiny};
use serde_json::Value;

/// A recipe beside a copy of the bundled model, with few calibration samples.
fn recipe(directory: &Path, bits: u32, max_size: &str) {
    let calibration = "calibration = ['bundled:english']\nsamples = 8\nseq-len = 64\nno-eval = true";
    let text = format!(
        "model = 'model'\n\
         [[step]]\ncommand = 'prune'\nsparsity = 0.5\nmethod = 'wanda'\n{calibration}\n\
         [[step]]\ncommand = 'quantize'\nmethod = 'gptq'\neffort = 'fast'\ntype = 'q{bits}_0'\n{calibration}\n\
         [[step]]\ncommand = 'eval'\ntext = 'bundled:english'\nwindows = 4\n\
         [[step]]\ncommand = 'gate'\nmax-size = '{max_size}'\n"
    );
    std::fs::write(directory.join("recipe.toml"), text).unwrap();
}

fn run(directory: &Path, more: &[&str]) -> Output {
    slmc(directory, [&["run", "recipe.toml"], more].concat())
}

/// The steps' results; those that were finished before.
fn steps(output: &Output) -> (Vec<Value>, Vec<bool>) {
    let told: Value = serde_json::from_str(&stdout(output)).unwrap_or_else(|_| panic!("{}", stderr(output)));
    let steps = told["steps"].as_array().unwrap();
    let before = steps.iter().map(|step| step["finished_before"].as_bool().unwrap()).collect();
    (steps.iter().map(|step| step["result"].clone()).collect(), before)
}

#[test]
fn the_bundled_recipe_prunes_quantizes_measures_and_passes() {
    let root = tiny().join("../..");
    let work = tempfile::tempdir().unwrap();
    let work = work.path().join("work");
    let arguments = ["run", "recipes/tiny.toml", "--json", "--work", work.to_str().unwrap()];
    let output = slmc(&root, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let (results, _) = steps(&output);
    let kl = results[2]["kl_divergence"]["mean"].as_f64().unwrap();
    assert!(kl > 0.0 && kl < 0.02, "{kl}");
    assert_eq!(results[3]["verdict"], "passed");
    assert_eq!(listing(&work), ["journal.json", "lock", "prune", "quantize.gguf"]);
}

#[test]
fn the_bundled_recipe_with_distillation_heals_what_was_cut_out() {
    let root = tiny().join("../..");
    let work = tempfile::tempdir().unwrap();
    let work = work.path().join("work");
    let arguments = ["run", "recipes/heal.toml", "--json", "--work", work.to_str().unwrap()];
    let output = slmc(&root, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let (results, _) = steps(&output);
    assert_eq!(results[0]["solved"], true);
    assert_eq!(results[1]["steps"], 40);
    let kl = results[3]["kl_divergence"]["mean"].as_f64().unwrap();
    assert!(kl > 0.0 && kl < 0.05, "{kl}");
    assert_eq!(results[4]["verdict"], "passed");
    assert_eq!(listing(&work), ["distill", "journal.json", "lock", "prune", "quantize.gguf"]);
}

#[test]
fn finished_steps_are_kept_and_changed_ones_done_again_with_all_behind() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    // a limit that cannot be kept ends the run with the gate's exit code
    recipe(directory, 4, "1MB");
    let output = run(directory, &["--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(says(&stderr(&output), "step `gate` found a regression"), "{}", stderr(&output));
    let (first, before) = steps(&output);
    assert_eq!(before, [false; 4]);
    let quantized = std::fs::read(directory.join("recipe.run/quantize.gguf")).unwrap();

    recipe(directory, 4, "9MB");
    let output = run(directory, &["--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let (second, before) = steps(&output);
    assert_eq!(before, [true, true, true, false]);
    assert_eq!(first[..3], second[..3]);
    assert_eq!(steps(&run(directory, &["--json"])).1, [true; 4]);

    recipe(directory, 5, "9MB");
    let (third, before) = steps(&run(directory, &["--json"]));
    assert_eq!(before, [true, false, false, false]);
    assert!(third[1]["bytes"].as_u64() > second[1]["bytes"].as_u64());
    // an output that is not as it was written is made again, to the same bytes
    recipe(directory, 4, "9MB");
    assert!(run(directory, &[]).status.success());
    std::fs::write(directory.join("recipe.run/quantize.gguf"), b"broken").unwrap();
    assert_eq!(steps(&run(directory, &["--json"])).1, [true, false, false, false]);
    assert!(std::fs::read(directory.join("recipe.run/quantize.gguf")).unwrap() == quantized);
}

/// `slmc run` that is interrupted as soon as the file is there with so many lines.
#[cfg(unix)]
fn interrupt_at(directory: &Path, file: &Path, lines: usize) -> Option<i32> {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_slmc"))
        .args(["run", "recipe.toml"])
        .current_dir(directory)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let count = || std::fs::read(file).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
    let begun = std::time::Instant::now();
    while count() < lines && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed().as_secs() < 300, "no line {lines} in {}", file.display());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let told = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    child.wait().unwrap().code()
}

#[cfg(unix)]
#[test]
fn a_run_that_is_interrupted_inside_a_step_goes_on_inside_it() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    recipe(directory, 4, "9MB");
    assert!(run(directory, &[]).status.success());
    let output = directory.join("recipe.run/quantize.gguf");
    let undisturbed = std::fs::read(&output).unwrap();
    std::fs::remove_dir_all(directory.join("recipe.run")).unwrap();
    let journal = directory.join("recipe.run/quantize.gguf.work/journal");
    assert_eq!(interrupt_at(directory, &journal, 2), Some(130));
    assert!(journal.is_file() && !output.exists());
    let again = run(directory, &[]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(says(&stderr(&again), "step 1 of 4, prune: finished before"), "{}", stderr(&again));
    assert!(says(&stderr(&again), "resuming after"), "{}", stderr(&again));
    assert!(std::fs::read(&output).unwrap() == undisturbed);
    // what another try left unfinished is no hindrance to a new one
    std::fs::remove_file(&output).unwrap();
    assert_eq!(interrupt_at(directory, &journal, 2), Some(130));
    let again = run(directory, &["--again"]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(std::fs::read(&output).unwrap() == undisturbed);
}

#[test]
fn plans_are_shown_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    recipe(directory, 4, "9MB");
    let output = run(directory, &["--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stdout(&output);
    assert!(says(&told, "step 2 of 4, quantize: slmc quantize recipe.run/prune"), "{told}");
    assert!(says(&told, "recipe.run/prune is not there yet: the plan is for model"), "{told}");
    assert!(told.contains("bits per weight") && told.contains("weights become zero"), "{told}");
    let output = run(directory, &["--dry-run", "--json"]);
    let plans: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(plans["steps"][1]["plan"]["plan"]["tensors"].is_array());
    assert_eq!(listing(directory), ["model", "recipe.toml"]);
}

#[test]
fn what_cannot_run_is_said_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let refused = |text: &str, message: &str| {
        std::fs::write(directory.join("recipe.toml"), text).unwrap();
        let output = run(directory, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(says(&stderr(&output), message), "{}", stderr(&output));
        assert_eq!(listing(directory), ["recipe.toml"]);
    };
    refused(
        "model = 'm'\n[[step]]\ncommand = 'prune'\nsparsity = 0.5\n[[step]]\ncommand = 'qantize'",
        "step 2, `qantize`",
    );
    refused("model = 'm'\n[[step]]\ncommand = 'eval'\nwindow = 3", "unexpected argument '--window");
    // a directory of something else stays as it is
    std::fs::write(directory.join("recipe.toml"), "model = 'm'\n[[step]]\ncommand = 'eval'").unwrap();
    std::fs::create_dir(directory.join("mine")).unwrap();
    std::fs::write(directory.join("mine/thesis"), "x").unwrap();
    let output = run(directory, &["--work", "mine"]);
    assert!(says(&stderr(&output), "holds files of something else"), "{}", stderr(&output));
    assert_eq!(listing(&directory.join("mine")), ["thesis"]);
}
