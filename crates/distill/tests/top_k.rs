//! Losses against the likeliest tokens: PyTorch's (see `golden/make_top_k.py`), and the whole vocabulary's where k is that.

use serde_json::Value;
use slmc_distill::{
    CacheHeader, CacheWriter, CachedRows, Divergence, HeadInput, HeadLoss, LogitCache, Objective, Records,
    Teaching,
};
use slmc_matmul::Precision;
use slmc_model::ops::LogitTransform;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

fn numbers(name: &str) -> Vec<f32> {
    file(name).as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The largest difference, relative to the largest value expected.
fn relative(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0f32, f32::max) / largest.max(f32::MIN_POSITIVE)
}

/// Student and teacher of the golden losses.
struct Models {
    vocab: usize,
    width: usize,
    teacher_width: usize,
    parts: [Vec<f32>; 4],
    labels: Vec<Option<u32>>,
}

impl Models {
    fn new() -> Self {
        let shape: Value = serde_json::from_slice(&file("losses.json")).unwrap();
        let of = |name: &str| shape[name].as_u64().unwrap() as usize;
        let (tokens, vocab, width, teacher_width) =
            (of("tokens"), of("vocab"), of("student_width"), of("teacher_width"));
        let all = numbers("losses.f32");
        let mut rest = all.as_slice();
        let parts = [tokens * width, vocab * width, tokens * teacher_width, vocab * teacher_width].map(|n| {
            let (first, after) = rest.split_at(n);
            rest = after;
            first.to_vec()
        });
        let labels = shape["labels"].as_array().unwrap().iter();
        let labels = labels.map(|label| label.as_u64().map(|id| id as u32)).collect();
        Self { vocab, width, teacher_width, parts, labels }
    }

    fn student(&self) -> HeadInput<'_> {
        HeadInput {
            hidden: &self.parts[0],
            weight: &self.parts[1],
            width: self.width,
            logits: LogitTransform::default(),
            precision: Precision::F32,
        }
    }

    fn teacher(&self) -> HeadInput<'_> {
        HeadInput {
            hidden: &self.parts[2],
            weight: &self.parts[3],
            width: self.teacher_width,
            logits: LogitTransform::default(),
            precision: Precision::F32,
        }
    }

    /// Loss and gradients of hidden states and head.
    fn losses(&self, objective: &Objective, teacher: Teaching<'_>) -> (f64, Vec<f32>, Vec<f32>) {
        let loss = HeadLoss { objective, vocab: self.vocab, weight: 0.25 };
        let mut d_weight = vec![0.0; self.vocab * self.width];
        let (sums, d_hidden) =
            loss.evaluate(self.student(), Some(teacher), &self.labels, Some(&mut d_weight));
        assert_eq!(loss.measure(self.student(), Some(teacher), &self.labels), sums);
        (sums.loss(objective), d_hidden, d_weight)
    }
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let (models, expected) = (Models::new(), numbers("top_k.f32"));
    let golden: Value = serde_json::from_slice(&file("top_k.json")).unwrap();
    let mut rest = expected.as_slice();
    let mut take = |n: usize| {
        let (first, after) = rest.split_at(n);
        rest = after;
        first
    };
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 20);
    for case in cases {
        let number = |name: &str| case[name].as_f64().unwrap();
        let objective = Objective {
            divergence: case["divergence"].as_str().unwrap().parse().unwrap(),
            temperature: number("temperature") as f32,
            alpha: number("alpha") as f32,
        };
        let rows =
            CachedRows::of(models.teacher(), models.vocab, number("k") as usize, objective.temperature);
        let (loss, d_hidden, d_weight) = models.losses(&objective, Teaching::Cached(&rows));
        let expected = number("loss");
        assert!((loss - expected).abs() <= 1e-5 * expected.max(1.0), "{case}: {loss}");
        let (hidden, weight) = (take(d_hidden.len()), take(d_weight.len()));
        let off = (relative(&d_hidden, hidden), relative(&d_weight, weight));
        assert!(off.0 < 1e-4 && off.1 < 1e-4, "{case}: {off:?}");
    }
    assert!(rest.is_empty(), "golden values left over");
}

#[test]
fn all_tokens_are_the_whole_and_fewer_are_less() {
    let models = Models::new();
    for name in ["forward-kl", "reverse-kl", "js:0.3", "skew-kl:0.2"] {
        let divergence: Divergence = name.parse().unwrap();
        let objective = Objective { divergence, temperature: 1.5, alpha: 0.2 };
        let cached = |k| CachedRows::of(models.teacher(), models.vocab, k, 1.5);
        let (whole, hidden, weight) = models.losses(&objective, Teaching::Live(models.teacher()));
        let (loss, d_hidden, d_weight) = models.losses(&objective, Teaching::Cached(&cached(models.vocab)));
        assert!((loss - whole).abs() < 1e-5 * whole, "{name}: {loss} {whole}");
        assert!(relative(&d_hidden, &hidden) < 1e-4 && relative(&d_weight, &weight) < 1e-4, "{name}");
        let mut before = 0.0;
        for k in [1, 2, 4, 8, 16, 36] {
            let (loss, ..) = models.losses(&objective, Teaching::Cached(&cached(k)));
            assert!(loss > before - 1e-6 && loss < whole + 1e-5, "{name}, {k}: {before} {loss} {whole}");
            before = loss;
        }
    }
}

