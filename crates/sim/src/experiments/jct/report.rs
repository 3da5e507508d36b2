//! Orders side by side on one trace, and what was aimed at.

use super::peers::{PEERS, replay};
use super::{Knowledge, Outcome, ours, weighted};
use crate::statistics::{Summary, quantile};
use crate::table::Table;
use crate::trace::jobs::Job;

/// A trace, and what replays of it elsewhere have given.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub trace: &'static str,
    pub cards: u32,
    /// Mean seconds from submission to end, by the peer's name: a count of cards only.
    pub known: &'static [(&'static str, f64)],
    /// The same, measured by its authors on a testbed with other overheads.
    pub testbed: &'static [(&'static str, f64)],
}

/// Muri's cluster has 64 cards. How many ElasticFlow's had is not said: here so many that the
/// jobs ask for nine tenths of their time.
pub const SETTINGS: [Setting; 3] = [
    Setting {
        trace: "muri",
        cards: 64,
        known: &[
            ("FIFO", 747_485.0),
            ("EASY", 368_934.0),
            ("SJF", 279_097.0),
            ("SSF", 256_410.0),
            ("SRTF", 219_557.0),
            ("SRSF", 215_287.0),
            ("2D-LAS", 310_951.0),
        ],
        testbed: &[("SRTF", 249_140.0), ("SRSF", 238_612.0), ("2D-LAS", 336_533.0)],
    },
    Setting {
        trace: "cluster03",
        cards: 160,
        known: &[("FIFO", 280_338.0), ("EASY", 225_001.0), ("SSF", 62_181.0), ("SRSF", 44_728.0)],
        testbed: &[],
    },
    Setting { trace: "cluster05", cards: 11, known: &[], testbed: &[] },
];

/// What is known of run times, and the names of that.
pub const KNOWLEDGE: [(Knowledge, &str); 3] = [
    (Knowledge::Nothing, "ours, run times unknown"),
    (Knowledge::Estimates, "ours, estimated within 2 x"),
    (Knowledge::Exact, "ours, exact"),
];

/// Tiresias on Muri's testbed.
const TIRESIAS_S: f64 = 336_533.0;
/// How close to SRSF ours should come when run times are known.
const OF_SRSF_MAX: f64 = 1.05;

/// One order on one trace; several outcomes where estimates are made with several seeds.
#[derive(Clone, Debug)]
pub struct Measured {
    pub order: &'static str,
    pub outcomes: Vec<Outcome>,
}

/// Runs everything on one trace.
pub fn measure(jobs: &[Job], cards: u32, seeds: &[u64]) -> Vec<Measured> {
    let mut measured: Vec<Measured> =
        PEERS.iter().map(|(peer, order)| Measured { order, outcomes: vec![replay(jobs, cards, *peer)] }).collect();
    for (knowledge, order) in KNOWLEDGE {
        let seeds = if knowledge == Knowledge::Estimates { seeds } else { &seeds[..1] };
        measured.push(Measured { order, outcomes: seeds.iter().map(|&seed| ours(jobs, cards, knowledge, seed)).collect() });
    }
    measured
}

fn over_seeds(measured: &Measured, of: impl Fn(&Outcome) -> f64) -> Summary {
    Summary::of(&measured.outcomes.iter().map(of).collect::<Vec<_>>())
}

fn mean_completion(measured: &Measured, jobs: &[Job]) -> Summary {
    over_seeds(measured, |outcome| Summary::of(&outcome.completion_s(jobs)).mean)
}

fn p99_completion(measured: &Measured, jobs: &[Job]) -> Summary {
    over_seeds(measured, |outcome| quantile(&outcome.completion_s(jobs), 0.99))
}

/// A row for each order.
pub fn orders(setting: &Setting, jobs: &[Job], measured: &[Measured]) -> Table {
    let mut table = Table::new(["order", "mean, s", "known replay, s", "on a testbed, s", "p99, s", "p99 wait, s", "makespan, s", "stops"]);
    for one in measured {
        let mean = mean_completion(one, jobs);
        let known = |list: &[(&str, f64)]| {
            list.iter().find(|entry| entry.0 == one.order).map_or_else(String::new, |entry| format!("{:.0}", entry.1))
        };
        let spread = if one.outcomes.len() > 1 { format!(" ± {:.0}", mean.deviation) } else { String::new() };
        table.row([
            one.order.to_owned(),
            format!("{:.0}{spread}", mean.mean),
            known(setting.known),
            known(setting.testbed),
            format!("{:.0}", p99_completion(one, jobs).mean),
            format!("{:.0}", over_seeds(one, |outcome| quantile(&outcome.wait_s(jobs), 0.99)).mean),
            format!("{:.0}", over_seeds(one, |outcome| outcome.makespan_s(jobs)).mean),
            format!("{:.0}", over_seeds(one, |outcome| outcome.preemptions as f64).mean),
        ]);
    }
    table
}

