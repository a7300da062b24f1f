//! How a command ends badly: what to tell the user, and the exit code.

use std::fmt;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// 1 for work that failed, 2 for wrong usage; of a step its own.
    pub code: u8,
    message: String,
    help: Option<String>,
}

impl Failure {
    /// The work failed (exit code 1).
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string(), help: None }
    }

    /// The call was wrong (exit code 2).
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string(), help: None }
    }

    /// Something ended with an exit code of its own.
    pub fn ended(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), help: None }
    }

    /// Adds what to do next.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// An error with its chain of causes, each said once.
    pub fn from_error(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = inner.source();
        }
        Self { code: 1, message, help: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl miette::Diagnostic for Failure {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }
}
