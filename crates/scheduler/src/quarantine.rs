//! Nodes on which work fails that does not fail elsewhere.
//!
//! A failure is evidence against the node it happened on and against the work itself. So the
//! weight of a piece of work's failures is shared out over the nodes it failed on: what fails
//! everywhere hardly counts against any of them. Evidence halves with time, and success on the
//! node takes away from it. A node with enough evidence of enough different work is left out
//! for a while, the longer the more often it came to that, and then gets another chance.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Millis;

/// When a node is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// After this long, evidence counts half.
    pub half_life_ms: Millis,
    /// Evidence from this on is enough; one failure of work that failed nowhere else is 1.
    pub threshold: f64,
    /// At least so many different pieces of work must have failed there.
    pub works_min: usize,
    /// How long a node is left out the first time; each time after that twice as long.
    pub first_ms: Millis,
    /// The longest a node is left out.
    pub longest_ms: Millis,
}

impl Default for Policy {
    fn default() -> Self {
        Self { half_life_ms: 3_600_000, threshold: 2.5, works_min: 3, first_ms: 1_800_000, longest_ms: 86_400_000 }
    }
}

/// The most pieces of work whose failures are remembered for a node; the oldest go first.
const WORKS_MAX: usize = 64;

/// What is held against a node that is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentence {
    pub until: Millis,
    pub evidence: f64,
    /// Work that failed there, in the order of names.
    pub works: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Record {
    /// Last failure of each piece of work, and how many there were.
    failures: BTreeMap<String, (Millis, u32)>,
    /// Evidence that success took away, as of a moment.
    credit: (Millis, f64),
    times: u32,
    sentence: Option<Sentence>,
}

/// What is known of all nodes.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    policy: Policy,
    nodes: BTreeMap<String, Record>,
    /// Nodes on which a piece of work failed.
    failed_on: BTreeMap<String, BTreeSet<String>>,
}

impl Quarantine {
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Work failed on a node by no doing of its owner's (not cancelled, not out of time).
    /// Answers the sentence if it is a new one.
    pub fn failed(&mut self, now: Millis, node: &str, work: &str) -> Option<&Sentence> {
        self.failed_on.entry(work.to_owned()).or_default().insert(node.to_owned());
        let record = self.nodes.entry(node.to_owned()).or_default();
        let failure = record.failures.entry(work.to_owned()).or_insert((now, 0));
        *failure = (now, failure.1.saturating_add(1));
        if record.failures.len() > WORKS_MAX
            && let Some(oldest) = record.failures.iter().min_by_key(|(_, failure)| failure.0).map(|(work, _)| work.clone())
        {
            record.failures.remove(&oldest);
            self.forget(&oldest, node);
        }
        if self.sentence(now, node).is_some() {
            return None;
        }
        let evidence = self.evidence(now, node);
        let record = self.nodes.get_mut(node)?;
        if record.failures.len() < self.policy.works_min || evidence < self.policy.threshold {
            return None;
        }
        let long = self.policy.first_ms.saturating_mul(1 << record.times.min(30)).min(self.policy.longest_ms);
        record.times += 1;
        let works = record.failures.keys().cloned().collect();
        record.sentence = Some(Sentence { until: now.saturating_add(long), evidence, works });
        record.sentence.as_ref()
    }

    /// Work ended well on a node.
    pub fn succeeded(&mut self, now: Millis, node: &str) {
        let half_life = self.policy.half_life_ms;
        if let Some(record) = self.nodes.get_mut(node) {
            record.credit = (now, record.credit.1 * decay(now - record.credit.0, half_life) + 1.0);
        }
    }

    /// Why a node is left out now, if it is.
    pub fn sentence(&self, now: Millis, node: &str) -> Option<&Sentence> {
        self.nodes.get(node)?.sentence.as_ref().filter(|sentence| sentence.until > now)
    }

    /// Ends a sentence: somebody looked at the node. What was held against it is forgotten.
    pub fn release(&mut self, node: &str) {
        let works = self.nodes.remove(node).map(|record| record.failures).unwrap_or_default();
        for work in works.keys() {
            self.forget(work, node);
        }
    }

