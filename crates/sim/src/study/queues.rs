//! Queues of a described cluster, and what work got of what they are promised.

use anyhow::{Context as _, Result, bail, ensure};
use fermion_scheduler::queue::{Config, Queues};
use fermion_scheduler::resource::ResourceId;
use serde::{Deserialize, Serialize};

use crate::simulator::{Fate, Moment};
use crate::statistics::{Summary, quantile};

/// The most queues of a described cluster.
pub const QUEUES_MAX: usize = 1000;

/// A queue, as a file describes it. Cards of all models count alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Queue {
    pub name: String,
    /// The queue above it.
    #[serde(default)]
    pub parent: Option<String>,
    /// Cards that it has back from others whenever it needs them; without, what the queues
    /// below it are promised together.
    #[serde(default)]
    pub guarantee: Option<u32>,
    /// Cards that it never goes beyond.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Higher is served first.
    #[serde(default)]
    pub priority: u32,
}

/// Whether the queues can stand beside each other.
///
/// # Errors
/// When one is named twice, hangs under none that is there, or is promised what others are.
pub fn check(queues: &[Queue], cards: u32) -> Result<()> {
    ensure!(queues.len() <= QUEUES_MAX, "more than {QUEUES_MAX} queues are not simulated");
    // One resource is told, and any number stands for it.
    let amount = |cards: Option<u32>| cards.map(|cards| (ResourceId::CPU, i64::from(cards))).into_iter().collect();
    let mut tree = Queues::default();
    let mut left: Vec<&Queue> = queues.iter().collect();
    while !left.is_empty() {
        let before = left.len();
        let mut refused = Ok(());
        left.retain(|queue| {
            let parent = match &queue.parent {
                Some(name) => match tree.id(name) {
                    Some(id) => Some(id),
                    None => return true,
                },
                None => None,
            };
            let config = Config {
                parent,
                guaranteed: amount(queue.guarantee),
                limit: amount(queue.limit),
                priority: queue.priority,
                ..Config::new(&queue.name)
            };
            if let Err(error) = tree.add(config)
                && refused.is_ok()
            {
                refused = Err(error).with_context(|| format!("queue {}", queue.name));
            }
            false
        });
        refused?;
        if left.len() == before {
            bail!(
                "queue {} hangs under {}, which is not there or hangs under it",
                left[0].name,
                left[0].parent.as_deref().unwrap_or("none")
            );
        }
    }
    let excess = tree.iter().filter(|(_, config)| config.parent.is_none()).map(|(id, _)| tree.guarantee(id, ResourceId::CPU)).sum::<i64>()
        - i64::from(cards);
    ensure!(excess <= 0, "the queues are promised {excess} cards more than there are: {cards}");
    Ok(())
}

/// Gives a queue a part of what its parent is promised, or of all cards. Where the queues beside
/// it are promised more than is left then, each is promised less in proportion.
///
/// # Errors
/// When there is no such queue, or what is below it is promised more.
pub fn give(queues: &mut [Queue], name: &str, percent: f64, cards: u32) -> Result<()> {
    let place = queues.iter().position(|queue| queue.name == name).with_context(|| format!("there is no queue {name}"))?;
    let parent = queues[place].parent.clone();
    let whole = match &parent {
        Some(parent) => promised(queues, parent),
        None => cards,
    };
    let given = (f64::from(whole) * percent / 100.0).round() as u32;
    let beside: Vec<(usize, u32)> = (0..queues.len())
        .filter(|other| *other != place && queues[*other].parent == parent)
        .map(|other| (other, promised(queues, &queues[other].name)))
        .collect();
    let (sum, left) = (beside.iter().map(|entry| entry.1).sum::<u32>(), whole - given.min(whole));
    queues[place].guarantee = Some(given);
    if queues[place].limit.is_some_and(|limit| limit < given) {
        queues[place].limit = Some(given);
    }
    if sum > left {
        for (other, promised) in beside {
            queues[other].guarantee = Some((u64::from(promised) * u64::from(left) / u64::from(sum)) as u32);
        }
    }
    check(queues, cards)
}

