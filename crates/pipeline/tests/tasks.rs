//! Tasks on the bundled model, against lm-evaluation-harness: see `tasks/make_golden.py`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use slmc_model::Device;
use slmc_pipeline::PipelineError;
use slmc_pipeline::jobs::tasks::{Format, Reply, TaskOutcome, TaskSource, Tasks, TasksSettings, tasks};
use slmc_pipeline::progress::Silent;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")
}

fn items(name: &str) -> TaskSource {
    TaskSource::File(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/tasks/{name}.jsonl")))
}

fn run(asked: Tasks, base: Option<PathBuf>) -> Result<Vec<TaskOutcome>, PipelineError> {
    let settings = TasksSettings { model: tiny(), base, tasks: asked, device: Device::Cpu };
    tasks(&settings, &Silent).map(|outcome| outcome.tasks)
}

fn logs(reply: &Reply) -> &[f64] {
    match reply {
        Reply::Choice(answer) => &answer.log_likelihoods,
        Reply::Text(text) => panic!("no choice: {text}"),
    }
}

fn ask(names: &[&str], fewshot: usize) -> Vec<TaskOutcome> {
    let sources = names.iter().map(|name| items(name)).collect();
    run(Tasks { sources, fewshot, ..Tasks::default() }, None).unwrap()
}

#[test]
fn every_answer_is_the_one_that_lm_evaluation_harness_gets() {
    let golden: Vec<Value> = serde_json::from_str(include_str!("tasks/golden.json")).unwrap();
    let mut layouts = Vec::new();
    for expected in &golden {
        let (name, fewshot) = (expected["layout"].as_str().unwrap(), expected["fewshot"].as_u64().unwrap());
        if name == "generation" {
            continue;
        }
        let found = ask(&[name], fewshot as usize).remove(0);
        let place = format!("{name}, {fewshot} examples");
        assert_eq!((found.format.name(), found.fewshot as u64), (name, fewshot), "{place}");
        let items = expected["items"].as_array().unwrap();
        assert_eq!(items.len(), found.items, "{place}");
        for (at, (item, reply)) in items.iter().zip(&found.replies).enumerate() {
            let expected: Vec<f64> =
                item["log_likelihoods"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert_eq!(expected.len(), logs(reply).len(), "{place}, item {at}");
            for (found, expected) in logs(reply).iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-3, "{place}, item {at}: {found}, harness {expected}");
            }
            assert_eq!(found.right[at], item["acc"].as_f64().unwrap() == 1.0, "{place}, item {at}");
        }
        assert_eq!(found.scores.acc, expected["acc"].as_f64(), "{place}");
        assert_eq!(found.scores.acc_norm, expected["acc_norm"].as_f64(), "{place}");
        // the harness sums the classes in another order
        let f1 = expected["f1"].as_f64();
        assert_eq!(found.scores.f1.is_some(), f1.is_some(), "{place}");
        if let Some((found, expected)) = found.scores.f1.zip(f1) {
            assert!((found - expected).abs() < 1e-12, "{place}: {found} {expected}");
        }
        if let Some(stderr) = expected["acc_stderr"].as_f64() {
            assert!((found.scores.acc_stderr.unwrap() - stderr).abs() < 1e-12, "{place}");
        }
        layouts.push(found.format);
    }
    for format in Format::ALL {
        assert!(layouts.contains(&format) || format == Format::Generation, "{format} is not compared");
    }
}

#[test]
fn free_answers_are_those_that_lm_evaluation_harness_gets() {
    let golden: Vec<Value> = serde_json::from_str(include_str!("tasks/golden.json")).unwrap();
    let mut compared = 0;
    for expected in golden.iter().filter(|expected| expected["layout"] == "generation") {
        let fewshot = expected["fewshot"].as_u64().unwrap();
        let found = ask(&["generation"], fewshot as usize).remove(0);
        assert_eq!(found.format, Format::Generation);
        for (at, (item, reply)) in
            expected["items"].as_array().unwrap().iter().zip(&found.replies).enumerate()
        {
            let place = format!("{fewshot} examples, item {at}");
            assert_eq!(*reply, Reply::Text(item["text"].as_str().unwrap().to_owned()), "{place}");
            assert_eq!(found.right[at], item["exact_match"].as_f64().unwrap() == 1.0, "{place}");
            compared += 1;
        }
        assert_eq!(found.scores.exact_match, expected["exact_match"].as_f64());
        assert_eq!(found.scores.acc, None);
    }
    assert_eq!(compared, 12);
}

#[test]
fn an_answer_depends_on_its_own_item_alone() {
    let names = ["arc", "boolq", "winogrande"];
    let together = ask(&names, 0);
    for (name, together) in names.iter().zip(&together) {
        let limited = Tasks { sources: vec![items(name)], limit: Some(3), ..Tasks::default() };
        let alone = run(limited, None).unwrap().remove(0);
        assert_eq!((alone.items, &alone.name[..]), (3, *name));
        for (alone, together) in alone.replies.iter().zip(&together.replies) {
            for (alone, together) in logs(alone).iter().zip(logs(together)) {
                assert!((alone - together).abs() < 1e-4, "{name}: {alone} {together}");
            }
        }
    }
}

