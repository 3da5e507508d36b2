//! Completion times on made-up jobs.

use fermion_sim::experiments::jct::peers::{PEERS, Peer, replay};
use fermion_sim::experiments::jct::{Knowledge, Outcome, ours};
use fermion_sim::trace::jobs::{Job, synthetic};

const CARDS: u32 = 32;

fn mean_s(outcome: &Outcome, jobs: &[Job]) -> f64 {
    let completion = outcome.completion_s(jobs);
    completion.iter().sum::<f64>() / completion.len() as f64
}

/// The most cards in use at any moment, when nobody was stopped.
fn most_in_use(outcome: &Outcome, jobs: &[Job]) -> i64 {
    let mut turns: Vec<(i64, i64)> = Vec::new();
    for ((start, end), job) in outcome.started_at.iter().zip(&outcome.ended_at).zip(jobs) {
        turns.push((*start, i64::from(job.cards)));
        turns.push((*end, -i64::from(job.cards)));
    }
    turns.sort_unstable();
    let mut used = 0;
    turns
        .iter()
        .map(|turn| {
            used += turn.1;
            used
        })
        .max()
        .unwrap_or(0)
}

#[test]
fn jobs_run_as_long_as_they_must_and_never_on_more_cards_than_there_are() {
    let jobs = synthetic(3, 200, CARDS);
    for (peer, name) in PEERS {
        let outcome = replay(&jobs, CARDS, peer);
        for ((job, start), end) in jobs.iter().zip(&outcome.started_at).zip(&outcome.ended_at) {
            assert!(job.submitted_at <= *start && start + job.run_ms <= *end, "{name}: {job:?} ran from {start} to {end}");
        }
        if outcome.preemptions == 0 {
            assert!(most_in_use(&outcome, &jobs) <= i64::from(CARDS), "{name}");
        }
    }
}

#[test]
fn backfilling_helps_without_delaying_the_first_and_shortness_helps_most() {
    let jobs = synthetic(3, 200, CARDS);
    let mean = |peer| mean_s(&replay(&jobs, CARDS, peer), &jobs);
    assert!(mean(Peer::Easy) < mean(Peer::Fifo));
    assert!(mean(Peer::ShortestRemainingService) < mean(Peer::SmallestService));
    assert!(mean(Peer::SmallestService) < mean(Peer::Easy));
}

#[test]
fn ours_needs_to_know_little_to_beat_backfilling() {
    let jobs = synthetic(3, 200, CARDS);
    let easy = mean_s(&replay(&jobs, CARDS, Peer::Easy), &jobs);
    for knowledge in [Knowledge::Estimates, Knowledge::Exact] {
        let outcome = ours(&jobs, CARDS, knowledge, 1);
        assert!(mean_s(&outcome, &jobs) < easy, "{knowledge:?}");
        assert_eq!(outcome, ours(&jobs, CARDS, knowledge, 1), "the same seed gives the same outcome");
    }
    let blind = ours(&jobs, CARDS, Knowledge::Nothing, 1);
    assert!(jobs.iter().zip(&blind.ended_at).all(|(job, end)| job.submitted_at + job.run_ms <= *end));
}

#[test]
fn the_first_that_waits_is_not_delayed_by_those_behind_it() {
    // Two of four cards run until 100. The second job needs all four; the third would end
    // after 100 and must wait for it, the fourth ends before.
    let job = |submitted_at, cards, run_ms| Job { submitted_at, cards, run_ms };
    let jobs = [job(0, 2, 100), job(1, 4, 10), job(2, 2, 200), job(3, 2, 50)];
    let outcome = replay(&jobs, 4, Peer::Easy);
    assert_eq!(outcome.started_at, [0, 100, 110, 3]);
    assert_eq!(replay(&jobs, 4, Peer::Fifo).started_at, [0, 100, 110, 110]);
}
