//! `fermion sim`: what a cluster would do with some work, and with a change to either.
//!
//! It needs no server: the scheduler's engine runs here, in virtual time.

use std::path::PathBuf;

use fermion_sim::study::change::Change;
use fermion_sim::study::{Case, Queue, Study, plot, report};
use fermion_sim::table::Table;

use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// The most changes of one call.
const CHANGES_MAX: usize = 20;

/// Options of `fermion sim`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: fermion sim --cluster cluster.yaml --trace jobs.csv --what-if 'add 4 nodes of 8 x H100' --what-if 'load x 1.2'"
)]
pub(crate) struct SimArguments {
    /// The cluster: openb, or a file that describes one in YAML
    #[arg(long, value_name = "FILE")]
    cluster: String,
    /// The work: openb, openb:LIST, muri, elasticflow:CLUSTER, or a CSV file of jobs
    #[arg(long, value_name = "FILE")]
    trace: String,
    /// A change to try beside the case as it is, such as 'add 4 nodes of 8 x H100'
    #[arg(long = "what-if", value_name = "CHANGE")]
    changes: Vec<String>,
    /// In which order the queue is kept
    #[arg(long, value_enum, default_value_t = Order::Arrival)]
    order: Order,
    /// Whether run times are known within a factor of two when work is submitted
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    estimates: bool,
    /// For pods: the part of what all cards can do that is asked for
    #[arg(long, value_name = "PART", default_value_t = 0.9)]
    load: f64,
    /// What is drawn at random follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Draw the cases into an SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Where recorded traces lie
    #[arg(long, env = "FERMION_TRACES", value_name = "FOLDER", default_value = fermion_sim::trace::FOLDER)]
    traces: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// By arrival, with backfilling
    Arrival,
    /// Short work first, stopping long work for it
    Short,
}

pub(crate) fn run(arguments: &SimArguments) -> Outcome<Exit> {
    let failed = |error: anyhow::Error| Failure::new("the simulation cannot be run").because(Box::<dyn std::error::Error>::from(error));
    if arguments.changes.len() > CHANGES_MAX {
        return Err(Failure::new(format!("{} changes are too many for one call", arguments.changes.len()))
            .hint(format!("Try at most {CHANGES_MAX} at once.")));
    }
    let changes: Vec<Change> = arguments.changes.iter().map(|change| change.parse()).collect::<Result<_, _>>().map_err(failed)?;
    let queue = match arguments.order {
        Order::Arrival => Queue::Arrival,
        Order::Short => Queue::Short,
    };
    let study = Study::new(&arguments.cluster, &arguments.trace, &arguments.traces, arguments.load).map_err(failed)?;
    let study = study.with_queue(queue).with_estimates(arguments.estimates).with_seed(arguments.seed);
    let cases = study.run(&changes).map_err(failed)?;
    print(arguments, &cases)?;
    if let Some(path) = &arguments.svg {
        let picture = plot::svg(&cases);
        std::fs::write(path, picture).map_err(|error| Failure::new(format!("cannot write {}", path.display())).because(error))?;
    }
    Ok(Exit::Done)
}

fn print(arguments: &SimArguments, cases: &[Case]) -> Outcome<()> {
    if arguments.json {
        return output::line(&report::json(cases).to_string());
    }
    let mut tables = vec![report::cases(cases), report::waits(cases)];
    if cases.iter().any(|case| !case.queues.is_empty()) {
        tables.insert(1, report::queues(cases));
    }
    output::write(&tables.iter().map(Table::markdown).collect::<Vec<_>>().join("\n"))
}
