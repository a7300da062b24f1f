//! Reports as files: what `--report` and its like ask for.

use std::path::Path;

use slmc_pipeline::frames::Run;
use slmc_report::directory::ReportDirectory;
use slmc_report::file::write_whole;
use slmc_report::{Report, ReportError};

use crate::args::report::ReportArgs;
use crate::failure::Failure;

/// What runs now, by the command line.
pub fn run() -> Run {
    let arguments = std::env::args_os().skip(1).map(|argument| quoted(&argument.to_string_lossy()));
    let command = std::iter::once("slmc".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ");
    Run { version: env!("CARGO_PKG_VERSION").to_owned(), command }
}

/// As a shell would take it for one word.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,%+@".contains(c);
    match !argument.is_empty() && argument.chars().all(plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    }
}

/// The directory asked for, before any work is done in vain.
pub fn directory(args: &ReportArgs) -> Result<Option<ReportDirectory>, Failure> {
    args.report.as_deref().map(ReportDirectory::new).transpose().map_err(|error| failure(&error))
}

/// Writes the report, where one was asked for.
pub fn write(
    directory: Option<&ReportDirectory>,
    report: impl FnOnce() -> Result<Report, Failure>,
) -> Result<(), Failure> {
    match directory {
        Some(directory) => directory.write(&report()?).map_err(|error| failure(&error)),
        None => Ok(()),
    }
}

/// Writes one file, whole or not at all.
pub fn write_file(path: &Path, text: Result<String, ReportError>) -> Result<(), Failure> {
    let text = text.map_err(|error| failure(&error))?;
    write_whole(path, text.as_bytes())
        .map_err(|source| failure(&ReportError::Io { path: path.to_owned(), source }))
}

/// Something in the way is wrong usage, everything else failed work.
pub fn failure(error: &ReportError) -> Failure {
    let mut failure = Failure::from_error(error);
    if matches!(error, ReportError::InTheWay { .. }) {
        failure.code = 2;
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("--max-ppl-increase"), "--max-ppl-increase");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
