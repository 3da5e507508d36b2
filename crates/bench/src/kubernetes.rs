//! Benchmark `kubernetes`: the resource API beside kube-apiserver with etcd, both over TLS, with
//! the same requests from the same code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::sync::mpsc;

use crate::api::{LISTED, Measured, ROUNDS, entry};
use crate::figures::Figure;
use crate::load::{Load, Outcome};
use crate::platform::{Http, Platform};
use crate::target::{Entry, Target, Updates as _};

/// Objects that all connections change at the same time.
const CONTENDED: usize = 8;
/// Changes in a round.
const UPDATES_PER_ROUND: usize = 400;
/// Watchers of one folder, each over a connection of its own.
const WATCHERS: usize = 1_000;
/// Writes they see, one after another, in a round.
const WATCHED_PER_ROUND: usize = 5;
/// Connections that put many objects there.
const FILLERS: usize = 64;
/// Objects in a folder that is filled.
const FILLED_PER_FOLDER: usize = 10_000;
/// How long an API server may take until it is ready.
const READY_WAIT: Duration = Duration::from_mins(5);
/// How often is asked whether it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A kube-apiserver, which speaks the same protocol.
#[derive(Clone, Debug)]
pub(crate) struct Kubernetes(Platform);

impl Target for Kubernetes {
    const NAME: &'static str = "kube-apiserver + etcd";
    type Connection = Http;

    async fn connect(&self) -> anyhow::Result<Http> {
        self.0.connect().await
    }

    async fn prepare(&self, folder: &str) -> anyhow::Result<()> {
        self.0.prepare(folder).await
    }

    async fn watch(&self, folder: &str) -> anyhow::Result<mpsc::Receiver<Instant>> {
        self.0.watch(folder).await
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct KubernetesArguments {
    /// Address of the platform's port
    #[arg(long)]
    platform: SocketAddr,
    /// The kubeconfig that holds the administrator's token and the authority
    #[arg(long)]
    kubeconfig: PathBuf,
    #[command(flatten)]
    peer: PeerArguments,
    /// Puts so many objects there and measures nothing
    #[arg(long)]
    fill: Option<usize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PeerArguments {
    /// Address of kube-apiserver's port
    #[arg(long)]
    kubernetes: SocketAddr,
    /// Its administrator's token
    #[arg(long, env = "KUBERNETES_TOKEN", hide_env_values = true)]
    token: String,
    /// PEM file of what vouches for its certificate
    #[arg(long)]
    authority: PathBuf,
}

impl PeerArguments {
    fn target(&self) -> anyhow::Result<Kubernetes> {
        let authority = std::fs::read(&self.authority).with_context(|| format!("cannot read {}", self.authority.display()))?;
        Ok(Kubernetes(Platform::with_token(self.kubernetes, &self.token)?.trusting(&authority)?))
    }
}

/// Waits until kube-apiserver says that it is ready.
pub(crate) async fn wait_until_ready(arguments: &PeerArguments) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let problem = match ask_ready(arguments).await {
            Ok(()) => return Ok(()),
            Err(problem) => problem,
        };
        if begun.elapsed() > READY_WAIT {
            bail!("kube-apiserver is not ready after {} s: {problem:#}", READY_WAIT.as_secs());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn ask_ready(arguments: &PeerArguments) -> anyhow::Result<()> {
    // Its certificate is made when it starts.
    let mut connection = arguments.target()?.connect().await?;
    connection.call(Method::GET, "/readyz", Bytes::new(), StatusCode::OK).await.map(drop)
}

/// Measures everything, platform and peer in turns.
pub(crate) async fn measure(arguments: &KubernetesArguments) -> anyhow::Result<Vec<Figure>> {
    let platform = Platform::secure(arguments.platform, &arguments.kubeconfig)?;
    let kubernetes = arguments.peer.target()?;
    if let Some(objects) = arguments.fill {
        fill(&platform, objects).await?;
        fill(&kubernetes, objects).await?;
        return Ok(Vec::new());
    }
    let (mut ours, mut peer) = (Measured::open(platform).await?, Measured::open(kubernetes).await?);
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
    let (mut our_updates, mut peer_updates) = (Outcome::default(), Outcome::default());
    for round in 0..ROUNDS {
        eprintln!("updates, round {} of {ROUNDS}", round + 1);
        update(&mut ours.load, &mut our_updates).await?;
        update(&mut peer.load, &mut peer_updates).await?;
    }
    ours.watch(WATCHERS).await?;
    peer.watch(WATCHERS).await?;
    for round in 0..ROUNDS {
        eprintln!("watches, round {} of {ROUNDS}", round + 1);
        ours.deliver(round, WATCHED_PER_ROUND).await?;
        peer.deliver(round, WATCHED_PER_ROUND).await?;
    }
    let name = Kubernetes::NAME;
    let delivery = format!("write sent to event seen by {WATCHERS} watchers");
    let update = format!("update of one of {CONTENDED} objects that all change");
    Ok(vec![
        Figure::rate("durable creates", "1/s", ours.creates.per_second(), peer.creates.per_second(), name),
        Figure::latency("durable create", 0.5, &ours.creates.latencies, &peer.creates.latencies, name),
        Figure::latency("durable create", 0.99, &ours.creates.latencies, &peer.creates.latencies, name),
        Figure::rate("updates under contention", "1/s", our_updates.per_second(), peer_updates.per_second(), name),
        Figure::latency(&update, 0.99, &our_updates.latencies, &peer_updates.latencies, name),
        Figure::rate("gets", "1/s", ours.gets.per_second(), peer.gets.per_second(), name),
        Figure::latency("get", 0.99, &ours.gets.latencies, &peer.gets.latencies, name),
        Figure::latency(&format!("list of {LISTED} objects"), 0.5, &ours.lists, &peer.lists, name),
        Figure::latency(&delivery, 0.5, &ours.deliveries, &peer.deliveries, name),
        Figure::latency(&delivery, 0.99, &ours.deliveries, &peer.deliveries, name),
    ])
}

/// All connections count the same few objects up.
async fn update<T: Target<Connection = Http>>(load: &mut Load<T>, outcome: &mut Outcome) -> anyhow::Result<()> {
    let update = |mut connection: Http, number: usize| async move {
        connection.update(&entry(0, number % CONTENDED)).await?;
        Ok(connection)
    };
    load.round(UPDATES_PER_ROUND, outcome, update).await
}

/// Puts objects there, in folders of their own.
async fn fill<T: Target>(target: &T, objects: usize) -> anyhow::Result<()>
where
    T::Connection: crate::target::Connection,
{
    let mut load = Load::open(target, FILLERS).await?;
    let mut discarded = Outcome::default();
    for begin in (0..objects).step_by(FILLED_PER_FOLDER) {
        let folder = format!("fill-{}", begin / FILLED_PER_FOLDER);
        target.prepare(&folder).await?;
        eprintln!("{}: {begin} of {objects} objects", T::NAME);
        let create = move |mut connection: T::Connection, number: usize| {
            let entry = Entry { folder: folder.clone(), name: format!("object-{number:06}") };
            async move {
                crate::target::Connection::create(&mut connection, &entry, entry.body()).await?;
                Ok(connection)
            }
        };
        load.round(FILLED_PER_FOLDER.min(objects - begin), &mut discarded, create).await?;
    }
    Ok(())
}
