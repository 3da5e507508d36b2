//! What the cases come to, side by side.

use serde_json::{Value, json};

use super::Case;
use super::queues::Course;
use crate::statistics::{Summary, quantile};
use crate::table::Table;

/// Work by its cards: the most of a class in thousandths, and its name.
const CLASSES: [(i64, &str); 5] =
    [(0, "no cards"), (999, "part of a card"), (1000, "1 card"), (7999, "2 to 7 cards"), (i64::MAX, "8 cards and more")];
/// Work that runs shorter counts as so long for its slowdown (Feitelson, JSSPP 2001).
const SLOWDOWN_MIN_MS: i64 = 10_000;

/// The figures of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Cards in use in percent of all, from the first arrival to the last.
    pub utilisation: f64,
    /// Cards idle while something waits, in percent of all: what fragmentation, reservations
    /// and other needs than cards keep from use.
    pub idle_while_waiting: f64,
    /// Jain's index of mean slowdowns over classes of work: 1 when all are slowed alike.
    pub fairness: f64,
    pub stops: u64,
    pub never_started: usize,
    pub makespan_h: f64,
    pub classes: Vec<Class>,
}

/// Waits of a class of work, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    pub name: &'static str,
    pub count: usize,
    pub mean_s: f64,
    pub p50_s: f64,
    pub p99_s: f64,
    pub slowdown: f64,
}

impl Case {
    pub fn figures(&self) -> Figures {
        let first = self.fates.iter().map(|fate| fate.submitted_at).min().unwrap_or(0);
        let last = self.fates.iter().map(|fate| fate.submitted_at).max().unwrap_or(0);
        let all = f64::from(self.cards) * 1000.0 * ((last - first).max(1)) as f64;
        let (mut used, mut idle) = (0.0, 0.0);
        for pair in self.moments.windows(2) {
            let length = (pair[1].now.min(last) - pair[0].now).max(0) as f64;
            used += pair[0].cards as f64 * length;
            if pair[0].waiting > 0 {
                idle += (f64::from(self.cards) * 1000.0 - pair[0].cards as f64) * length;
            }
        }
        let classes: Vec<Class> = (0..CLASSES.len()).filter_map(|place| self.class(place)).collect();
        let speeds: Vec<f64> = classes.iter().map(|class| class.slowdown).collect();
        let (sum, squares): (f64, f64) = (speeds.iter().sum(), speeds.iter().map(|speed| speed * speed).sum());
        let end = self.fates.iter().filter_map(|fate| fate.ended_at).max().unwrap_or(first);
        Figures {
            utilisation: used / all * 100.0,
            idle_while_waiting: idle / all * 100.0,
            fairness: if squares > 0.0 { sum * sum / (speeds.len() as f64 * squares) } else { 1.0 },
            stops: self.fates.iter().map(|fate| u64::from(fate.stops)).sum(),
            never_started: self.fates.iter().filter(|fate| fate.started_at.is_none()).count(),
            makespan_h: (end - first) as f64 / 3_600_000.0,
            classes,
        }
    }

    fn class(&self, place: usize) -> Option<Class> {
        let least = if place == 0 { i64::MIN } else { CLASSES[place - 1].0 + 1 };
        let (most, name) = CLASSES[place];
        let mut waits = Vec::new();
        let mut slowdown = 0.0;
        for ((fate, size), run_ms) in self.fates.iter().zip(&self.sizes).zip(&self.run_ms) {
            let (Some(start), Some(end), true) = (fate.started_at, fate.ended_at, (least..=most).contains(size)) else { continue };
            waits.push((start - fate.submitted_at) as f64 / 1000.0);
            let run = (*run_ms).max(SLOWDOWN_MIN_MS) as f64;
            slowdown += ((end - fate.submitted_at) as f64 / run).max(1.0);
        }
        if waits.is_empty() {
            return None;
        }
        waits.sort_by(f64::total_cmp);
        let count = waits.len();
        let (p50_s, p99_s) = (quantile(&waits, 0.5), quantile(&waits, 0.99));
        Some(Class { name, count, mean_s: Summary::of(&waits).mean, p50_s, p99_s, slowdown: slowdown / count as f64 })
    }
}

