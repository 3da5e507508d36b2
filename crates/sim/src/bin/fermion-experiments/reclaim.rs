//! Victims for a large gang.

use std::time::Duration;

use anyhow::Result;
use fermion_sim::experiments::reclaim;
use fermion_sim::table::Table;

use crate::{Report, ms, processor_time};

#[derive(Debug, clap::Args)]
pub(crate) struct ReclaimArguments {
    /// Sizes of cluster, in nodes of eight cards
    #[arg(long = "nodes", value_name = "COUNT", default_values_t = [100, 200, 500, 1000, 10_000], value_parser = clap::value_parser!(u32).range(1..100_000))]
    nodes: Vec<u32>,
}

/// What KAI's benchmark takes on a laptop, by nodes, in seconds.
const KAI_S: [(u32, f64); 4] = [(100, 0.213), (200, 0.728), (500, 9.17), (1000, 76.3)];
/// What is aimed at for a plan, by nodes, and for a refusal, in milliseconds.
const PLAN_MS: [(u32, f64); 2] = [(1000, 10.0), (10_000, 200.0)];
const REFUSAL_MS: f64 = 10.0;
/// The median of so many is reported.
const REPEATS: usize = 9;

pub(crate) fn measure(arguments: &ReclaimArguments) -> Result<Report> {
    let head =
        ["nodes", "plan, ms", "aim, ms", "KAI, ms", "victims", "needed", "too large: refused, ms", "too few may be stopped: refused, ms"];
    let mut table = Table::new(head.into_iter().chain(["aims reached"]));
    let mut runs =
        Table::new(["nodes", "repeat", "plan_ms", "victims", "needed", "too_large_ms", "too_large", "not_enough_ms", "not_enough"]);
    for &nodes in &arguments.nodes {
        let results: Vec<_> = (0..REPEATS).map(|_| reclaim::run(nodes, processor_time)).collect();
        for (repeat, result) in results.iter().enumerate() {
            let ((large_time, large), (few_time, few)) = (&result.too_large, &result.not_enough);
            runs.row([
                nodes.to_string(),
                repeat.to_string(),
                format!("{:.4}", ms(result.plan)),
                result.victims.to_string(),
                result.needed.to_string(),
                format!("{:.4}", ms(*large_time)),
                format!("{large:?}"),
                format!("{:.4}", ms(*few_time)),
                format!("{few:?}"),
            ]);
        }
        let middle = |of: fn(&reclaim::Reclaimed) -> Duration| {
            let mut times: Vec<Duration> = results.iter().map(of).collect();
            times.sort_unstable();
            ms(times[REPEATS / 2])
        };
        let (plan, large, few) = (middle(|one| one.plan), middle(|one| one.too_large.0), middle(|one| one.not_enough.0));
        let of = |list: &[(u32, f64)]| list.iter().find(|entry| entry.0 == nodes).map(|entry| entry.1);
        let is_exact = results.iter().all(|one| one.victims == one.needed && one.too_large.1.is_err() && one.not_enough.1.is_err());
        let reached = is_exact && of(&PLAN_MS).is_none_or(|aim| plan < aim) && large < REFUSAL_MS && few < REFUSAL_MS;
        table.row([
            nodes.to_string(),
            format!("{plan:.2}"),
            of(&PLAN_MS).map_or_else(String::new, |aim| format!("< {aim:.0}")),
            of(&KAI_S).map_or_else(String::new, |seconds| format!("{:.0}", seconds * 1e3)),
            results[0].victims.to_string(),
            results[0].needed.to_string(),
            format!("{large:.2}"),
            format!("{few:.2}"),
            if reached { "yes" } else { "NO" }.to_owned(),
        ]);
        eprintln!("{nodes} nodes: {plan:.2} ms");
    }
    let sections = vec![("whom to stop for a gang of a tenth of the nodes: processor time, the median of nine".to_owned(), table)];
    Ok(Report { name: "sched-reclaim", made_up: false, sections, runs })
}
