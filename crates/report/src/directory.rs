//! The report directory: `report.html`, `report.md`, `metrics.parquet` and `metrics.json`, whole or not at all.

use std::path::{Path, PathBuf};

use crate::{Report, ReportError, file, html, json, markdown, parquet};

/// The page.
pub const HTML: &str = "report.html";
/// The same as text.
pub const MARKDOWN: &str = "report.md";
/// The rows, for data frames.
pub const PARQUET: &str = "metrics.parquet";
/// The rows, for people and scripts.
pub const JSON: &str = "metrics.json";

const FILES: [&str; 4] = [HTML, MARKDOWN, PARQUET, JSON];

/// A place where a report may be written.
#[derive(Clone, Debug)]
pub struct ReportDirectory {
    path: PathBuf,
}

impl ReportDirectory {
    /// Looks whether a report may be written to `path`: nothing is there, an empty directory, or an earlier report.
    ///
    /// # Errors
    /// Something else is there, or it cannot be looked at.
    pub fn new(path: &Path) -> Result<Self, ReportError> {
        let in_the_way =
            |found: &str| ReportError::InTheWay { path: path.to_owned(), found: found.to_owned() };
        let io = |source| ReportError::Io { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(in_the_way("something that is no directory is there"));
            }
            Ok(_) => {
                let mut empty = true;
                for entry in std::fs::read_dir(path).map_err(io)? {
                    let name = entry.map_err(io)?.file_name();
                    if !FILES.iter().any(|file| name == *file) {
                        return Err(in_the_way(&format!("`{}` is in it", name.to_string_lossy())));
                    }
                    empty = false;
                }
                let written_by_slmc = || {
                    std::fs::read(path.join(JSON))
                        .is_ok_and(|text| text.starts_with(json::BEGINNING.as_bytes()))
                };
                if !empty && !written_by_slmc() {
                    return Err(in_the_way("it has files of the same names"));
                }
            }
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Writes the report, over an earlier one.
    ///
    /// # Errors
    /// A rendering or the file system fails; what was there before is still there then.
    pub fn write(&self, report: &Report) -> Result<(), ReportError> {
        let again = Self::new(&self.path)?;
        let files: [(&str, Vec<u8>); 4] = [
            (HTML, html::write(report)?.into_bytes()),
            (MARKDOWN, markdown::write(report)?.into_bytes()),
            (PARQUET, parquet::write(&report.rows)?),
            (JSON, json::write(&report.rows).into_bytes()),
        ];
        again.replace(&files).map_err(|source| ReportError::Io { path: self.path.clone(), source })
    }

    fn replace(&self, files: &[(&str, Vec<u8>)]) -> std::io::Result<()> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent)?;
        // the directory in which the new report is made, and in which the old one vanishes
        let room = tempfile::Builder::new().prefix(".slmc-report-").tempdir_in(parent)?;
        let (new, old) = (room.path().join("new"), room.path().join("old"));
        std::fs::create_dir(&new)?;
        for (name, contents) in files {
            file::write_whole(&new.join(name), contents)?;
        }
        let replaces = self.path.is_dir();
        if replaces {
            std::fs::rename(&self.path, &old)?;
        }
        if let Err(error) = std::fs::rename(&new, &self.path) {
            if replaces {
                std::fs::rename(&old, &self.path)?;
            }
            return Err(error);
        }
        room.close()
    }
}
