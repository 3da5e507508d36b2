//! Work that comes and goes.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use fermion_sim::experiments::steady::report::{self, Measured};
use fermion_sim::trace::{self, openb::Trace, synthetic};

use crate::Report;

#[derive(Debug, clap::Args)]
pub(crate) struct SteadyArguments {
    /// How many seeds, from 42
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..1000))]
    seeds: u64,
    /// Lists of pods; default and gpuspec33, as far as they are there, when none is named
    #[arg(long = "list", value_name = "NAME")]
    lists: Vec<String>,
    /// Parts of what all cards could do that are asked for
    #[arg(long = "load", value_name = "PART", default_values_t = [0.9, 0.95, 1.0])]
    loads: Vec<f64>,
    /// Take one node in so many, for a run that takes minutes and not hours
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..100))]
    one_in: u32,
}

const FIRST_SEED: u64 = 42;
/// What the published tables are of.
const USUAL_LISTS: [&str; 2] = ["default", "gpuspec33"];

pub(crate) fn measure(arguments: &SteadyArguments, traces: &Path) -> Result<Report> {
    let seeds: Vec<u64> = (FIRST_SEED..FIRST_SEED + arguments.seeds).collect();
    let mut lists: Vec<(String, Trace)> = Vec::new();
    let there = trace::openb_lists(traces);
    if there.is_empty() {
        eprintln!("no openb traces in {}: a made-up cluster instead", traces.display());
        lists.push(("synthetic".to_owned(), synthetic::openb(FIRST_SEED)));
    } else {
        let usual: Vec<String> = there.iter().filter(|list| USUAL_LISTS.contains(&list.as_str())).cloned().collect();
        for list in if arguments.lists.is_empty() { &usual } else { &arguments.lists } {
            let mut trace = trace::openb::read(traces, list)?;
            let mut number = 0;
            trace.nodes.retain(|_| {
                number += 1;
                number % arguments.one_in == 0
            });
            lists.push((list.clone(), trace));
        }
    }
    let mut measured = Vec::new();
    for (list, trace) in &lists {
        for &load in &arguments.loads {
            let started = Instant::now();
            measured.push(Measured::of(list, trace, load, &seeds));
            eprintln!("{list} at {load}: {:.1} s", started.elapsed().as_secs_f64());
        }
    }
    let sections = [
        ("cards in use and time until the start", report::schedulers(&measured)),
        ("aims: a third of the wait at equal allocation", report::aims(&measured)),
    ];
    let sections = sections.into_iter().map(|(name, table)| (name.to_owned(), table)).collect();
    Ok(Report { name: "sched-steady", made_up: there.is_empty(), sections, runs: report::runs(&measured, &seeds) })
}
