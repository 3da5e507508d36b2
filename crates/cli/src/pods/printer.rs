//! Writes the lines of many containers to one output, each with its origin.

use std::io::Write;

use crate::failure::Outcome;
use crate::output::Style;

/// Colours that tell the origins apart.
const COLOURS: [u8; 6] = [36, 35, 33, 32, 34, 96];

/// Writes lines; with more than one origin, each line begins with its own.
pub(crate) struct Printer<W> {
    output: W,
    style: Style,
    prefixed: bool,
}

impl<W: Write> Printer<W> {
    pub(crate) fn new(output: W, style: Style, prefixed: bool) -> Self {
        Self { output, style, prefixed }
    }

    /// Writes one line of the origin (numbered for its colour).
    pub(crate) fn line(&mut self, number: usize, origin: &str, text: &[u8]) -> Outcome<()> {
        if self.prefixed {
            match self.style {
                Style::Plain => write!(self.output, "{origin} | ")?,
                Style::Colour => write!(self.output, "\u{1b}[{}m{origin} |\u{1b}[0m ", COLOURS[number % COLOURS.len()])?,
            }
        }
        self.output.write_all(text)?;
        self.output.write_all(b"\n")?;
        self.output.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_their_origin_only_where_there_are_several() {
        let written = |prefixed: bool| {
            let mut output = Vec::new();
            let mut printer = Printer::new(&mut output, Style::Plain, prefixed);
            printer.line(0, "worker-0", b"hello").expect("memory can be written");
            printer.line(1, "worker-1", b"\xff").expect("memory can be written");
            output
        };
        assert_eq!(written(true), b"worker-0 | hello\nworker-1 | \xff\n");
        assert_eq!(written(false), b"hello\n\xff\n");
    }
}
