//! The inflation experiment over every list of pods that is there.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use fermion_sim::experiments::inflation::published::PUBLISHED;
use fermion_sim::experiments::inflation::report::{self, Measured};
use fermion_sim::trace::{self, synthetic};

use crate::Report;

#[derive(Debug, clap::Args)]
pub(crate) struct InflationArguments {
    /// How many seeds, from 42
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..1000))]
    seeds: u64,
    /// Only these lists of pods: default, gpuspec33, …
    #[arg(long = "list", value_name = "NAME")]
    lists: Vec<String>,
}

/// The first seed of the published runs.
const FIRST_SEED: u64 = 42;

pub(crate) fn measure(arguments: &InflationArguments, traces: &Path) -> Result<Report> {
    let seeds: Vec<u64> = (FIRST_SEED..FIRST_SEED + arguments.seeds).collect();
    let there = trace::openb_lists(traces);
    let lists = if arguments.lists.is_empty() { &there } else { &arguments.lists };
    let mut measured = Vec::new();
    if lists.is_empty() {
        eprintln!(
            "no openb_pod_list_*.csv in {}: they are published at https://github.com/hkust-adsl/kubernetes-scheduler-simulator \
             (data/csv). Put them there or name another folder with FERMION_TRACES. This is a small made-up cluster instead",
            traces.join("openb").display()
        );
        measured.push(Measured::of("synthetic", &synthetic::openb(FIRST_SEED), &seeds));
    } else if arguments.lists.is_empty() {
        let missing: Vec<&str> = PUBLISHED.iter().map(|entry| entry.list).filter(|name| !there.iter().any(|list| list == name)).collect();
        if !missing.is_empty() {
            eprintln!("published lists that are not there: {}", missing.join(", "));
        }
    }
    for (number, list) in lists.iter().enumerate() {
        let started = Instant::now();
        let trace = trace::openb::read(traces, list)?;
        measured.push(Measured::of(list, &trace, &seeds));
        eprintln!("{list}, {} of {}: {:.1} s", number + 1, lists.len(), started.elapsed().as_secs_f64());
    }
    let sections = [
        ("unallocated cards in percent when 100 % were asked for", report::policies(&measured, |run| run.unallocated_at_100)),
        ("the same at 130 %", report::policies(&measured, |run| run.unallocated_at_130)),
        ("FGD beside its published values, and ours beside FGD", report::gate(&measured)),
        ("every policy less its published value, in points", report::differences(&measured)),
        ("aims", report::aims(&measured)),
    ];
    let sections = sections.into_iter().filter(|section| !section.1.is_empty()).map(|(name, table)| (name.to_owned(), table)).collect();
    Ok(Report { name: "sched-inflation", made_up: there.is_empty(), sections, runs: report::runs(&measured) })
}
