//! `meta.k8s.io/v1` tables: what `kubectl get` prints.
//!
//! The columns of a built-in kind are those that Kubernetes prints ([`core_kinds`]); those of our
//! own kinds come from the printer columns of the kind. Cells are made here, ages included, so
//! that every client shows the same.

mod core_kinds;
mod duration;
mod pod;
mod rbac;

use fermion_api::registry;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::json_path::{JsonPath, JsonPathError};

pub use duration::{age, human_duration};

/// What each row tells of its object besides the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, which is the default.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: String,
    /// `name` for the column that holds the object's name; else empty.
    pub format: String,
    /// What the column tells, for people.
    pub description: String,
    /// 0 is always shown, above 0 only with `-o wide`.
    pub priority: i32,
}

impl Column {
    fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.type_,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
}

/// The columns of a kind, and where their cells come from.
#[derive(Debug, Clone)]
pub struct Columns {
    columns: Vec<Column>,
    cells: Cells,
}

#[derive(Debug, Clone)]
enum Cells {
    /// The name, then one cell for each path.
    Paths(Vec<JsonPath>),
    /// All cells of a row at once, as many as there are columns.
    Row(fn(&Value, Timestamp) -> Vec<Value>),
}

impl Columns {
    /// The columns of a built-in kind; name and age where Kubernetes has none of its own.
    pub fn for_core(group: &str, kind: &str) -> Self {
        let (columns, row) = core_kinds::columns(group, kind);
        Self { columns, cells: Cells::Row(row) }
    }

    /// The name and the printer columns of a kind; name and age if it has none.
    pub fn for_printer_columns(columns: &[registry::Column]) -> Result<Self, JsonPathError> {
        if columns.is_empty() {
            return Ok(Self::for_core("", ""));
        }
        let paths = columns.iter().map(|column| JsonPath::parse(&column.json_path)).collect::<Result<_, _>>()?;
        let own = columns.iter().map(|column| Column {
            name: column.name.clone(),
            type_: column.type_.clone(),
            format: String::new(),
            description: column.description.clone(),
            priority: column.priority,
        });
        Ok(Self { columns: std::iter::once(core_kinds::name_column()).chain(own).collect(), cells: Cells::Paths(paths) })
    }

    /// The columns in order, the name first.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The cells of an object, one for each column.
    pub(crate) fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match &self.cells {
            Cells::Row(row) => row(object, now),
            Cells::Paths(paths) => {
                let own = paths.iter().zip(self.columns.iter().skip(1)).map(|(path, column)| cell(object, path, &column.type_, now));
                std::iter::once(core_kinds::name(object)).chain(own).collect()
            }
        }
    }
}

/// The table of some objects of one kind. `metadata` is empty: the caller knows the revision and
/// where the list goes on.
pub fn table(columns: &Columns, objects: &[Value], include: IncludeObject, now: Timestamp) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = json!({"cells": columns.row(object, now), "object": shown_object(object, include)});
            if let Some(conditions) = pod::row_conditions(object) {
                row["conditions"] = conditions;
            }
            row
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": columns.columns.iter().map(Column::definition).collect::<Vec<_>>(),
        "rows": rows,
    })
}

fn shown_object(object: &Value, include: IncludeObject) -> Value {
    match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object.get("metadata").unwrap_or(&Value::Null),
        }),
        IncludeObject::Object => object.clone(),
    }
}

/// The cell of a printer column, null (which prints as nothing) where the value is missing or of
/// another type.
fn cell(object: &Value, path: &JsonPath, type_: &str, now: Timestamp) -> Value {
    let found = path.find(object);
    let Some(first) = found.first().filter(|first| !first.is_null()) else {
        return Value::Null;
    };
    match (type_, first) {
        ("integer", Value::Number(number)) if number.is_f64() => {
            // An integer in a float's clothes.
            number.as_f64().map_or(Value::Null, |number| json!(number.trunc() as i64))
        }
        ("integer" | "number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*first).clone(),
        ("date", Value::String(timestamp)) => json!(age(timestamp, now)),
        ("string", _) => {
            let texts: Vec<String> = found.iter().map(|value| text(value)).collect();
            json!(texts.join(" "))
        }
        _ => Value::Null,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
