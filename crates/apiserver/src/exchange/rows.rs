//! The rows of a file that somebody sent, whatever its form, and the bounds on them.

use std::ops::ControlFlow;

use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};
use serde_json::Value;

use super::cell::Cell;
use super::format::FileFormat;
use super::{csv_file, json_file, xlsx_reader};
use crate::error::ApiError;

/// The largest file that is read, in bytes.
pub(super) const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most columns of a file: more than any kind has, the parts of long cells included.
pub(super) const COLUMNS_MAX: usize = 1_024;

/// A row of a table file that has any cell in it.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    /// As spreadsheets number rows, from 1.
    pub(super) number: usize,
    /// The cells that are not empty, by column, in order.
    pub(super) cells: Vec<(usize, Cell)>,
}

/// What a file says of one object.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    Row(Row),
    /// An object of a List, by its place in it, from 1.
    Object(usize, Value),
}

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the file is not {0}; save it as \"CSV UTF-8\", or name its encoding as in `Content-Type: text/csv; charset=gb18030`")]
    Encoding(&'static str),
    #[error("charset: no such encoding; say utf-8, gb18030, big5, shift_jis or another one of https://encoding.spec.whatwg.org")]
    UnknownCharset,
    #[error("the file cannot be read: {0}")]
    Malformed(String),
    #[error("the file has a row of more than {COLUMNS_MAX} cells")]
    TooManyColumns,
    #[error(
        "the file holds more than {} MiB when it is unpacked, or more than {} parts; split it",
        xlsx_reader::UNPACKED_BYTES_MAX >> 20,
        xlsx_reader::PARTS_MAX
    )]
    TooLargeUnpacked,
    #[error("the file has no row of headings; `?template=csv` at the same address gives one")]
    Empty,
}

impl From<Unreadable> for ApiError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::TooLargeUnpacked => Self::too_large(unreadable.to_string()),
            other => Self::bad_request(other.to_string()),
        }
    }
}

/// A file that somebody sent. It is read twice: first to see that all of it can be, then to write
/// what it says.
#[derive(Debug)]
pub(super) enum SentFile {
    Csv(String),
    Xlsx(Bytes),
    Json(Bytes),
}

impl SentFile {
    /// `charset` is the label of the encoding that a text is said to be in.
    pub(super) fn new(format: FileFormat, bytes: Bytes, charset: Option<&str>) -> Result<Self, Unreadable> {
        match format {
            FileFormat::Xlsx => Ok(Self::Xlsx(bytes)),
            FileFormat::Json => Ok(Self::Json(bytes)),
            FileFormat::Csv => {
                let encoding = match charset {
                    Some(label) => Encoding::for_label(label.as_bytes()).ok_or(Unreadable::UnknownCharset)?,
                    None => UTF_8,
                };
                // A byte order mark says more than what was said: UTF-16 has one.
                let (text, actual, is_broken) = encoding.decode(&bytes);
                if is_broken {
                    return Err(Unreadable::Encoding(actual.name()));
                }
                Ok(Self::Csv(text.into_owned()))
            }
        }
    }

    /// Reads record after record until there are no more or `on_record` breaks.
    pub(super) fn read(&self, on_record: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<(), Unreadable> {
        match self {
            Self::Csv(text) => csv_file::read(text, &mut |row| on_record(Record::Row(row))),
            Self::Xlsx(bytes) => xlsx_reader::read(bytes, &mut |row| on_record(Record::Row(row))),
            Self::Json(bytes) => json_file::read(bytes, &mut |number, object| on_record(Record::Object(number, object))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_cell(bytes: &'static [u8], charset: Option<&str>) -> Result<String, Unreadable> {
        let file = SentFile::new(FileFormat::Csv, Bytes::from_static(bytes), charset)?;
        let mut found = String::new();
        file.read(&mut |record| {
            if let Record::Row(row) = record {
                found = row.cells[0].1.as_text();
            }
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    #[test]
    fn texts_are_read_in_the_encoding_they_are_in() {
        assert_eq!(first_cell("算力,a".as_bytes(), None).unwrap(), "算力");
        assert_eq!(first_cell(b"\xef\xbb\xbf\xe7\xae\x97,a", None).unwrap(), "算", "the mark is no part of the text");
        assert_eq!(first_cell(b"\xff\xfe\x97\x7b,\x00a\x00", None).unwrap(), "算", "UTF-16 tells itself");
        assert_eq!(first_cell(b"\xcb\xe3\xc1\xa6,a", Some("gbk")).unwrap(), "算力");
        let refused = first_cell(b"\xcb\xe3\xc1\xa6,a", None).expect_err("not UTF-8").to_string();
        assert!(refused.contains("UTF-8") && refused.contains("charset=gb18030"), "{refused}");
        assert!(matches!(first_cell(b"a", Some("klingon")), Err(Unreadable::UnknownCharset)));
    }
}
