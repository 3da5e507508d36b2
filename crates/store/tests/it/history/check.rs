//! What was seen, and what it must agree with.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::linear::{Asked, Operation, Told, is_linearizable};

/// An event as a watcher saw it, or as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) revision: u64,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) value: u64,
    /// Revision and value of what it replaced.
    pub(crate) previous: Option<(u64, u64)>,
}

/// A list, with revision and value of each object.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) revision: u64,
    pub(crate) items: BTreeMap<String, (u64, u64)>,
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By object.
    pub(crate) operations: HashMap<String, Vec<Operation>>,
    pub(crate) lists: Vec<Listed>,
    /// What each watcher saw, in its order.
    pub(crate) watches: Vec<Vec<Seen>>,
    /// What the log says in the end.
    pub(crate) log: Vec<Seen>,
    /// The values whose commits recorded a fact.
    pub(crate) facts: Vec<u64>,
    pub(crate) kills: u64,
    pub(crate) pauses: u64,
    pub(crate) cuts: u64,
    pub(crate) problems: Vec<String>,
}

impl History {
    pub(crate) fn summary(&self) -> String {
        let operations: usize = self.operations.values().map(Vec::len).sum();
        let unknown = self.operations.values().flatten().filter(|operation| operation.told == Told::Unknown).count();
        format!(
            "{operations} operations on {} objects ({unknown} without an answer), {} lists, {} kills, {} pauses, {} cuts",
            self.operations.len(),
            self.lists.len(),
            self.kills,
            self.pauses,
            self.cuts,
        )
    }

    /// What is wrong, in sentences.
    pub(crate) fn check(mut self) -> Vec<String> {
        let mut problems = std::mem::take(&mut self.problems);
        self.check_log(&mut problems);
        self.check_writes(&mut problems);
        self.check_watches(&mut problems);
        self.check_lists(&mut problems);
        self.check_objects(&mut problems);
        problems
    }

    /// The log has no gaps, and each entry follows from those before it.
    fn check_log(&self, problems: &mut Vec<String>) {
        let mut state: HashMap<&str, (u64, u64)> = HashMap::new();
        for (entry, expected) in self.log.iter().zip(1..) {
            if entry.revision != expected {
                problems.push(format!("the log has revision {} where {expected} should be", entry.revision));
            }
            let before = state.get(entry.name.as_str()).copied();
            if entry.previous != before {
                problems.push(format!("revision {} says that it replaced {:?}, but there was {before:?}", entry.revision, entry.previous));
            }
            match (entry.kind.as_str(), before) {
                ("added", None) | ("modified", Some(_)) => drop(state.insert(&entry.name, (entry.revision, entry.value))),
                ("deleted", Some(_)) => drop(state.remove(entry.name.as_str())),
                _ => problems
                    .push(format!("revision {} of {} is called {}, but there was {before:?}", entry.revision, entry.name, entry.kind)),
            }
        }
    }

    /// What was acknowledged is in the log, where it was said to be; what is in the log was asked for, and
    /// is there once; each commit's fact happened with it.
    fn check_writes(&self, problems: &mut Vec<String>) {
        let mut written: HashMap<u64, u64> = HashMap::new();
        for entry in self.log.iter().filter(|entry| entry.kind != "deleted") {
            if let Some(first) = written.insert(entry.value, entry.revision) {
                problems.push(format!("value {} was written twice, at {first} and {}", entry.value, entry.revision));
            }
        }
        let deletions: HashMap<u64, &str> =
            self.log.iter().filter(|entry| entry.kind == "deleted").map(|entry| (entry.revision, entry.name.as_str())).collect();
        let facts: HashSet<u64> = self.facts.iter().copied().collect();
        if facts.len() != self.facts.len() {
            problems.push("a fact was recorded twice".to_owned());
        }
        let mut asked = HashSet::new();
        for (name, operation) in self.operations.iter().flat_map(|(name, of)| of.iter().map(move |operation| (name, operation))) {
            let Operation { asked: what, value, told, .. } = operation;
            let in_log = written.get(value).copied();
            asked.insert(*value);
            match (what, told) {
                (Asked::Get, _) => {}
                (Asked::Delete, Told::Written { revision }) if deletions.get(revision) != Some(&name.as_str()) => {
                    problems.push(format!("the deletion of {name} at {revision} was acknowledged, but is not in the log"));
                }
                (Asked::Delete, _) => {}
                (_, Told::Written { revision }) if in_log != Some(*revision) => {
                    problems.push(format!("value {value} of {name} was acknowledged at {revision}, but the log has it at {in_log:?}"));
                }
                (_, Told::Exists | Told::Conflict { .. } | Told::Nothing) if in_log.is_some() => {
                    problems.push(format!("value {value} of {name} was refused, but the log has it at {in_log:?}"));
                }
                _ => {}
            }
            let happened = match told {
                Told::Written { .. } => Some(true),
                Told::Unknown if *what == Asked::Delete => None,
                Told::Unknown => Some(in_log.is_some()),
                _ => Some(false),
            };
            if let Some(happened) = happened
                && facts.contains(value) != happened
            {
                let (one, other) = if happened { ("its write", "its fact") } else { ("its fact", "its write") };
                problems.push(format!("of the commit with value {value} {one} happened, but not {other}"));
            }
        }
        for (value, revision) in written {
            if !asked.contains(&value) {
                problems.push(format!("revision {revision} has value {value}, which nobody wrote"));
            }
        }
    }

