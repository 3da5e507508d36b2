//! Pods arrive until more cards were asked for than there are; how many stay unallocated?
//!
//! The experiment of the FGD paper (Weng et al., USENIX ATC 2023, figures 7 and 9 to 14) by
//! its artifact's method: the pods of a trace are shuffled, and pods drawn with replacement
//! are added, until they ask for 1.3 times the cards; each is tried once, in turn, and what
//! does not fit is dropped; nothing leaves. Nodes stand in random order, and the first of
//! nodes with equal scores is taken, after scores were rounded to whole hundredths: both are
//! the artifact's, and the published figures depend on both.

pub mod published;
pub mod report;

use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::scoring::{Mix, Placement};

use crate::random::Random;
use crate::trace::openb::Trace;

/// How much is asked for in the end, relative to the cards there are.
const LOAD: f64 = 1.3;
/// The part of all pods that the typical shapes cover.
const TYPICAL: f64 = 0.95;

/// One run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Percent of cards left unallocated when 100 % were asked for: the mean over all steps
    /// that round to 100.
    pub unallocated_at_100: f64,
    /// The same at 130 %.
    pub unallocated_at_130: f64,
    pub placed: usize,
    pub failed: usize,
}

/// Runs one policy over one trace. The stream of pods and the order of nodes follow from the
/// seed alone, so policies are compared on equal terms.
pub fn run(trace: &Trace, placement: Placement, seed: u64) -> Run {
    let mut random = Random::new(seed);
    let capacity: f64 = trace.nodes.iter().map(|node| node.1.len() as f64 * 1000.0).sum();
    let mut stream: Vec<usize> = (0..trace.pods.len()).collect();
    random.shuffle(&mut stream);
    let mut asked: i64 = trace.pods.iter().map(fermion_scheduler::request::Request::cards).sum();
    loop {
        let pod = random.below(trace.pods.len());
        let more = asked + trace.pods[pod].cards();
        if more as f64 > LOAD * capacity {
            break;
        }
        asked = more;
        stream.push(pod);
    }
    let mut order: Vec<usize> = (0..trace.nodes.len()).collect();
    random.shuffle(&mut order);

    let mut cluster = Cluster::new(placement, Mix::typical(&trace.pods, TYPICAL));
    cluster.models = trace.models.clone();
    cluster.seed(random.bits());
    for (place, node) in order.into_iter().enumerate() {
        let (mut facts, devices) = trace.nodes[node].clone();
        facts.name = format!("{place:06}-{}", facts.name);
        cluster.add(facts, devices);
    }
    let mut result = Run::default();
    let (mut arrived, mut allocated) = (0_i64, 0_i64);
    let mut at: [(f64, u32); 2] = [(0.0, 0); 2];
    for pod in stream {
        let request = &trace.pods[pod];
        let class = cluster.class(request);
        arrived += request.cards();
        if let Some(node) = cluster.best(class, None) {
            cluster.take(class, node);
            allocated += request.cards();
            result.placed += 1;
        } else {
            result.failed += 1;
        }
        for (column, mean) in [100_i64, 130].into_iter().zip(&mut at) {
            let percent = (arrived as f64 / capacity * 100.0).round() as i64;
            // On a small cluster one pod may lead past the column; the step after it counts then.
            if percent == column || percent > column && mean.1 == 0 {
                mean.0 += 100.0 - allocated as f64 / capacity * 100.0;
                mean.1 += 1;
            }
        }
    }
    // On a small cluster the last pod may be too large to come so far.
    let last = 100.0 - allocated as f64 / capacity * 100.0;
    [result.unallocated_at_100, result.unallocated_at_130] = at.map(|(sum, steps)| if steps == 0 { last } else { sum / f64::from(steps) });
    result
}
