//! Benchmark `api`: the resource API beside kube-apiserver with etcd, all over TLS, with the same
//! requests from the same code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, StatusCode};

use crate::api::{Delivered, LISTED, Measured, ROUNDS, entry};
use crate::bare::{self, Bare};
use crate::figures::{Better, Figure, Latencies, milliseconds};
use crate::load::{Load, Outcome};
use crate::platform::{Http, Platform};
use crate::target::{Connection as _, Entry, Target as _, Updates as _};

/// Objects that all connections change at the same time.
const CONTENDED: usize = 8;
/// Changes in a round.
const UPDATES_PER_ROUND: usize = 400;
/// Watchers of one folder: each over a connection of its own, and as those of a few clients, each of
/// whom has one HTTP/2 connection.
const WATCHERS: usize = 1_000;
/// What a client watches on one connection: as much as kube-apiserver and the platform allow.
const WATCHES_PER_CONNECTION: usize = 100;
/// Writes they see, one after another, in a round.
const WATCHED_PER_ROUND: usize = 50;
/// Connections that put many objects there.
const FILLERS: usize = 64;
/// Objects in a folder that is filled.
const FILLED_PER_FOLDER: usize = 10_000;
/// How long an API server may take until it is ready.
const READY_WAIT: Duration = Duration::from_mins(5);
/// How often is asked whether it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
const PEER: &str = "kube-apiserver + etcd";

#[derive(Debug, clap::Args)]
pub(crate) struct KubernetesArguments {
    /// Address of the platform's port
    #[arg(long)]
    platform: SocketAddr,
    /// The kubeconfig that holds the administrator's token and the authority
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Address of a platform with its data in PostgreSQL
    #[arg(long, requires = "postgres_kubeconfig")]
    postgres: Option<SocketAddr>,
    /// Its kubeconfig
    #[arg(long)]
    postgres_kubeconfig: Option<PathBuf>,
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
    pub(crate) fn target(&self) -> anyhow::Result<Platform> {
        let authority = std::fs::read(&self.authority).with_context(|| format!("cannot read {}", self.authority.display()))?;
        Ok(Platform::with_token(self.kubernetes, &self.token)?.trusting(&authority)?.called(PEER))
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

/// Who is measured: the platform, the same on PostgreSQL if there is one, and the peer.
struct Contenders<T> {
    ours: T,
    postgres: Option<T>,
    peer: T,
}

impl<T> Contenders<T> {
    fn all(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.ours).chain(&mut self.postgres).chain(std::iter::once(&mut self.peer))
    }
}

impl KubernetesArguments {
    fn contenders(&self) -> anyhow::Result<Contenders<Platform>> {
        let postgres = self.postgres.zip(self.postgres_kubeconfig.as_ref());
        Ok(Contenders {
            ours: Platform::secure(self.platform, &self.kubeconfig)?,
            postgres: postgres
                .map(|(address, file)| Platform::secure(address, file))
                .transpose()?
                .map(|it| it.called("fermion on PostgreSQL")),
            peer: self.peer.target()?,
        })
    }
}

/// Measures everything, all contenders in turns.
pub(crate) async fn measure(arguments: &KubernetesArguments) -> anyhow::Result<Vec<Figure>> {
    let mut targets = arguments.contenders()?;
    if let Some(objects) = arguments.fill {
        for target in targets.all() {
            fill(target, 0, objects).await?;
        }
        return Ok(Vec::new());
    }
    let mut measured = Contenders {
        ours: Contender::open(targets.ours).await?,
        postgres: match targets.postgres {
            Some(target) => Some(Contender::open(target).await?),
            None => None,
        },
        peer: Contender::open(targets.peer).await?,
    };
    for round in 0..ROUNDS {
        eprintln!("writes, round {} of {ROUNDS}", round + 1);
        for contender in measured.all() {
            contender.common.create(round).await?;
        }
    }
    for round in 0..ROUNDS {
        eprintln!("reads, round {} of {ROUNDS}", round + 1);
        for contender in measured.all() {
            contender.common.read(round).await?;
        }
    }
    for round in 0..ROUNDS {
        eprintln!("updates, round {} of {ROUNDS}", round + 1);
        for contender in measured.all() {
            contender.update().await?;
        }
    }
    for contender in measured.all() {
        contender.common.watch(WATCHERS).await?;
    }
    let server = Bare::start()?;
    let mut bare = Measured::open(server.target()?).await?;
    bare.watch(WATCHERS).await?;
    for round in 0..ROUNDS {
        eprintln!("watches, round {} of {ROUNDS}", round + 1);
        for contender in measured.all() {
            contender.common.deliver(round, WATCHED_PER_ROUND).await?;
        }
        bare.deliver(round, WATCHED_PER_ROUND).await?;
    }
    let floor = bare.delivered.clone();
    drop((bare, server));
    for contender in measured.all() {
        contender.apart = contender.common.watch_multiplexed(WATCHERS / WATCHES_PER_CONNECTION, WATCHES_PER_CONNECTION).await?;
    }
    for round in 0..ROUNDS {
        eprintln!("watches on shared connections, round {} of {ROUNDS}", round + 1);
        for contender in measured.all() {
            contender.common.deliver(ROUNDS + round, WATCHED_PER_ROUND).await?;
        }
    }
    Ok(figures(&measured, &floor))
}

fn figures(measured: &Contenders<Contender>, floor: &Delivered) -> Vec<Figure> {
    let figure = |metric: String, unit: &'static str, better: Better, value: &dyn Fn(&Contender) -> f64| Figure {
        metric,
        unit,
        better,
        ours: value(&measured.ours),
        peer: value(&measured.peer),
        peer_name: PEER.to_owned(),
        postgres: measured.postgres.as_ref().map(value),
    };
    let rate = |metric: &str, outcome: &dyn Fn(&Contender) -> &Outcome| {
        figure(metric.to_owned(), "1/s", Better::Higher, &|it| outcome(it).per_second())
    };
    let latency = |metric: &str, share: f64, latencies: &dyn Fn(&Contender) -> &Latencies| {
        let metric = format!("{metric}, p{:.0}", share * 100.0);
        figure(metric, "ms", Better::Lower, &|it| milliseconds(latencies(it).at(share)))
    };
    let delivery = format!("write sent to event seen by {WATCHERS} watchers");
    let connections = WATCHERS / WATCHES_PER_CONNECTION;
    let shared = format!("the same over {connections} HTTP/2 connections");
    // What no server can be below, in the column of ours.
    let floor = |share: f64| {
        let metric = format!("{} to {WATCHERS} connections, nothing else, p{:.0}", bare::NAME, share * 100.0);
        let peer = milliseconds(measured.peer.apart.latencies.at(share));
        let ours = milliseconds(floor.latencies.at(share));
        Figure { metric, unit: "ms", better: Better::Lower, ours, peer, peer_name: PEER.to_owned(), postgres: None }
    };
    let update = format!("update of one of {CONTENDED} objects that all change");
    vec![
        rate("durable creates", &|it| &it.common.creates),
        latency("durable create", 0.5, &|it| &it.common.creates.latencies),
        latency("durable create", 0.99, &|it| &it.common.creates.latencies),
        rate("updates under contention", &|it| &it.updates),
        latency(&update, 0.99, &|it| &it.updates.latencies),
        rate("gets", &|it| &it.common.gets),
        latency("get", 0.99, &|it| &it.common.gets.latencies),
        latency(&format!("list of {LISTED} objects"), 0.5, &|it| &it.common.lists),
        latency(&delivery, 0.5, &|it| &it.apart.latencies),
        latency(&delivery, 0.99, &|it| &it.apart.latencies),
        latency("the load generator's own processor time for it", 0.5, &|it| &it.apart.own_times),
        floor(0.5),
        floor(0.99),
        latency(&shared, 0.5, &|it| &it.common.delivered.latencies),
        latency(&shared, 0.99, &|it| &it.common.delivered.latencies),
        latency("the load generator's own processor time for that", 0.5, &|it| &it.common.delivered.own_times),
    ]
}