    /// Every watcher saw every event, once, in order, as the log has it.
    fn check_watches(&self, problems: &mut Vec<String>) {
        for (seen, watcher) in self.watches.iter().zip(0..) {
            let mut log = self.log.iter().peekable();
            for event in seen {
                while let Some(missed) = log.next_if(|entry| entry.revision < event.revision) {
                    problems.push(format!("the watcher of server {watcher} never saw revision {}", missed.revision));
                }
                match log.next_if(|entry| entry.revision == event.revision) {
                    Some(entry) if entry == event => {}
                    Some(entry) => problems.push(format!("the watcher of server {watcher} saw {event:?}, but the log has {entry:?}")),
                    None => {
                        problems.push(format!("the watcher of server {watcher} saw revision {} late, twice or in vain", event.revision));
                    }
                }
            }
            problems.extend(log.map(|missed| format!("the watcher of server {watcher} never saw revision {}", missed.revision)));
        }
    }

    /// Every list is the log up to its revision, and has in it what was acknowledged before it began.
    fn check_lists(&self, problems: &mut Vec<String>) {
        let mut lists: Vec<&Listed> = self.lists.iter().collect();
        lists.sort_by_key(|list| list.revision);
        let mut state: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut log = self.log.iter().peekable();
        for list in lists {
            while let Some(entry) = log.next_if(|entry| entry.revision <= list.revision) {
                if entry.kind == "deleted" {
                    state.remove(&entry.name);
                } else {
                    state.insert(entry.name.clone(), (entry.revision, entry.value));
                }
            }
            if state != list.items {
                problems.push(format!("the list at revision {} is not the log up to there", list.revision));
            }
        }
        // Revisions as they were told, by when.
        let writes = self.operations.values().flatten().filter_map(|operation| match operation.told {
            Told::Written { revision } => Some((operation.began, operation.ended, revision)),
            _ => None,
        });
        let mut told: Vec<(u64, u64, u64)> = writes.chain(self.lists.iter().map(|list| (list.began, list.ended, list.revision))).collect();
        told.sort_unstable_by_key(|(_, ended, _)| *ended);
        let mut newest_by_end: Vec<(u64, u64)> = Vec::with_capacity(told.len());
        for (_, ended, revision) in &told {
            let newest = newest_by_end.last().map_or(0, |(_, newest)| *newest).max(*revision);
            newest_by_end.push((*ended, newest));
        }
        for list in &self.lists {
            let before = newest_by_end.partition_point(|(ended, _)| *ended < list.began);
            if let Some((_, newest)) = before.checked_sub(1).map(|index| newest_by_end[index])
                && newest > list.revision
            {
                problems.push(format!("a list was at revision {} after somebody had been told of {newest}", list.revision));
            }
        }
    }

    /// Each object by itself behaved as if one thing happened after another.
    fn check_objects(&mut self, problems: &mut Vec<String>) {
        let learned: HashMap<u64, u64> =
            self.log.iter().filter(|entry| entry.kind != "deleted").map(|entry| (entry.value, entry.revision)).collect();
        for (name, operations) in &mut self.operations {
            for operation in operations.iter_mut() {
                operation.learned = learned.get(&operation.value).copied();
            }
            operations.sort_by_key(|operation| operation.began);
            if !is_linearizable(operations) {
                problems.push(format!("what happened to {name} cannot have happened in any order: {operations:#?}"));
            }
        }
    }
}
