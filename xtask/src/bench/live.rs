//! The scheduler's experiments through a live server: `sched-throughput --live` and
//! `sched-admission --live`.
//!
//! Each case has a server of its own with an empty database, so that none inherits another's
//! objects. The load generator makes the pool and the queues through the API, submits and watches.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::generator;
use super::growth::Value;
use super::idle;
use super::place::Place;
use super::platform::{Node, Platform};
use super::{Programs, table};
use crate::console::{self, Console};
use crate::workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct LiveArguments {
    /// Benchmarks sched-throughput and sched-admission: through the API of a live server and its
    /// database, in real time, instead of in memory
    #[arg(long)]
    pub(super) live: bool,
    /// With --live: only these cases
    #[arg(long = "case", value_name = "NAME", requires = "live")]
    cases: Vec<String>,
}

/// What is submitted to one server.
struct Case {
    name: &'static str,
    /// As the table says it.
    what: &'static str,
    /// Of the load generator.
    shape: &'static str,
    nodes: usize,
    pods: usize,
    /// The peer's figure.
    peer: &'static str,
}

const BASIC: Case = Case {
    name: "basic-5000",
    what: "pods of their own",
    shape: "basic",
    nodes: 5_000,
    pods: 50_000,
    peer: "680 to 810 pods/s (gates of SchedulingBasic)",
};
const GANGS_4: Case = Case {
    name: "gangs4-5000",
    what: "gangs of 4 in a rack",
    shape: "gangs4",
    pods: 8_000,
    peer: "562 to 630; 109 to 114 with all placements scored",
    ..BASIC
};
const GANGS_1000: Case = Case {
    name: "gangs1000-5000",
    what: "gangs of 1,000 in a rack",
    shape: "gangs1000",
    pods: 9_000,
    peer: "953 to 975; 67 to 224 with all placements scored",
    ..BASIC
};
const THROUGHPUT: [Case; 6] = [
    Case { name: "basic-500", nodes: 500, pods: 5_000, peer: "-", ..BASIC },
    BASIC,
    Case { name: "basic-20000", nodes: 20_000, peer: "-", ..BASIC },
    GANGS_4,
    GANGS_1000,
    Case { name: "gangs4-20000", nodes: 20_000, peer: "-", ..GANGS_4 },
];
/// Nodes and pods follow from the shape.
const ADMISSION: [Case; 4] = [
    Case { name: "baseline", what: "Kueue's baseline", shape: "baseline", nodes: 0, pods: 0, peer: "351 s" },
    Case { name: "at-once", what: "50,000 at once in 1,000 queues", shape: "at-once", nodes: 0, pods: 0, peer: "1,179 s (large-scale)" },
    Case { name: "large-scale", what: "Kueue's large-scale", shape: "large-scale", nodes: 0, pods: 0, peer: "-" },
    Case { name: "topology", what: "Kueue's topology", shape: "topology", nodes: 0, pods: 0, peer: "-" },
];

/// What was found of a case.
struct Found {
    case: &'static Case,
    values: Vec<Value>,
}

/// Runs the cases of an experiment, prints the table and writes docs/benchmarks/sched-NAME-live.csv.
pub(super) fn run(console: &Console, programs: &Programs, directory: &Path, experiment: &str, arguments: &LiveArguments) -> Result<()> {
    static CASES: [(&str, &[Case]); 2] = [("throughput", &THROUGHPUT), ("admission", &ADMISSION)];
    let (_, cases) = CASES.iter().find(|(name, _)| *name == experiment).context("only throughput and admission run on a live server")?;
    for name in &arguments.cases {
        let known: Vec<&str> = cases.iter().map(|case| case.name).collect();
        anyhow::ensure!(known.contains(&name.as_str()), "there is no case {name}; there are {}", known.join(", "));
    }
    let mut found: Vec<Found> = Vec::new();
    for case in cases.iter().filter(|case| arguments.cases.is_empty() || arguments.cases.iter().any(|name| name == case.name)) {
        let values = console.timed(case.name, || measure(programs, directory, case)).with_context(|| format!("case {}", case.name))?;
        found.push(Found { case, values });
        // After each, since a later one may fail; cases that are not measured now keep what they had.
        let csv = workspace::root().join("docs/benchmarks").join(format!("sched-{experiment}-live.csv"));
        let before = if csv.exists() {
            std::fs::read_to_string(&csv).with_context(|| format!("cannot read {}", csv.display()))?
        } else {
            String::new()
        };
        std::fs::write(&csv, comma_separated(&found, &before)).with_context(|| format!("cannot write {}", csv.display()))?;
    }
    console::heading(&format!("sched-{experiment} through the API of a live server"))?;
    console::answer(&table::of_cells(&cells(&found)))
}