/// A server under load, and what came of it.
struct Contender {
    common: Measured<Platform>,
    updates: Outcome,
    /// What watchers on connections of their own saw.
    apart: Delivered,
}

impl Contender {
    async fn open(target: Platform) -> anyhow::Result<Self> {
        Ok(Self { common: Measured::open(target).await?, updates: Outcome::default(), apart: Delivered::default() })
    }

    /// All connections count the same few objects up.
    async fn update(&mut self) -> anyhow::Result<()> {
        let update = |mut connection: Http, number: usize| async move {
            connection.update(&entry(0, number % CONTENDED)).await?;
            Ok(connection)
        };
        self.common.load.round(UPDATES_PER_ROUND, &mut self.updates, update).await
    }
}

/// The folder of the object of a number, when many are put there.
pub(crate) fn filled(number: usize) -> Entry {
    Entry { folder: format!("fill-{}", number / FILLED_PER_FOLDER), name: format!("object-{:06}", number % FILLED_PER_FOLDER) }
}

/// Objects that carry the same value of [`SHARD`].
pub(crate) const SHARD_OBJECTS: usize = 100;
/// A label by which few of many objects can be selected.
pub(crate) const SHARD: &str = "shard";

/// Puts the objects of these numbers there, in folders of their own; a folder is begun once.
pub(crate) async fn fill(target: &Platform, from: usize, to: usize) -> anyhow::Result<()> {
    let mut load = Load::open(target, FILLERS).await?;
    let mut discarded = Outcome::default();
    let mut begin = from;
    while begin < to {
        let end = (begin / FILLED_PER_FOLDER + 1).saturating_mul(FILLED_PER_FOLDER).min(to);
        if begin.is_multiple_of(FILLED_PER_FOLDER) {
            target.prepare(&filled(begin).folder).await?;
        }
        eprintln!("{}: {begin} of {to} objects", target.name());
        let create = move |mut connection: Http, number: usize| {
            let (entry, shard) = (filled(begin + number), (begin + number) / SHARD_OBJECTS);
            async move {
                let body = entry.labelled(SHARD, &shard.to_string());
                connection.create(&entry, body).await?;
                Ok(connection)
            }
        };
        load.round(end - begin, &mut discarded, create).await?;
        begin = end;
    }
    Ok(())
}
