//! Benchmark `etcd`: durable writes, reads, lists and the way to watchers, beside etcd alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::etcd::Etcd;
use crate::figures::{Figure, Latencies};
use crate::load::{Load, Outcome};
use crate::platform::Platform;
use crate::sightings::{Sightings, Watcher};
use crate::target::{Connection as _, Entry, Target};

/// Connections at once, each with one request in flight.
const CONNECTIONS: usize = 64;
/// Rounds in which platform and peer take turns.
pub(crate) const ROUNDS: usize = 10;
/// Objects in a folder: what a list reads.
pub(crate) const LISTED: usize = 10_000;
/// Rounds that fill one folder.
pub(crate) const ROUNDS_PER_FOLDER: usize = 5;
/// Writes in a round.
const WRITES_PER_ROUND: usize = LISTED / ROUNDS_PER_FOLDER;
/// Reads in a round.
const GETS_PER_ROUND: usize = 5_000;
/// Steps from one object read to the next; prime, so that all are read.
const GET_STRIDE: usize = 7_919;
/// Lists in a round.
const LISTS_PER_ROUND: usize = 2;
/// Watchers of one folder, each over a connection of its own.
const WATCHERS: usize = 100;
/// Writes they see, one after another, in a round.
const WATCHED_PER_ROUND: usize = 30;
const WATCHED_FOLDER: &str = "bench-watched";

#[derive(Debug, clap::Args)]
pub(crate) struct ApiArguments {
    /// Address of the platform's plain HTTP port
    #[arg(long)]
    platform: SocketAddr,
    /// The kubeconfig that holds the administrator's token
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Address of etcd's client port
    #[arg(long)]
    etcd: SocketAddr,
}

impl ApiArguments {
    fn targets(&self) -> anyhow::Result<(Platform, Etcd)> {
        Ok((Platform::new(self.platform, &self.kubeconfig)?, Etcd { address: self.etcd }))
    }
}

/// Puts the objects of one folder there.
pub(crate) async fn fill(arguments: &ApiArguments) -> anyhow::Result<()> {
    let (platform, etcd) = arguments.targets()?;
    let (mut ours, mut peer) = (Measured::open(platform).await?, Measured::open(etcd).await?);
    for round in 0..ROUNDS_PER_FOLDER {
        ours.create(round).await?;
        peer.create(round).await?;
    }
    Ok(())
}

/// Measures everything, platform and peer in turns.
pub(crate) async fn measure(arguments: &ApiArguments) -> anyhow::Result<Vec<Figure>> {
    let (platform, etcd) = arguments.targets()?;
    let (mut ours, mut peer) = (Measured::open(platform).await?, Measured::open(etcd).await?);
    for round in 0..ROUNDS {
        eprintln!("writes, round {} of {ROUNDS}", round + 1);
        ours.create(round).await?;
        peer.create(round).await?;
    }
    for round in 0..ROUNDS {
        eprintln!("reads, round {} of {ROUNDS}", round + 1);
        ours.read(round).await?;
        peer.read(round).await?;
    }
    ours.watch(WATCHERS).await?;
    peer.watch(WATCHERS).await?;
    for round in 0..ROUNDS {
        eprintln!("watches, round {} of {ROUNDS}", round + 1);
        ours.deliver(round, WATCHED_PER_ROUND).await?;
        peer.deliver(round, WATCHED_PER_ROUND).await?;
    }
    let name = "etcd";
    let delivery = format!("write sent to event seen by {WATCHERS} watchers");
    Ok(vec![
        Figure::rate("durable creates", "1/s", ours.creates.per_second(), peer.creates.per_second(), name),
        Figure::latency("durable create", 0.5, &ours.creates.latencies, &peer.creates.latencies, name),
        Figure::latency("durable create", 0.99, &ours.creates.latencies, &peer.creates.latencies, name),
        Figure::rate("gets", "1/s", ours.gets.per_second(), peer.gets.per_second(), name),
        Figure::latency("get", 0.99, &ours.gets.latencies, &peer.gets.latencies, name),
        Figure::latency(&format!("list of {LISTED} objects"), 0.5, &ours.lists, &peer.lists, name),
        Figure::latency(&delivery, 0.5, &ours.delivered.latencies, &peer.delivered.latencies, name),
        Figure::latency(&delivery, 0.99, &ours.delivered.latencies, &peer.delivered.latencies, name),
    ])
}