/// What a queue is promised: what it says, or what is said below it.
pub fn promised(queues: &[Queue], name: &str) -> u32 {
    let own = queues.iter().find(|queue| queue.name == name).and_then(|queue| queue.guarantee);
    own.unwrap_or_else(|| {
        queues.iter().filter(|queue| queue.parent.as_deref() == Some(name)).map(|child| promised(queues, &child.name)).sum()
    })
}

/// What a queue used and asked for over time, with all below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    pub name: String,
    /// Cards promised.
    pub guarantee: u32,
    /// Places of its work among the arrivals.
    pub work: Vec<usize>,
    /// Cards in use and cards that waiting work asks for, at each moment of the case.
    pub cards: Vec<(u32, u32)>,
}

/// What came of a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    pub count: usize,
    pub mean_s: f64,
    pub p50_s: f64,
    pub p99_s: f64,
    /// Cards in use on average, from the first arrival to the last.
    pub cards: f64,
    /// What it had of its guarantee while it could have used it, in percent; 100 when it was
    /// never short. `None` where nothing is promised.
    pub got: Option<f64>,
    /// How often its work was stopped for others.
    pub stops: u64,
}

impl Course {
    pub fn figures(&self, fates: &[Fate], moments: &[Moment]) -> Figures {
        let submitted = || fates.iter().map(|fate| fate.submitted_at);
        let (first, last) = (submitted().min().unwrap_or(0), submitted().max().unwrap_or(0));
        let (mut used, mut held, mut due) = (0.0, 0.0, 0.0);
        for (pair, &(here, asked)) in moments.windows(2).zip(&self.cards) {
            let length = (pair[1].now.min(last) - pair[0].now).max(0) as f64;
            used += f64::from(here) * length;
            held += f64::from(here.min(self.guarantee)) * length;
            due += f64::from((here + asked).min(self.guarantee)) * length;
        }
        let mut waits: Vec<f64> =
            self.work.iter().filter_map(|place| Some((fates[*place].started_at? - fates[*place].submitted_at) as f64 / 1000.0)).collect();
        waits.sort_by(f64::total_cmp);
        let of = |part: f64| if waits.is_empty() { 0.0 } else { quantile(&waits, part) };
        Figures {
            count: self.work.len(),
            mean_s: if waits.is_empty() { 0.0 } else { Summary::of(&waits).mean },
            p50_s: of(0.5),
            p99_s: of(0.99),
            cards: used / (last - first).max(1) as f64,
            got: (self.guarantee > 0).then(|| if due > 0.0 { held / due * 100.0 } else { 100.0 }),
            stops: self.work.iter().map(|place| u64::from(fates[*place].stops)).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str, parent: Option<&str>, guarantee: Option<u32>) -> Queue {
        Queue { name: name.to_owned(), parent: parent.map(str::to_owned), guarantee, limit: None, priority: 0 }
    }

    #[test]
    fn what_is_given_to_one_is_taken_from_those_beside_it_in_proportion() {
        let mut queues = vec![queue("a", None, Some(8)), queue("b", None, Some(16)), queue("c", None, Some(8))];
        give(&mut queues, "a", 62.5, 32).expect("it fits");
        assert_eq!(queues.iter().map(|queue| queue.guarantee).collect::<Vec<_>>(), [Some(20), Some(8), Some(4)]);
        assert!(give(&mut queues, "d", 10.0, 32).expect_err("there is none").to_string().contains("queue d"));
    }

    #[test]
    fn a_child_is_given_a_part_of_its_parent() {
        let mut queues = vec![queue("top", None, Some(16)), queue("x", Some("top"), Some(8)), queue("y", Some("top"), Some(8))];
        give(&mut queues, "x", 75.0, 32).expect("it fits");
        assert_eq!(queues.iter().map(|queue| queue.guarantee).collect::<Vec<_>>(), [Some(16), Some(12), Some(4)]);
    }

    #[test]
    fn queues_that_cannot_stand_beside_each_other_are_refused() {
        for queues in [
            vec![queue("a", None, Some(8)), queue("a", None, None)],
            vec![queue("a", Some("b"), None)],
            vec![queue("a", Some("b"), None), queue("b", Some("a"), None)],
            vec![queue("a", None, Some(20)), queue("b", None, Some(20))],
            vec![queue("top", None, Some(4)), queue("a", Some("top"), Some(8))],
        ] {
            assert!(check(&queues, 32).is_err(), "{queues:?}");
        }
    }
}
