//! Writing workbooks of Office Open XML: one sheet, row after row, into a file without a name. Rows
//! are in memory only until they are written.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use rust_xlsxwriter::{Format, Workbook, Worksheet, XlsxError};

use super::cell::{Cell, EXACT_INTEGER_MAX};

/// The most rows of objects in a sheet: those that spreadsheets have, without the headings.
pub(super) const ROWS_MAX: usize = 1_048_575;
/// The longest text of one cell, as UTF-16 units: a little less than spreadsheets take (32,767).
pub(super) const CELL_UNITS_MAX: usize = 32_000;
/// How wide columns are, in characters.
const COLUMN_WIDTH: f64 = 20.0;

/// A workbook in the making.
pub(super) struct Writer {
    workbook: Workbook,
    next_row: u32,
}

impl Writer {
    /// A workbook whose sheet has that name and begins with a row of headings.
    pub(super) fn new(sheet: &str, headings: &[String]) -> Result<Self, XlsxError> {
        let mut workbook = Workbook::new();
        let bold = Format::new().set_bold();
        let worksheet = workbook.add_worksheet_with_constant_memory()?;
        worksheet.set_name(sheet_name(sheet))?;
        worksheet.set_freeze_panes(1, 0)?;
        for (column, heading) in headings.iter().enumerate() {
            let column = column_number(column);
            worksheet.set_column_width(column, COLUMN_WIDTH)?;
            worksheet.write_string_with_format(0, column, heading, &bold)?;
        }
        Ok(Self { workbook, next_row: 1 })
    }

    /// Writes further rows. Texts are at most [`CELL_UNITS_MAX`] long, and rows at most [`ROWS_MAX`].
    pub(super) fn write(&mut self, rows: &[Vec<Cell>]) -> Result<(), XlsxError> {
        let worksheet = self.workbook.worksheet_from_index(0)?;
        for row in rows {
            for (column, cell) in row.iter().enumerate() {
                write_cell(worksheet, self.next_row, column_number(column), cell)?;
            }
            self.next_row += 1;
        }
        Ok(())
    }

    /// The whole file, to be read from its beginning. It is gone when it is closed.
    pub(super) fn finish(mut self) -> Result<File, XlsxError> {
        let mut file = tempfile::tempfile()?;
        self.workbook.save_to_writer(&mut file)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}

fn write_cell(worksheet: &mut Worksheet, row: u32, column: u16, cell: &Cell) -> Result<(), XlsxError> {
    match cell {
        Cell::Empty => {}
        Cell::Text(text) => _ = worksheet.write_string(row, column, text)?,
        Cell::Boolean(flag) => _ = worksheet.write_boolean(row, column, *flag)?,
        Cell::Number(number) => {
            let is_exact = number.is_f64()
                || number.as_i64().map(i64::unsigned_abs).or(number.as_u64()).is_some_and(|integer| integer <= EXACT_INTEGER_MAX);
            match number.as_f64() {
                Some(float) if is_exact => _ = worksheet.write_number(row, column, float)?,
                _ => _ = worksheet.write_string(row, column, number.to_string())?,
            }
        }
    }
    Ok(())
}

/// Spreadsheets have 16,384 columns; kinds have far fewer.
fn column_number(column: usize) -> u16 {
    u16::try_from(column).unwrap_or(u16::MAX)
}

/// A name that a sheet may have: at most 31 characters. Plurals hold no other ones than letters.
fn sheet_name(name: &str) -> String {
    name.chars().take(31).collect()
}

/// A text in pieces that fit into cells; at least one.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut units) = (0, 0);
    for (at, c) in text.char_indices() {
        if units + c.len_utf16() > CELL_UNITS_MAX {
            pieces.push(&text[start..at]);
            (start, units) = (at, 0);
        }
        units += c.len_utf16();
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::ops::ControlFlow;

    use serde_json::{Number, json};

    use super::super::xlsx_reader;
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_no_text_is_a_formula() {
        let texts = ["=1+1", "+1", "-1", "@x", "'x", " 算力\n2 ", "<&>\"", "true", "12"].map(|text| Cell::Text(text.to_owned()));
        let numbers = [json!(5), json!(-0.25), json!(EXACT_INTEGER_MAX), json!(u64::MAX)];
        let mut row: Vec<Cell> = texts.to_vec();
        row.extend(numbers.iter().map(|number| Cell::Number(number.as_number().unwrap().clone())));
        row.extend([Cell::Empty, Cell::Boolean(true)]);
        let mut writer = Writer::new("pods", &["a".to_owned()]).unwrap();
        writer.write(&[row.clone(), vec![Cell::Empty]]).unwrap();
        let mut bytes = Vec::new();
        writer.finish().unwrap().read_to_end(&mut bytes).unwrap();
        let mut read = Vec::new();
        xlsx_reader::read(&bytes.into(), &mut |row| {
            read.push(row);
            ControlFlow::Continue(())
        })
        .unwrap();
        // What a float cannot hold is a text.
        let last_number = texts.len() + numbers.len() - 1;
        row[last_number] = Cell::Text(u64::MAX.to_string());
        row[last_number - 2] = Cell::Number(Number::from_f64(-0.25).unwrap());
        let expected: Vec<(usize, Cell)> = row.into_iter().enumerate().filter(|(_, cell)| *cell != Cell::Empty).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].number, &read[1].cells), (2, &expected));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = "算".repeat(CELL_UNITS_MAX - 1) + "😀😀";
        let cut = pieces(&text);
        assert_eq!(cut.concat(), text);
        assert_eq!(cut.iter().map(|piece| piece.encode_utf16().count()).collect::<Vec<_>>(), [CELL_UNITS_MAX - 1, 4]);
        assert_eq!(pieces(""), [""]);
    }
}
