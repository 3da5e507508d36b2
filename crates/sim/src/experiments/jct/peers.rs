//! The published orders, over a pool of equal cards: no nodes, and stopping costs nothing.
//! That is how they are stated, and the most they can reach.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use fermion_scheduler::engine::Millis;

use super::Outcome;
use crate::trace::jobs::Job;

/// Tiresias' two thresholds of attained service (Gu et al., NSDI 2019): 1 and 10 card-hours.
const LEVELS: [i128; 2] = [3_600_000, 36_000_000];

/// A published order of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// First in, first out; nothing passes the first that waits.
    Fifo,
    /// The same with backfilling that does not delay the first, run times being known (Lifka,
    /// JSSPP 1995).
    Easy,
    /// The shortest first; nobody is stopped.
    ShortestJob,
    /// The least cards times time first; nobody is stopped.
    SmallestService,
    /// The one with the shortest time left; others are stopped for it.
    ShortestRemainingTime,
    /// The one with the least cards times time left; others are stopped for it.
    ShortestRemainingService,
    /// Those that had less service first, in three levels, and in each by arrival
    /// (discretized two-dimensional least attained service; Tiresias).
    LeastAttainedService,
}

/// Peers with the names they have in tables.
pub const PEERS: [(Peer, &str); 7] = [
    (Peer::Fifo, "FIFO"),
    (Peer::Easy, "EASY"),
    (Peer::ShortestJob, "SJF"),
    (Peer::SmallestService, "SSF"),
    (Peer::ShortestRemainingTime, "SRTF"),
    (Peer::ShortestRemainingService, "SRSF"),
    (Peer::LeastAttainedService, "2D-LAS"),
];

/// Replays the jobs, which are in the order of their submission, on this many cards.
///
/// # Panics
/// When a job asks for more cards than there are.
pub fn replay(jobs: &[Job], cards: u32, peer: Peer) -> Outcome {
    assert!(jobs.iter().all(|job| job.cards <= cards), "every job has room on {cards} cards");
    match peer {
        Peer::Fifo => in_order(jobs, cards, false, |_| 0),
        Peer::Easy => in_order(jobs, cards, true, |_| 0),
        Peer::ShortestJob => in_order(jobs, cards, false, |job| i128::from(job.run_ms)),
        Peer::SmallestService => in_order(jobs, cards, false, Job::service),
        Peer::ShortestRemainingTime => preemptive(jobs, cards, &[], |_, left, _| i128::from(left)),
        Peer::ShortestRemainingService => preemptive(jobs, cards, &[], |job, left, _| i128::from(left) * i128::from(job.cards)),
        Peer::LeastAttainedService => preemptive(jobs, cards, &LEVELS, |job, _, had| {
            let service = i128::from(had) * i128::from(job.cards);
            LEVELS.iter().filter(|level| service >= **level).count() as i128
        }),
    }
}

/// Nobody is stopped, and nothing passes the first that waits unless it is backfilled.
fn in_order(jobs: &[Job], cards: u32, backfill: bool, key: impl Fn(&Job) -> i128) -> Outcome {
    let mut outcome = Outcome::new(jobs.len());
    let mut pending: BTreeSet<(i128, usize)> = BTreeSet::new();
    let mut running: BinaryHeap<Reverse<(Millis, usize)>> = BinaryHeap::new();
    let (mut free, mut next) = (cards, 0);
    loop {
        let arrival = jobs.get(next).map(|job| job.submitted_at);
        let end = running.peek().map(|entry| entry.0.0);
        let Some(now) = arrival.into_iter().chain(end).min() else { return outcome };
        while let Some(&Reverse((end, job))) = running.peek()
            && end <= now
        {
            running.pop();
            free += jobs[job].cards;
            outcome.ended_at[job] = end;
        }
        while let Some(job) = jobs.get(next)
            && job.submitted_at <= now
        {
            pending.insert((key(job), next));
            next += 1;
        }
        let mut start = |job: usize, free: &mut u32, running: &mut BinaryHeap<_>| {
            *free -= jobs[job].cards;
            outcome.started_at[job] = now;
            running.push(Reverse((now + jobs[job].run_ms, job)));
        };
        while let Some(&(first, job)) = pending.first()
            && jobs[job].cards <= free
        {
            pending.remove(&(first, job));
            start(job, &mut free, &mut running);
        }
        let Some(&(_, head)) = pending.first() else { continue };
        if !backfill || free == 0 {
            continue;
        }
        // When the head can start, and what is to spare then.
        let mut ends: Vec<(Millis, usize)> = running.iter().map(|entry| entry.0).collect();
        ends.sort_unstable();
        let mut then = free;
        let reached = ends.iter().find(|(_, job)| {
            then += jobs[*job].cards;
            then >= jobs[head].cards
        });
        let shadow = reached.expect("all cards suffice for the head").0;
        let mut spare = then - jobs[head].cards;
        for (first, job) in pending.iter().skip(1).copied().collect::<Vec<_>>() {
            let Job { cards: asked, run_ms, .. } = jobs[job];
            let is_over = now + run_ms <= shadow;
            if asked > free || !is_over && asked > spare {
                continue;
            }
            if !is_over {
                spare -= asked;
            }
            pending.remove(&(first, job));
            start(job, &mut free, &mut running);
        }
    }
}

/// At each moment those with the smallest key run, passing over those without room. `levels`
/// are amounts of service at which a key changes while a job runs.
fn preemptive(jobs: &[Job], cards: u32, levels: &[i128], key: impl Fn(&Job, Millis, Millis) -> i128) -> Outcome {
    struct Active {
        job: usize,
        left: Millis,
        runs: bool,
    }
    let mut outcome = Outcome::new(jobs.len());
    let mut active: Vec<Active> = Vec::new();
    let (mut now, mut next) = (0, 0);
    loop {
        let turn = |one: &Active| {
            let had = i128::from(jobs[one.job].run_ms - one.left);
            let size = i128::from(jobs[one.job].cards);
            // Rounded up to the millisecond in which the level is reached.
            let until = levels.iter().find(|level| had * size < **level).map(|level| ((level - had * size + size - 1) / size) as Millis);
            now + until.unwrap_or(Millis::MAX - now).min(one.left)
        };
        let turns = active.iter().filter(|one| one.runs).map(turn);
        let Some(then) = turns.chain(jobs.get(next).map(|job| job.submitted_at)).min() else { return outcome };
        for one in active.iter_mut().filter(|one| one.runs) {
            one.left -= then - now;
        }
        now = then;
        active.retain(|one| {
            if one.left <= 0 {
                outcome.ended_at[one.job] = now;
            }
            one.left > 0
        });
        while let Some(job) = jobs.get(next)
            && job.submitted_at <= now
        {
            active.push(Active { job: next, left: job.run_ms, runs: false });
            next += 1;
        }
        active.sort_by_key(|one| (key(&jobs[one.job], one.left, jobs[one.job].run_ms - one.left), one.job));
        let mut free = cards;
        for one in &mut active {
            let job = &jobs[one.job];
            let runs = job.cards <= free;
            if runs {
                free -= job.cards;
            }
            if runs && one.left == job.run_ms && !one.runs {
                outcome.started_at[one.job] = now;
            }
            outcome.preemptions += usize::from(one.runs && !runs);
            one.runs = runs;
        }
    }
}
