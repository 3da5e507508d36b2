//! What a cluster would do with some work, and with a change to either.
//!
//! Start with [`Study::new`] and [`Study::run`]. Each case, as things are and after each change,
//! meets the same work; the scheduler's engine places it in virtual time.

pub mod change;
pub mod description;
pub mod plot;
mod queued;
pub mod queues;
pub mod report;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::device::Models;
use fermion_scheduler::engine::{Backfill, Engine, Millis};
use fermion_scheduler::scoring::{Mix, Placement};

use self::change::Change;
use self::description::{Description, Nodes};
use self::queues::Course;
use crate::experiments::{jct, steady};
use crate::random::Random;
use crate::simulator::{self, Arrival, Backfilling, Fate, Moment, Order, Rules};
use crate::trace::jobs::{self, Job, Owned};
use crate::trace::openb;

/// Work that comes, whatever the cluster.
#[derive(Clone, Debug)]
pub enum Work {
    /// Pods of an openb list at a part of what the cluster's cards could do, with made-up
    /// lifetimes, and training gangs among them; see [`steady`].
    Pods { trace: Box<openb::Trace>, load: f64 },
    /// Recorded jobs, as fast as they came.
    Jobs(Vec<Job>),
    /// Jobs of a cluster's queues, as fast as they came.
    Owned(Vec<Owned>),
}

/// How the queue is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// By arrival, with backfilling.
    #[default]
    Arrival,
    /// Short work first, stopping long work for it.
    Short,
}

/// A cluster, work for it, and what might be changed.
#[derive(Clone, Debug)]
pub struct Study {
    nodes: Nodes,
    work: Work,
    queue: Queue,
    /// Whether run times are known within a factor of two.
    estimates: bool,
    seed: u64,
}

/// What came of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub name: String,
    pub cards: u32,
    pub fates: Vec<Fate>,
    /// Cards of each arrival, in thousandths.
    pub sizes: Vec<i64>,
    /// How long each ran, without stops.
    pub run_ms: Vec<Millis>,
    pub moments: Vec<Moment>,
    /// What each queue used, where the cluster has queues.
    pub queues: Vec<Course>,
}

/// What a stop costs.
const RESTART_MS: Millis = 60_000;
/// The pause between rounds where pods come by the second.
const PAUSE_MS: Millis = 30_000;
/// The part of all pods that the typical shapes cover.
const TYPICAL: f64 = 0.95;
/// How strongly short work is preferred; see [`jct`].
const WEIGHT: f64 = 2.0;

