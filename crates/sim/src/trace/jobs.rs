//! Recorded training jobs: how many cards each had, from when, and how long it ran.
//!
//! - Muri's testbed trace (Zhao et al., SIGCOMM 2022), 400 jobs on 64 cards:
//!   <https://github.com/Rivendile/Muri>, times in milliseconds.
//! - ElasticFlow's clusters (Gu et al., ASPLOS 2023), months of real jobs:
//!   <https://github.com/microsoft/elasticflow-traces>, times in seconds.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fermion_scheduler::engine::Millis;
use serde::{Deserialize, Serialize};

/// The most cards a job may ask for; a larger number is no number of cards.
const CARDS_MAX: u32 = 1 << 16;

/// A job of one gang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub submitted_at: Millis,
    pub cards: u32,
    pub run_ms: Millis,
}

impl Job {
    /// Cards times time.
    pub fn service(&self) -> i128 {
        i128::from(self.cards) * i128::from(self.run_ms)
    }
}

#[derive(Deserialize)]
struct MuriRow {
    submit_time: i64,
    num_gpu: u32,
    duration: i64,
}

#[derive(Deserialize)]
struct ElasticFlowRow {
    submission_time: f64,
    num_gpu: u32,
    duration: f64,
}

/// Muri's 400 jobs, in the order of their submission.
///
/// # Errors
/// When the file is not there or not in this form.
pub fn muri(folder: &Path) -> Result<Vec<Job>> {
    let rows: Vec<MuriRow> = rows(&folder.join("muri/cluster_trace.csv"), "https://github.com/Rivendile/Muri")?;
    sorted(rows.into_iter().map(|row| Job { submitted_at: row.submit_time, cards: row.num_gpu, run_ms: row.duration }).collect())
}

/// One of ElasticFlow's clusters, `cluster03` or another, in the order of submission.
///
/// # Errors
/// When the file is not there or not in this form.
pub fn elasticflow(folder: &Path, cluster: &str) -> Result<Vec<Job>> {
    let path = folder.join(format!("elasticflow/{cluster}.csv"));
    let rows: Vec<ElasticFlowRow> = rows(&path, "https://github.com/microsoft/elasticflow-traces")?;
    let job = |row: ElasticFlowRow| Job { submitted_at: millis(row.submission_time), cards: row.num_gpu, run_ms: millis(row.duration) };
    sorted(rows.into_iter().map(job).collect())
}

#[derive(Deserialize)]
struct JobRow {
    submitted_s: f64,
    cards: u32,
    run_s: f64,
}

/// A job of somebody, in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub job: Job,
    pub queue: String,
    pub user: String,
    /// Higher goes first in its queue.
    pub priority: i32,
}

#[derive(Serialize, Deserialize)]
struct OwnedRow {
    submitted_s: f64,
    cards: u32,
    run_s: f64,
    queue: String,
    #[serde(default)]
    user: String,
    priority: Option<i32>,
}

/// Jobs as a file that [`read_owned`] reads.
///
/// # Errors
/// When they cannot be written as CSV.
pub fn write_owned(jobs: &[Owned]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for Owned { job, queue, user, priority } in jobs {
        let seconds = |millis: Millis| millis as f64 / 1000.0;
        let (submitted_s, run_s) = (seconds(job.submitted_at), seconds(job.run_ms));
        let (queue, user) = (queue.clone(), user.clone());
        writer.serialize(OwnedRow { submitted_s, cards: job.cards, run_s, queue, user, priority: Some(*priority) })?;
    }
    Ok(String::from_utf8(writer.into_inner().context("CSV")?)?)
}

/// Jobs of a file of one's own that belong to queues: as [`read`], with a column `queue`, and
/// `user` and `priority` where they are known.
///
/// # Errors
/// When the file is not there or not in this form.
pub fn read_owned(path: &Path) -> Result<Vec<Owned>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read jobs from {}", path.display()))?;
    let mut jobs = Vec::new();
    for row in reader.deserialize() {
        let row: OwnedRow = row.with_context(|| {
            let file = path.display();
            format!("in {file}, whose columns must be submitted_s, cards, run_s and queue, as the cluster has queues")
        })?;
        let job = Job { submitted_at: millis(row.submitted_s), cards: row.cards, run_ms: millis(row.run_s) };
        check(jobs.len(), job)?;
        jobs.push(Owned { job, queue: row.queue, user: row.user, priority: row.priority.unwrap_or(0) });
    }
    jobs.sort_by_key(|owned| owned.job.submitted_at);
    Ok(jobs)
}

fn millis(seconds: f64) -> Millis {
    (seconds * 1000.0).round() as Millis
}

/// Jobs of a file of one's own: CSV with the columns `submitted_s`, `cards` and `run_s`.
///
/// # Errors
/// When the file is not there or not in this form.
pub fn read(path: &Path) -> Result<Vec<Job>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read jobs from {}", path.display()))?;
    let rows = reader.deserialize().map(|row: csv::Result<JobRow>| {
        let row = row.with_context(|| format!("in {}, whose columns must be submitted_s, cards and run_s", path.display()))?;
        Ok(Job { submitted_at: millis(row.submitted_s), cards: row.cards, run_ms: millis(row.run_s) })
    });
    sorted(rows.collect::<Result<_>>()?)
}

/// Whether the trace is there.
pub fn is_there(folder: &Path, name: &str) -> bool {
    let file = if name == "muri" { "muri/cluster_trace.csv".to_owned() } else { format!("elasticflow/{name}.csv") };
    folder.join(file).is_file()
}

/// Jobs made up from a seed, for where no trace is at hand: arrivals at random, run times and
/// sizes with a heavy tail, at a load of 0.9.
pub fn synthetic(seed: u64, count: usize, cards: u32) -> Vec<Job> {
    let mut random = crate::random::Random::new(seed);
    let mut jobs: Vec<Job> = Vec::with_capacity(count);
    for _ in 0..count {
        let run_ms = (1.2 * random.normal() + 7.5).exp().min(200_000.0) * 1000.0;
        let size = [1, 1, 1, 2, 4, 8, 8, 16][random.below(8)];
        jobs.push(Job { submitted_at: 0, cards: u32::min(size, cards), run_ms: run_ms as Millis + 1000 });
    }
    let service: i128 = jobs.iter().map(Job::service).sum();
    let gap = service as f64 / count as f64 / f64::from(cards) / 0.9;
    let mut at = 0.0;
    for job in &mut jobs {
        job.submitted_at = at as Millis;
        at += random.exponential(gap);
    }
    jobs
}

fn check(place: usize, job: Job) -> Result<()> {
    let sound = (1..=CARDS_MAX).contains(&job.cards) && job.run_ms >= 0 && job.submitted_at >= 0;
    ensure!(sound, "job {place} of the trace asks for {} cards for {} ms from {} on", job.cards, job.run_ms, job.submitted_at);
    Ok(())
}

fn sorted(mut jobs: Vec<Job>) -> Result<Vec<Job>> {
    jobs.iter().enumerate().try_for_each(|(place, job)| check(place, *job))?;
    // Stable: jobs of one moment keep the order of the file.
    jobs.sort_by_key(|job| job.submitted_at);
    Ok(jobs)
}

fn rows<T: serde::de::DeserializeOwned>(path: &Path, published: &str) -> Result<Vec<T>> {
    let missing = || {
        format!(
            "cannot read {}: the trace is published at {published}; put it there or name another folder with FERMION_TRACES",
            path.display()
        )
    };
    let mut reader = csv::Reader::from_path(path).with_context(missing)?;
    reader.deserialize().map(|row| row.with_context(|| format!("in {}", path.display()))).collect()
}
