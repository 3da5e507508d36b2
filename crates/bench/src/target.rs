//! What the load generator can do with a platform and with etcd alike.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::sightings::{Sightings, Watcher};

/// How long one request may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// An object of the load: its folder, a name of its own, and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) folder: String,
    pub(crate) name: String,
}

impl Entry {
    /// The object as it is sent, about 1 KB: a ConfigMap for the platform, the same bytes as a
    /// value for etcd.
    pub(crate) fn body(&self) -> Vec<u8> {
        self.object().to_string().into_bytes()
    }

    /// The same with a label.
    pub(crate) fn labelled(&self, key: &str, value: &str) -> Vec<u8> {
        let mut object = self.object();
        object["metadata"]["labels"][key] = value.into();
        object.to_string().into_bytes()
    }

    fn object(&self) -> serde_json::Value {
        let filler = "0123456789abcdef".repeat(FILLER_REPEATS);
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "namespace": self.folder},
            "data": {"filler": filler},
        })
    }
}

/// Repeats of 16 bytes that make an object about 1 KB.
const FILLER_REPEATS: usize = 56;

/// Something objects can be written to and read from.
pub(crate) trait Target: Clone + Debug + Send + Sync + 'static {
    type Connection: Connection;

    /// What it is called in the table.
    fn name(&self) -> &'static str;

    /// A connection of its own.
    fn connect(&self) -> impl Future<Output = anyhow::Result<Self::Connection>> + Send;

    /// Makes folders that objects can be put in.
    fn prepare(&self, folder: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// So many watchers of everything that is written to the folder from now on, each over a
    /// connection of its own. They tell what they see until they are dropped.
    fn watch(&self, folder: &str, watchers: usize, sightings: &Arc<Sightings>)
    -> impl Future<Output = anyhow::Result<Vec<Watcher>>> + Send;
}

/// One connection, used by one task at a time.
pub(crate) trait Connection: Send + 'static {
    /// Writes an object that is not there; it is on disk when this returns.
    fn create(&mut self, entry: &Entry, body: Vec<u8>) -> impl Future<Output = anyhow::Result<()>> + Send;

    fn get(&mut self, entry: &Entry) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Reads all objects of a folder at once and says how long the answer took, checks done
    /// after the clock was stopped excluded.
    fn list(&mut self, folder: &str, expected: usize) -> impl Future<Output = anyhow::Result<Duration>> + Send;
}

/// A connection over which objects are changed.
pub(crate) trait Updates: Connection {
    /// Reads an object, counts it up and writes it back, again and again until nobody else
    /// changed it meanwhile; the change is on disk when this returns.
    fn update(&mut self, entry: &Entry) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Waits for an answer, within the bound.
pub(crate) async fn answered<T, E>(what: &str, answer: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    tokio::time::timeout(REQUEST_TIMEOUT, answer)
        .await
        .with_context(|| format!("{what}: no answer within {} s", REQUEST_TIMEOUT.as_secs()))?
        .with_context(|| format!("{what} failed"))
}

/// Opens a connection on which small requests are sent at once.
pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<tokio::net::TcpStream> {
    let stream = answered("connecting", tokio::net::TcpStream::connect(address)).await?;
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_about_a_kilobyte() {
        let entry = Entry { folder: "bench-0".to_owned(), name: "object-0-00-0000".to_owned() };
        assert!((1000..1100).contains(&entry.body().len()), "{}", entry.body().len());
    }
}
