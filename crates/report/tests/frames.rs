//! Measurements as frames and files: what is written is what is read, and what is something else is refused.

mod sample;

use std::path::Path;

use polars::prelude::{Column, DataFrame, ParquetWriter};
use sample::{HOSTILE, everything};
use slmc_report::directory::ReportDirectory;
use slmc_report::frame::{from_frame, to_frame};
use slmc_report::{Metric, Report, ReportError, Rows, Scope, json, parquet};

#[test]
fn a_frame_has_every_row() {
    let report = everything(HOSTILE);
    let frame = to_frame(&report.rows);
    assert_eq!(frame.height(), report.rows.len());
    assert_eq!(from_frame(&frame).unwrap(), report.rows);
    let columns: Vec<_> = frame.get_column_names().iter().map(|name| name.to_string()).collect();
    let expected =
        ["model", "base", "scope", "item", "metric", "value", "low", "high", "stderr", "unit", "text"];
    assert_eq!(columns, expected);
}

#[test]
fn every_column_scope_and_metric_is_documented() {
    let text = include_str!("../../../docs/measurements.md");
    let frame = to_frame(&everything("m").rows);
    let columns = frame.get_column_names().into_iter().map(|name| name.to_string());
    let scopes = Scope::ALL.iter().map(|scope| scope.name().to_owned());
    let metrics = Metric::ALL.iter().map(|metric| metric.name().to_owned());
    for name in columns.chain(scopes).chain(metrics) {
        assert!(text.contains(&format!("`{name}`")), "docs/measurements.md says nothing of `{name}`");
    }
}

#[test]
fn parquet_keeps_every_bit() {
    let mut report = everything(HOSTILE);
    let mut rows = Rows::new("m", Some("b"));
    rows.add(Scope::Check, Metric::KlDivergenceGrowth).item("max_kl_growth").value(f64::INFINITY);
    rows.add(Scope::Summary, Metric::Perplexity).value(0.1 + 0.2).stderr(f64::MIN_POSITIVE);
    report.rows.extend(rows.finish());
    let bytes = parquet::write(&report.rows).unwrap();
    assert_eq!(parquet::read(bytes.clone()).unwrap(), report.rows);
    assert!(bytes == parquet::write(&report.rows).unwrap(), "the same rows are the same bytes");
}

#[test]
fn json_keeps_rows_and_numbers() {
    let mut report = everything(HOSTILE);
    let mut rows = Rows::new("m", None::<&str>);
    rows.add(Scope::Check, Metric::KlDivergenceGrowth).value(f64::INFINITY).between(Some(-1.5), None);
    report.rows.extend(rows.finish());
    let text = json::write(&report.rows);
    let read = json::read(&text).unwrap();
    assert_eq!(read.len(), report.rows.len());
    for (read, written) in read.iter().zip(&report.rows) {
        let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => a == b || (a - b).abs() <= f64::EPSILON * b.abs(),
            (a, b) => a == b,
        };
        assert!(close(read.value, written.value) && close(read.stderr, written.stderr), "{read:?}");
        assert!(close(read.low, written.low) && close(read.high, written.high), "{read:?}");
        let same = |a: &slmc_report::Measurement| {
            (a.model.clone(), a.base.clone(), a.scope, a.item.clone(), a.metric, a.text.clone())
        };
        assert_eq!(same(read), same(written));
    }
    // a line a measurement, each of them JSON
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), report.rows.len() + 2);
    let first: serde_json::Value = serde_json::from_str(lines[1].trim_end_matches(',')).unwrap();
    assert_eq!((&first["scope"], &first["metric"]), (&"run".into(), &"verb".into()));
}

/// Why a file of these bytes holds no measurements.
fn refused(directory: &Path, bytes: &[u8]) -> String {
    let path = directory.join("metrics.parquet");
    std::fs::write(&path, bytes).unwrap();
    match Report::read(&path) {
        Err(error @ ReportError::NotMeasurements { .. }) => {
            let message = error.to_string();
            assert!(message.contains("metrics.parquet") && message.contains("--report"), "{message}");
            message
        }
        other => panic!("{other:?}"),
    }
}

