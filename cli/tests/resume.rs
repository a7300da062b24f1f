//! Calibrated runs that are killed, interrupted, resumed, or held to a memory limit.

mod common;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{copy_tiny, listing, says, slmc, stderr, stdout};

const OUTPUT: &str = "out";
const WORK: &str = "out.work";

/// `slmc quantize` of the copy of the bundled model in the directory.
fn arguments(method: &str, more: &[&str]) -> Vec<OsString> {
    let common = ["quantize", "model", "--output", OUTPUT, "--no-eval", "--bits", "4"];
    let calibration = ["--calibration", "bundled:english", "--seq-len", "128"];
    let few = if more.contains(&"--samples") { [].as_slice() } else { &["--samples", "24"] };
    let all = [&common[..], &calibration, few, &["--method", method], more].concat();
    all.into_iter().map(OsString::from).collect()
}

/// The file that an undisturbed run writes.
fn undisturbed(directory: &Path, method: &str) -> Vec<u8> {
    let output = slmc(directory, arguments(method, &[]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(listing(directory), ["model", OUTPUT]);
    let bytes = std::fs::read(directory.join(OUTPUT)).unwrap();
    std::fs::remove_file(directory.join(OUTPUT)).unwrap();
    bytes
}

fn start(directory: &Path, arguments: &[OsString]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_slmc"))
        .args(arguments)
        .current_dir(directory)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("slmc starts")
}

/// Lines of the journal: one more than finished steps; 0 where there is none.
fn lines(directory: &Path) -> usize {
    let journal = std::fs::read(directory.join(WORK).join("journal")).unwrap_or_default();
    journal.iter().filter(|byte| **byte == b'\n').count()
}

/// Lets a run go on until its journal has so many lines, and a little longer. False where it ended before that.
fn kill_at(directory: &Path, arguments: &[OsString], at: usize, longer: Duration) -> bool {
    let mut child = start(directory, arguments);
    let begun = Instant::now();
    while lines(directory) < at {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "no line {at} in the journal");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(longer);
    child.kill().unwrap(); // SIGKILL on Unix
    !child.wait().unwrap().success()
}

fn bring_model(directory: &Path) {
    copy_tiny(&directory.join("model"));
}

#[test]
fn a_run_killed_at_any_point_resumes_to_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    bring_model(directory);
    let whole = undisturbed(directory, "awq+gptq");
    let mut killed = 0;
    for point in 0..10 {
        let (first, resumed) =
            (arguments("awq+gptq", &[]), arguments("awq+gptq", &["--resume", "--threads", "1"]));
        let longer = Duration::from_millis(7 * point % 40);
        killed += usize::from(kill_at(directory, &first, point as usize, longer));
        // whole or not at all
        assert!(std::fs::read(directory.join(OUTPUT)).map_or(true, |bytes| bytes == whole), "{point}");
        // Killed again two steps further on; at one thread, which must not matter.
        if point % 2 == 1 {
            killed += usize::from(kill_at(directory, &resumed, point as usize + 2, longer));
        }
        let output = slmc(directory, &resumed);
        assert!(output.status.success(), "{point}: {}", stderr(&output));
        assert!(std::fs::read(directory.join(OUTPUT)).unwrap() == whole, "{point}");
        assert_eq!(listing(directory), ["model", OUTPUT]);
        std::fs::remove_file(directory.join(OUTPUT)).unwrap();
    }
    assert!(killed >= 10, "only {killed} runs were killed before they ended");
}

#[test]
fn every_calibrated_method_resumes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    bring_model(directory);
    for method in ["imatrix", "awq"] {
        let whole = undisturbed(directory, method);
        assert!(kill_at(directory, &arguments(method, &[]), 3, Duration::ZERO), "{method}");
        let output = slmc(directory, arguments(method, &["--resume"]));
        assert!(output.status.success(), "{method}: {}", stderr(&output));
        assert!(says(&stderr(&output), "resuming after"), "{method}: {}", stderr(&output));
        assert!(std::fs::read(directory.join(OUTPUT)).unwrap() == whole, "{method}");
        std::fs::remove_file(directory.join(OUTPUT)).unwrap();
    }
}

