//! What an import answers: what became of every row.

use serde::Serialize;
use serde_json::Value;

use crate::error::ApiError;

/// The most problems told of one row.
const PROBLEMS_MAX: usize = 10;
/// The longest message of a row, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 1_000;

/// What an import answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImportReport {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) dry_run: bool,
    pub(super) counts: Counts,
    /// Columns that were only there to be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ignored_columns: Vec<String>,
    /// Why rows at the end were left out, if any were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<String>,
    /// In the order of the file.
    pub(super) rows: Vec<RowReport>,
}

/// How many rows ended in which way.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    pub(super) rows: usize,
    pub(super) created: usize,
    pub(super) updated: usize,
    pub(super) unchanged: usize,
    pub(super) failed: usize,
    pub(super) not_reached: usize,
}

/// What became of one row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RowReport {
    /// The row of the table, or the place in the list of a JSON file, from 1.
    pub(super) row: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    pub(super) outcome: Outcome,
    /// As in a Status: `Invalid`, `Forbidden`, …
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) reason: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) causes: Vec<RowCause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Outcome {
    Created,
    Updated,
    Unchanged,
    Failed,
}

/// One thing that is wrong with a row, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RowCause {
    /// The path of the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) field: String,
    /// The heading of the column it comes from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) column: String,
    /// The cell, as in `C7`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) cell: String,
    pub(super) message: String,
}

impl ImportReport {
    pub(super) fn new(dry_run: bool, ignored_columns: Vec<String>, rows: Vec<RowReport>, total: usize) -> Self {
        let mut counts = Counts { rows: total, not_reached: total.saturating_sub(rows.len()), ..Counts::default() };
        for row in &rows {
            *match row.outcome {
                Outcome::Created => &mut counts.created,
                Outcome::Updated => &mut counts.updated,
                Outcome::Unchanged => &mut counts.unchanged,
                Outcome::Failed => &mut counts.failed,
            } += 1;
        }
        Self { api_version: "meta.fermion.dev/v1alpha1", kind: "ImportReport", dry_run, counts, ignored_columns, stopped: None, rows }
    }
}

impl RowReport {
    pub(super) fn done(row: usize, (namespace, name): (String, String), outcome: Outcome) -> Self {
        Self { row, namespace, name, outcome, reason: "", message: String::new(), causes: Vec::new() }
    }

    /// A row that says something that cannot be meant.
    pub(super) fn misread(row: usize, key: (String, String), mut causes: Vec<RowCause>) -> Self {
        let message = match causes.as_slice() {
            [one] => one.said(),
            several => format!(
                "{}, and {} more problems",
                several.first().map(RowCause::said).unwrap_or_default(),
                several.len().saturating_sub(1)
            ),
        };
        causes.truncate(PROBLEMS_MAX);
        Self { reason: "BadRequest", message, causes, ..Self::done(row, key, Outcome::Failed) }
    }

    /// A row whose write was refused. `place` tells heading and cell of a field.
    pub(super) fn refused(row: usize, key: (String, String), error: &ApiError, place: impl Fn(&str) -> (String, String)) -> Self {
        let listed = error.details.as_ref().and_then(|details| details["causes"].as_array()).map_or(&[][..], Vec::as_slice);
        let text = |value: &Value| shortened(value.as_str().unwrap_or_default());
        let causes = listed
            .iter()
            .take(PROBLEMS_MAX)
            .map(|cause| {
                let field = text(&cause["field"]);
                let (column, cell) = place(&field);
                RowCause { field, column, cell, message: text(&cause["message"]) }
            })
            .collect();
        Self { reason: error.reason, message: shortened(&error.message), causes, ..Self::done(row, key, Outcome::Failed) }
    }
}

impl RowCause {
    fn said(&self) -> String {
        let place = if self.column.is_empty() { &self.field } else { &self.column };
        if place.is_empty() { self.message.clone() } else { format!("{place}: {}", self.message) }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
