//! Reading workbooks of Office Open XML, which are ZIP archives of XML: the first sheet, cell by cell.
//!
//! The archive is unpacked once into nothing before any of it is interpreted, and refused if that is
//! more than its bounds: the sizes that an archive states about itself may be lies. So may the
//! number of texts that a workbook says it has, for which calamine reserves room: it is held against
//! the bytes that are there. No room is reserved for what a sheet says its size is.

use std::io::{Cursor, Read as _};
use std::ops::ControlFlow;

use bytes::Bytes;
use calamine::{DataRef, Reader as _, Xlsx};
use serde_json::Number;

use super::cell::{Cell, EXACT_INTEGER_MAX};
use super::rows::{COLUMNS_MAX, Row, Unreadable};

/// The most bytes of all parts together, unpacked.
pub(super) const UNPACKED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most parts of the archive.
pub(super) const PARTS_MAX: usize = 1_000;

/// How the name of the part ends that holds the texts of all sheets, in small letters.
const SHARED_TEXTS: &str = "sharedstrings.xml";
/// The attribute that says how many there are.
const TEXT_COUNT: &[u8] = b"uniqueCount";
/// The fewest bytes of one: `<si/>`.
const TEXT_BYTES_MIN: usize = 5;

/// Days from the epoch of spreadsheets, 1899-12-30, to that of Unix.
const UNIX_EPOCH_DAYS: f64 = 25_569.0;
const DAY_MS: f64 = 86_400_000.0;

/// Reads the rows of the first sheet that have any cell in them, one after the other.
pub(super) fn read(bytes: &Bytes, on_row: &mut dyn FnMut(Row) -> ControlFlow<()>) -> Result<(), Unreadable> {
    check_archive(bytes)?;
    let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(malformed)?;
    let sheet = workbook.sheet_names().into_iter().next().ok_or(Unreadable::Empty)?;
    let mut cells = workbook.worksheet_cells_reader(&sheet).map_err(malformed)?;
    let mut row: Option<Row> = None;
    while let Some(found) = cells.next_cell().map_err(malformed)? {
        let (number, column) = found.get_position();
        let (number, column) = (number as usize + 1, column as usize);
        let value = cell(found.get_value());
        if value == Cell::Empty {
            continue;
        }
        if column >= COLUMNS_MAX {
            return Err(Unreadable::TooManyColumns);
        }
        match &mut row {
            Some(row) if row.number == number => {
                if row.cells.last().is_some_and(|(last, _)| *last >= column) {
                    return Err(disordered());
                }
                row.cells.push((column, value));
            }
            Some(before) if before.number > number => return Err(disordered()),
            other => {
                let next = Row { number, cells: vec![(column, value)] };
                if let Some(complete) = other.replace(next)
                    && on_row(complete).is_break()
                {
                    return Ok(());
                }
            }
        }
    }
    if let Some(last) = row {
        // Nothing follows that a break would end.
        let _ = on_row(last);
    }
    Ok(())
}

fn malformed(error: calamine::XlsxError) -> Unreadable {
    Unreadable::Malformed(error.to_string())
}

fn disordered() -> Unreadable {
    Unreadable::Malformed("cells stand in no order".to_owned())
}

/// Unpacks everything into nothing.
fn check_archive(bytes: &Bytes) -> Result<(), Unreadable> {
    let no_archive = || Unreadable::Malformed("it is no workbook in the form .xlsx".to_owned());
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|_| no_archive())?;
    if archive.len() > PARTS_MAX {
        return Err(Unreadable::TooLargeUnpacked);
    }
    let mut room = UNPACKED_BYTES_MAX;
    for index in 0..archive.len() {
        let part = archive.by_index(index).map_err(|_| no_archive())?;
        let holds_texts = part.name().map_err(|_| no_archive())?.to_ascii_lowercase().ends_with(SHARED_TEXTS);
        let mut part = part.take(room + 1);
        let unpacked = if holds_texts {
            let mut bytes = Vec::new();
            part.read_to_end(&mut bytes).map_err(|_| no_archive())?;
            check_shared_texts(&bytes)?;
            bytes.len() as u64
        } else {
            std::io::copy(&mut part, &mut std::io::sink()).map_err(|_| no_archive())?
        };
        room = room.checked_sub(unpacked).ok_or(Unreadable::TooLargeUnpacked)?;
    }
    Ok(())
}

