//! What a running job tells whoever watches it. The cli draws bars with it; a test listens or ignores it.

/// What a stage counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Weights read, rounded or written.
    Weights,
    /// Tokens run through the model.
    Tokens,
    /// Decoder blocks, or other plain things.
    Steps,
}

/// Receives a job's progress and carries the wish to stop it.
///
/// Calls arrive from several threads; stages never nest.
pub trait Reporter: Sync {
    /// A stage of `total` units begins.
    fn begin(&self, stage: &str, total: u64, unit: Unit);
    /// As [`Reporter::begin`], for a stage of which an earlier run has already done `done` units.
    fn begin_at(&self, stage: &str, total: u64, unit: Unit, done: u64) {
        self.begin(stage, total, unit);
        self.advance(done);
    }
    /// `amount` more units of the current stage are done.
    fn advance(&self, amount: u64);
    /// A short text beside the bar, for example the running perplexity.
    fn status(&self, text: &str);
    /// The current stage is over.
    fn end(&self);
    /// Something the user should know though the job goes on.
    fn warn(&self, message: &str);
    /// True once the user asked to stop; jobs look at it between pieces of work.
    fn is_cancelled(&self) -> bool;
}

/// A reporter that says nothing and never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn status(&self, _: &str) {}
    fn end(&self) {}
    fn warn(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        false
    }
}
