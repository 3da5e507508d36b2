//! From a record of a file to what is to be written of an object.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::cell::Cell;
use super::fields::{Assignment, Fields, Target};
use super::portable;
use super::report::RowCause;
use super::rows::{Record, Row};
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::schema::outline::Shape;

/// What the headings of a file mean.
pub(super) struct Headings {
    fields: Fields,
    /// Heading and meaning, by column.
    columns: BTreeMap<usize, (String, Target)>,
}

/// What a record says.
pub(super) struct SentRow {
    pub(super) number: usize,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) content: Result<Content, Vec<RowCause>>,
}

/// What is to be written.
pub(super) enum Content {
    Assignments(Vec<Assignment>),
    Object(Value),
}

impl Headings {
    /// No headings: of a file of JSON.
    pub(super) fn none(resource: &Resource) -> Self {
        Self { fields: Fields::of(resource), columns: BTreeMap::new() }
    }

    /// Reads the row of headings. A heading that means nothing or twice the same is refused: whoever
    /// wrote it meant something.
    pub(super) fn read(resource: &Resource, row: &Row) -> Result<Self> {
        let mut headings = Self::none(resource);
        let (mut unknown, mut twice) = (Vec::new(), Vec::new());
        for (column, cell) in &row.cells {
            let heading = cell.as_text().trim().to_owned();
            if headings.columns.values().any(|(before, _)| *before == heading) {
                twice.push(shown(&heading));
                continue;
            }
            match headings.fields.target(resource, &heading) {
                Some(target) => _ = headings.columns.insert(*column, (heading, target)),
                None => unknown.push(shown(&heading)),
            }
        }
        if !twice.is_empty() {
            return Err(ApiError::bad_request(format!("the file has more than one column headed {}", twice.join(", "))));
        }
        if !unknown.is_empty() {
            return Err(ApiError::bad_request(format!(
                "{} have no field {}; `?template=csv` at the same address tells the columns there are",
                resource.plural,
                unknown.join(", ")
            )));
        }
        if !headings.columns.values().any(|(heading, _)| heading == "metadata.name") {
            return Err(ApiError::bad_request("the file has no column metadata.name, which tells the objects apart"));
        }
        Ok(headings)
    }

    /// The columns that are only there to be read.
    pub(super) fn ignored(&self) -> Vec<String> {
        self.columns.values().filter(|(_, target)| *target == Target::Ignored).map(|(heading, _)| heading.clone()).collect()
    }

    /// The heading and the cell where a field of an object comes from: the longest heading that
    /// leads to it.
    pub(super) fn place(&self, row: usize, field: &str) -> (String, String) {
        let leads = |heading: &str| field.strip_prefix(heading).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        let found = self
            .columns
            .iter()
            .filter(|(_, (heading, target))| *target != Target::Ignored && leads(heading))
            .max_by_key(|(_, (heading, _))| heading.len());
        found.map(|(column, (heading, _))| (heading.clone(), address(row, *column))).unwrap_or_default()
    }

    /// What a record says.
    pub(super) fn sent(&self, record: Record) -> SentRow {
        match record {
            Record::Row(row) => self.sent_cells(row),
            Record::Object(number, object) => {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
                let (namespace, name) = (text("namespace"), text("name"));
                SentRow { number, namespace, name, content: Ok(Content::Object(object)) }
            }
        }
    }

    fn sent_cells(&self, row: Row) -> SentRow {
        let number = row.number;
        let mut cells: HashMap<usize, Cell> = row.cells.into_iter().collect();
        let mut problems = Vec::new();
        let mut further: HashMap<usize, BTreeMap<usize, String>> = HashMap::new();
        for (column, (_, target)) in &self.columns {
            if let Target::More(field, part) = target
                && let Some(cell) = cells.remove(column)
            {
                further.entry(*field).or_default().insert(*part, plain(&cell));
            }
        }
        let (mut namespace, mut name) = (String::new(), String::new());
        let mut assignments = Vec::new();
        for (column, (heading, target)) in &self.columns {
            let cell = cells.remove(column).unwrap_or(Cell::Empty);
            let (field, entry, shape) = match target {
                Target::Field(field) => (*field, None, self.fields.get(*field).shape),
                Target::Entry(field, entry) => (*field, Some(entry.clone()), Shape::Text),
                Target::More(..) | Target::Ignored => continue,
            };
            let cell = match further.remove(&field) {
                Some(parts) if entry.is_none() => Cell::Text(parts.values().fold(plain(&cell), |text, part| text + part)),
                _ => cell,
            };
            match cell.read(shape) {
                Ok(value) => {
                    match (heading.as_str(), &value) {
                        ("metadata.namespace", Some(Value::String(text))) => namespace.clone_from(text),
                        ("metadata.name", Some(Value::String(text))) => name.clone_from(text),
                        _ => {}
                    }
                    assignments.push(Assignment { field, entry, value });
                }
                Err(message) => {
                    problems.push(RowCause { field: heading.clone(), column: heading.clone(), cell: address(number, *column), message });
                }
            }
        }
        let mut strays: Vec<usize> = cells.into_keys().collect();
        strays.sort_unstable();
        problems.extend(strays.into_iter().map(|column| {
            let message = "stands in a column without a heading".to_owned();
            RowCause { cell: address(number, column), message: format!("{}: {message}", address(number, column)), ..RowCause::default() }
        }));
        let content = if problems.is_empty() { Ok(Content::Assignments(assignments)) } else { Err(problems) };
        SentRow { number, namespace, name, content }
    }
}

impl SentRow {
    /// The object that is to be written over what is stored, or over the beginning of a new one.
    pub(super) fn over(content: &Content, resource: &Resource, headings: &Headings, stored: &Value) -> Value {
        match content {
            Content::Assignments(assignments) => headings.fields.assign(stored, assignments),
            Content::Object(item) => portable::over(resource, stored, item),
        }
    }
}

/// What stands in a cell, quotes and all: a piece of a longer text.
fn plain(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        other => other.as_text(),
    }
}

/// A heading as it may be told: in quotes, and not without end.
fn shown(heading: &str) -> String {
    let text: String = heading.chars().take(100).collect();
    format!("\"{}\"", text.escape_debug())
}

/// `C7`: the column in letters, and the row.
fn address(row: usize, column: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = column + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'A' + u8::try_from(rest % 26).unwrap_or_default()));
        rest /= 26;
    }
    letters.iter().rev().collect::<String>() + &row.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_addressed_as_in_spreadsheets() {
        for (column, letters) in [(0, "A1"), (25, "Z1"), (26, "AA1"), (701, "ZZ1"), (702, "AAA1")] {
            assert_eq!(address(1, column), letters);
        }
    }
}
