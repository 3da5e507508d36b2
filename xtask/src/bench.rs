//! `cargo xtask bench`: what the platform costs, beside its peers, on this machine.
//!
//! Each benchmark runs against a platform in a home of its own and a peer started for it; both
//! are taken away again. The load itself is made by crates/bench, except for `idle`, which only
//! looks at processes, and the scheduler's experiments, which are programs of crates/sim.

mod etcd;
mod generator;
mod idle;
mod kubernetes;
mod place;
mod platform;
mod podman;
mod postgres;
mod scheduler;
mod spawned;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::etcd::Etcd;
use self::generator::Generator;
use self::kubernetes::Kubernetes;
use self::place::Place;
use self::platform::Platform;
use self::podman::Podman;
use self::postgres::Postgres;
use self::table::{Better, Row};
use crate::console::{self, Console};
use crate::{packages, process, workspace};

/// The image whose containers are started.
const IMAGE: &str = "fermion.dev/base:latest";

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArguments {
    /// Only this one
    name: Option<Name>,
    /// Print one JSON object for each benchmark instead of tables
    #[arg(long)]
    json: bool,
    /// Measure what was built before
    #[arg(long)]
    no_build: bool,
    /// Where data is kept meanwhile; decides which disk is measured
    #[arg(long, value_name = "DIRECTORY", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// From a pod's submission to its running container, beside bare CRI calls and podman
    Start,
    /// Durable writes, reads, lists and watches through the whole API, beside etcd
    Api,
    /// Memory and processor time of a server that has nothing to do, beside etcd
    Idle,
    /// The resource API beside kube-apiserver with etcd, small and full; only when it is named,
    /// since kube-apiserver has to be built first
    Kubernetes,
    /// The same with the platform's data in PostgreSQL
    KubernetesPostgres,
    /// Placement on a recorded cluster that fills up, beside the published policies; like the
    /// others of the scheduler only when it is named
    SchedInflation,
    /// Completion times of recorded training jobs, beside the published orders
    SchedJct,
    /// Whom to stop for a large gang, in KAI's shape
    SchedReclaim,
    /// Work that comes and goes on a recorded cluster: allocation and waits
    SchedSteady,
    /// Placements a second in memory, with kube-scheduler's shapes
    SchedThroughput,
}

impl Name {
    const USUAL: [Self; 3] = [Self::Start, Self::Api, Self::Idle];

    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Api => "api",
            Self::Idle => "idle",
            Self::Kubernetes => "kubernetes",
            Self::KubernetesPostgres => "kubernetes-postgres",
            Self::SchedInflation => "sched-inflation",
            Self::SchedJct => "sched-jct",
            Self::SchedReclaim => "sched-reclaim",
            Self::SchedSteady => "sched-steady",
            Self::SchedThroughput => "sched-throughput",
        }
    }

    /// The scheduler's experiment of that name.
    fn experiment(self) -> Option<&'static str> {
        self.as_str().strip_prefix("sched-")
    }

    fn packages(self) -> &'static [packages::Package] {
        match self {
            Self::Start => &packages::TO_BENCH_START,
            Self::Api | Self::Idle | Self::Kubernetes => &packages::TO_BENCH_ETCD,
            Self::KubernetesPostgres => &packages::TO_BENCH_POSTGRES,
            Self::SchedInflation | Self::SchedJct | Self::SchedReclaim | Self::SchedSteady | Self::SchedThroughput => &[],
        }
    }
}

pub(crate) fn run(arguments: BenchArguments) -> Result<()> {
    let console = Console::new();
    if let Some(experiment) = arguments.name.and_then(Name::experiment) {
        return scheduler::run(&console, experiment, arguments.json, !arguments.no_build);
    }
    let names = arguments.name.map_or(Name::USUAL.to_vec(), |name| vec![name]);
    packages::install(&console, &packages::TO_RUN)?;
    for name in &names {
        packages::install(&console, name.packages())?;
    }
    if !arguments.no_build {
        build(&console)?;
    }
    let programs = Programs::built();
    for name in names {
        // A folder for each, so that one benchmark's data is not the next one's.
        let place = Place::create(&arguments.directory)?;
        console.step(&format!("benchmark {} in {}", name.as_str(), place.path().display()));
        let rows = match name {
            Name::Start => start(&console, &programs, place.path()),
            Name::Api => api(&console, &programs, place.path()),
            Name::Idle => idle::measure(&console, &programs, place.path()),
            Name::Kubernetes => beside_kubernetes(&console, &programs, place.path(), None),
            Name::KubernetesPostgres => {
                let postgres = Postgres::start(&place.path().join("pg"))?;
                let rows = beside_kubernetes(&console, &programs, place.path(), Some(postgres.url.clone()));
                rows.and_then(|rows| postgres.stop().map(|()| rows))
            }
            Name::SchedInflation | Name::SchedJct | Name::SchedReclaim | Name::SchedSteady | Name::SchedThroughput => {
                unreachable!("experiments are run above")
            }
        };
        let rows = rows.with_context(|| format!("benchmark {} failed", name.as_str()))?;
        place.remove()?;
        if arguments.json {
            console::answer(&table::json(name.as_str(), &rows).to_string())?;
        } else {
            console::heading(name.as_str())?;
            console::answer(&table::text(&rows))?;
        }
    }
    Ok(())
}

