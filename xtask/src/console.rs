//! What the person at the terminal sees: lines with the time that has passed, and results.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Says what is going on, with the time since the chore began.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    begun: Instant,
}

impl Console {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now() }
    }

    /// One line of progress.
    pub(crate) fn step(&self, text: &str) {
        eprintln!("{} {text}", paint("2", &stamp(self.begun.elapsed())));
    }

    /// Runs a piece of work and says how long it took.
    pub(crate) fn timed<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.step(name);
        let begun = Instant::now();
        let value = work()?;
        self.step(&format!("{name}: {} in {:.1} s", paint("32", "done"), begun.elapsed().as_secs_f64()));
        Ok(value)
    }
}

/// `[  12.3s]`
fn stamp(elapsed: Duration) -> String {
    format!("[{:>6.1}s]", elapsed.as_secs_f64())
}

/// Writes an answer to standard output.
pub(crate) fn answer(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").context("cannot write to standard output")
}

/// A heading between answers.
pub(crate) fn heading(text: &str) -> Result<()> {
    let painted = if std::io::stdout().is_terminal() && colour_wanted() { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() };
    answer(&format!("\n{painted}"))
}

pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("{} {error}", paint("31", "error:"));
    for cause in error.chain().skip(1) {
        eprintln!("  {} {}", paint("2", "why:"), cause.to_string().replace('\n', "\n       "));
    }
}

/// Colour on standard error, where it is a terminal and nobody asked for none.
pub(crate) fn paint(code: &str, text: &str) -> String {
    if std::io::stderr().is_terminal() && colour_wanted() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_aligned() {
        assert_eq!(stamp(Duration::from_millis(1234)), "[   1.2s]");
        assert_eq!(stamp(Duration::from_secs(1234)), "[1234.0s]");
    }
}
