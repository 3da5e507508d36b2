//! Figures in rows and columns: Markdown for people, CSV for programs.

use std::fmt::Write as _;

/// A table whose rows have as many cells as its head.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has not one cell for each column.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.head.len(), "a cell for each column");
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Markdown; columns of numbers are aligned right.
    pub fn markdown(&self) -> String {
        let columns = 0..self.head.len();
        let width = |column: usize| self.rows.iter().chain([&self.head]).map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = columns.clone().map(width).collect();
        let is_number = |text: &str| !text.contains(char::is_alphabetic);
        let right: Vec<bool> = columns.map(|column| self.rows.iter().all(|row| is_number(&row[column]))).collect();
        let mut text = String::new();
        let mut line = |row: &[String]| {
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&right) {
                let _ = if right { write!(text, "| {cell:>width$} ") } else { write!(text, "| {cell:<width$} ") };
            }
            text.push_str("|\n");
        };
        line(&self.head);
        let rules = widths.iter().zip(&right).map(|(&width, &right)| if right { "-".repeat(width - 1) + ":" } else { "-".repeat(width) });
        line(&rules.collect::<Vec<_>>());
        for row in &self.rows {
            line(row);
        }
        text
    }

    /// A list with an object for each row, its cells as text under the names of the columns.
    pub fn json(&self) -> serde_json::Value {
        let object = |row: &Vec<String>| self.head.iter().cloned().zip(row.iter().map(|cell| cell.as_str().into())).collect();
        self.rows.iter().map(|row| serde_json::Value::Object(object(row))).collect()
    }

    /// Comma-separated values (RFC 4180).
    ///
    /// # Errors
    /// Never for a table in memory; the writer's own are passed on.
    pub fn csv(&self) -> anyhow::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.head)?;
        for row in &self.rows {
            writer.write_record(row)?;
        }
        Ok(writer.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut table = Table::new(["name", "n"]);
        table.row(["a, b", "1"]);
        table.row(["c", "-12.5"]);
        assert_eq!(table.markdown(), "| name |     n |\n| ---- | ----: |\n| a, b |     1 |\n| c    | -12.5 |\n");
        assert_eq!(String::from_utf8(table.csv().expect("in memory")).expect("text"), "name,n\n\"a, b\",1\nc,-12.5\n");
        assert_eq!(table.json()[1], serde_json::json!({"name": "c", "n": "-12.5"}));
    }
}
