//! What the controllers count about themselves.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the process started; copies count together, however often controllers are started.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<[AtomicU64; Reset::ALL.len()]>);

/// Why the scheduler threw away what it kept between rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// A plan from nothing was another one.
    Differed,
    /// A broken invariant ended the round.
    Panicked,
    /// The clock went back.
    ClockWentBack,
}

impl Reset {
    const ALL: [Self; 3] = [Self::Differed, Self::Panicked, Self::ClockWentBack];

    fn label(self) -> &'static str {
        match self {
            Self::Differed => "differed",
            Self::Panicked => "panicked",
            Self::ClockWentBack => "clock-went-back",
        }
    }
}

impl Counts {
    pub(crate) fn count(&self, reset: Reset) {
        self.0[reset as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn metrics_text(&self) -> String {
        let name = "fermion_scheduler_planner_resets_total";
        let mut text = format!("# HELP {name} How often the scheduler threw away what it kept between rounds.\n# TYPE {name} counter\n");
        for reset in Reset::ALL {
            let count = self.0[reset as usize].load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}{{reason=\"{}\"}} {count}", reset.label());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_count_together() {
        let counts = Counts::default();
        counts.clone().count(Reset::Panicked);
        counts.count(Reset::Panicked);
        counts.count(Reset::ClockWentBack);
        let text = counts.metrics_text();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "fermion_scheduler_planner_resets_total{reason=\"differed\"} 0",
                "fermion_scheduler_planner_resets_total{reason=\"panicked\"} 2",
                "fermion_scheduler_planner_resets_total{reason=\"clock-went-back\"} 1",
            ]
        );
    }
}
