//! Completion times on recorded training work.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use fermion_sim::experiments::jct::report::{self, SETTINGS, Setting};
use fermion_sim::trace::jobs::{self, Job};

use crate::Report;

#[derive(Debug, clap::Args)]
pub(crate) struct JctArguments {
    /// How many seeds estimates of run times are made with, from 42
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..1000))]
    seeds: u64,
    /// Only these traces: muri, cluster03, cluster05
    #[arg(long = "trace", value_name = "NAME")]
    only: Vec<String>,
}

const FIRST_SEED: u64 = 42;
/// What runs where no trace is at hand.
const MADE_UP: Setting = Setting { trace: "synthetic", cards: 64, known: &[], testbed: &[] };
const MADE_UP_JOBS: usize = 300;

pub(crate) fn measure(arguments: &JctArguments, traces: &Path) -> Result<Report> {
    let seeds: Vec<u64> = (FIRST_SEED..FIRST_SEED + arguments.seeds).collect();
    let mut settings: Vec<(Setting, Vec<Job>)> = Vec::new();
    for setting in
        SETTINGS.into_iter().filter(|setting| arguments.only.is_empty() || arguments.only.iter().any(|name| name == setting.trace))
    {
        if !jobs::is_there(traces, setting.trace) && arguments.only.is_empty() {
            eprintln!("{} is not in {}: see crates/sim/src/trace/jobs.rs for where it is published", setting.trace, traces.display());
            continue;
        }
        let jobs = if setting.trace == "muri" { jobs::muri(traces) } else { jobs::elasticflow(traces, setting.trace) }?;
        settings.push((setting, jobs));
    }
    let made_up = settings.is_empty();
    if made_up {
        eprintln!("no trace is there: made-up jobs instead");
        settings.push((MADE_UP, jobs::synthetic(FIRST_SEED, MADE_UP_JOBS, MADE_UP.cards)));
    }
    let mut sections = Vec::new();
    let mut runs = report::runs_head();
    for (setting, jobs) in settings {
        let started = Instant::now();
        let measured = report::measure(&jobs, setting.cards, &seeds);
        eprintln!("{}: {:.1} s", setting.trace, started.elapsed().as_secs_f64());
        sections.push((
            format!("{}: {} jobs on {} cards", setting.trace, jobs.len(), setting.cards),
            report::orders(&setting, &jobs, &measured),
        ));
        sections.push((format!("{}: aims", setting.trace), report::aims(&setting, &jobs, &measured)));
        let weights = report::weights(&jobs, setting.cards, &seeds);
        sections.push((format!("{}: the mean against the far end, with estimates", setting.trace), weights));
        report::runs(&mut runs, &setting, &jobs, &measured);
    }
    Ok(Report { name: "sched-jct", made_up, sections, runs })
}
