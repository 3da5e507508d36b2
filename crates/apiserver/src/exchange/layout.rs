//! Which columns a table file of some objects has.
//!
//! First what people are shown of the kind, to be read only; then the fields that an import can set.
//! Kinds have hundreds of fields of which hardly any object sets more than a few: a first reading of
//! the list finds those, and fields that no object has get no column.

use jiff::Timestamp;
use serde_json::Value;

use super::cell::Cell;
use super::fields::Fields;
use super::format::FileFormat;
use super::{portable, xlsx_writer};
use crate::catalog::Resource;
use crate::error::{ApiError, Result};

/// When the object was made; "5d" in the column `Age` says little in a file.
const CREATED: &str = "metadata.creationTimestamp";
/// The most cells that one text is spread over: 2 million characters, which is more than objects hold.
const PARTS_MAX: usize = 64;

/// What a list needs columns for.
pub(super) struct Survey {
    /// How many cells each field needs; none if no object has it.
    parts: Vec<usize>,
    rows: usize,
}

impl Survey {
    pub(super) fn new(fields: &Fields) -> Self {
        Self { parts: vec![0; fields.len()], rows: 0 }
    }

    pub(super) fn add(&mut self, resource: &Resource, fields: &Fields, objects: &[Value], format: FileFormat) -> Result<()> {
        self.rows += objects.len();
        if format == FileFormat::Xlsx && self.rows > xlsx_writer::ROWS_MAX {
            return Err(ApiError::bad_request(format!(
                "a sheet has room for {} objects and the list has more; narrow it by selectors or search, or export csv",
                xlsx_writer::ROWS_MAX
            )));
        }
        for object in objects {
            for (field, cell) in fields.cells(&portable::for_table(resource, object.clone())) {
                let parts = match (&cell, format) {
                    (Cell::Empty, _) => 0,
                    (Cell::Text(text), FileFormat::Xlsx) => xlsx_writer::pieces(text).len(),
                    _ => 1,
                };
                if parts > PARTS_MAX {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    let heading = &fields.get(field).heading;
                    return Err(ApiError::bad_request(format!("{heading} of {name} is too long for cells of a sheet; export csv or json")));
                }
                self.parts[field] = self.parts[field].max(parts);
            }
        }
        Ok(())
    }
}

/// The columns of a file.
pub(super) struct Layout {
    /// Indices of the kind's columns.
    shown: Vec<usize>,
    /// For each field its first column and how many it has, if any.
    places: Vec<Option<(usize, usize)>>,
    headings: Vec<String>,
}

impl Layout {
    pub(super) fn new(resource: &Resource, fields: &Fields, survey: &Survey) -> Self {
        let is_field = |name: &str| fields.iter().any(|field| field.heading == name);
        let columns = resource.columns.columns();
        let shown: Vec<usize> = (0..columns.len()).filter(|index| !is_field(&columns[*index].name)).collect();
        let mut headings: Vec<String> = Vec::new();
        for index in &shown {
            headings.push(columns[*index].name.clone());
        }
        headings.push(CREATED.to_owned());
        let mut places = Vec::with_capacity(fields.len());
        for (field, parts) in fields.iter().zip(&survey.parts) {
            places.push((*parts > 0).then_some((headings.len(), *parts)));
            headings.extend((1..=*parts).map(|part| if part == 1 { field.heading.clone() } else { format!("{}~{part}", field.heading) }));
        }
        Self { shown, places, headings }
    }

    pub(super) fn headings(&self) -> &[String] {
        &self.headings
    }

    /// The cells of an object, one for each column.
    pub(super) fn row(&self, resource: &Resource, fields: &Fields, object: Value, now: Timestamp) -> Vec<Cell> {
        let mut row = Vec::with_capacity(self.headings.len());
        let shown = resource.columns.row(&object, now);
        row.extend(self.shown.iter().map(|index| first_piece(Cell::shown(shown.get(*index).unwrap_or(&Value::Null)))));
        row.push(Cell::shown(&object["metadata"]["creationTimestamp"]));
        row.resize(self.headings.len(), Cell::Empty);
        for (field, cell) in fields.cells(&portable::for_table(resource, object)) {
            match (self.places[field], cell) {
                (Some((first, parts)), Cell::Text(text)) if parts > 1 => {
                    for (column, piece) in row[first..first + parts].iter_mut().zip(xlsx_writer::pieces(&text)) {
                        *column = Cell::Text(piece.to_owned());
                    }
                }
                (Some((first, _)), cell) => row[first] = cell,
                (None, _) => {}
            }
        }
        row
    }
}

/// What is only shown is cut to one cell.
fn first_piece(cell: Cell) -> Cell {
    match cell {
        Cell::Text(text) if text.len() > xlsx_writer::CELL_UNITS_MAX => Cell::Text(xlsx_writer::pieces(&text)[0].to_owned()),
        other => other,
    }
}