impl Study {
    /// Reads the cluster (`openb`, or a file that describes one) and the work (`openb`,
    /// `openb:LIST`, `muri`, `elasticflow:CLUSTER`, or a file of jobs).
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn new(cluster: &str, work: &str, traces: &Path, load: f64) -> Result<Self> {
        ensure!(load.is_finite() && (0.01..=10.0).contains(&load), "a load of {load} is not between 0.01 and 10");
        let file_of_work = work;
        let (kind, part) = work.split_once(':').map_or((work, None), |(kind, part)| (kind, Some(part)));
        let mut work = match kind {
            "openb" => Work::Pods { trace: Box::new(openb::read(traces, part.unwrap_or("default"))?), load },
            "muri" => Work::Jobs(jobs::muri(traces)?),
            "elasticflow" => Work::Jobs(jobs::elasticflow(traces, part.unwrap_or("cluster03"))?),
            _ => Work::Jobs(jobs::read(Path::new(work))?),
        };
        let nodes = match (cluster, &work) {
            ("openb", Work::Pods { trace, .. }) => Nodes::of(trace),
            ("openb", Work::Jobs(_) | Work::Owned(_)) => Nodes::of(&openb::read(traces, "default")?),
            (file, _) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the cluster's description {file}"))?;
                let models = if let Work::Pods { trace, .. } = &work { trace.models.clone() } else { Default::default() };
                Nodes::parse(&text, models).with_context(|| format!("in {file}"))?
            }
        };
        if !nodes.queues.is_empty() {
            let is_file = !matches!(kind, "openb" | "muri" | "elasticflow");
            ensure!(is_file, "the cluster has queues, and recorded work belongs to none: name a CSV file with the column `queue`");
            work = Work::Owned(jobs::read_owned(Path::new(file_of_work))?);
        }
        ensure!(nodes.cards() > 0, "the cluster has no cards: work without them is not simulated");
        Ok(Self { nodes, work, queue: Queue::default(), estimates: true, seed: 1 })
    }

    /// A cluster that was read elsewhere, and its work: `jobs`, or the file of this name.
    ///
    /// # Errors
    /// When the cluster cannot be, or the file cannot be read.
    pub fn of(cluster: Description, jobs: Result<Vec<Owned>, &Path>) -> Result<Self> {
        let nodes = Nodes::described(cluster, Models::default())?;
        ensure!(nodes.cards() > 0, "the cluster has no cards: work without them is not simulated");
        let work = match jobs {
            Ok(jobs) => Work::Owned(jobs),
            Err(file) if nodes.queues.is_empty() => Work::Jobs(jobs::read(file)?),
            Err(file) => Work::Owned(jobs::read_owned(file)?),
        };
        Ok(Self { nodes, work, queue: Queue::default(), estimates: true, seed: 1 })
    }

    #[must_use]
    pub fn with_queue(self, queue: Queue) -> Self {
        Self { queue, ..self }
    }

    /// Whether the scheduler is told run times, within a factor of two.
    #[must_use]
    pub fn with_estimates(self, estimates: bool) -> Self {
        Self { estimates, ..self }
    }

    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The case as things are, and one for each change by itself.
    ///
    /// # Errors
    /// When a change asks for what is not there.
    pub fn run(&self, changes: &[Change]) -> Result<Vec<Case>> {
        if let Work::Owned(jobs) = &self.work {
            return self.run_queued(jobs, changes);
        }
        // Pods come as fast as the cluster as it is would bear, in every case.
        let arrivals = self.arrivals(1.0);
        let mut cases = vec![self.case("as it is".to_owned(), &self.nodes, &arrivals)];
        for change in changes {
            let mut nodes = self.nodes.clone();
            let arrivals = match change {
                Change::Load(factor) => &self.arrivals(*factor),
                _ => &arrivals,
            };
            change.apply(&mut nodes)?;
            cases.push(self.case(change.to_string(), &nodes, arrivals));
        }
        Ok(cases)
    }

    fn run_queued(&self, jobs: &[Owned], changes: &[Change]) -> Result<Vec<Case>> {
        ensure!(self.queue == Queue::Arrival, "the cluster's queues say in which order work is served: leave the other order out");
        let mut cases = vec![self.queued("as it is".to_owned(), &self.nodes, jobs, 1.0)?];
        for change in changes {
            let mut nodes = self.nodes.clone();
            change.apply(&mut nodes)?;
            let factor = if let Change::Load(factor) = change { *factor } else { 1.0 };
            cases.push(self.queued(change.to_string(), &nodes, jobs, factor)?);
        }
        Ok(cases)
    }

    fn queued(&self, name: String, nodes: &Nodes, jobs: &[Owned], factor: f64) -> Result<Case> {
        queues::check(&nodes.queues, nodes.cards())?;
        let first = jobs.first().map_or(0, |owned| owned.job.submitted_at);
        let faster = |owned: &Owned| {
            let submitted_at = ((owned.job.submitted_at - first) as f64 / factor) as Millis;
            Owned { job: Job { submitted_at, ..owned.job }, ..owned.clone() }
        };
        let jobs: Vec<Owned> = jobs.iter().map(faster).collect();
        let mut random = Random::new(self.seed);
        let mut told = |owned: &Owned| {
            let told = owned.job.run_ms as f64 * 2_f64.powf(2.0 * random.unit() - 1.0);
            self.estimates.then_some(told as Millis)
        };
        let told: Vec<_> = jobs.iter().map(&mut told).collect();
        let queued::Outcome { fates, moments, courses } = queued::run(nodes, &jobs, &told)?;
        Ok(Case {
            name,
            cards: nodes.cards(),
            fates,
            sizes: jobs.iter().map(|owned| i64::from(owned.job.cards) * 1000).collect(),
            run_ms: jobs.iter().map(|owned| owned.job.run_ms).collect(),
            moments,
            queues: courses,
        })
    }

    fn arrivals(&self, factor: f64) -> Vec<Arrival> {
        match &self.work {
            Work::Pods { trace, load } => {
                steady::arrivals(&trace.pods, f64::from(self.nodes.cards()), load * factor, self.seed, self.estimates)
            }
            Work::Owned(_) => Vec::new(),
            Work::Jobs(jobs) => {
                let first = jobs.first().map_or(0, |job| job.submitted_at);
                let at = |job: &Job| ((job.submitted_at - first) as f64 / factor) as Millis;
                let jobs: Vec<Job> = jobs.iter().map(|job| Job { submitted_at: at(job), ..*job }).collect();
                let knowledge = if self.estimates { jct::Knowledge::Estimates } else { jct::Knowledge::Nothing };
                jct::arrivals(&jobs, self.nodes.cards_of_a_node(), knowledge, self.seed)
            }
        }
    }

    fn case(&self, name: String, nodes: &Nodes, arrivals: &[Arrival]) -> Case {
        let requests = arrivals.iter().flat_map(|arrival| arrival.work.sets.iter().map(|set| &set.request));
        let mut cluster = Cluster::new(Placement::default(), Mix::typical(requests, TYPICAL));
        cluster.models = nodes.models.clone();
        for (facts, devices) in &nodes.nodes {
            cluster.add(facts.clone(), devices.clone());
        }
        let (order, stops_above) = match (self.queue, self.estimates) {
            (Queue::Arrival, _) => (Order::Arrival, None),
            (Queue::Short, true) => (Order::ResponseRatio { weight: WEIGHT }, Some(2.0)),
            (Queue::Short, false) => (Order::Levels, Some(1.0)),
        };
        let pause_ms = if matches!(self.work, Work::Pods { .. }) { PAUSE_MS } else { 0 };
        let rules = Rules { order, stops_above, restart_ms: RESTART_MS, pause_ms, moves_per_hour: 0.0 };
        let mut moments = Vec::new();
        let mut placer = Backfilling(Engine::new(cluster, Backfill::Easy));
        let fates = simulator::run(&mut placer, arrivals, rules, |moment, _| moments.push(moment));
        let size = |arrival: &Arrival| arrival.work.sets.iter().map(|set| set.request.cards() * i64::from(set.count)).sum();
        Case {
            name,
            cards: nodes.cards(),
            fates,
            sizes: arrivals.iter().map(size).collect(),
            run_ms: arrivals.iter().map(|arrival| arrival.run_ms).collect(),
            moments,
            queues: Vec::new(),
        }
    }
}