/// Refuses a part that says it holds more texts than it has room for, or that could say so in a way
/// which is not seen here: in an encoding of other than single bytes.
fn check_shared_texts(part: &[u8]) -> Result<(), Unreadable> {
    let wrong = || Unreadable::Malformed("its texts are not what it says of them".to_owned());
    // No XML has them but as a part of something else.
    if part.iter().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r')) {
        return Err(wrong());
    }
    let mut rest = part;
    while let Some(at) = rest.windows(TEXT_COUNT.len()).position(|bytes| bytes == TEXT_COUNT) {
        rest = &rest[at + TEXT_COUNT.len()..];
        let digits = rest.iter().skip_while(|byte| !byte.is_ascii_digit() && **byte != b'>').take_while(|byte| byte.is_ascii_digit());
        let count = digits.fold(0_usize, |count, digit| count.saturating_mul(10).saturating_add(usize::from(digit - b'0')));
        if count > part.len() / TEXT_BYTES_MIN {
            return Err(wrong());
        }
    }
    Ok(())
}

fn cell(value: &DataRef<'_>) -> Cell {
    let text = |text: &str| if text.is_empty() { Cell::Empty } else { Cell::Text(text.to_owned()) };
    match value {
        DataRef::Empty => Cell::Empty,
        DataRef::Int(number) => Cell::Number((*number).into()),
        DataRef::Float(number) => whole_where_whole(*number).map_or(Cell::Empty, Cell::Number),
        DataRef::Bool(flag) => Cell::Boolean(*flag),
        DataRef::String(found) => text(found),
        DataRef::SharedString(found) => text(found),
        DataRef::DateTime(date) if date.is_datetime() => Cell::Text(time_text(date.as_f64())),
        DataRef::DateTime(date) => whole_where_whole(date.as_f64()).map_or(Cell::Empty, Cell::Number),
        DataRef::DateTimeIso(found) | DataRef::DurationIso(found) => text(found),
        // `#REF!`, as the spreadsheet shows it: no field takes that, and the report says so.
        DataRef::Error(error) => Cell::Text(format!("error {error}")),
    }
}

/// Spreadsheets know only floats: what is whole is meant as a whole number.
fn whole_where_whole(float: f64) -> Option<Number> {
    let is_whole = float.fract() == 0.0 && float.abs() <= EXACT_INTEGER_MAX as f64;
    if is_whole { Some(Number::from(float as i64)) } else { Number::from_f64(float) }
}

