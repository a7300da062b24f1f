//! One step as a process of its own: its memory is its own, and its exit code is what it says.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use slmc_pipeline::progress::Reporter;

use crate::failure::Failure;

/// How a process ended.
pub struct Ended {
    /// Its exit code; 128 and the signal's number where a signal ended it, as shells have it.
    pub code: u8,
    /// What it printed on standard output, where that was kept.
    pub printed: String,
}

/// Runs `slmc` with `arguments`, its standard output kept or passed on. When the user cancels, the process is told once.
pub fn execute(arguments: &[String], keep: bool, reporter: &dyn Reporter) -> Result<Ended, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("slmc cannot be started: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(arguments).stdin(Stdio::null());
    if keep {
        command.stdout(Stdio::piped());
    }
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // Ctrl-C would reach it from the terminal, too, and twice means at once
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(failed)?;
    let reader = child.stdout.take().map(|mut stdout| {
        std::thread::spawn(move || {
            let mut printed = String::new();
            stdout.read_to_string(&mut printed).map(|_| printed)
        })
    });
    let mut told = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if reporter.is_cancelled() && !told {
            told = true;
            interrupt(&child);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let printed = match reader {
        Some(reader) => {
            reader.join().map_err(|_| Failure::failed("a step's output cannot be read"))?.map_err(failed)?
        }
        None => String::new(),
    };
    Ok(Ended { code: code(status), printed })
}

#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    // SAFETY: a signal to a process that has not been waited for, so that its number is its own
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
}

/// Elsewhere the console tells every process.
#[cfg(not(unix))]
fn interrupt(_: &std::process::Child) {}

fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128u8.saturating_add(signal as u8);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