#[test]
fn a_model_beside_itself_is_no_different() {
    let asked = Tasks { sources: vec![TaskSource::Smoke], limit: Some(60), ..Tasks::default() };
    let found = run(asked, Some(tiny())).unwrap().remove(0);
    let comparison = found.comparison.unwrap();
    assert_eq!(found.base, Some(found.scores));
    assert_eq!((comparison.difference, comparison.mcnemar_p), (0.0, 1.0));
    assert!(comparison.flipped.is_empty());
    assert!(comparison.difference_interval.low < -0.01, "{comparison:?}");
}

/// The bundled items: enough of them, and the bundled model does far better than chance.
#[test]
fn the_bundled_model_knows_simple_english() {
    let asked = Tasks { sources: vec![TaskSource::Smoke], ..Tasks::default() };
    let found = run(asked, None).unwrap().remove(0);
    let chance: f64 = found.replies.iter().map(|reply| 1.0 / logs(reply).len() as f64).sum();
    let chance = chance / found.items as f64;
    let (acc, stderr) = found.scores.acc.zip(found.scores.acc_stderr).unwrap();
    println!("{acc} ± {stderr} of {} items, by chance {chance}", found.items);
    assert!(found.items >= 200);
    assert!(acc - 10.0 * stderr > chance);
}

#[test]
fn examples_may_come_from_another_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("examples.jsonl");
    std::fs::write(&path, std::fs::read_to_string(file("arc")).unwrap()).unwrap();
    let sources = || vec![items("arc")];
    let from_file =
        run(Tasks { sources: sources(), fewshot: 2, fewshot_file: Some(path), ..Tasks::default() }, None)
            .unwrap();
    assert_eq!(from_file[0].replies, ask(&["arc"], 2)[0].replies);
    let error =
        run(Tasks { sources: sources(), fewshot: 7, ..Tasks::default() }, None).unwrap_err().to_string();
    assert!(error.contains("arc.jsonl: line 1: 7 examples") && error.contains("6 others"), "{error}");
}

#[test]
fn what_is_no_item_is_an_error_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.jsonl");
    let good = r#"{"context": "a", "choices": ["b", "c"], "answer": 1}"#;
    let piqa = r#"{"goal": "g", "sol1": "a", "sol2": "b", "label": 2}"#;
    for (second, message) in [
        ("{", "line 3: not JSON"),
        ("[]", "line 3: not a JSON object"),
        (r#"{"context": "a", "choices": ["b"]}"#, "line 3: no item of layout plain: no field `answer`"),
        (r#"{"context": "a", "choices": ["b"], "answer": 1}"#, "`answer` is 1, but there are answers 0 to 0"),
        (r#"{"context": "a", "choices": ["b", ""], "answer": 0}"#, "`choices` holds an empty text"),
        (r#"{"context": 5, "choices": ["b", "c"], "answer": 0}"#, "field `context` is not text"),
        (piqa, "no item of layout plain: no field `choices`"),
    ] {
        std::fs::write(&path, format!("{good}\n\n{second}\n")).unwrap();
        let sources = vec![TaskSource::File(path.clone())];
        let error = run(Tasks { sources, ..Tasks::default() }, None).unwrap_err().to_string();
        assert!(error.contains("bad.jsonl: line 3") && error.contains(message), "{error}");
    }
    for (text, message) in [
        (piqa, "`label` is 2, but there are answers 0 to 1"),
        (r#"{"fox": 1}"#, "fields fox are of no known layout"),
        ("\n", "no item in the file"),
        (r#"{"sentence": "no gap", "option1": "a", "option2": "b", "answer": "1"}"#, "no `_`"),
    ] {
        std::fs::write(&path, text).unwrap();
        let sources = vec![TaskSource::File(path.clone())];
        let error = run(Tasks { sources, ..Tasks::default() }, None).unwrap_err().to_string();
        assert!(error.contains("bad.jsonl: line 1") && error.contains(message), "{error}");
    }
}

#[test]
fn a_file_of_another_kind_is_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other");
    let list: &[u8] = b"[\n{\"context\": \"a\", \"choices\": [\"b\"], \"answer\": 0}\n]";
    for (bytes, message) in [
        (list, "line 1: the file is one JSON list; `jq -c '.[]' FILE > items.jsonl`"),
        (b"[1, 2]", "the file is one JSON list; `jq -c '.[]'"),
        (b"{\n\"context\": \"a\"\n}", "one JSON object over several lines; `jq -c . FILE"),
        (b"question,answer\n1,2\n", "tasks are JSON lines, one item a line, for example {\"context\""),
        (b"5\n6\n", "line 1: not a JSON object; tasks are JSON lines"),
        (b"{\"fox\": 1}", "rename them to `context`, `choices`"),
        (b"PAR1\xff\xfe", "this is not text; tasks are JSON lines. Of a Parquet file"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let sources = vec![TaskSource::File(path.clone())];
        let error = run(Tasks { sources, ..Tasks::default() }, None).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains(message), "{error}");
    }
}

fn file(name: &str) -> PathBuf {
    match items(name) {
        TaskSource::File(path) => path,
        TaskSource::Smoke => unreachable!("a file was named"),
    }
}