/// One row for each case.
pub fn cases(cases: &[Case]) -> Table {
    let mut table =
        Table::new(["case", "cards", "in use, %", "idle while work waits, %", "fairness", "stops", "never started", "all done after, h"]);
    for case in cases {
        let figures = case.figures();
        table.row([
            case.name.clone(),
            case.cards.to_string(),
            format!("{:.1}", figures.utilisation),
            format!("{:.1}", figures.idle_while_waiting),
            format!("{:.3}", figures.fairness),
            figures.stops.to_string(),
            figures.never_started.to_string(),
            format!("{:.1}", figures.makespan_h),
        ]);
    }
    table
}

/// Waits by class of work, a row for each case and class.
pub fn waits(cases: &[Case]) -> Table {
    let mut table = Table::new(["work", "case", "count", "mean wait, s", "p50, s", "p99, s", "mean slowdown"]);
    let figures: Vec<_> = cases.iter().map(|case| (case, case.figures())).collect();
    for (_, name) in CLASSES {
        for (case, figures) in &figures {
            let Some(class) = figures.classes.iter().find(|class| class.name == name) else { continue };
            let times = [class.mean_s, class.p50_s, class.p99_s].map(|seconds| format!("{seconds:.0}"));
            let head = [name.to_owned(), case.name.clone(), class.count.to_string()];
            table.row(head.into_iter().chain(times).chain([format!("{:.2}", class.slowdown)]));
        }
    }
    table
}

/// What queues had, a row for each queue and case; empty where there are no queues.
pub fn queues(cases: &[Case]) -> Table {
    let head = [
        "queue",
        "case",
        "guarantee, cards",
        "in use, cards",
        "had of guarantee, %",
        "stopped",
        "count",
        "mean wait, s",
        "p50, s",
        "p99, s",
    ];
    let mut table = Table::new(head);
    let Some(first) = cases.first() else { return table };
    for place in 0..first.queues.len() {
        for case in cases {
            let course = &case.queues[place];
            let figures = course.figures(&case.fates, &case.moments);
            table.row([
                course.name.clone(),
                case.name.clone(),
                course.guarantee.to_string(),
                format!("{:.1}", figures.cards),
                figures.got.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}")),
                figures.stops.to_string(),
                figures.count.to_string(),
                format!("{:.0}", figures.mean_s),
                format!("{:.0}", figures.p50_s),
                format!("{:.0}", figures.p99_s),
            ]);
        }
    }
    table
}

/// All figures as JSON, a list with an object for each case.
pub fn json(cases: &[Case]) -> Value {
    let class = |class: &Class| {
        json!({
            "name": class.name,
            "count": class.count,
            "meanWaitSeconds": class.mean_s,
            "p50WaitSeconds": class.p50_s,
            "p99WaitSeconds": class.p99_s,
            "meanSlowdown": class.slowdown,
        })
    };
    let queue = |case: &Case, course: &Course| {
        let figures = course.figures(&case.fates, &case.moments);
        json!({
            "name": course.name,
            "guaranteeCards": course.guarantee,
            "meanCards": figures.cards,
            "hadOfGuaranteePercent": figures.got,
            "stops": figures.stops,
            "count": figures.count,
            "meanWaitSeconds": figures.mean_s,
            "p50WaitSeconds": figures.p50_s,
            "p99WaitSeconds": figures.p99_s,
        })
    };
    let one = |case: &Case| {
        let figures = case.figures();
        json!({
            "case": case.name,
            "cards": case.cards,
            "utilisationPercent": figures.utilisation,
            "idleWhileWaitingPercent": figures.idle_while_waiting,
            "fairness": figures.fairness,
            "stops": figures.stops,
            "neverStarted": figures.never_started,
            "makespanHours": figures.makespan_h,
            "queues": case.queues.iter().map(|course| queue(case, course)).collect::<Vec<_>>(),
            "classes": figures.classes.iter().map(class).collect::<Vec<_>>(),
        })
    };
    cases.iter().map(one).collect()
}
