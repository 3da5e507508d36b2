//! Files of comma-separated values, as RFC 4180 and spreadsheet programs have them.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula and runs it, quotes
//! or not. Texts that begin so are written with an apostrophe before them, which spreadsheets take for
//! "this is text" (<https://owasp.org/www-community/attacks/CSV_Injection>); texts that begin with an
//! apostrophe get a second one, so that reading takes back exactly what writing added. Numbers are
//! left as they are.

use std::ops::ControlFlow;

use super::cell::Cell;
use super::rows::{COLUMNS_MAX, Row, Unreadable};

/// Tells spreadsheets that the file is UTF-8; without it they take it for the machine's older encoding.
pub(super) const BYTE_ORDER_MARK: &str = "\u{feff}";
/// How a cell may begin that a spreadsheet would run.
const FORMULA_STARTS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];
/// What may stand between cells; the first is what is written.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// Rows of a file, as bytes.
pub(super) fn write(rows: &[Vec<Cell>]) -> Result<Vec<u8>, csv::Error> {
    // Everything but numbers in quotes: then a semicolon in a text starts no new cell where
    // spreadsheets split at semicolons.
    let mut writer = csv::WriterBuilder::new()
        .quote_style(csv::QuoteStyle::NonNumeric)
        .terminator(csv::Terminator::CRLF)
        .flexible(true)
        .from_writer(Vec::new());
    for row in rows {
        writer.write_record(row.iter().map(text))?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(std::io::Error::other(error.to_string())))
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(text) if text.starts_with(FORMULA_STARTS) || text.starts_with('\'') => format!("'{text}"),
        Cell::Text(text) => text.clone(),
        Cell::Number(number) => number.to_string(),
        Cell::Boolean(flag) => flag.to_string(),
    }
}

/// The cell that a text of a file is.
fn cell(text: &str) -> Cell {
    match text.strip_prefix('\'') {
        _ if text.is_empty() => Cell::Empty,
        Some(rest) if rest.starts_with(FORMULA_STARTS) || rest.starts_with('\'') => Cell::Text(rest.to_owned()),
        _ => Cell::Text(text.to_owned()),
    }
}

/// Reads the rows of a file that have any cell in them, one after the other. Rows are numbered as
/// spreadsheets do: empty ones count, and a line end inside of a cell begins no new one.
pub(super) fn read(text: &str, on_row: &mut dyn FnMut(Row) -> ControlFlow<()>) -> Result<(), Unreadable> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter(text)).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let (mut counted_to, mut line, mut lines_in_cells) = (0, 1, 0);
    loop {
        let more = reader.read_record(&mut record).map_err(|error| Unreadable::Malformed(error.to_string()))?;
        if !more {
            return Ok(());
        }
        // The reader says where it looked for the record; empty lines and half a line end may come first.
        let looked_at = record.position().and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(counted_to);
        let begins = looked_at + text.as_bytes()[looked_at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        line += line_ends(&text.as_bytes()[counted_to..begins]);
        counted_to = begins;
        let number = line - lines_in_cells;
        let mut cells = Vec::new();
        for (column, text) in record.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            if column >= COLUMNS_MAX {
                return Err(Unreadable::TooManyColumns);
            }
            lines_in_cells += line_ends(text.as_bytes());
            cells.push((column, cell(text)));
        }
        if !cells.is_empty() && on_row(Row { number, cells }).is_break() {
            return Ok(());
        }
    }
}

/// Line ends of whatever system.
fn line_ends(text: &[u8]) -> usize {
    let ends = |index: &usize| text[*index] == b'\n' || (text[*index] == b'\r' && text.get(index + 1) != Some(&b'\n'));
    (0..text.len()).filter(ends).count()
}

/// What stands most often between the cells of the first line.
fn delimiter(text: &str) -> u8 {
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut quoted = false;
    for byte in text.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            other if !quoted => {
                if let Some(index) = DELIMITERS.iter().position(|delimiter| *delimiter == other) {
                    counts[index] += 1;
                }
            }
            _ => {}
        }
    }
    let most = counts.iter().copied().max().unwrap_or_default();
    let first = counts.iter().position(|count| *count == most).unwrap_or_default();
    DELIMITERS[first]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<(usize, Vec<(usize, Cell)>)> {
        let mut rows = Vec::new();
        read(text, &mut |row| {
            rows.push((row.number, row.cells));
            ControlFlow::Continue(())
        })
        .expect("a readable file");
        rows
    }

    fn texts(texts: &[&str]) -> Vec<(usize, Cell)> {
        texts
            .iter()
            .enumerate()
            .filter(|(_, text)| !text.is_empty())
            .map(|(column, text)| (column, Cell::Text((*text).to_owned())))
            .collect()
    }

    #[test]
    fn no_written_text_is_a_formula_and_reading_takes_back_what_writing_added() {
        let hostile = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "'=1", "'", "''", "a;=1", "a\"b", "a\nb", "plain"];
        let cells: Vec<Cell> = hostile.iter().map(|text| Cell::Text((*text).to_owned())).chain([Cell::Number((-5).into())]).collect();
        let written = String::from_utf8(write(&[cells]).unwrap()).unwrap();
        assert!(written.starts_with("\"'=cmd|"), "{written}");
        assert!(written.ends_with(",-5\r\n"), "numbers are numbers: {written}");
        assert!(!written.contains("\"=") && !written.contains("\"@") && !written.contains("\"+"), "{written}");
        let mut expected = texts(&hostile);
        expected.push((hostile.len(), Cell::Text("-5".to_owned())));
        assert_eq!(rows(&written), [(1, expected)]);
    }

    #[test]
    fn files_of_other_programs_are_read() {
        assert_eq!(rows("a,b\r\n1,2\r\n"), [(1, texts(&["a", "b"])), (2, texts(&["1", "2"]))]);
        assert_eq!(rows("a;b\n\"1,5\";2"), [(1, texts(&["a", "b"])), (2, texts(&["1,5", "2"]))]);
        assert_eq!(rows("a\tb\n1\t2\n"), [(1, texts(&["a", "b"])), (2, texts(&["1", "2"]))]);
        // Rows without cells are passed over, and counted.
        assert_eq!(rows("a,b\n,\n\n\"1\n2\",3\n4,5\n"), [(1, texts(&["a", "b"])), (4, texts(&["1\n2", "3"])), (5, texts(&["4", "5"]))]);
        assert_eq!(rows("a\r\n\r\n\"1\r\n2\"\r\n3\r\n"), [(1, texts(&["a"])), (3, texts(&["1\r\n2"])), (4, texts(&["3"]))]);
        assert_eq!(rows("a\r1\r\r2"), [(1, texts(&["a"])), (2, texts(&["1"])), (4, texts(&["2"]))]);
        assert_eq!(rows(""), []);
    }

    #[test]
    fn a_line_of_a_million_cells_is_refused() {
        let line = "x,".repeat(1_000_000);
        let refused = read(&line, &mut |_| ControlFlow::Continue(())).expect_err("too many columns");
        assert!(matches!(refused, Unreadable::TooManyColumns));
        // Ten million rows without a cell are nothing.
        assert_eq!(rows(&"\n".repeat(10_000_000)), []);
        assert_eq!(rows(&",,\n".repeat(1_000_000)), []);
    }
}