/// A target under load, and what came of it.
pub(crate) struct Measured<T: Target> {
    target: T,
    pub(crate) load: Load<T>,
    sightings: Arc<Sightings>,
    watchers: Vec<Watcher>,
    pub(crate) creates: Outcome,
    pub(crate) gets: Outcome,
    pub(crate) lists: Latencies,
    pub(crate) delivered: Delivered,
}

/// How writes came to watchers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) latencies: Latencies,
    /// The generator's own processor time, from each watched write until all had seen it.
    pub(crate) own_times: Latencies,
}

pub(crate) fn folder(round: usize) -> String {
    format!("bench-{}", round / ROUNDS_PER_FOLDER)
}

/// The object that a write of a round makes.
pub(crate) fn entry(round: usize, write: usize) -> Entry {
    Entry { folder: folder(round), name: format!("object-{}-{write:04}", round % ROUNDS_PER_FOLDER) }
}

impl<T: Target> Measured<T> {
    pub(crate) async fn open(target: T) -> anyhow::Result<Self> {
        for round in (0..ROUNDS).step_by(ROUNDS_PER_FOLDER) {
            target.prepare(&folder(round)).await?;
        }
        target.prepare(WATCHED_FOLDER).await?;
        Ok(Self {
            load: Load::open(&target, CONNECTIONS).await?,
            target,
            sightings: Arc::default(),
            watchers: Vec::new(),
            creates: Outcome::default(),
            gets: Outcome::default(),
            lists: Latencies::default(),
            delivered: Delivered::default(),
        })
    }

    pub(crate) async fn create(&mut self, round: usize) -> anyhow::Result<()> {
        let create = move |mut connection: T::Connection, write| async move {
            let entry = entry(round, write);
            connection.create(&entry, entry.body()).await?;
            Ok(connection)
        };
        self.load.round(WRITES_PER_ROUND, &mut self.creates, create).await
    }

    pub(crate) async fn read(&mut self, round: usize) -> anyhow::Result<()> {
        let get = move |mut connection: T::Connection, number: usize| async move {
            connection.get(&entry(round, number * GET_STRIDE % WRITES_PER_ROUND)).await?;
            Ok(connection)
        };
        self.load.round(GETS_PER_ROUND, &mut self.gets, get).await?;
        for _ in 0..LISTS_PER_ROUND {
            self.lists.push(self.load.one()?.list(&folder(round), LISTED).await?);
        }
        Ok(())
    }

    pub(crate) async fn watch(&mut self, watchers: usize) -> anyhow::Result<()> {
        self.watchers = self.target.watch(WATCHED_FOLDER, watchers, &self.sightings).await?;
        Ok(())
    }

    /// Writes one object after another and waits for each until every watcher has seen it.
    pub(crate) async fn deliver(&mut self, round: usize, writes: usize) -> anyhow::Result<()> {
        for write in 0..writes {
            let entry = Entry { folder: WATCHED_FOLDER.to_owned(), name: format!("object-{round}-{write:04}") };
            let body = entry.body();
            self.sightings.expect(self.watchers.iter().map(|watcher| watcher.watches).sum());
            let (own_before, sent) = (processor_time(), Instant::now());
            self.load.one()?.create(&entry, body).await?;
            let seen = self.sightings.complete().await?;
            self.delivered.own_times.push(processor_time().saturating_sub(own_before));
            self.delivered.latencies.extend(seen.into_iter().map(|seen| seen - sent));
        }
        Ok(())
    }
}

impl Measured<Platform> {
    /// Puts watchers that share connections in the place of the others, and gives back what those saw.
    pub(crate) async fn watch_multiplexed(&mut self, connections: usize, watches: usize) -> anyhow::Result<Delivered> {
        self.watchers.clear();
        self.watchers = self.target.watch_multiplexed(WATCHED_FOLDER, (connections, watches), &self.sightings).await?;
        Ok(std::mem::take(&mut self.delivered))
    }
}

/// What all threads of this process have used so far.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs() as u32)
}
