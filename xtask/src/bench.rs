//! `cargo xtask bench`: what the platform costs, beside its peers, on this machine.
//!
//! Each benchmark runs against a platform in a home of its own and a peer started for it; both
//! are taken away again. The load itself is made by crates/bench, except for `idle`, which only
//! looks at processes, and the scheduler's experiments, which are programs of crates/sim.

mod api;
mod etcd;
mod generator;
mod growth;
mod idle;
mod kubernetes;
mod live;
mod place;
mod platform;
mod podman;
mod postgres;
mod scheduler;
mod spawned;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::generator::Generator;
use self::place::Place;
use self::platform::Platform;
use self::podman::Podman;
use self::table::Row;
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
    #[command(flatten)]
    growth: growth::GrowthArguments,
    #[command(flatten)]
    live: live::LiveArguments,
    /// Where data is kept meanwhile; decides which disk is measured
    #[arg(long, value_name = "DIRECTORY", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// From a pod's submission to its running container, beside bare CRI calls and podman
    Start,
    /// The resource API on SQLite and on PostgreSQL, small and full, beside kube-apiserver with
    /// etcd; beside etcd alone where no kube-apiserver was built
    Api,
    /// Memory and processor time of a server that has nothing to do, beside etcd
    Idle,
    /// Writes, reads, lists and watches through the whole API, beside etcd alone; only when it is named
    Etcd,
    /// What becomes of it all from a thousand objects to a million; only when it is named
    Growth,
    /// Which of many that wait in queues may start, in Kueue's shapes, in memory; like the others
    /// of the scheduler only when it is named
    SchedAdmission,
    /// Placement on a recorded cluster that fills up, beside the published policies; like the
    /// others of the scheduler only when it is named
    SchedInflation,
    /// Completion times of recorded training jobs, beside the published orders
    SchedJct,
    /// Whom to stop for a large gang, in KAI's shape
    SchedReclaim,
    /// A round of a full cluster in which little has changed
    SchedRounds,
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
            Self::Etcd => "etcd",
            Self::Growth => "growth",
            Self::SchedAdmission => "sched-admission",
            Self::SchedInflation => "sched-inflation",
            Self::SchedJct => "sched-jct",
            Self::SchedReclaim => "sched-reclaim",
            Self::SchedRounds => "sched-rounds",
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
            Self::Etcd | Self::Idle => &packages::TO_BENCH_ETCD,
            Self::Api | Self::Growth => &packages::TO_BENCH_POSTGRES,
            Self::SchedAdmission
            | Self::SchedInflation
            | Self::SchedJct
            | Self::SchedReclaim
            | Self::SchedRounds
            | Self::SchedSteady
            | Self::SchedThroughput => &[],
        }
    }
}

pub(crate) fn run(arguments: BenchArguments) -> Result<()> {
    let console = Console::new();
    if let Some(experiment) = arguments.name.and_then(Name::experiment) {
        if arguments.live.live {
            if !arguments.no_build {
                build(&console)?;
            }
            return live::run(&console, &Programs::built(), &arguments.directory, experiment, &arguments.live);
        }
        return scheduler::run(&console, experiment, arguments.json, !arguments.no_build);
    }
    anyhow::ensure!(!arguments.live.live, "only sched-throughput and sched-admission can run --live");
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
            Name::Api => api::measure(&console, &programs, place.path()),
            Name::Idle => idle::measure(&console, &programs, place.path()),
            Name::Etcd => api::beside_etcd(&console, &programs, place.path()),
            // Its figures are not beside a peer's but a course, and written into files.
            Name::Growth => growth::measure(&console, &programs, place.path(), &arguments.growth).map(|()| Vec::new()),
            Name::SchedAdmission
            | Name::SchedInflation
            | Name::SchedJct
            | Name::SchedReclaim
            | Name::SchedRounds
            | Name::SchedSteady
            | Name::SchedThroughput => {
                unreachable!("experiments are run above")
            }
        };
        let rows = rows.with_context(|| format!("benchmark {} failed", name.as_str()))?;
        place.remove()?;
        if name == Name::Growth {
            continue;
        }
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
