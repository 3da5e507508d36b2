//! Progress of long work on standard error: a spinner on a terminal, one line per change
//! elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::plain;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Says what is being waited for, whenever that changes.
pub(crate) struct Progress {
    spinner: Option<ProgressBar>,
    shown: String,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { spinner, shown: String::new() }
    }

    /// Shows the text if it is another than before.
    pub(crate) fn say(&mut self, text: &str) {
        let text = plain(text);
        if text == self.shown {
            return;
        }
        match &self.spinner {
            Some(bar) => bar.set_message(text.clone()),
            None => eprintln!("{text}"),
        }
        self.shown = text;
    }

    /// Takes the spinner away before other output.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.spinner.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
