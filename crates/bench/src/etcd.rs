//! etcd, through its own gRPC API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use tonic::transport::{Channel, Endpoint};

use crate::sightings::{Sightings, Watcher};
use crate::target::{Connection, Entry, Target, answered};

#[allow(unreachable_pub, missing_docs, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]
mod v3 {
    tonic::include_proto!("etcdserverpb");
}

use v3::kv_client::KvClient;
use v3::watch_client::WatchClient;

/// The largest answer that is read: 10,000 objects of 1 KB with room to spare.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// An etcd that listens there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Etcd {
    pub(crate) address: SocketAddr,
}

impl Etcd {
    async fn channel(self) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).context("not an address")?.tcp_nodelay(true);
        answered("connecting to etcd", endpoint.connect()).await
    }
}

/// Keys of a folder begin with this.
fn prefix(folder: &str) -> Vec<u8> {
    format!("/{folder}/").into_bytes()
}

/// The end of the range of keys that begin with the folder's prefix: `0` follows `/`.
fn prefix_end(folder: &str) -> Vec<u8> {
    format!("/{folder}0").into_bytes()
}

fn key(entry: &Entry) -> Vec<u8> {
    format!("/{}/{}", entry.folder, entry.name).into_bytes()
}

impl Target for Etcd {
    type Connection = KvClient<Channel>;

    fn name(&self) -> &'static str {
        "etcd"
    }

    async fn connect(&self) -> anyhow::Result<Self::Connection> {
        Ok(KvClient::new(self.channel().await?).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    async fn prepare(&self, _folder: &str) -> anyhow::Result<()> {
        Ok(())
    }

    async fn watch(&self, folder: &str, watchers: usize, sightings: &Arc<Sightings>) -> anyhow::Result<Vec<Watcher>> {
        let mut watches = Vec::with_capacity(watchers);
        for _ in 0..watchers {
            watches.push(self.watch_once(folder, sightings.clone()).await?);
        }
        Ok(watches)
    }
}

impl Etcd {
    async fn watch_once(self, folder: &str, sightings: Arc<Sightings>) -> anyhow::Result<Watcher> {
        let create = v3::WatchCreateRequest { key: prefix(folder), range_end: prefix_end(folder), start_revision: 0 };
        let request = v3::WatchRequest { request_union: Some(v3::watch_request::RequestUnion::CreateRequest(create)) };
        // The stream of requests stays open for as long as the answers are read.
        let requests = futures::StreamExt::chain(futures::stream::iter([request]), futures::stream::pending());
        let mut client = WatchClient::new(self.channel().await?);
        let mut answers = answered("watching etcd", client.watch(requests)).await?.into_inner();
        let first = answered("watching etcd", answers.message()).await?.context("the watch ended at once")?;
        ensure!(first.created && !first.canceled, "etcd refused the watch: {}", first.cancel_reason);
        let task = tokio::spawn(async move {
            loop {
                match answers.message().await {
                    Ok(Some(answer)) => answer.events.iter().for_each(|_| sightings.saw()),
                    Ok(None) => return sightings.broke(anyhow!("etcd ended it")),
                    Err(error) => return sightings.broke(error.into()),
                }
            }
        });
        Ok(Watcher { task, watches: 1 })
    }
}

impl Connection for KvClient<Channel> {
    async fn create(&mut self, entry: &Entry, body: Vec<u8>) -> anyhow::Result<()> {
        answered("a put", self.put(v3::PutRequest { key: key(entry), value: body })).await.map(drop)
    }

    async fn get(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let request = v3::RangeRequest { key: key(entry), ..v3::RangeRequest::default() };
        let answer = answered("a get", self.range(request)).await?.into_inner();
        ensure!(answer.kvs.len() == 1, "etcd does not have {}", entry.name);
        Ok(())
    }

    async fn list(&mut self, folder: &str, expected: usize) -> anyhow::Result<Duration> {
        let request = v3::RangeRequest { key: prefix(folder), range_end: prefix_end(folder), ..v3::RangeRequest::default() };
        let begun = Instant::now();
        let answer = answered("a range", self.range(request)).await?.into_inner();
        let taken = begun.elapsed();
        ensure!(answer.kvs.len() == expected && !answer.more, "etcd answered {} of {expected} objects", answer.kvs.len());
        Ok(taken)
    }
}