/// What is measured, and what measures it.
struct Programs {
    fermion: PathBuf,
    generator: PathBuf,
}

impl Programs {
    fn built() -> Self {
        let folder = workspace::target().join("release");
        Self { fermion: folder.join("fermion"), generator: folder.join("fermion-bench") }
    }
}

fn build(console: &Console) -> Result<()> {
    console.timed("cargo build --release", || {
        process::run(
            workspace::cargo("build").args(["--release", "--package", "fermion-cli", "--package", "fermion-bench"]),
            "a compiler error is shown above; `cargo build --release --package fermion-cli` shows all of it",
        )
    })?;
    Ok(())
}

fn start(console: &Console, programs: &Programs, place: &Path) -> Result<Vec<Row>> {
    let platform = Platform::start(&programs.fermion, &place.join("h"), platform::Node::Local)?;
    console.timed(&format!("making {IMAGE} ready (built once on a machine)"), || platform.warm_up(IMAGE))?;
    let podman = Podman::prepare(&place.join("p"))?;
    console.timed(&format!("giving {IMAGE} to podman"), || podman.load_from(&platform.containerd(), IMAGE))?;
    let generator = Generator::new(&programs.generator, &platform);
    let rows = console.timed("starting pods, containers by bare CRI calls and by podman in turns", || generator.start(&podman, IMAGE))?;
    podman.remove()?;
    platform.remove()?;
    Ok(rows)
}

fn api(console: &Console, programs: &Programs, place: &Path) -> Result<Vec<Row>> {
    let platform = Platform::start(&programs.fermion, &place.join("h"), platform::Node::None)?;
    let etcd = Etcd::start(&place.join("e"))?;
    let generator = Generator::new(&programs.generator, &platform);
    let rows = console.timed("loading the platform and etcd in turns", || generator.api(&etcd))?;
    etcd.stop()?;
    platform.remove()?;
    Ok(rows)
}

/// Objects in both when memory and starts are measured.
const FULL: usize = 100_000;

fn beside_kubernetes(console: &Console, programs: &Programs, place: &Path, database: Option<String>) -> Result<Vec<Row>> {
    let program = kubernetes::program()?;
    let mut platform = Platform::start_on(&programs.fermion, &place.join("h"), platform::Node::None, database)?;
    let mut peer = Kubernetes::start(&program, &programs.generator, &place.join("k"))?;
    let load = |platform: &Platform, peer: &Kubernetes| {
        let generator = Generator::new(&programs.generator, platform);
        console.timed("loading the platform and kube-apiserver in turns", || generator.beside_kubernetes(peer))
    };
    let mut rows = load(&platform, &peer)?;
    let fill = |platform: &Platform, peer: &Kubernetes| {
        let generator = Generator::new(&programs.generator, platform);
        console.timed(&format!("putting {FULL} objects into both"), || generator.fill_beside_kubernetes(peer, FULL))
    };
    fill(&platform, &peer)?;
    console.step("starting both on their data");
    platform.restart()?;
    peer = peer.restart()?;
    let name = "kube-apiserver + etcd";
    let row = |metric: String, unit: &str, ours: f64, peer: f64| Row {
        metric,
        unit: unit.to_owned(),
        better: Better::Lower,
        ours,
        peer,
        peer_name: name.to_owned(),
    };
    let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    rows.push(row(format!("start to ready with {FULL} objects"), "ms", milliseconds(platform.ready_after), milliseconds(peer.ready_after)));
    // Caches that fill behind the answer count as well.
    std::thread::sleep(SETTLING);
    let theirs = peer.pids().into_iter().map(idle::resident_mb).sum::<Result<f64>>()?;
    rows.push(row(format!("resident memory with {FULL} objects"), "MB", idle::resident_mb(platform.pid()?)?, theirs));
    peer.stop()?;
    platform.remove()?;
    Ok(rows)
}

/// How long both are left alone before their memory is read.
const SETTLING: std::time::Duration = std::time::Duration::from_secs(10);
