//! Measured values beside the peer's, for people and for programs.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Better {
    Higher,
    Lower,
}

/// One measured value beside its peer's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Row {
    pub(super) metric: String,
    pub(super) unit: String,
    pub(super) better: Better,
    pub(super) ours: f64,
    pub(super) peer: f64,
    pub(super) peer_name: String,
    /// Ours with the data in PostgreSQL, where that was measured too.
    pub(super) postgres: Option<f64>,
}

impl Row {
    /// How many times better than the peer's a value of ours is; nothing when one of the two was too
    /// small to measure.
    fn ratio(&self, ours: f64) -> Option<f64> {
        let (above, below) = match self.better {
            Better::Higher => (ours, self.peer),
            Better::Lower => (self.peer, ours),
        };
        (above > 0.0 && below > 0.0).then(|| above / below)
    }
}

/// `{name, rows: [{metric, unit, ours, peer, peer_name, ratio, postgres, postgres_ratio}]}`; a
/// ratio above 1 is in our favour, and the last two are null where PostgreSQL was not measured.
pub(super) fn json(name: &str, rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "metric": row.metric,
                "unit": row.unit,
                "ours": row.ours,
                "peer": row.peer,
                "peer_name": row.peer_name,
                "ratio": row.ratio(row.ours),
                "postgres": row.postgres,
                "postgres_ratio": row.postgres.and_then(|value| row.ratio(value)),
            })
        })
        .collect();
    json!({"name": name, "rows": rows})
}

/// Whether a column holds words, to the left, or numbers, to the right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// A table that is also Markdown.
pub(super) fn text(rows: &[Row]) -> String {
    use Align::{Left, Right};
    let ratio = |row: &Row, ours: Option<f64>| ours.and_then(|value| row.ratio(value)).map_or_else(|| "-".to_owned(), digits);
    let mut columns = vec![
        column("metric", Left, rows, |row| row.metric.clone()),
        column("unit", Left, rows, |row| row.unit.clone()),
        column("ours", Right, rows, |row| digits(row.ours)),
        column("peer", Right, rows, |row| digits(row.peer)),
        column("peer's name", Left, rows, |row| row.peer_name.clone()),
        column("ratio", Right, rows, |row| ratio(row, Some(row.ours))),
    ];
    if rows.iter().any(|row| row.postgres.is_some()) {
        columns.insert(3, column("on PostgreSQL", Right, rows, |row| row.postgres.map_or_else(|| "-".to_owned(), digits)));
        columns.push(column("ratio on PostgreSQL", Right, rows, |row| ratio(row, row.postgres)));
    }
    markdown(&columns, rows.len() + 1)
}

/// A table of any cells, the first row its head; the first column and the last hold words.
pub(super) fn of_cells(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let align = |place: usize| if place == 0 || place + 1 == count { Align::Left } else { Align::Right };
    let cells = |place: usize| rows.iter().map(|row| row.get(place).cloned().unwrap_or_default()).collect();
    let columns: Vec<Column> = (0..count).map(|place| (cells(place), align(place))).collect();
    markdown(&columns, rows.len())
}

/// The columns' cells line by line, with a rule below the first.
fn markdown(columns: &[Column], lines: usize) -> String {
    let mut lines: Vec<String> = (0..lines).map(|line| row_of(columns, |column| column.0[line].clone())).collect();
    let rule = columns.iter().map(|(cells, align)| {
        let width = width(cells);
        if *align == Align::Right { format!("{}:", "-".repeat(width + 1)) } else { "-".repeat(width + 2) }
    });
    lines.insert(1.min(lines.len()), format!("|{}|", rule.collect::<Vec<_>>().join("|")));
    lines.join("\n")
}

type Column = (Vec<String>, Align);

fn column(head: &str, align: Align, rows: &[Row], cell: impl Fn(&Row) -> String) -> Column {
    (std::iter::once(head.to_owned()).chain(rows.iter().map(cell)).collect(), align)
}

fn width(cells: &[String]) -> usize {
    cells.iter().map(|cell| cell.chars().count()).max().unwrap_or_default()
}

fn row_of(columns: &[Column], cell: impl Fn(&Column) -> String) -> String {
    let padded = columns.iter().map(|column| {
        let (cell, width) = (cell(column), width(&column.0));
        if column.1 == Align::Right { format!(" {cell:>width$} ") } else { format!(" {cell:<width$} ") }
    });
    format!("|{}|", padded.collect::<Vec<_>>().join("|"))
}

/// Three digits that mean something.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(better: Better, ours: f64, peer: f64) -> Row {
        Row { metric: "m".to_owned(), unit: "ms".to_owned(), better, ours, peer, peer_name: "etcd".to_owned(), postgres: None }
    }

    #[test]
    fn a_ratio_above_one_is_in_our_favour() {
        let ratio = |row: Row| row.ratio(row.ours);
        assert_eq!(ratio(row(Better::Higher, 30.0, 10.0)), Some(3.0));
        assert_eq!(ratio(row(Better::Lower, 30.0, 10.0)), Some(1.0 / 3.0));
        assert_eq!(ratio(row(Better::Lower, 0.0, 10.0)), None);
    }

    #[test]
    fn the_table_is_markdown() {
        let text = text(&[row(Better::Lower, 12.345, 1234.0), row(Better::Lower, 0.0, 1.0)]);
        let expected = "\
| metric | unit | ours | peer | peer's name | ratio |
|--------|------|-----:|-----:|-------------|------:|
| m      | ms   | 12.3 | 1234 | etcd        | 100.0 |
| m      | ms   | 0.00 | 1.00 | etcd        |     - |";
        assert_eq!(text, expected);
    }

    #[test]
    fn postgresql_has_columns_where_it_was_measured() {
        let text = text(&[Row { postgres: Some(50.0), ..row(Better::Lower, 10.0, 100.0) }]);
        let expected = "\
| metric | unit | ours | on PostgreSQL | peer | peer's name | ratio | ratio on PostgreSQL |
|--------|------|-----:|--------------:|-----:|-------------|------:|--------------------:|
| m      | ms   | 10.0 |          50.0 |  100 | etcd        |  10.0 |                2.00 |";
        assert_eq!(text, expected);
    }

    #[test]
    fn programs_get_every_field() {
        let json = json("start", &[row(Better::Higher, 4.0, 2.0)]);
        assert_eq!(json["name"], "start");
        assert_eq!(
            json["rows"][0],
            json!({"metric": "m", "unit": "ms", "ours": 4.0, "peer": 2.0, "peer_name": "etcd", "ratio": 2.0, "postgres": null, "postgres_ratio": null})
        );
    }
}