#[test]
fn packed_integers_resume() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    bring_model(directory);
    let packed = ["--group-size", "64", "--keep", "layers.1.self_attn.k_proj"];
    let weights = || std::fs::read(directory.join(OUTPUT).join("model.safetensors")).unwrap();
    let output = slmc(directory, arguments("awq+gptq", &packed));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(listing(directory), ["model", OUTPUT]);
    let whole = weights();
    // among the scales, among the blocks, and where only the writing is left
    for at in [3, 9, 10] {
        std::fs::remove_dir_all(directory.join(OUTPUT)).unwrap();
        let killed = kill_at(directory, &arguments("awq+gptq", &packed), at, Duration::ZERO);
        let output = slmc(directory, arguments("awq+gptq", &[&packed[..], &["--resume"]].concat()));
        assert!(output.status.success(), "{at}: {}", stderr(&output));
        assert_eq!(killed, says(&stderr(&output), "resuming after"), "{at}: {}", stderr(&output));
        assert!(killed || at == 10, "{at}");
        assert!(weights() == whole, "{at}");
        assert_eq!(listing(directory), ["model", OUTPUT]);
    }
}

#[test]
fn a_leftover_directory_and_changed_inputs_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    bring_model(directory);
    assert!(kill_at(directory, &arguments("gptq", &[]), 3, Duration::ZERO));
    let before = std::fs::read(directory.join(WORK).join("journal")).unwrap();
    let refused = |method: &str, more: &[&str], expected: &[&str]| {
        let output = slmc(directory, arguments(method, more));
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for part in expected {
            assert!(says(&message, part), "expected {part:?} in: {message}");
        }
        assert_eq!(listing(directory), ["model", WORK]);
    };
    refused("gptq", &[], &["unfinished run (2 steps done)", "--resume", "delete the directory"]);
    refused("gptq", &["--resume", "--effort", "best"], &["effort was \"balanced\" and is \"best\""]);
    refused("awq+gptq", &["--resume"], &["method was \"gptq\" and is \"awq+gptq\"", "delete the directory"]);
    refused(
        "gptq",
        &["--resume", "--seed", "1"],
        &["seed was 0 and is 1", "the calibration text has changed"],
    );
    refused("gptq", &["--resume", "--tensor-type", "attn_v=q8_0"], &["tensor type", "the plan has changed"]);

    let weights = directory.join("model/model.safetensors");
    let file = std::fs::File::options().write(true).open(&weights).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified + Duration::from_millis(10)).unwrap();
    refused("gptq", &["--resume"], &["model.safetensors has changed"]);
    file.set_modified(modified).unwrap();

    assert_eq!(std::fs::read(directory.join(WORK).join("journal")).unwrap(), before);
    let output = slmc(directory, arguments("gptq", &["--resume"]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(says(&stderr(&output), "resuming after 2 finished steps"), "{}", stderr(&output));
}

#[test]
fn a_damaged_work_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    bring_model(directory);
    assert!(kill_at(directory, &arguments("gptq", &[]), 4, Duration::ZERO));
    let refused = |file: &str, change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let path = directory.join(WORK).join(file);
        let sound = std::fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let output = slmc(directory, arguments("gptq", &["--resume"]));
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(says(&message, expected) && says(&message, "delete the directory"), "{message}");
        assert_eq!(listing(directory), ["model", WORK]);
        std::fs::write(&path, sound).unwrap();
    };
    let second_line = |bytes: &[u8]| bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
    refused(
        "journal",
        &|bytes| {
            let at = second_line(bytes) + 30;
            bytes[at] ^= 1
        },
        "line 2 of the journal",
    );
    refused("journal", &|bytes| drop(bytes.drain(..second_line(bytes))), "line 1 of the journal");
    refused("data", &|bytes| bytes[1000] ^= 1, "is not as it was written");
    refused("data", &|bytes| bytes.truncate(1000), "has 1000 bytes");
    let output = slmc(directory, arguments("gptq", &["--resume"]));
    assert!(output.status.success(), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    bring_model(directory);
    let mut child = Command::new(env!("CARGO_BIN_EXE_slmc"))
        .args(arguments("gptq", &[]))
        .current_dir(directory)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while lines(directory) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(1));
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(says(&message, "are kept in") && says(&message, "--resume continues the run"), "{message}");
    assert_eq!(listing(directory), ["model", WORK]);
    let output = slmc(directory, arguments("gptq", &["--resume"]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(listing(directory), ["model", OUTPUT]);
}

#[test]
fn a_memory_limit_changes_no_byte_and_one_too_low_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    bring_model(directory);
    let more = ["--samples", "128"];
    let memory = |limit: &[&str]| {
        let output =
            slmc(directory, arguments("gptq", &[&more[..], limit, &["--dry-run", "--json"]].concat()));
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap()["memory"].clone()
    };
    let free = memory(&[]);
    assert_eq!(free["spill"], false);
    // first inputs are computed twice, then hidden states go to a file
    let below = |memory: &serde_json::Value| {
        ["--max-memory".to_owned(), format!("{}B", memory["peak_bytes"].as_u64().unwrap() - (1 << 20))]
    };
    let twice = below(&free);
    let twice = twice.each_ref().map(String::as_str);
    let without = memory(&twice);
    assert_eq!((&without["spill"], &without["kept_input_bytes"]), (&false.into(), &0.into()));
    assert_ne!(free["kept_input_bytes"], 0);
    let limit = below(&without);
    let limit = limit.each_ref().map(String::as_str);
    assert_eq!(memory(&limit)["spill"], true);
    let file = |limit: &[&str]| {
        let output = slmc(directory, arguments("gptq", &[&more[..], limit, &["--json"]].concat()));
        assert!(output.status.success(), "{}", stderr(&output));
        let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        (std::fs::read(directory.join(OUTPUT)).unwrap(), report["peak_memory_bytes"].as_u64().unwrap())
    };
    let ((bytes, used), (limited, used_limited)) = (file(&[]), file(&limit));
    assert!(bytes == limited);
    assert!(bytes == file(&twice).0);
    // mostly the program itself, which a build with debug assertions has more of
    let estimate = free["peak_bytes"].as_u64().unwrap();
    assert!(used < estimate * 5 / 4 && used > estimate / 2, "{used} used, {estimate} expected");
    assert!(used_limited < used, "{used_limited} in a file, {used} in memory");
    std::fs::remove_file(directory.join(OUTPUT)).unwrap();

    for (limit, code, expected) in [
        ("20MiB", 2, "--max-memory 20.00 MiB is not enough: this run needs about"),
        ("lots", 2, "expected a number with a unit"),
    ] {
        let output = slmc(directory, arguments("gptq", &["--max-memory", limit]));
        assert_eq!(output.status.code(), Some(code));
        assert!(says(&stderr(&output), expected), "{}", stderr(&output));
        assert_eq!(listing(directory), ["model"]);
    }
}

