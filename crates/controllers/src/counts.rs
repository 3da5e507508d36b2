//! What the controllers count about themselves.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts since the process started; copies count together, however often controllers are started.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    resets: [AtomicU64; Reset::ALL.len()],
    /// How often, and how many nanoseconds in all.
    steps: [(AtomicU64, AtomicU64); Step::ALL.len()],
}

/// A step of a round of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Finding out what changed.
    Look,
    /// Deciding.
    Plan,
    /// Telling who has to stop, and sending binds on their way.
    Act,
    /// Finding words for those that wait, and sums.
    Tell,
}

impl Step {
    const ALL: [Self; 4] = [Self::Look, Self::Plan, Self::Act, Self::Tell];

    fn label(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Plan => "plan",
            Self::Act => "act",
            Self::Tell => "tell",
        }
    }
}

/// Measures steps, one after the other.
pub(crate) struct Clock {
    counts: Counts,
    since: Instant,
}

impl Clock {
    /// A step is at its end; the next one begins.
    pub(crate) fn passed(&mut self, step: Step) {
        let took = self.since.elapsed();
        self.since = Instant::now();
        let (count, nanos) = &self.counts.0.steps[step as usize];
        count.fetch_add(1, Ordering::Relaxed);
        nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

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
        self.0.resets[reset as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Begins to measure.
    pub(crate) fn clock(&self) -> Clock {
        Clock { counts: self.clone(), since: Instant::now() }
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn metrics_text(&self) -> String {
        let name = "fermion_scheduler_planner_resets_total";
        let mut text = format!("# HELP {name} How often the scheduler threw away what it kept between rounds.\n# TYPE {name} counter\n");
        for reset in Reset::ALL {
            let count = self.0.resets[reset as usize].load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}{{reason=\"{}\"}} {count}", reset.label());
        }
        let name = "fermion_scheduler_step_duration_seconds";
        let _ = writeln!(text, "# HELP {name} How long the steps of the scheduler's rounds took.\n# TYPE {name} summary");
        for step in Step::ALL {
            let (count, nanos) = &self.0.steps[step as usize];
            let seconds = Duration::from_nanos(nanos.load(Ordering::Relaxed)).as_secs_f64();
            let _ = writeln!(text, "{name}_sum{{step=\"{}\"}} {seconds}", step.label());
            let _ = writeln!(text, "{name}_count{{step=\"{}\"}} {}", step.label(), count.load(Ordering::Relaxed));
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
        let lines: Vec<&str> = text.lines().skip(2).take(Reset::ALL.len()).collect();
        assert_eq!(
            lines,
            [
                "fermion_scheduler_planner_resets_total{reason=\"differed\"} 0",
                "fermion_scheduler_planner_resets_total{reason=\"panicked\"} 2",
                "fermion_scheduler_planner_resets_total{reason=\"clock-went-back\"} 1",
            ]
        );
    }

    #[test]
    fn steps_are_counted_and_their_time_summed_up() {
        let counts = Counts::default();
        let mut clock = counts.clock();
        clock.passed(Step::Look);
        clock.passed(Step::Plan);
        clock.passed(Step::Plan);
        let text = counts.metrics_text();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("_count")).collect();
        let name = "fermion_scheduler_step_duration_seconds_count";
        let line = |step: &str, count: u32| format!("{name}{{step=\"{step}\"}} {count}");
        assert_eq!(lines, [line("look", 1), line("plan", 2), line("act", 0), line("tell", 0)]);
    }
}
