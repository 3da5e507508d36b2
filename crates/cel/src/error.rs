//! What can be wrong with an expression.

use std::fmt;

/// One mistake in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// Bytes before it.
    pub at: usize,
    /// What is wrong, in the words of the reference implementation.
    pub message: String,
}

impl CompileError {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// Everything wrong with a source. Printed as the reference implementation does, each with its
/// line and a mark under the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileErrors {
    source: String,
    /// The mistakes, in the order of their places.
    pub errors: Vec<CompileError>,
}

/// A line longer than this is not repeated in an error.
const SHOWN_LINE_CHARACTERS_MAX: usize = 300;

impl CompileErrors {
    pub(crate) fn new(source: &str, mut errors: Vec<CompileError>) -> Self {
        errors.sort_by_key(|error| error.at);
        Self { source: source.to_owned(), errors }
    }
}

impl std::error::Error for CompileErrors {}

impl fmt::Display for CompileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let before = self.source.get(..error.at).unwrap_or(&self.source);
            let line_number = before.matches('\n').count();
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
            write!(f, "ERROR: <input>:{}:{}: {}", line_number + 1, column + 1, error.message)?;
            let line = self.source.lines().nth(line_number).unwrap_or_default();
            if line.chars().count() <= SHOWN_LINE_CHARACTERS_MAX {
                write!(f, "\n | {line}\n | {}^", ".".repeat(column))?;
            }
        }
        Ok(())
    }
}

/// Why an evaluation has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// It would cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    Budget,
    /// No function has this name and takes values like these. Only `dyn` values lead here.
    #[error("no such overload")]
    Overload,
    /// A step failed.
    #[error("{0}")]
    Failed(String),
}

impl EvalError {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}
