//! Running a program: its output, wall time and peak memory.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a program did.
pub struct Finished {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    pub wall: Duration,
    /// Processor time of all threads, in the program and in the system.
    pub cpu: Duration,
    /// Largest resident memory, mapped pages included.
    pub peak_bytes: u64,
}

/// Runs `command` to its end.
///
/// # Errors
/// It does not start, or fails; the message holds the end of what it said.
pub fn run(command: &mut Command) -> Result<Finished, String> {
    let name = format!("{command:?}");
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || read(&mut stderr));
    let stdout = read(&mut stdout);
    let stderr = reader.join().map_err(|_| "a reader of standard error failed".to_owned())?;
    let (succeeded, peak_bytes, cpu) = wait(child.id())?;
    let wall = started.elapsed();
    if !succeeded {
        let said = stderr.lines().rev().take(10).collect::<Vec<_>>();
        let said = said.into_iter().rev().collect::<Vec<_>>().join("\n");
        return Err(format!("{name} failed:\n{said}"));
    }
    Ok(Finished { stdout, stderr, wall, cpu, peak_bytes })
}

fn read(from: &mut Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // what was said until it broke off is all there is
        let _ = from.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the process; whether it succeeded, its largest resident set in bytes, its processor time.
fn wait(process: u32) -> Result<(bool, u64, Duration), String> {
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the types that wait4 writes.
    let waited = unsafe { libc::wait4(process as libc::pid_t, &mut status, 0, &mut usage) };
    if waited < 0 {
        return Err(format!("wait4: {}", std::io::Error::last_os_error()));
    }
    let succeeded = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    Ok((succeeded, usage.ru_maxrss as u64 * 1024, cpu)) // kilobytes on Linux
}
