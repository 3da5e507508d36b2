//! All policies over all lists, held against the published values.

use fermion_scheduler::scoring::Placement;

use super::{Run, published::published};
use crate::statistics::{Summary, paired};
use crate::table::Table;
use crate::trace::openb::Trace;

/// Policies in the order of the published table, ours last.
pub const POLICIES: [(Placement, &str); 7] = [
    (Placement::Random, "Random"),
    (Placement::DotProduct, "DotProd"),
    (Placement::Clustering, "Clustering"),
    (Placement::Packing, "Packing"),
    (Placement::BestFit, "BestFit"),
    (Placement::FragmentationGradient, "FGD"),
    (Placement::Scarcity, "ours"),
];
const FGD: usize = 5;
const OURS: usize = 6;

/// How far our FGD may be from the published one, in points.
pub const GATE: f64 = 0.35;
/// How much worse than FGD ours may be on any list, in points.
const WORSE_MAX: f64 = 0.1;
/// How much better than FGD's the mean of ours over all lists should be, in points.
const MEAN_BETTER: f64 = 0.3;
/// What ours should leave unallocated at most on the list that names models most.
const GPUSPEC33_MAX: f64 = 7.3;

/// One list of pods under every policy.
#[derive(Clone, Debug)]
pub struct Measured {
    pub list: String,
    pub seeds: Vec<u64>,
    /// By policy, then by seed.
    pub runs: [Vec<Run>; 7],
}

impl Measured {
    /// Runs every policy with every seed.
    pub fn of(list: &str, trace: &Trace, seeds: &[u64]) -> Self {
        let runs = POLICIES.map(|(policy, _)| seeds.iter().map(|&seed| super::run(trace, policy, seed)).collect());
        Self { list: list.to_owned(), seeds: seeds.to_vec(), runs }
    }

    fn values(&self, policy: usize, of: fn(&Run) -> f64) -> Vec<f64> {
        self.runs[policy].iter().map(of).collect()
    }

    fn mean(&self, policy: usize) -> f64 {
        Summary::of(&self.values(policy, |run| run.unallocated_at_100)).mean
    }

    /// Ours less FGD, seed by seed.
    pub fn difference(&self) -> Summary {
        paired(&self.values(OURS, |run| run.unallocated_at_100), &self.values(FGD, |run| run.unallocated_at_100))
    }
}

/// Mean ± deviation of every policy, at 100 or at 130 % asked for.
pub fn policies(measured: &[Measured], of: fn(&Run) -> f64) -> Table {
    let mut table = Table::new(std::iter::once("list").chain(POLICIES.map(|(_, name)| name)));
    for list in measured {
        let cells = (0..POLICIES.len()).map(|policy| {
            let summary = Summary::of(&list.values(policy, of));
            format!("{:.2} ± {:.2}", summary.mean, summary.deviation)
        });
        table.row(std::iter::once(list.list.clone()).chain(cells));
    }
    table
}

/// Published beside ours for FGD, and our policy beside both.
pub fn gate(measured: &[Measured]) -> Table {
    let mut table = Table::new([
        "list",
        "FGD published",
        "FGD here",
        "difference",
        "within 0.35",
        "FGD published at 130 %",
        "FGD here at 130 %",
        "ours",
        "ours less FGD, 95 %",
    ]);
    for list in measured {
        let Some(theirs) = published(&list.list) else { continue };
        let here = list.mean(FGD);
        let at_130 = Summary::of(&list.values(FGD, |run| run.unallocated_at_130)).mean;
        let difference = list.difference();
        table.row([
            list.list.clone(),
            format!("{:.2} ± {:.2}", theirs.at_100[FGD], theirs.fgd_deviation),
            format!("{here:.2}"),
            format!("{:+.2}", here - theirs.at_100[FGD]),
            if (here - theirs.at_100[FGD]).abs() <= GATE { "yes" } else { "NO" }.to_owned(),
            format!("{:.2}", theirs.fgd_at_130),
            format!("{at_130:.2}"),
            format!("{:.2}", list.mean(OURS)),
            format!("{:+.2} ± {:.2}", difference.mean, difference.half_interval()),
        ]);
    }
    table
}

/// Every policy's mean less the published one.
pub fn differences(measured: &[Measured]) -> Table {
    let mut table = Table::new(std::iter::once("list").chain(POLICIES[..OURS].iter().map(|(_, name)| *name)));
    for list in measured {
        let Some(theirs) = published(&list.list) else { continue };
        let cells = (0..OURS).map(|policy| format!("{:+.2}", list.mean(policy) - theirs.at_100[policy]));
        table.row(std::iter::once(list.list.clone()).chain(cells));
    }
    table
}

/// What was aimed at, and what came out.
pub fn aims(measured: &[Measured]) -> Table {
    let mut table = Table::new(["aim", "measured", "reached"]);
    let known: Vec<&Measured> = measured.iter().filter(|list| published(&list.list).is_some()).collect();
    let mut aim = |text: String, value: f64, most: f64| {
        table.row([text, format!("{value:.2}"), if value <= most { "yes" } else { "NO" }.to_owned()]);
    };
    let farthest = known.iter().filter_map(|list| Some((list.mean(FGD) - published(&list.list)?.at_100[FGD]).abs())).fold(0.0, f64::max);
    aim(format!("FGD within {GATE} points of the published value on every list"), farthest, GATE);
    let worst = known.iter().map(|list| list.difference().mean).fold(f64::NEG_INFINITY, f64::max);
    aim(format!("ours worse than FGD by at most {WORSE_MAX} points on any list"), worst, WORSE_MAX);
    if let Some(list) = known.iter().find(|list| list.list == "gpuspec33") {
        aim(format!("ours leaves at most {GPUSPEC33_MAX} % on gpuspec33"), list.mean(OURS), GPUSPEC33_MAX);
    }
    let mean = Summary::of(&known.iter().map(|list| list.difference().mean).collect::<Vec<_>>()).mean;
    aim(format!("mean over the lists at least {MEAN_BETTER} points below FGD's"), mean, -MEAN_BETTER);
    table
}

/// A row for each run.
pub fn runs(measured: &[Measured]) -> Table {
    let mut table = Table::new(["list", "policy", "seed", "unallocated_at_100", "unallocated_at_130", "placed", "failed"]);
    for list in measured {
        for ((_, name), runs) in POLICIES.iter().zip(&list.runs) {
            for (seed, run) in list.seeds.iter().zip(runs) {
                let percent = |value: f64| format!("{value:.4}");
                let counts = [run.placed.to_string(), run.failed.to_string()];
                let values = [percent(run.unallocated_at_100), percent(run.unallocated_at_130)];
                table.row([list.list.clone(), (*name).to_owned(), seed.to_string()].into_iter().chain(values).chain(counts));
            }
        }
    }
    table
}