fn measure(programs: &Programs, directory: &Path, case: &Case) -> Result<Vec<Value>> {
    let place = Place::create(directory)?;
    let platform = Platform::start(&programs.fermion, &place.path().join("h"), Node::None)?;
    let mut command = Command::new(&programs.generator);
    command.args(["scheduling", "--shape", case.shape, "--server", &platform.address.to_string()]);
    command.arg("--kubeconfig").arg(platform.kubeconfig());
    if case.nodes > 0 {
        command.args(["--nodes", &case.nodes.to_string(), "--pods", &case.pods.to_string()]);
    }
    let mut values: Vec<Value> = generator::measure(&mut command)?;
    let pid = platform.pid()?;
    values.push(Value::of("processor time of the server", "s", seconds(idle::processor_time(pid)?)));
    values.push(Value::of("peak memory of the server", "MB", idle::peak_mb(pid)?));
    platform.remove()?;
    place.remove()?;
    Ok(values)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Head and rows of the table: all cases of an experiment have the same metrics.
fn cells(found: &[Found]) -> Vec<Vec<String>> {
    let metrics = found.first().into_iter().flat_map(|first| &first.values);
    let mut head = vec!["what".to_owned(), "nodes".to_owned(), "pods".to_owned()];
    head.extend(
        metrics.map(|value| if value.unit.is_empty() { value.metric.clone() } else { format!("{}, {}", value.metric, value.unit) }),
    );
    head.push("the peer's own figure".to_owned());
    let number = |number: usize| if number == 0 { "-".to_owned() } else { number.to_string() };
    let row = |found: &Found| {
        let mut row = vec![found.case.what.to_owned(), number(found.case.nodes), number(found.case.pods)];
        row.extend(found.values.iter().map(|value| table::digits(value.number)));
        row.push(found.case.peer.to_owned());
        row
    };
    std::iter::once(head).chain(found.iter().map(row)).collect()
}

/// One line for each value; those of cases that were not measured are as they were before.
fn comma_separated(found: &[Found], before: &str) -> String {
    let measured = |line: &str| found.iter().any(|found| line.split(',').next() == Some(found.case.name));
    let kept = before.lines().skip(1).filter(|line| !measured(line)).map(|line| format!("{line}\n"));
    let lines = found.iter().flat_map(|found| {
        let case = found.case;
        found.values.iter().map(move |value| {
            format!("{},{},{},\"{}\",{},{:.3}\n", case.name, case.nodes, case.pods, value.metric, value.unit, value.number)
        })
    });
    std::iter::once("case,nodes,pods,metric,unit,value\n".to_owned()).chain(kept).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_line_and_every_case_a_row() {
        let values = vec![Value::of("bindings", "1/s", 1234.5), Value::of("submitted to bound, p99", "ms", 7.0)];
        let found = [Found { case: &BASIC, values }];
        let lines = "case,nodes,pods,metric,unit,value\n\
                     basic-5000,5000,50000,\"bindings\",1/s,1234.500\n\
                     basic-5000,5000,50000,\"submitted to bound, p99\",ms,7.000\n";
        assert_eq!(comma_separated(&found, ""), lines);
        let before = "case,nodes,pods,metric,unit,value\nother,1,2,\"m\",s,3.000\nbasic-5000,5000,50000,\"bindings\",1/s,1.000\n";
        assert_eq!(comma_separated(&found, before), lines.replacen('\n', "\nother,1,2,\"m\",s,3.000\n", 1));
        let cells = cells(&found);
        assert_eq!(cells[0][3..5], ["bindings, 1/s", "submitted to bound, p99, ms"]);
        assert_eq!(cells[1][..5], ["pods of their own", "5000", "50000", "1234", "7.00"]);
    }
}
