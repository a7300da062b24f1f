//! Progress bars with rate and time left, drawn on standard error; and Ctrl-C as a wish to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use slmc_pipeline::progress::{Reporter, Unit};

/// Draws one bar at a time. Where standard error is no terminal, only warnings are printed.
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
    quiet: bool,
    cancelled: Arc<AtomicBool>,
}

impl Terminal {
    /// Installs the Ctrl-C handler; the second Ctrl-C ends the process at once.
    pub fn new(quiet: bool) -> Self {
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let installed = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        });
        if let Err(error) = installed {
            eprintln!("note: Ctrl-C will not clean up ({error})");
        }
        Self { bar: Mutex::new(None), quiet, cancelled }
    }

    /// Something that is good to know, unless the user wants results only.
    pub fn note(&self, message: &str) {
        if !self.quiet {
            eprintln!("{message}");
        }
    }

    fn with_bar(&self, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.bar.lock().expect("no panic while a bar is held").as_ref() {
            act(bar);
        }
    }
}

impl Reporter for Terminal {
    fn begin(&self, stage: &str, total: u64, unit: Unit) {
        if self.quiet {
            return;
        }
        let rate = match unit {
            Unit::Weights => "{human_pos}/{human_len} weights, {per_sec}",
            Unit::Tokens => "{human_pos}/{human_len} tokens, {per_sec}",
            Unit::Steps => "{human_pos}/{human_len}",
        };
        let style = ProgressStyle::with_template(&format!(
            "{{prefix:<12.green.bold}} [{{bar:24.cyan/blue}}] {rate}, {{eta}} left {{msg:.dim}}"
        ))
        .expect("the template is fixed")
        .progress_chars("=> ");
        let bar = ProgressBar::new(total).with_style(style).with_prefix(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar.lock().expect("no panic while a bar is held") = Some(bar);
    }

    /// What was done before does not count for the rate.
    fn begin_at(&self, stage: &str, total: u64, unit: Unit, done: u64) {
        self.begin(stage, total, unit);
        self.with_bar(|bar| {
            bar.set_position(done);
            bar.reset_eta();
        });
    }

    fn advance(&self, amount: u64) {
        self.with_bar(|bar| bar.inc(amount));
    }

    fn status(&self, text: &str) {
        self.with_bar(|bar| bar.set_message(text.to_owned()));
    }

    fn end(&self) {
        if let Some(bar) = self.bar.lock().expect("no panic while a bar is held").take() {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, message: &str) {
        let print = || eprintln!("note: {message}");
        match self.bar.lock().expect("no panic while a bar is held").as_ref() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
