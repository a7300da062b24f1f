//! What a run leaves behind when it is dropped at any moment, and what the next one makes of it.

use std::collections::BTreeMap;

use super::*;

fn inputs(effort: &str) -> Fingerprint {
    let mut inputs = Fingerprint::default();
    inputs.value("effort", effort);
    inputs
}

fn facts(x: f64) -> BTreeMap<String, f64> {
    BTreeMap::from([("x".to_owned(), x)])
}

/// A run that was killed in its third step.
fn killed(directory: &Path) -> PathBuf {
    let path = Work::path(&directory.join("out.gguf"));
    let work = Work::open(&path, false, inputs("fast"), 1024).unwrap();
    work.put("a", b"first ").unwrap();
    work.put("a", b"second").unwrap();
    work.put_values("b", &[1.5, -0.0]).unwrap();
    work.finish(Step::RoundedBlock(0), &facts(0.1 + 0.2)).unwrap();
    work.put("c", b"third").unwrap();
    work.finish(Step::RoundedBlock(1), &facts(f64::MIN_POSITIVE)).unwrap();
    work.put("d", b"lost").unwrap();
    path
}

fn message(path: &Path, resume: bool, inputs: Fingerprint) -> String {
    match Work::open(path, resume, inputs, 4096) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn finished_steps_read_back_and_more_can_follow() {
    let directory = tempfile::tempdir().unwrap();
    let path = killed(directory.path());
    assert_eq!(path.file_name().unwrap(), "out.gguf.work");
    let work = Work::open(&path, true, inputs("fast"), 4096).unwrap();
    assert_eq!((work.steps(), work.batch_tokens()), (2, 1024));
    assert_eq!(work.finished_blocks(Step::RoundedBlock), 2);
    assert_eq!(work.finished_blocks(Step::CalibratedBlock), 0);
    let first = work.finished(Step::RoundedBlock(0)).unwrap();
    assert_eq!(first.bytes("a").unwrap(), b"first second");
    let bits: Vec<u32> = first.values("b").unwrap().into_iter().map(f32::to_bits).collect();
    assert_eq!(bits, [1.5f32.to_bits(), (-0.0f32).to_bits()]);
    assert_eq!(first.facts::<BTreeMap<String, f64>>().unwrap(), facts(0.1 + 0.2));
    assert_eq!(first.names().collect::<Vec<_>>(), ["a", "b"]);
    assert!(first.bytes("d").unwrap_err().to_string().contains("no `d`"));
    work.put("d", b"again").unwrap();
    work.finish(Step::RoundedHead, &facts(0.0)).unwrap();
    drop(work);
    let work = Work::open(&path, true, inputs("fast"), 4096).unwrap();
    assert_eq!(work.finished(Step::RoundedHead).unwrap().bytes("d").unwrap(), b"again");
    assert_eq!(work.finished(Step::RoundedBlock(1)).unwrap().bytes("c").unwrap(), b"third");
    work.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_leftover_directory_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = killed(directory.path());
    let left = message(&path, false, inputs("fast"));
    assert!(left.contains("2 steps") && left.contains("--resume") && left.contains("delete"), "{left}");
    let changed = message(&path, true, inputs("best"));
    assert!(changed.contains("effort was fast and is best"), "{changed}");
    let work = Work::open(&path, true, inputs("fast"), 4096).unwrap();
    let used = message(&path, true, inputs("fast"));
    assert!(used.contains("in use"), "{used}");
    drop(work);
    std::fs::write(path.join("letter.txt"), "dear").unwrap();
    let foreign = message(&path, true, inputs("fast"));
    assert!(foreign.contains("something else"), "{foreign}");
}

#[test]
fn damage_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = killed(directory.path());
    let (journal, data) = (path.join(JOURNAL), path.join(DATA));
    let (sound_journal, sound_data) = (std::fs::read(&journal).unwrap(), std::fs::read(&data).unwrap());

    let mut changed = sound_journal.clone();
    let at = changed.iter().position(|b| *b == b'\n').unwrap() + 40;
    changed[at] ^= 4;
    std::fs::write(&journal, changed).unwrap();
    let found = message(&path, true, inputs("fast"));
    assert!(found.contains("line 2 of the journal") && found.contains("delete"), "{found}");
    std::fs::write(&journal, &sound_journal).unwrap();

    std::fs::write(&data, &sound_data[..3]).unwrap();
    let found = message(&path, true, inputs("fast"));
    assert!(found.contains("has 3 bytes"), "{found}");

    let mut changed = sound_data.clone();
    changed[7] ^= 1;
    std::fs::write(&data, changed).unwrap();
    let work = Work::open(&path, true, inputs("fast"), 4096).unwrap();
    let found = work.finished(Step::RoundedBlock(0)).unwrap().bytes("a").unwrap_err().to_string();
    assert!(found.contains("`a`") && found.contains("not as it was written"), "{found}");
}

#[test]
fn a_run_killed_while_it_began_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.work");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join(NEW_JOURNAL), "0123").unwrap();
    std::fs::write(path.join(DATA), "xyz").unwrap();
    let work = Work::open(&path, false, inputs("fast"), 4096).unwrap();
    assert_eq!(work.steps(), 0);
    work.remove().unwrap();
    assert!(!path.exists());
}
