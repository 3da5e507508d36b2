//! `fermion sim`: what a cluster would do with some work, and with a change to either.
//!
//! It needs no server: the scheduler's engine runs here, in virtual time. Only a live cluster is read
//! from one.

mod live;

use std::path::{Path, PathBuf};

use fermion_sim::study::change::Change;
use fermion_sim::study::{Case, Queue, Study, plot, report};
use fermion_sim::table::Table;
use fermion_sim::trace::jobs;

use crate::connection::ConnectionArguments;
use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// The most changes of one call.
const CHANGES_MAX: usize = 20;

/// Options of `fermion sim`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fermion sim --cluster cluster.yaml --trace jobs.csv --what-if 'add 4 nodes of 8 x H100' --what-if 'load x 1.2'
  fermion sim --cluster live --trace live --what-if 'give queue speech 50 %'
  fermion sim --cluster live --trace live --write now    # now.yaml and now.csv, to be changed by hand")]
pub(crate) struct SimArguments {
    /// The cluster: live, openb, or a file that describes one in YAML
    #[arg(long, value_name = "FILE")]
    cluster: String,
    /// The work: live, openb, openb:LIST, muri, elasticflow:CLUSTER, or a CSV file of jobs
    #[arg(long, value_name = "FILE")]
    trace: String,
    /// Of a live cluster: the pool; may be left out where only one has cards
    #[arg(long)]
    pool: Option<String>,
    /// Of a live cluster: write what was read into NAME.yaml and NAME.csv, and simulate nothing
    #[arg(long, value_name = "NAME")]
    write: Option<PathBuf>,
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

/// What stands for the server in place of a file.
const LIVE: &str = "live";

pub(crate) async fn run(arguments: &SimArguments, connection: &ConnectionArguments) -> Outcome<Exit> {
    if arguments.changes.len() > CHANGES_MAX {
        return Err(Failure::new(format!("{} changes are too many for one call", arguments.changes.len()))
            .hint(format!("Try at most {CHANGES_MAX} at once.")));
    }
    let changes: Vec<Change> = arguments.changes.iter().map(|change| change.parse()).collect::<Result<_, _>>().map_err(failed)?;
    let queue = match arguments.order {
        Order::Arrival => Queue::Arrival,
        Order::Short => Queue::Short,
    };
    let study = if arguments.cluster == LIVE || arguments.trace == LIVE {
        match read_live(arguments, connection).await? {
            Some(study) => study,
            None => return Ok(Exit::Done),
        }
    } else if arguments.write.is_some() || arguments.pool.is_some() {
        return Err(Failure::new("--pool and --write are for a live cluster").hint("Say --cluster live --trace live."));
    } else {
        Study::new(&arguments.cluster, &arguments.trace, &arguments.traces, arguments.load).map_err(failed)?
    };
    let study = study.with_queue(queue).with_estimates(arguments.estimates).with_seed(arguments.seed);
    let cases = study.run(&changes).map_err(failed)?;
    print(arguments, &cases)?;
    if let Some(path) = &arguments.svg {
        write(path, &plot::svg(&cases))?;
    }
    Ok(Exit::Done)
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::new("the simulation cannot be run").because(Box::<dyn std::error::Error>::from(error))
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    std::fs::write(path, text).map_err(|error| Failure::new(format!("cannot write {}", path.display())).because(error))
}

/// The cluster that a server has, with its work or that of a file; nothing when it was written into
/// files instead.
async fn read_live(arguments: &SimArguments, connection: &ConnectionArguments) -> Outcome<Option<Study>> {
    if arguments.cluster != LIVE {
        return Err(Failure::new("the work of a live cluster belongs to its queues").hint("Say --cluster live --trace live."));
    }
    if matches!(arguments.trace.split(':').next(), Some("openb" | "muri" | "elasticflow")) {
        let hint = "Say --trace live, or name a CSV file with the columns submitted_s, cards, run_s and queue.";
        return Err(Failure::new("recorded work belongs to none of a live cluster's queues").hint(hint));
    }
    let (cluster, work) = live::read(&connection.session()?, arguments.pool.as_deref()).await?;
    if let Some(name) = &arguments.write {
        let (description, trace) = (name.with_extension("yaml"), name.with_extension("csv"));
        write(&description, &cluster.text().map_err(failed)?)?;
        write(&trace, &jobs::write_owned(&work.jobs).map_err(failed)?)?;
        output::line(&format!(
            "{} and {} say what the cluster and its work are now; {}",
            description.display(),
            trace.display(),
            work.known()
        ))?;
        return Ok(None);
    }
    let study = if arguments.trace == LIVE {
        if !arguments.json {
            output::line(&format!("{}\n", work.known()))?;
        }
        Study::of(cluster, Ok(work.jobs))
    } else {
        Study::of(cluster, Err(Path::new(&arguments.trace)))
    };
    study.map(Some).map_err(failed)
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