/// A day count of a spreadsheet as times are written in objects; in UTC, as it knows no zones.
fn time_text(days: f64) -> String {
    let ms = ((days - UNIX_EPOCH_DAYS) * DAY_MS).round();
    jiff::Timestamp::from_millisecond(ms as i64).map_or_else(|_| days.to_string(), crate::objects::time_text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    /// An archive with these parts, as a workbook of one sheet.
    fn workbook(sheet: &str, more: &[(&str, Vec<u8>)]) -> Bytes {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let relationships = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
        let parts = [
            (
                "_rels/.rels",
                format!(
                    "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
                     <Relationship Id=\"rId1\" Type=\"{relationships}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
                ),
            ),
            ("[Content_Types].xml", "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>".to_owned()),
            (
                "xl/_rels/workbook.xml.rels",
                format!(
                    "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
                     <Relationship Id=\"rId1\" Type=\"{relationships}/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>"
                ),
            ),
            (
                "xl/workbook.xml",
                format!(
                    "<workbook xmlns=\"{main}\" xmlns:r=\"{relationships}\"><sheets><sheet name=\"a\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
                ),
            ),
            ("xl/worksheets/sheet1.xml", format!("<worksheet xmlns=\"{main}\">{sheet}</worksheet>")),
        ];
        let parts = parts.into_iter().map(|(name, text)| (name, text.into_bytes())).chain(more.iter().cloned());
        for (name, bytes) in parts {
            archive.start_file(name, SimpleFileOptions::default()).unwrap();
            archive.write_all(&bytes).unwrap();
        }
        archive.finish().unwrap().into_inner().into()
    }

    fn rows(bytes: &Bytes) -> Result<Vec<Row>, Unreadable> {
        let mut rows = Vec::new();
        read(bytes, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    #[test]
    fn cells_are_read_by_their_place() {
        let sheet = "<dimension ref=\"A1:XFD1048576\"/><sheetData>\
            <row r=\"2\"><c r=\"B2\" t=\"inlineStr\"><is><t>name</t></is></c><c r=\"D2\"><v>7</v></c></row>\
            <row r=\"1048576\"><c r=\"A1048576\" t=\"b\"><v>1</v></c></row></sheetData>";
        let expected = [
            Row { number: 2, cells: vec![(1, Cell::Text("name".to_owned())), (3, Cell::Number(7.into()))] },
            Row { number: 1_048_576, cells: vec![(0, Cell::Boolean(true))] },
        ];
        assert_eq!(rows(&workbook(sheet, &[])).unwrap(), expected, "and no room is taken for what is between them");
    }

    #[test]
    fn a_sheet_full_of_empty_rows_is_nothing() {
        let sheet = format!("<sheetData>{}</sheetData>", "<row/>".repeat(1_048_576));
        assert_eq!(rows(&workbook(&sheet, &[])).unwrap(), []);
    }

    #[test]
    fn a_bomb_is_refused_whatever_it_says_of_its_size() {
        let bomb = workbook("", &[("xl/media/image1.png", vec![0; UNPACKED_BYTES_MAX as usize + 1])]);
        assert!(bomb.len() < 1024 * 1024, "it is small: {}", bomb.len());
        assert!(matches!(rows(&bomb), Err(Unreadable::TooLargeUnpacked)));
        // The same, but the directory says that the part has one byte.
        let mut lying = bomb.to_vec();
        let size = (UNPACKED_BYTES_MAX as u32 + 1).to_le_bytes();
        while let Some(at) = lying.windows(4).position(|bytes| bytes == size) {
            lying[at..at + 4].copy_from_slice(&1_u32.to_le_bytes());
        }
        assert!(rows(&lying.into()).is_err());
        let crowd: Vec<(String, Vec<u8>)> = (0..=PARTS_MAX).map(|number| (format!("part{number}"), Vec::new())).collect();
        let crowd: Vec<(&str, Vec<u8>)> = crowd.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        assert!(matches!(rows(&workbook("", &crowd)), Err(Unreadable::TooLargeUnpacked)));
    }

    #[test]
    fn no_room_is_reserved_for_texts_that_are_not_there() {
        let texts = |attribute: &str| {
            let part =
                format!("<sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" {attribute}><si><t>night</t></si></sst>");
            let sheet = "<sheetData><row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c></row></sheetData>";
            rows(&workbook(sheet, &[("xl/sharedStrings.xml", part.into_bytes())]))
        };
        let read = texts("uniqueCount=\"1\"").unwrap();
        assert_eq!(read, [Row { number: 1, cells: vec![(0, Cell::Text("night".to_owned()))] }]);
        for attribute in
            ["uniqueCount=\"1000000000000\"", "uniqueCount = '99999999999999999999999'", "a=\"uniqueCount\" uniqueCount=\"5000\""]
        {
            assert!(matches!(texts(attribute), Err(Unreadable::Malformed(_))), "{attribute}");
        }
        let wide: Vec<u8> = "\u{feff}<sst uniqueCount=\"1000000000000\"/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(rows(&workbook("<sheetData/>", &[("xl/SharedStrings.xml", wide)])).is_err());
    }

    #[test]
    fn what_is_no_workbook_is_refused() {
        for bytes in [&b""[..], b"PK", b"name,phase\n", &[0xff; 1000]] {
            let refused = rows(&Bytes::copy_from_slice(bytes)).expect_err("no workbook").to_string();
            assert_eq!(refused, "the file cannot be read: it is no workbook in the form .xlsx");
        }
        let disordered = "<sheetData><row r=\"2\"><c r=\"A2\"><v>1</v></c></row><row r=\"1\"><c r=\"A1\"><v>1</v></c></row></sheetData>";
        assert!(rows(&workbook(disordered, &[])).is_err());
        assert!(rows(&workbook("<sheetData><row r=\"1\"><c r=\"A1\"><v>1</c></sheetData>", &[])).is_err());
    }

    #[test]
    fn dates_are_times_in_utc() {
        assert_eq!(time_text(45_000.5), "2023-03-15T12:00:00Z");
        assert_eq!(time_text(1e300), 1e300_f64.to_string());
    }
}
