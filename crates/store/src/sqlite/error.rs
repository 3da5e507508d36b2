//! What an error of SQLite means.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::error::Error;

impl Error {
    /// Sorts what SQLite reported while the store tried to do `attempted`.
    pub(crate) fn sqlite(attempted: &'static str, source: rusqlite::Error) -> Self {
        let Some(code) = source.sqlite_error() else {
            // Not from the database but from our use of it: a wrong column type or count.
            return Self::Bug { what: format!("could not {attempted}"), source: Some(Box::new(source)) };
        };
        match (code.code, code.extended_code) {
            // SHMSIZE: the index of the write-ahead log could not grow. WRITE: a quota is used up.
            (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_WRITE) => {
                Self::Exhausted { source: source.into() }
            }
            (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => {
                Self::Corrupt { what: format!("found when trying to {attempted}"), source: Some(Box::new(source)) }
            }
            (ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::ApiMisuse, _) => {
                Self::Bug { what: format!("could not {attempted}"), source: Some(Box::new(source)) }
            }
            _ => Self::Unavailable { attempted, source: source.into() },
        }
    }
}
