//! The forms of files.

use axum::http::HeaderValue;

use crate::error::{ApiError, Result};
use crate::request::Query;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// Comma-separated values, RFC 4180.
    Csv,
    /// A workbook of Office Open XML.
    Xlsx,
    /// A List object of Kubernetes.
    Json,
}

impl FileFormat {
    /// The form that a query parameter names, if the query has it.
    pub(crate) fn asked(query: &Query, parameter: &str) -> Result<Option<Self>> {
        match query.get(parameter) {
            None if query.has(parameter) => Err(ApiError::bad_request(format!("{parameter}: must be csv, xlsx or json"))),
            None => Ok(None),
            Some("csv") => Ok(Some(Self::Csv)),
            Some("xlsx") => Ok(Some(Self::Xlsx)),
            Some("json") => Ok(Some(Self::Json)),
            Some(other) => Err(ApiError::bad_request(format!("{parameter}={}: must be csv, xlsx or json", other.escape_default()))),
        }
    }

    /// The ending of a file's name.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
            Self::Json => "json",
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Json => "application/json",
        })
    }
}
