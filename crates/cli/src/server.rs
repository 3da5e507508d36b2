//! `fermion server`: every role of the platform in one process, wired together.
//!
//! The parts never see each other: each gets a client of the API that acts as itself, and the
//! node's HTTP interface is attached to the API server. `fermion teardown` removes what a
//! stopped server leaves running on purpose: containers outlive it.

mod access;
mod foresight;
mod http;
mod leadership;
mod memory;
mod pool;
mod port;
mod start_container;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fermion_apiserver::{Api, Identity, KeySource, PlatformKeys, SystemClock};
use fermion_gateway::Gateway;
use fermion_store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use pool::LocalPool;
use port::{Certificate, Port};
pub(crate) use start_container::{StartContainerArgs, start_container};

/// How long open requests may take to end once the server is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before controllers that failed are started again.
const CONTROLLERS_PAUSE: Duration = Duration::from_secs(1);

/// Options of `fermion server`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Where everything is kept [default: ~/.fermion]
    #[arg(long, env = "FERMION_HOME", value_name = "DIRECTORY")]
    pub(crate) home: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:6780")]
    pub(crate) listen: SocketAddr,
    /// PostgreSQL database to keep everything in, which several servers may share
    /// [default: SQLite in the home]. A password is better kept in PGPASSFILE or PGPASSWORD
    #[arg(long, env = "FERMION_DATABASE", hide_env_values = true, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// Run no pods on this machine
    #[arg(long)]
    pub(crate) no_node: bool,
    /// File that receives the first administrator's password, once
    #[arg(long, value_name = "FILE")]
    pub(crate) announce: Option<PathBuf>,
    /// File of the keys that Secrets are encrypted with; FERMION_SECRETS_KEY may hold them instead
    /// [default: secrets.key in the home, made at the first start]
    #[arg(long, env = "FERMION_SECRETS_KEY_FILE", value_name = "FILE")]
    pub(crate) secrets_key_file: Option<PathBuf>,
    /// Take this server's keys for those of the database, although it was used with others:
    /// tokens of ServiceAccounts end. It is refused while there are Secrets that need another key
    #[arg(long)]
    pub(crate) replace_keys: bool,
    /// Let admission webhooks be on this machine: at loopback and link-local addresses
    #[arg(long)]
    pub(crate) allow_local_webhooks: bool,
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
            "{} is not a loopback address: apps in containers still share one origin with the API, which is safe on one machine only; \
             listen on 127.0.0.1",
            arguments.listen
        );
    }
    start_log();
    let home = home(arguments.home)?;
    create_home(&home)?;
    let store = match &arguments.database {
        Some(url) => Store::connect(url, fermion_store::Options::default()).await?,
        None => Store::open(&data_directory(&home), fermion_store::Options::default())?,
    };
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}: choose another address with --listen", arguments.listen))?;
    let address = listener.local_addr().context("cannot tell the address listened on")?;
    let (stop, stopping) = watch::channel(false);
    let source = key_source(&home, arguments.secrets_key_file)?;
    let PlatformKeys { secrets, tokens } =
        PlatformKeys::prepare(&store, source, &home.join("service-account.key"), arguments.replace_keys).await?;
    let options =
        fermion_apiserver::Options { keys: secrets, allow_local_webhooks: arguments.allow_local_webhooks, more_kinds: Vec::new() };
    let api = Api::with_options(store.clone(), Arc::new(SystemClock), stopping.clone(), options)?;
    let sealed = api.seal_secrets().await?;
    if sealed.rewritten > 0 {
        tracing::info!(rewritten = sealed.rewritten, "Secrets were encrypted with the newest key");
    }
    api.load_definitions().await?;
    api.sign_service_account_tokens(tokens);
    api.ensure_namespaces().await?;
    api.prepare_access().await?;
    let certificate = Certificate::prepare(&home, address)?;
    access::prepare(&api, &home, address, &certificate.authority_pem, arguments.announce.as_deref()).await?;

    let gateway = Gateway::new(api.client(Identity::component("gateway")), fermion_gateway::Options::default());
    let measured = gateway.clone();
    api.add_metrics(Box::new(move || measured.metrics_text()));
    // Every server answers, whichever leads.
    let reviewer = fermion_controllers::Reviewer::new(api.client(Identity::component("controllers")));
    api.set_foresight(Box::new(foresight::ByReviewer(reviewer.clone())));
    let control = fermion_controllers::Options { reviewer: Some(reviewer), ..fermion_controllers::Options::default() };
    let counts = control.counts.clone();
    api.add_metrics(Box::new(move || counts.metrics_text()));
    let router = gateway.router().merge(api.router());
    let mut http = tokio::spawn(http::serve(Port::open(listener, &certificate)?, router, stopping.clone()));
    let expiry = tokio::spawn(api.clone().expire_until_shutdown());
    let definitions = tokio::spawn(api.clone().follow_definitions_until_shutdown());
    let controllers = if arguments.database.is_some() {
        tokio::spawn(leadership::control_while_leading(api.clone(), store.clone(), control, stopping.clone()))
    } else {
        // There is no other server that could lead.
        tokio::spawn(keep_controlling(api.client(Identity::component("controllers")), control, stopping.clone()))
    };
    api.set_ready();
    tracing::info!(%address, ready_after_ms = began.elapsed().as_millis() as u64, "ready");
    // Ends by itself, or with the runtime.
    tokio::spawn(memory::give_back_after_start());
    let pool = if arguments.no_node { None } else { Some(LocalPool::start(&api, &home, stopping.clone())) };

    let cause = tokio::select! {
        name = asked_to_stop() => name?,
        ended = &mut http => {
            ended.context("the HTTP server failed")?;
            anyhow::bail!("the HTTP server ended by itself");
        }
    };
    tracing::info!(cause, "stopping; containers go on");
    stop.send_replace(true);
    if let Some(pool) = pool {
        pool.stop().await;
    }
    if tokio::time::timeout(STOP_TIMEOUT, async { tokio::join!(controllers, expiry, definitions) }).await.is_err() {
        tracing::warn!("the controllers did not end in time; their next start carries on");
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
    eprintln!("{report:?}");
    Ok(())
}

