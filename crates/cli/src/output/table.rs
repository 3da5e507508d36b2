//! Tables with aligned columns.

use unicode_width::UnicodeWidthStr as _;

use super::{Style, Tone, plain};

/// Spaces between two columns.
const GAP: usize = 3;

/// A table: headings and rows of equal length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    headings: Vec<String>,
    /// Columns whose values stand at the right: amounts.
    right: Vec<usize>,
    rows: Vec<Vec<Cell>>,
}

/// One value of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        let text = plain(text.as_ref());
        Self { text: if text.is_empty() { "-".to_owned() } else { text }, tone: Tone::Usual }
    }

    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { tone, ..Self::new(text) }
    }

    /// A phase in its colour.
    pub(crate) fn phase(text: impl AsRef<str>) -> Self {
        let tone = tone_of_phase(text.as_ref());
        Self::toned(text, tone)
    }

    /// A value that may be absent.
    pub(crate) fn optional(text: Option<impl AsRef<str>>) -> Self {
        text.map_or_else(|| Self::new(""), Self::new)
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// What a phase of any kind means.
fn tone_of_phase(phase: &str) -> Tone {
    match phase {
        "Running" | "Succeeded" | "Ready" | "Present" | "Admitted" | "Bound" | "Active" | "True" | "Available" | "Completed" | "UP" => {
            Tone::Good
        }
        "Pending" | "Starting" | "Stopping" | "Building" | "Restarting" | "Progressing" | "Updating" | "Terminating" | "Waiting"
        | "ContainerCreating" => Tone::Waiting,
        "Failed" | "Error" | "OOMKilled" | "CrashLoopBackOff" | "ImagePullBackOff" | "ErrImagePull" | "NotReady" | "Degraded" | "Lost"
        | "DOWN" => Tone::Bad,
        "Stopped" | "Suspended" | "Absent" => Tone::Faint,
        _ => Tone::Usual,
    }
}

impl Table {
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self::with_headings(headings.iter().map(|heading| (*heading).to_owned()).collect())
    }

    pub(crate) fn with_headings(headings: Vec<String>) -> Self {
        Self { headings: headings.iter().map(|heading| plain(heading)).collect(), ..Self::default() }
    }

    /// Puts columns at the right.
    pub(crate) fn right<const N: usize>(mut self, columns: [usize; N]) -> Self {
        self.right = columns.to_vec();
        self
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.headings.len(), "a row has a value for every heading");
        self.rows.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The whole table.
    pub(crate) fn render(&self, style: Style) -> String {
        self.render_rows(style, true)
    }

    /// The rows, and the headings only where asked.
    pub(crate) fn render_rows(&self, style: Style, with_headings: bool) -> String {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        let mut text = String::new();
        if with_headings {
            let headings = self.headings.iter().map(|heading| Cell { text: heading.clone(), tone: Tone::Heading });
            self.render_row(&mut text, style, &widths, &headings.collect::<Vec<_>>());
        }
        for row in &self.rows {
            self.render_row(&mut text, style, &widths, row);
        }
        text
    }

    fn render_row(&self, text: &mut String, style: Style, widths: &[usize], row: &[Cell]) {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.text.width());
            let painted = style.paint(cell.tone, &cell.text);
            if self.right.contains(&column) {
                text.push_str(&padding);
                text.push_str(&painted);
            } else {
                text.push_str(&painted);
                if column + 1 < row.len() {
                    text.push_str(&padding);
                }
            }
            if column + 1 < row.len() {
                text.push_str(&" ".repeat(GAP));
            }
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "PHASE", "SECONDS"]).right([2]);
        table.push(vec!["digits".into(), Cell::phase("Succeeded"), "12.5".into()]);
        table.push(vec!["算力-作业".into(), Cell::phase("Failed"), "1".into()]);
        table.push(vec!["x\u{1b}[2J".into(), Cell::optional(None::<&str>), "".into()]);
        table
    }

    #[test]
    fn columns_stay_aligned_with_wide_characters() {
        insta::assert_snapshot!(table().render(Style::Plain));
    }

    #[test]
    fn colour_does_not_move_columns() {
        insta::assert_snapshot!(table().render(Style::Colour).replace('\u{1b}', "^"));
    }
}
