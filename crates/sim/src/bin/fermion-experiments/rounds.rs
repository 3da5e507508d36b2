//! How long a round takes when little has changed.

use anyhow::Result;
use fermion_sim::experiments::rounds::{self, Measured, News, Size};
use fermion_sim::table::Table;

use crate::{Report, ms, processor_time};

#[derive(Debug, clap::Args)]
pub(crate) struct RoundsArguments {
    /// Sizes of cluster, in nodes of sixteen cards
    #[arg(long = "nodes", value_name = "COUNT", default_values_t = [1000, 5000, 20_000], value_parser = clap::value_parser!(u32).range(1..100_000))]
    nodes: Vec<u32>,
    /// Gangs that run, and as many that wait
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(64..100_000))]
    gangs: u32,
}

/// What changes before a round, in the words of the table.
const NEWS: [(News, &str); 4] = [
    (News::Everything, "everything: from nothing"),
    (News::Nothing, "nothing"),
    (News::Arrival, "one gang came"),
    (News::End, "one gang ended"),
];

pub(crate) fn measure(arguments: &RoundsArguments) -> Result<Report> {
    let mut table = Table::new(["nodes", "what changed", "rounds", "median, ms", "longest, ms", "part of the round from nothing"]);
    let mut runs = Table::new(["nodes", "gangs", "round", "news", "processor_ms", "binds", "waits"]);
    for &nodes in &arguments.nodes {
        let gangs = arguments.gangs as usize;
        let rounds = rounds::run(Size { nodes: nodes as usize, running: gangs, waiting: gangs }, processor_time);
        for (number, round) in rounds.iter().enumerate() {
            let counts = [nodes.to_string(), gangs.to_string(), number.to_string(), format!("{:?}", round.news)];
            let rest = [format!("{:.3}", ms(round.time)), round.binds.to_string(), round.waits.to_string()];
            runs.row(counts.into_iter().chain(rest));
        }
        let first = ms(rounds[0].time);
        for (news, words) in NEWS {
            let mut times: Vec<f64> = rounds.iter().filter(|round: &&Measured| round.news == news).map(|round| ms(round.time)).collect();
            times.sort_by(f64::total_cmp);
            let (Some(longest), median) = (times.last(), times[times.len() / 2]) else { continue };
            let cells = [nodes.to_string(), words.to_owned(), times.len().to_string(), format!("{median:.1}"), format!("{longest:.1}")];
            table.row(cells.into_iter().chain([format!("{:.2}", median / first)]));
        }
        eprintln!("{nodes} nodes: {} rounds", rounds.len());
    }
    let heading = format!("processor time of a round; {} gangs run and as many wait, in memory, one thread", arguments.gangs);
    Ok(Report { name: "sched-rounds", made_up: false, sections: vec![(heading, table)], runs })
}