/// Where a server keeps its own database.
pub(crate) fn data_directory(home: &Path) -> PathBuf {
    home.join("data")
}

/// Where everything is kept, unless another place was given.
pub(crate) fn home(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    given
        .or_else(|| std::env::home_dir().map(|home| home.join(".fermion")))
        .context("neither FERMION_HOME nor HOME is set: say with --home where to keep everything")
}

/// Holds the keys of Secrets themselves, in base64 with commas between them. Not an option of the
/// command line, which everybody on the machine can read.
const KEYS_VARIABLE: &str = "FERMION_SECRETS_KEY";

/// Where the keys of Secrets come from.
fn key_source(home: &Path, file: Option<PathBuf>) -> anyhow::Result<KeySource> {
    match (std::env::var(KEYS_VARIABLE), file) {
        (Ok(_), Some(file)) => {
            anyhow::bail!("{KEYS_VARIABLE} is set, and {} is named as the file of keys: leave one of them out", file.display())
        }
        (Ok(value), None) => Ok(KeySource::Environment { name: KEYS_VARIABLE, value }),
        (Err(std::env::VarError::NotUnicode(_)), _) => anyhow::bail!("{KEYS_VARIABLE} does not hold text"),
        (Err(std::env::VarError::NotPresent), file) => Ok(KeySource::File(file.unwrap_or_else(|| home.join("secrets.key")))),
    }
}

/// The home holds tokens and volumes: only its owner looks in.
fn create_home(home: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    create_private_folder(home)?;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700)).with_context(|| format!("cannot protect {}", home.display()))
}

/// Makes a folder, and those above it, that only its owner may enter.
fn create_private_folder(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| format!("cannot create {}", folder.display()))
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FERMION_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn,kube_client=warn,kube_runtime=warn"));
    // A second start in one process (in tests) keeps the first log.
    let _already_set = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

/// Runs the controllers, anew when one of them ends by itself: what they know is in the API.
async fn keep_controlling(client: kube::Client, options: fermion_controllers::Options, stopping: watch::Receiver<bool>) {
    let mut stopped = stopping.clone();
    loop {
        let shutdown = fermion_controllers::Shutdown::new(stopping.clone());
        match fermion_controllers::run(client.clone(), options.clone(), shutdown).await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "the controllers ended; starting them again"),
        }
        tokio::select! {
            () = tokio::time::sleep(CONTROLLERS_PAUSE) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

async fn asked_to_stop() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
