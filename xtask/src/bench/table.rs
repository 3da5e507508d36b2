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
}

impl Row {
    /// How many times better ours is; nothing when one of the two was too small to measure.
    fn ratio(&self) -> Option<f64> {
        let (above, below) = match self.better {
            Better::Higher => (self.ours, self.peer),
            Better::Lower => (self.peer, self.ours),
        };
        (above > 0.0 && below > 0.0).then(|| above / below)
    }
}

/// `{name, rows: [{metric, unit, ours, peer, peer_name, ratio}]}`; a ratio above 1 is in our
/// favour.
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
                "ratio": row.ratio(),
            })
        })
        .collect();
    json!({"name": name, "rows": rows})
}

/// A table that is also Markdown.
pub(super) fn text(rows: &[Row]) -> String {
    let head = ["metric", "unit", "ours", "peer", "peer's name", "ratio"].map(str::to_owned);
    let body = rows.iter().map(|row| {
        let ratio = row.ratio().map_or_else(|| "-".to_owned(), digits);
        [row.metric.clone(), row.unit.clone(), digits(row.ours), digits(row.peer), row.peer_name.clone(), ratio]
    });
    let cells: Vec<[String; 6]> = std::iter::once(head).chain(body).collect();
    let mut widths = [0; 6];
    for line in &cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines: Vec<String> = cells.iter().map(|line| row_of(line, &widths)).collect();
    let rules: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(column, width)| if is_number(column) { format!("{}:", "-".repeat(width + 1)) } else { "-".repeat(width + 2) })
        .collect();
    lines.insert(1, format!("|{}|", rules.join("|")));
    lines.join("\n")
}

fn row_of(cells: &[String; 6], widths: &[usize; 6]) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, &width))| if is_number(column) { format!(" {cell:>width$} ") } else { format!(" {cell:<width$} ") })
        .collect();
    format!("|{}|", padded.join("|"))
}

fn is_number(column: usize) -> bool {
    matches!(column, 2 | 3 | 5)
}

/// Three digits that mean something.
fn digits(value: f64) -> String {
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
        Row { metric: "m".to_owned(), unit: "ms".to_owned(), better, ours, peer, peer_name: "etcd".to_owned() }
    }

    #[test]
    fn a_ratio_above_one_is_in_our_favour() {
        assert_eq!(row(Better::Higher, 30.0, 10.0).ratio(), Some(3.0));
        assert_eq!(row(Better::Lower, 30.0, 10.0).ratio(), Some(1.0 / 3.0));
        assert_eq!(row(Better::Lower, 0.0, 10.0).ratio(), None);
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
    fn programs_get_every_field() {
        let json = json("start", &[row(Better::Higher, 4.0, 2.0)]);
        assert_eq!(json["name"], "start");
        assert_eq!(json["rows"][0], json!({"metric": "m", "unit": "ms", "ours": 4.0, "peer": 2.0, "peer_name": "etcd", "ratio": 2.0}));
    }
}
