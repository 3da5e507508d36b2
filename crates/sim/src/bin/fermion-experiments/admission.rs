//! Admission by queues, in memory.

use std::time::Duration;

use anyhow::Result;
use fermion_sim::experiments::admission::{self, Shape};
use fermion_sim::table::Table;
use rustix::time::{ClockId, clock_gettime};

use crate::Report;

const REPEATS: usize = 5;
/// Name, shape, and how long Kueue's own test takes in real time, through its API server.
const RUNS: [(&str, Shape, &str); 3] = [
    ("Kueue's baseline", Shape::BASELINE, "351"),
    ("Kueue's large-scale", Shape::LARGE_SCALE, "-"),
    ("all at once", Shape::ALL_AT_ONCE, "-"),
];

pub(crate) fn measure() -> Result<Report> {
    let mut table = Table::new([
        "what",
        "queues",
        "workloads",
        "starts/s",
        "decisions/s",
        "a moment: p99, us",
        "longest, us",
        "borrowing starts",
        "stopped",
        "all done after, s",
        "bound, s",
        "large: mean wait, s",
        "medium",
        "small",
        "Kueue: all done after, s",
    ]);
    let mut runs =
        Table::new(["what", "repeat", "starts", "decisions", "seconds", "p50_us", "p99_us", "max_us", "borrowed", "stops", "makespan_ms"]);
    for (what, shape, peer) in RUNS {
        let mut found = (0..REPEATS).map(|_| admission::run(shape, processor_time)).collect::<Result<Vec<_>, _>>()?;
        for (repeat, one) in found.iter().enumerate() {
            let times = [0.5, 0.99, 1.0].map(|part| format!("{:.2}", quantile_us(&one.moments, part)));
            let counts = [repeat, one.starts, one.decisions].map(|count| count.to_string());
            let rest = [one.borrowed.to_string(), one.stops.to_string(), one.makespan_ms.to_string()];
            let head = [what.to_owned()].into_iter().chain(counts).chain([format!("{:.6}", one.total.as_secs_f64())]);
            runs.row(head.chain(times).chain(rest));
        }
        found.sort_by_key(|one| one.total);
        let middle = &found[REPEATS / 2];
        let rate = |count: usize| format!("{:.0}", count as f64 / middle.total.as_secs_f64());
        let wait = |class: usize| format!("{:.2}", middle.wait_ms[class] / 1000.0);
        table.row([
            what.to_owned(),
            (shape.cohorts * shape.queues).to_string(),
            shape.workloads().to_string(),
            rate(middle.starts),
            rate(middle.decisions),
            format!("{:.0}", quantile_us(&middle.moments, 0.99)),
            format!("{:.0}", quantile_us(&middle.moments, 1.0)),
            middle.borrowed.to_string(),
            middle.stops.to_string(),
            format!("{:.1}", middle.makespan_ms as f64 / 1000.0),
            format!("{:.1}", shape.bound_ms() as f64 / 1000.0),
            wait(2),
            wait(1),
            wait(0),
            peer.to_owned(),
        ]);
        eprintln!("{what}: {} starts/s", rate(middle.starts));
    }
    let heading = "who may start: in memory and virtual time, processor time of one thread; the median of five runs";
    Ok(Report { name: "sched-admission", made_up: false, sections: vec![(heading.to_owned(), table)], runs })
}

fn quantile_us(sorted: &[Duration], part: f64) -> f64 {
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1].as_secs_f64() * 1e6
}

/// What this thread has had of the processor: others who use the machine do not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
