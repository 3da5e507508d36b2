//! How answers are written: aligned tables, JSON, YAML, colour where it helps.

mod progress;
mod table;

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use crate::failure::{Failure, Outcome};

pub(crate) use progress::Progress;
pub(crate) use table::{Cell, Table};

/// Whether colour may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Colour,
}

impl Style {
    /// Colour only on a terminal, and not where <https://no-color.org> asks for none.
    pub(crate) fn of(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if terminal && !refused { Self::Colour } else { Self::Plain }
    }

    /// The style of standard output.
    pub(crate) fn of_stdout() -> Self {
        Self::of(std::io::IsTerminal::is_terminal(&std::io::stdout()))
    }

    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        match (self, tone.code()) {
            (Self::Colour, Some(code)) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            (Self::Colour | Self::Plain, _) => text.to_owned(),
        }
    }
}

/// What a piece of text means; it decides the colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Usual,
    Good,
    Waiting,
    Bad,
    Note,
    Faint,
    Heading,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Usual => None,
            Self::Good => Some("32"),
            Self::Waiting => Some("33"),
            Self::Bad => Some("31"),
            Self::Note => Some("36"),
            Self::Faint => Some("2"),
            Self::Heading => Some("1"),
        }
    }
}

/// Text from elsewhere as it may be shown: control characters, which could steer the
/// terminal, become visible.
pub(crate) fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        // Bidirectional overrides can make a name look like another one.
        let unseen = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || unseen {
            let _ = write!(safe, "{}", character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// The choice of `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// The table with all of its columns.
    Wide,
    Json,
    Yaml,
    /// One `kind/name` per line.
    Name,
}

/// Writes text to standard output.
pub(crate) fn write(text: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Tells the person something beside the answer.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Writes a value as JSON or YAML.
pub(crate) fn structured(format: Format, value: &impl Serialize) -> Outcome<()> {
    let unwritable = |error: Box<dyn std::error::Error>| Failure::new("cannot write the answer as text").because(error);
    if format == Format::Yaml {
        write(&serde_yaml::to_string(value).map_err(|error| unwritable(error.into()))?)
    } else {
        line(&serde_json::to_string_pretty(value).map_err(|error| unwritable(error.into()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\tc"), "a\\u{1b}[31mb\\u{9}c");
        assert_eq!(plain("naïve 算力"), "naïve 算力");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
    }
}
