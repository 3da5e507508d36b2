//! When watchers saw a write.
//!
//! A thousand watchers see a write within milliseconds, on the processors that also have to serve
//! them, so telling it must cost next to nothing: a moment is put into a list, and whoever waits for
//! all of them is woken once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long the last watcher may take to see a write.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the watchers of one target have seen of the write that is under way.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    seen: Mutex<Seen>,
    complete: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    at: Vec<Instant>,
    /// How many there will be.
    expected: usize,
    /// Why a watch ended.
    broken: Option<anyhow::Error>,
}

/// A task that reads one connection with its watches; ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) task: JoinHandle<()>,
    pub(crate) watches: usize,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sightings {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a write: each of so many watchers will see it.
    pub(crate) fn expect(&self, watchers: usize) {
        let mut seen = self.seen();
        seen.at.clear();
        seen.at.reserve(watchers);
        seen.expected = watchers;
    }

    /// A watcher has seen the write now.
    pub(crate) fn saw(&self) {
        let now = Instant::now();
        let mut seen = self.seen();
        seen.at.push(now);
        if seen.at.len() == seen.expected {
            drop(seen);
            self.complete.notify_one();
        }
    }

    /// A watch has ended.
    pub(crate) fn broke(&self, why: anyhow::Error) {
        self.seen().broken.get_or_insert(why);
        self.complete.notify_one();
    }

    /// Waits until all watchers have seen the write, and says when.
    pub(crate) async fn complete(&self) -> anyhow::Result<Vec<Instant>> {
        tokio::time::timeout(DELIVERY_TIMEOUT, async {
            loop {
                {
                    let mut seen = self.seen();
                    if let Some(error) = seen.broken.take() {
                        return Err(error.context("a watch ended"));
                    }
                    if seen.at.len() > seen.expected {
                        bail!("a watcher has seen something twice");
                    }
                    if seen.at.len() == seen.expected {
                        return Ok(std::mem::take(&mut seen.at));
                    }
                }
                self.complete.notified().await;
            }
        })
        .await
        .context("a watcher has not seen a write in time")?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_is_complete_when_everybody_saw_it() {
        let sightings = Sightings::default();
        for _ in 0..2 {
            sightings.expect(3);
            for _ in 0..3 {
                sightings.saw();
            }
            assert_eq!(sightings.complete().await.unwrap().len(), 3);
        }
        sightings.broke(anyhow::anyhow!("gone"));
        assert_eq!(format!("{:#}", sightings.complete().await.unwrap_err()), "a watch ended: gone");
    }
}