fn foreign(columns: Vec<Column>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frame = DataFrame::new(columns[0].len(), columns).unwrap();
    ParquetWriter::new(&mut bytes).finish(&mut frame).unwrap();
    bytes
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let says = |bytes: &[u8], reason: &str| {
        let message = refused(directory.path(), bytes);
        assert!(message.contains(reason), "{message}");
    };
    says(b"", "it is no JSON");
    says(b"hello", "it is no JSON");
    says(b"{\"a\": 1}", "missing field");
    says(b"{\"slmc_report\": 2, \"measurements\": []}", "of version 2");
    says(b"{\"slmc_report\": 1, \"measurements\": []}", "it has no rows");
    says(b"{\"slmc_report\": 1, \"measurements\": [{\"model\": \"m\"}]}", "measurement 0: missing field");
    says(&[0xff, 0xfe, 0], "no Parquet file");
    let other = foreign(vec![Column::new("x".into(), vec![1.0, 2.0])]);
    says(&other, "no column `model`; its columns are x");
    let mut frame = to_frame(&everything("m").rows);
    frame.rename("value", "worth".into()).unwrap();
    says(&foreign(frame.columns().to_vec()), "no column `value`");
    let text: Vec<_> = (0..frame.height()).map(|n| n.to_string()).collect();
    let mut columns = to_frame(&everything("m").rows).columns().to_vec();
    columns[5] = Column::new("value".into(), text);
    says(&foreign(columns), "column `value` is of type str, not f64");
    let mut columns = to_frame(&everything("m").rows).columns().to_vec();
    columns[4] = Column::new("metric".into(), vec!["charm"; frame.height()]);
    says(&foreign(columns), "metric `charm` is not known to this slmc");
}

#[test]
fn broken_parquet_is_refused_wherever_it_breaks() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = parquet::write(&everything("m").rows).unwrap();
    for cut in [4, 5, 11, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
        refused(directory.path(), &bytes[..cut]);
    }
    // the length of the footer, and a footer of zeros
    let end = bytes.len() - 8;
    let mut long = bytes.clone();
    long[end..end + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(directory.path(), &long);
    let mut zeros = bytes.clone();
    let length = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    zeros[end - length..end].fill(0);
    refused(directory.path(), &zeros);
}

#[test]
fn a_damaged_byte_is_found_wherever_it_is() {
    let bytes = parquet::write(&everything("m").rows).unwrap();
    let key = bytes.windows(11).position(|window| window == b"slmc.sha256").unwrap();
    for (n, at) in (0..bytes.len()).enumerate() {
        // without its key, or the length behind it, a checksum is none
        if (key..key + 13).contains(&at) {
            continue;
        }
        let mut damaged = bytes.clone();
        damaged[at] ^= [0x01, 0x80, 0xff][n % 3];
        assert!(parquet::read(damaged).is_err(), "byte {at} of {}", bytes.len());
    }
}

#[test]
fn a_directory_is_replaced_only_where_it_is_a_report() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/report");
    let report = everything("m");
    ReportDirectory::new(&path).unwrap().write(&report).unwrap();
    assert_eq!(Report::read(&path.join("metrics.parquet")).unwrap(), report);
    for json in [path.clone(), path.join("metrics.json")] {
        assert_eq!(Report::read(&json).unwrap().rows.len(), report.rows.len());
    }
    let mut names: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["metrics.json", "metrics.parquet", "report.html", "report.md"]);
    let first = std::fs::read(path.join("report.html")).unwrap();

    // again, over itself: the same bytes, and nothing left beside
    ReportDirectory::new(&path).unwrap().write(&report).unwrap();
    assert!(first == std::fs::read(path.join("report.html")).unwrap());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);

    let refused = |path: &Path, what: &str| {
        let message = ReportDirectory::new(path).unwrap_err().to_string();
        assert!(message.contains(what), "{message}");
    };
    std::fs::write(path.join("notes.txt"), "mine").unwrap();
    refused(&path, "`notes.txt` is in it");
    let file = directory.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    refused(&file, "no directory is there");
    let other = directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    ReportDirectory::new(&other).unwrap();
    std::fs::write(other.join("report.md"), "mine").unwrap();
    refused(&other, "files of the same names");
    assert_eq!(std::fs::read_to_string(other.join("report.md")).unwrap(), "mine");
}