/// Weights of short work, from nearly the order of arrival on.
const WEIGHTS: [f64; 6] = [0.125, 0.25, 0.5, 1.0, 2.0, 6.0];

/// What the mean costs at the far end: ours with estimates, by how strongly short work is preferred.
pub fn weights(jobs: &[Job], cards: u32, seeds: &[u64]) -> Table {
    let mut table = Table::new(["weight of short work", "mean, s", "p99, s", "stops"]);
    for weight in WEIGHTS {
        let outcomes = seeds.iter().map(|&seed| weighted(jobs, cards, weight, seed)).collect();
        let one = Measured { order: "ours", outcomes };
        let figures = [mean_completion(&one, jobs), p99_completion(&one, jobs), over_seeds(&one, |outcome| outcome.preemptions as f64)];
        let [mean, p99, stops] = figures.map(|figure| format!("{:.0}", figure.mean));
        table.row([weight.to_string(), mean, p99, stops]);
    }
    table
}

/// What was aimed at on a trace, and what came out.
pub fn aims(setting: &Setting, jobs: &[Job], measured: &[Measured]) -> Table {
    let find = |order: &str| measured.iter().find(|one| one.order == order).expect("every order was run");
    let mean = |order: &str| mean_completion(find(order), jobs).mean;
    let p99 = |order: &str| p99_completion(find(order), jobs).mean;
    let stops = |order: &str| find(order).outcomes[0].preemptions as f64;
    let [unknown, estimated, exact] = KNOWLEDGE.map(|(_, order)| order);
    let mut table = Table::new(["aim", "ours", "bound", "reached"]);
    let mut aim = |text: &str, ours: f64, bound: f64, strict: bool| {
        let reached = if strict { ours < bound } else { ours <= bound };
        table.row([text.to_owned(), format!("{ours:.0}"), format!("{bound:.0}"), if reached { "yes" } else { "NO" }.to_owned()]);
    };
    if setting.trace == "muri" {
        aim("unknown: mean below Tiresias' on the testbed", mean(unknown), TIRESIAS_S, true);
    }
    aim("unknown: mean below 2D-LAS, which stops at no cost", mean(unknown), mean("2D-LAS"), true);
    aim("estimated: mean below EASY's", mean(estimated), mean("EASY"), true);
    aim("estimated: mean below SSF's", mean(estimated), mean("SSF"), true);
    aim("estimated: p99 no worse than EASY's", p99(estimated), p99("EASY"), false);
    aim("exact: mean within 5 % of SRSF's", mean(exact), OF_SRSF_MAX * mean("SRSF"), false);
    aim("exact: fewer stops than SRSF", stops(exact), stops("SRSF"), true);
    table
}

/// Rows for each outcome.
pub fn runs(table: &mut Table, setting: &Setting, jobs: &[Job], measured: &[Measured]) {
    for one in measured {
        for (number, outcome) in one.outcomes.iter().enumerate() {
            let completion = outcome.completion_s(jobs);
            table.row([
                setting.trace.to_owned(),
                setting.cards.to_string(),
                one.order.to_owned(),
                number.to_string(),
                format!("{:.3}", Summary::of(&completion).mean),
                format!("{:.3}", quantile(&completion, 0.5)),
                format!("{:.3}", quantile(&completion, 0.99)),
                format!("{:.3}", quantile(&outcome.wait_s(jobs), 0.99)),
                format!("{:.3}", outcome.makespan_s(jobs)),
                outcome.preemptions.to_string(),
            ]);
        }
    }
}

/// The head of the table that [`runs`] fills.
pub fn runs_head() -> Table {
    Table::new([
        "trace",
        "cards",
        "order",
        "seed",
        "mean_completion_s",
        "p50_completion_s",
        "p99_completion_s",
        "p99_wait_s",
        "makespan_s",
        "stops",
    ])
}