#[test]
fn a_pruning_killed_between_blocks_resumes_to_the_same_bytes() {
    // the last two cut out a layer, heads, channels and dimensions
    let structured = ["--structured", "--layers", "3", "--kv-heads", "1", "--channels", "448"];
    let narrow = ["--structured", "--channels", "448", "--hidden-size", "224", "--compensate-bias"];
    for how in [
        &["--method", "sparsegpt", "--sparsity", "0.5"][..],
        &["--method", "wanda", "--sparsity", "0.5"],
        &structured,
        &narrow,
    ] {
        let method = how[1];
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        bring_model(directory);
        let arguments = |more: &[&str]| -> Vec<OsString> {
            let what = ["prune", "model", "--output", OUTPUT, "--no-eval"];
            let calibration = ["--calibration", "bundled:english", "--seq-len", "128", "--samples", "24"];
            let all = [&what[..], &calibration, how, more].concat();
            all.into_iter().map(OsString::from).collect()
        };
        let pruned = || std::fs::read(directory.join(OUTPUT).join("model.safetensors")).unwrap();
        let output = slmc(directory, arguments(&[]));
        assert!(output.status.success(), "{}", stderr(&output));
        let whole = pruned();
        std::fs::remove_dir_all(directory.join(OUTPUT)).unwrap();
        let mut killed = 0;
        for steps in 2..5 {
            killed += usize::from(kill_at(directory, &arguments(&[]), steps, Duration::ZERO));
            let output = slmc(directory, arguments(&["--resume", "--threads", "1"]));
            assert!(output.status.success(), "{method}: {}", stderr(&output));
            assert!(pruned() == whole, "{method}, killed at step {steps}");
            assert_eq!(listing(directory), ["model", OUTPUT]);
            std::fs::remove_dir_all(directory.join(OUTPUT)).unwrap();
        }
        assert!(killed > 0, "{method}: no run was killed before its end");
    }
}
