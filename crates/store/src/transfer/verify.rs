//! What must hold in a store, looked at row by row.

use std::collections::HashMap;

use serde_json::Value;
use tokio::sync::mpsc;

use super::{Chunk, Copied, Row, cut_short};
use crate::error::Error;
use crate::extent::Extent;
use crate::object::{Key, Stored};

/// Problems that are told one by one; more are counted.
const PROBLEMS_MAX: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// What was looked at.
    pub seen: Copied,
    /// What is wrong, in sentences. Nothing is, if it is empty.
    pub problems: Vec<String>,
    /// Problems beyond those in `problems`.
    pub more_problems: u64,
}

#[derive(Default)]
struct Check {
    verified: Verified,
    extent: Option<Extent>,
    /// The newest version so far of each object, and whether it is a deletion.
    newest: HashMap<Key, (u64, bool)>,
    last_revision: u64,
    objects: u64,
}

pub(super) async fn rows(mut receiver: mpsc::Receiver<Chunk>) -> Result<Verified, Error> {
    let mut check = Check::default();
    while let Some(chunk) = receiver.recv().await {
        for row in chunk {
            check.verified.seen.count(&row);
            match row {
                Row::Extent(extent) => check.extent = Some(extent),
                Row::Version { stored, previous, deleted, .. } => check.version(&stored, previous, deleted),
                Row::Object { resource, namespace, name, revision } => check.object(Key::new(resource, namespace, name), revision),
                Row::Fact { id, body, .. } => {
                    if serde_json::from_slice::<Value>(&body).is_err() {
                        check.problem(format!("fact {id} is no JSON"));
                    }
                }
                Row::Lease { .. } => {}
                Row::End => return Ok(check.end()),
            }
        }
    }
    Err(cut_short())
}

impl Check {
    fn problem(&mut self, problem: String) {
        if self.verified.problems.len() < PROBLEMS_MAX {
            self.verified.problems.push(problem);
        } else {
            self.verified.more_problems += 1;
        }
    }

    fn version(&mut self, stored: &Stored, previous: Option<u64>, deleted: bool) {
        let Stored { key, revision, body } = stored;
        let compacted = self.extent.map_or(0, |extent| extent.compacted);
        match serde_json::from_slice::<Value>(body) {
            Ok(object) if object["metadata"]["resourceVersion"].as_str() == Some(revision.to_string().as_str()) => {}
            Ok(object) => {
                let told = &object["metadata"]["resourceVersion"];
                self.problem(format!("{key} at revision {revision} says that it is at {told}"));
            }
            Err(error) => self.problem(format!("{key} at revision {revision} is no JSON: {error}")),
        }
        let before = self.newest.insert(key.clone(), (*revision, deleted));
        if *revision <= compacted {
            if deleted || before.is_some() {
                self.problem(format!("revision {revision} of {key} should have been compacted"));
            }
        } else {
            let expected = self.last_revision.max(compacted) + 1;
            if *revision != expected {
                self.problem(format!("the log goes from revision {} to {revision}", expected - 1));
            }
            let replaced = before.filter(|(_, deleted)| !deleted).map(|(revision, _)| revision);
            if previous != replaced {
                let told = previous.map_or("nothing".to_owned(), |previous| previous.to_string());
                let found = replaced.map_or("nothing".to_owned(), |replaced| replaced.to_string());
                self.problem(format!("revision {revision} of {key} says that it replaced {told}, but there was {found}"));
            }
        }
        self.last_revision = *revision;
    }

    fn object(&mut self, key: Key, revision: u64) {
        self.objects += 1;
        match self.newest.get(&key) {
            Some((newest, false)) if *newest == revision => {}
            Some((newest, deleted)) => {
                let what = if *deleted { "was deleted" } else { "is" };
                self.problem(format!("{key} is listed at revision {revision}, but {what} at {newest}"));
            }
            None => self.problem(format!("{key} is listed at revision {revision}, which is not in the log")),
        }
    }

    fn end(mut self) -> Verified {
        let exist = self.newest.values().filter(|(_, deleted)| !deleted).count() as u64;
        if exist != self.objects {
            self.problem(format!("{exist} objects exist by the log, but {} are listed", self.objects));
        }
        match self.extent {
            Some(Extent { compacted, newest }) => {
                let last = self.last_revision.max(compacted);
                if newest != last {
                    self.problem(format!("the newest revision is {newest}, but the log ends at {last}"));
                }
            }
            None => self.problem("the newest revision is not there".to_owned()),
        }
        self.verified
    }
}
