//! Prints milliseconds a generated token and resident memory of a session whose weights stay in their file, and of one that
//! holds them in f32.
//!
//! `cargo run --release -p slmc-model --example session_speed MODEL [TOKENS]`

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use slmc_model::{
    CheckpointSource, Device, GgufSource, KvPrecision, ModelConfig, ModelError, Session, TensorId, Weight,
    WeightSource,
};

/// A model that has to be copied, as it offers nothing to be read where it is stored.
struct Copied<'a>(&'a dyn WeightSource);

impl WeightSource for Copied<'_> {
    fn config(&self) -> &ModelConfig {
        self.0.config()
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        self.0.load(id)
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        self.0.load_rows(id, rows)
    }

    fn release(&self, id: TensorId) {
        self.0.release(id);
    }

    fn kv_precision(&self) -> KvPrecision {
        self.0.kv_precision()
    }
}

/// A field of `/proc/self/status` in MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Seconds of processor time this process has used, all threads together.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| after_name.split_whitespace().nth(field).and_then(|t| t.parse::<f64>().ok());
    // utime and stime, in hundredths of a second.
    (ticks(11).unwrap_or(f64::NAN) + ticks(12).unwrap_or(f64::NAN)) / 100.0
}

fn report(what: &str, source: &dyn WeightSource, tokens: usize) {
    let (started, processor) = (Instant::now(), processor_seconds());
    let mut session = Session::new(source, tokens + 8, Device::Cpu).expect("a model that can be loaded");
    let loaded = (started.elapsed().as_secs_f64(), processor_seconds() - processor);
    session.read(&[1, 2, 3]).expect("a model that runs");
    let mut times: Vec<f64> = Vec::new();
    let processor = processor_seconds();
    for _ in 0..tokens {
        let started = Instant::now();
        session.read(&[5]).expect("a model that runs");
        times.push(started.elapsed().as_secs_f64());
    }
    let processor = (processor_seconds() - processor) / tokens as f64;
    times.sort_by(f64::total_cmp);
    println!(
        "{what:9} loaded in {:5.2} s, processor {:5.2} s; a token: median {:7.2} ms, least {:7.2} ms, processor {:7.2} ms; {:6.0} MiB \
         resident",
        loaded.0,
        loaded.1,
        1e3 * times[tokens / 2],
        1e3 * times[0],
        1e3 * processor,
        resident_mib()
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("a checkpoint directory or a GGUF file");
    let tokens = arguments.next().map_or(32, |text| text.parse().expect("a number of tokens"));
    let source: Box<dyn WeightSource> = if Path::new(&path).is_dir() {
        Box::new(CheckpointSource::open(Path::new(&path)).expect("a checkpoint"))
    } else {
        Box::new(GgufSource::open(Path::new(&path)).expect("a GGUF file"))
    };
    println!("{path}, {} threads", rayon::current_num_threads());
    report("stored", source.as_ref(), tokens);
    report("f32 copy", &Copied(source.as_ref()), tokens);
}
