//! Schedulers side by side.

use fermion_scheduler::scoring::Placement;

use super::{Scheduler, Steady, run};
use crate::statistics::{Summary, paired, quantile};
use crate::table::Table;
use crate::trace::openb::Trace;

/// Schedulers with their names.
pub const SCHEDULERS: [(Scheduler, &str); 6] = [
    (Scheduler::Skipping(Placement::BestFit), "BestFit"),
    (Scheduler::Skipping(Placement::Packing), "Packing"),
    (Scheduler::Skipping(Placement::FragmentationGradient), "FGD"),
    (Scheduler::Ours { estimates: false, moves: false }, "ours, lifetimes unknown"),
    (Scheduler::Ours { estimates: true, moves: false }, "ours, estimated within 2 x"),
    (Scheduler::Ours { estimates: false, moves: true }, "ours, unknown, with moves"),
];
const BEST_FIT: usize = 0;
const FGD: usize = 2;
/// The part of FGD's and BestFit's p99 wait that ours should stay under.
const PART_MAX: f64 = 1.0 / 3.0;
/// How much less may be allocated for it to be called equal, in points.
const EQUAL: f64 = 0.5;

/// One list of pods at one load, by scheduler and seed.
#[derive(Clone, Debug)]
pub struct Measured {
    pub list: String,
    pub load: f64,
    pub runs: Vec<Vec<Steady>>,
}

impl Measured {
    pub fn of(list: &str, trace: &Trace, load: f64, seeds: &[u64]) -> Self {
        let runs = SCHEDULERS.iter().map(|(scheduler, _)| seeds.iter().map(|&seed| run(trace, load, seed, *scheduler)).collect());
        Self { list: list.to_owned(), load, runs: runs.collect() }
    }

    /// A quantile of the waits of large work over all seeds together.
    fn large_s(&self, scheduler: usize, part: f64) -> f64 {
        let mut all: Vec<f64> = self.runs[scheduler].iter().flat_map(|run| run.large_wait_s.iter().copied()).collect();
        all.sort_by(f64::total_cmp);
        quantile(&all, part)
    }

    fn allocated(&self, scheduler: usize) -> Vec<f64> {
        self.runs[scheduler].iter().map(|run| run.allocated).collect()
    }
}

/// A row for each scheduler.
pub fn schedulers(measured: &[Measured]) -> Table {
    let mut table = Table::new([
        "pods",
        "load",
        "scheduler",
        "allocated, %",
        "8 cards: p50 wait, s",
        "8 cards: p99 wait, s",
        "others: p50 wait, s",
        "others: p99 wait, s",
        "moved, %/h",
    ]);
    for one in measured {
        for (place, (_, name)) in SCHEDULERS.iter().enumerate() {
            let allocated = Summary::of(&one.allocated(place));
            let small = |part: f64| Summary::of(&one.runs[place].iter().map(|run| run.small_s(part)).collect::<Vec<_>>()).mean;
            table.row([
                one.list.clone(),
                format!("{:.2}", one.load),
                (*name).to_owned(),
                format!("{:.2} ± {:.2}", allocated.mean, allocated.deviation),
                format!("{:.0}", one.large_s(place, 0.5)),
                format!("{:.0}", one.large_s(place, 0.99)),
                format!("{:.0}", small(0.5)),
                format!("{:.0}", small(0.99)),
                format!("{:.2}", Summary::of(&one.runs[place].iter().map(|run| run.moves).collect::<Vec<_>>()).mean),
            ]);
        }
    }
    table
}

/// What was aimed at, and what came out.
pub fn aims(measured: &[Measured]) -> Table {
    let mut table =
        Table::new(["pods", "load", "ours", "p99 wait of 8 cards over FGD's", "over BestFit's", "allocated less FGD's, 95 %", "reached"]);
    for one in measured {
        for (place, (_, name)) in SCHEDULERS.iter().enumerate().skip(FGD + 1) {
            let over = |peer: usize| one.large_s(place, 0.99) / one.large_s(peer, 0.99);
            let less = paired(&one.allocated(place), &one.allocated(FGD));
            let reached = over(FGD) <= PART_MAX && over(BEST_FIT) <= PART_MAX && less.mean >= -EQUAL;
            table.row([
                one.list.clone(),
                format!("{:.2}", one.load),
                (*name).to_owned(),
                format!("{:.3}", over(FGD)),
                format!("{:.3}", over(BEST_FIT)),
                format!("{:+.2} ± {:.2}", less.mean, less.half_interval()),
                if reached { "yes" } else { "NO" }.to_owned(),
            ]);
        }
    }
    table
}

/// A row for each run.
pub fn runs(measured: &[Measured], seeds: &[u64]) -> Table {
    let mut table = Table::new([
        "pods",
        "load",
        "scheduler",
        "seed",
        "allocated",
        "large",
        "large_p50_s",
        "large_p99_s",
        "small",
        "small_p50_s",
        "small_p99_s",
        "impossible",
        "moves_percent_per_hour",
    ]);
    for one in measured {
        for ((_, name), runs) in SCHEDULERS.iter().zip(&one.runs) {
            for (seed, run) in seeds.iter().zip(runs) {
                table.row([
                    one.list.clone(),
                    one.load.to_string(),
                    (*name).to_owned(),
                    seed.to_string(),
                    format!("{:.4}", run.allocated),
                    run.large_wait_s.len().to_string(),
                    format!("{:.1}", run.large_s(0.5)),
                    format!("{:.1}", run.large_s(0.99)),
                    run.small_wait_s.len().to_string(),
                    format!("{:.1}", run.small_s(0.5)),
                    format!("{:.1}", run.small_s(0.99)),
                    run.impossible.to_string(),
                    format!("{:.4}", run.moves),
                ]);
            }
        }
    }
    table
}
