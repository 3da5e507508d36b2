//! When objects came to fulfil a condition, as a watch with a field selector tells it.
//!
//! Such a watch says `ADDED` of an object at the moment it comes to match, so nothing of it has to
//! be read but its name; it asks for metadata alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::WORK_LIMIT;
use super::cluster::get;
use crate::platform::{Platform, Streamed};
use crate::target::Target as _;

/// Watches until it is dropped.
pub(super) struct Observer {
    seen: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    news: Notify,
}

#[derive(Default)]
struct Seen {
    /// When objects first matched, by name.
    at: HashMap<String, Instant>,
    /// How many are waited for.
    expected: usize,
    broken: Option<anyhow::Error>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer {
    /// Watches for so many objects of a collection that match a field selector.
    pub(super) async fn start(target: &Platform, collection: &str, selector: &str, expected: usize) -> anyhow::Result<Self> {
        let mut http = target.connect().await?;
        let list = get(&mut http, &format!("{collection}?limit=1")).await?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a list has a version")?;
        let selector = selector.replace('=', "%3D").replace('!', "%21").replace(',', "%2C");
        let path = format!("{collection}?watch=true&resourceVersion={version}&fieldSelector={selector}");
        let stream = target.watch_metadata(&path).await?;
        let seen = Arc::new(Shared { seen: Mutex::new(Seen { expected, ..Seen::default() }), news: Notify::new() });
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                let why = read(stream, &seen).await.err().unwrap_or_else(|| anyhow::anyhow!("the server ended the watch"));
                seen.seen().broken = Some(why);
                seen.news.notify_one();
            }
        });
        Ok(Self { seen, task })
    }

    /// Waits until all have matched, and says when each did.
    pub(super) async fn all(&self) -> anyhow::Result<HashMap<String, Instant>> {
        let begun = Instant::now();
        let wait = async {
            loop {
                {
                    let mut seen = self.seen.seen();
                    if seen.at.len() >= seen.expected {
                        return Ok(std::mem::take(&mut seen.at));
                    }
                    if let Some(error) = seen.broken.take() {
                        return Err(error.context("a watch ended"));
                    }
                }
                self.seen.news.notified().await;
            }
        };
        match tokio::time::timeout(WORK_LIMIT, wait).await {
            Ok(answer) => answer,
            Err(_) => {
                let (there, expected) = {
                    let seen = self.seen.seen();
                    (seen.at.len(), seen.expected)
                };
                bail!("{there} of {expected} were seen after {} s", begun.elapsed().as_secs())
            }
        }
    }

    /// How many have matched so far.
    pub(super) fn count(&self) -> usize {
        self.seen.seen().at.len()
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: Object<'a>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    name: &'a str,
}

async fn read(mut stream: Streamed, seen: &Shared) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    while let Some(data) = stream.next().await? {
        let now = Instant::now();
        rest.extend_from_slice(&data);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        for line in rest[..end].split(|byte| *byte == b'\n') {
            take(line, now, seen)?;
        }
        rest.drain(..=end);
    }
    Ok(())
}

fn take(line: &[u8], now: Instant, seen: &Shared) -> anyhow::Result<()> {
    if !line.starts_with(br#"{"type":"ADDED""#) {
        if line.starts_with(br#"{"type":"ERROR""#) {
            bail!("{}", String::from_utf8_lossy(line));
        }
        return Ok(());
    }
    let line: Line<'_> = serde_json::from_slice(line).context("a line of a watch is an event")?;
    debug_assert_eq!(line.r#type, "ADDED");
    let mut all = seen.seen();
    all.at.entry(line.object.metadata.name.to_owned()).or_insert(now);
    if all.at.len() >= all.expected {
        drop(all);
        seen.news.notify_one();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_an_object_matches_counts() {
        let seen = Shared::default();
        let line =
            |kind: &str| format!(r#"{{"type":"{kind}","object":{{"kind":"PartialObjectMetadata","metadata":{{"uid":"u","name":"a"}}}}}}"#);
        let first = Instant::now();
        take(line("ADDED").as_bytes(), first, &seen).unwrap();
        take(line("MODIFIED").as_bytes(), first + WORK_LIMIT, &seen).unwrap();
        take(line("DELETED").as_bytes(), first + WORK_LIMIT, &seen).unwrap();
        take(line("ADDED").as_bytes(), first + WORK_LIMIT, &seen).unwrap();
        assert_eq!(seen.seen().at, HashMap::from([("a".to_owned(), first)]));
        assert!(take(line("ERROR").as_bytes(), first, &seen).is_err());
    }
}
