//! Runs the scheduler's experiments: what `cargo xtask bench sched-…` calls.
//!
//! Progress goes to standard error, the tables, in Markdown, to standard output, and each run's
//! figures as CSV to the folder that is named.

mod admission;
mod inflation;
mod jct;
mod reclaim;
mod rounds;
mod steady;
mod throughput;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use fermion_sim::table::Table;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

#[derive(Debug, Parser)]
#[command(name = "fermion-experiments", about = "Runs the scheduler's experiments, beside the published policies")]
struct Arguments {
    /// Where the traces lie
    #[arg(long, env = "FERMION_TRACES", value_name = "FOLDER", default_value = fermion_sim::trace::FOLDER, global = true)]
    traces: PathBuf,
    /// Where the figures of each run are written, a CSV file for each experiment
    #[arg(long, value_name = "FOLDER", global = true)]
    csv: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    experiment: Experiment,
}

#[derive(Debug, Subcommand)]
enum Experiment {
    /// Which of many that wait may start, by their queues alone
    Admission,
    /// Pods arrive until more cards are asked for than there are: how many stay unallocated?
    Inflation(inflation::InflationArguments),
    /// From a job's submission to its end, on recorded training work
    Jct(jct::JctArguments),
    /// Whom to stop for a large gang, and how long it takes to say so
    Reclaim(reclaim::ReclaimArguments),
    /// A round of a full cluster in which little has changed
    Rounds(rounds::RoundsArguments),
    /// Work that comes and goes for days: who waits, and how long?
    Steady(steady::SteadyArguments),
    /// How many pods a second are placed, in memory, with all nodes scored
    Throughput(throughput::ThroughputArguments),
}

/// A heading and what stands under it.
type Section = (String, Table);

/// What an experiment has found.
struct Report {
    /// Of the CSV file.
    name: &'static str,
    sections: Vec<Section>,
    /// Whether what it ran on was made up, because the recorded traces are not there.
    made_up: bool,
    /// Each run's figures.
    runs: Table,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let report = match &arguments.experiment {
        Experiment::Admission => admission::measure(),
        Experiment::Inflation(inflation) => inflation::measure(inflation, &arguments.traces),
        Experiment::Jct(jct) => jct::measure(jct, &arguments.traces),
        Experiment::Reclaim(reclaim) => reclaim::measure(reclaim),
        Experiment::Rounds(rounds) => rounds::measure(rounds),
        Experiment::Steady(steady) => steady::measure(steady, &arguments.traces),
        Experiment::Throughput(throughput) => throughput::measure(throughput),
    }?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let sections: Vec<_> = report.sections.iter().map(|(heading, table)| json!({"heading": heading, "rows": table.json()})).collect();
        writeln!(out, "{}", json!({"name": report.name, "sections": sections})).context("cannot write the figures")?;
    } else {
        for (heading, table) in &report.sections {
            writeln!(out, "### {heading}\n\n{}", table.markdown()).context("cannot write the tables")?;
        }
    }
    let Some(folder) = &arguments.csv else { return Ok(()) };
    if report.made_up {
        eprintln!("{}.csv is left as it is: it holds figures of recorded traces", report.name);
        return Ok(());
    }
    let path = folder.join(format!("{}.csv", report.name));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::write(&path, report.runs.csv()?).with_context(|| format!("cannot write {}", path.display()))
}

/// What this thread has had of the processor: others who use the machine do not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
