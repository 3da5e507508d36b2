//! `fermion server`: every role of the platform in one process, wired together.
//!
//! The parts never see each other: each gets a client of the API that acts as itself, and the
//! node's HTTP interface is attached to the API server. `fermion teardown` removes what a
//! stopped server leaves running on purpose: containers outlive it.

mod access;
mod pool;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fermion_apiserver::{Api, Identity, SystemClock};
use fermion_gateway::Gateway;
use fermion_store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use pool::LocalPool;

/// How long open requests may take to end once the server is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Options of `fermion server`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Where everything is kept [default: ~/.fermion]
    #[arg(long, env = "FERMION_HOME", value_name = "DIRECTORY")]
    pub(crate) home: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:6780")]
    pub(crate) listen: SocketAddr,
    /// Run no pods on this machine
    #[arg(long)]
    pub(crate) no_node: bool,
    /// File that receives the first administrator's password, once
    #[arg(long, value_name = "FILE")]
    pub(crate) announce: Option<PathBuf>,
}

/// Options of `fermion teardown`.
#[derive(Debug, clap::Args)]
pub(crate) struct TeardownArgs {
    /// Where everything is kept [default: ~/.fermion]
    #[arg(long, env = "FERMION_HOME", value_name = "DIRECTORY")]
    pub(crate) home: Option<PathBuf>,
    /// Also forget the images, volumes and logs of the containers
    #[arg(long)]
    pub(crate) purge: bool,
}

/// Runs the server until it is asked to stop.
pub(crate) async fn run(arguments: ServerArgs) -> anyhow::Result<()> {
    let began = Instant::now();
    if !arguments.listen.ip().is_loopback() {
        anyhow::bail!(
            "{} is not a loopback address: connections are not encrypted yet, so tokens would cross the network in clear; \
             listen on 127.0.0.1 and put a TLS proxy in front",
            arguments.listen
        );
    }
    start_log();
    let home = home(arguments.home)?;
    create_home(&home)?;
    let store = Store::open(&home.join("data"), fermion_store::Options::default())?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}: choose another address with --listen", arguments.listen))?;
    let address = listener.local_addr().context("cannot tell the address listened on")?;
    let (stop, stopping) = watch::channel(false);
    let api = Api::new(store.clone(), Arc::new(SystemClock), stopping.clone())?;
    access::prepare(&api, &home, address, arguments.announce.as_deref()).await?;

    let gateway = Gateway::new(api.client(Identity::component("gateway")), fermion_gateway::Options::default());
    let router = gateway.router().merge(api.router());
    let mut http = tokio::spawn(serve(listener, router, stopping.clone()));
    let expiry = tokio::spawn(api.clone().expire_until_shutdown());
    let controllers = tokio::spawn(fermion_controllers::run(
        api.client(Identity::component("controllers")),
        fermion_controllers::Options::default(),
        stopping.clone(),
    ));
    api.set_ready();
    tracing::info!(%address, ready_after_ms = began.elapsed().as_millis() as u64, "ready");
    let pool = if arguments.no_node { None } else { Some(LocalPool::start(&api, &home, stopping.clone())) };

    let cause = tokio::select! {
        name = asked_to_stop() => name?,
        ended = &mut http => {
            ended.context("the HTTP server failed")??;
            anyhow::bail!("the HTTP server ended by itself");
        }
    };
    tracing::info!(cause, "stopping; containers go on");
    stop.send_replace(true);
    if let Some(pool) = pool {
        pool.stop().await;
    }
    for (part, task) in [("controllers", controllers), ("expiry", expiry)] {
        if tokio::time::timeout(STOP_TIMEOUT, task).await.is_err() {
            tracing::warn!(part, "did not end in time; its next start carries on");
        }
    }
    if tokio::time::timeout(STOP_TIMEOUT, http).await.is_err() {
        tracing::info!("closing connections that are still open");
    }
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Removes what a stopped server left running.
pub(crate) async fn teardown(arguments: TeardownArgs) -> anyhow::Result<()> {
    let home = home(arguments.home)?;
    let report = fermion_node::runtime::teardown(&home, arguments.purge).await?;
    eprintln!("{report}");
    Ok(())
}

fn home(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    given
        .or_else(|| std::env::home_dir().map(|home| home.join(".fermion")))
        .context("neither FERMION_HOME nor HOME is set: say with --home where to keep everything")
}

/// The home holds tokens and volumes: only its owner looks in.
fn create_home(home: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).with_context(|| format!("cannot create {}", home.display()))?;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700)).with_context(|| format!("cannot protect {}", home.display()))
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FERMION_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn,kube_client=warn,kube_runtime=warn"));
    // A second start in one process (in tests) keeps the first log.
    let _already_set = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

async fn serve(listener: TcpListener, router: axum::Router, mut stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
    use axum::serve::ListenerExt as _;
    let listener = listener.tap_io(|stream| {
        // Small answers must not wait for more data to come.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
    });
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            drop(stopping.wait_for(|stop| *stop).await);
        })
        .await
        .context("the listener failed")
}

async fn asked_to_stop() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