    /// Ends sentences that are over, and forgets evidence too old to matter. Answers nodes that
    /// may be used again.
    pub fn expire(&mut self, now: Millis) -> Vec<String> {
        let mut free = Vec::new();
        let half_life = self.policy.half_life_ms;
        let mut stale: Vec<(String, String)> = Vec::new();
        for (node, record) in &mut self.nodes {
            if record.sentence.as_ref().is_some_and(|sentence| sentence.until <= now) {
                record.sentence = None;
                // The second chance: old evidence is not held against it again.
                stale.extend(record.failures.keys().map(|work| (work.clone(), node.clone())));
                record.failures.clear();
                free.push(node.clone());
            }
            let old = record.failures.iter().filter(|(_, failure)| now - failure.0 > 10 * half_life);
            stale.extend(old.map(|(work, _)| (work.clone(), node.clone())));
            record.failures.retain(|_, failure| now - failure.0 <= 10 * half_life);
        }
        for (work, node) in stale {
            self.forget(&work, &node);
        }
        free
    }

    /// What is held against a node: 1 for each piece of work that failed there and nowhere
    /// else lately.
    pub fn evidence(&self, now: Millis, node: &str) -> f64 {
        let Some(record) = self.nodes.get(node) else { return 0.0 };
        let of_work = |(work, failure): (&String, &(Millis, u32))| {
            let nodes = self.failed_on.get(work).map_or(1, BTreeSet::len).max(1);
            decay(now - failure.0, self.policy.half_life_ms) / nodes as f64
        };
        let against: f64 = record.failures.iter().map(of_work).sum();
        (against - record.credit.1 * decay(now - record.credit.0, self.policy.half_life_ms)).max(0.0)
    }

    fn forget(&mut self, work: &str, node: &str) {
        if let Some(nodes) = self.failed_on.get_mut(work) {
            nodes.remove(node);
            if nodes.is_empty() {
                self.failed_on.remove(work);
            }
        }
    }
}

fn decay(age_ms: Millis, half_life_ms: Millis) -> f64 {
    0.5_f64.powf(age_ms.max(0) as f64 / half_life_ms.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_work_failing_on_one_node_closes_it_for_a_while() {
        let mut quarantine = Quarantine::default();
        assert!(quarantine.failed(0, "bad", "a").is_none());
        assert!(quarantine.failed(1, "bad", "b").is_none());
        let sentence = quarantine.failed(2, "bad", "c").expect("three of three").clone();
        assert_eq!((sentence.until, sentence.works.as_slice()), (1_800_002, ["a", "b", "c"].map(str::to_owned).as_slice()));
        assert!(quarantine.sentence(1_800_001, "bad").is_some() && quarantine.sentence(1_800_002, "bad").is_none());
        assert_eq!(quarantine.expire(1_800_002), ["bad"]);
        // The next time it takes evidence anew, and lasts twice as long.
        assert!(quarantine.failed(1_800_003, "bad", "d").is_none());
        quarantine.failed(1_800_003, "bad", "e");
        assert_eq!(quarantine.failed(1_800_003, "bad", "f").map(|sentence| sentence.until), Some(1_800_003 + 3_600_000));
    }

    #[test]
    fn work_that_fails_everywhere_is_no_evidence_against_nodes() {
        let mut quarantine = Quarantine::default();
        for work in ["a", "b", "c", "d"] {
            for node in ["n0", "n1", "n2", "n3"] {
                assert!(quarantine.failed(0, node, work).is_none(), "{work} on {node}");
            }
        }
        assert!((quarantine.evidence(0, "n0") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_same_work_again_and_again_is_one_piece_of_evidence() {
        let mut quarantine = Quarantine::default();
        assert!((0..50).all(|turn| quarantine.failed(turn, "n", "loop").is_none()));
    }

    #[test]
    fn time_and_success_take_evidence_away_and_a_look_ends_the_sentence() {
        let mut quarantine = Quarantine::default();
        quarantine.failed(0, "n", "a");
        quarantine.failed(0, "n", "b");
        assert!((quarantine.evidence(3_600_000, "n") - 1.0).abs() < 1e-9);
        quarantine.succeeded(3_600_000, "n");
        assert!(quarantine.evidence(3_600_000, "n") < 1e-9);
        assert!(quarantine.failed(3_600_000, "n", "c").is_none());
        let mut closed = Quarantine::default();
        for work in ["a", "b", "c"] {
            closed.failed(0, "n", work);
        }
        assert!(closed.sentence(1, "n").is_some());
        closed.release("n");
        assert!(closed.sentence(1, "n").is_none() && closed.evidence(1, "n") == 0.0);
    }
}