fn header() -> CacheHeader {
    CacheHeader {
        records: Records::Sequences,
        k: 3,
        temperature: 2.0,
        vocab: 37,
        seq_len: 5,
        sequences: 3,
        tokenizer_sha256: "t".into(),
        data_sha256: "d".into(),
        teacher: "teacher".into(),
    }
}

#[test]
fn files_are_read_as_they_were_written_also_after_a_kill() {
    let (models, directory) = (Models::new(), tempfile::tempdir().unwrap());
    let rows = CachedRows::of(models.teacher(), 37, 3, 2.0);
    let path = directory.path().join("logits");
    let begin = |resume| CacheWriter::begin(&path, header(), resume);
    let mut writer = begin(false).unwrap();
    writer.push(&rows).unwrap();
    writer.push(&rows).unwrap();
    drop(writer);
    assert!(!path.exists());
    // killed in the middle of a record
    let partial = CacheWriter::partial(&path);
    let mut bytes = std::fs::read(&partial).unwrap();
    bytes.truncate(bytes.len() - 7);
    std::fs::write(&partial, bytes).unwrap();
    assert!(begin(false).unwrap_err().to_string().contains("--resume"));
    let other = CacheWriter::begin(&path, CacheHeader { k: 4, ..header() }, true).unwrap_err();
    assert!(other.to_string().contains("another teacher, text or settings"), "{other}");
    let mut writer = begin(true).unwrap();
    assert_eq!(writer.done(), 1);
    writer.push(&rows).unwrap();
    writer.push(&rows).unwrap();
    writer.finish(&path).unwrap();
    let cache = LogitCache::open(&path).unwrap();
    assert_eq!((cache.header(), cache.read(&[2]).unwrap()), (&header(), rows.clone()));
    assert_eq!(cache.read(&[0, 1]).unwrap().positions(), 10);
    assert!(!partial.exists());

    // What is damaged is refused.
    let whole = std::fs::read(&path).unwrap();
    let damaged = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        LogitCache::open(&path).and_then(|cache| cache.read(&[0, 1, 2])).unwrap_err().to_string()
    };
    assert!(damaged(&whole[..whole.len() - 1]).contains("bytes"));
    assert!(damaged(b"something else\n").contains("no teacher's predictions"));
    assert!(damaged(b"").contains("no teacher's predictions"));
    let begin = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    for (at, value) in [(0, u32::MAX), (4 * 15, f32::NAN.to_bits()), (4 * 30, f32::NAN.to_bits())] {
        let mut bytes = whole.clone();
        bytes[begin + at..][..4].copy_from_slice(&value.to_le_bytes());
        assert!(damaged(&bytes).contains("record 0"), "{at}");
    }
    let text = String::from_utf8_lossy(&whole[..begin]).replace("\"k\":3", "\"k\":99");
    assert!(damaged(text.as_bytes()).contains("sizes"), "{text}");
}

/// Of a window the scored half is kept, and beside it what is thought of the tokens that come.
#[test]
fn windows_are_read_as_they_were_written() {
    let (models, directory) = (Models::new(), tempfile::tempdir().unwrap());
    let path = directory.path().join("logits");
    let teacher = models.teacher();
    let positions = teacher.hidden.len() / teacher.width;
    let labels: Vec<u32> = (0..positions as u32).map(|n| n * 7 % 37).collect();
    let rows = CachedRows::with_labels(teacher, &labels, 37, 3, 1.0);
    // windows of twice as many tokens and two more have so many positions that are scored
    let seq_len = 2 * positions + 2;
    let header =
        CacheHeader { records: Records::Windows, temperature: 1.0, seq_len, sequences: 2, ..header() };
    assert_eq!(header.positions(), positions);
    let mut writer = CacheWriter::begin(&path, header, false).unwrap();
    writer.push(&rows).unwrap();
    writer.push(&rows).unwrap();
    writer.finish(&path).unwrap();
    let cache = LogitCache::open(&path).unwrap();
    assert_eq!(cache.read(&[1]).unwrap(), rows);
    assert_eq!(cache.read(&[0, 1]).unwrap().log_labels(), [rows.log_labels(), rows.log_labels()].concat());
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&1f32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = LogitCache::open(&path).unwrap().read(&[1]).unwrap_err().to_string();
    assert!(error.contains("record 1"), "{error}");
}
