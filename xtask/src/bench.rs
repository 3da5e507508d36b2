//! `cargo xtask bench`: what the platform costs, beside its peers, on this machine.
//!
//! Each benchmark runs against a platform in a home of its own and a peer started for it; both
//! are taken away again. The load itself is made by crates/bench, except for `idle`, which only
//! looks at processes.

mod etcd;
mod generator;
mod idle;
mod place;
mod platform;
mod podman;
mod spawned;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::etcd::Etcd;
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
}

impl Name {
    const ALL: [Self; 3] = [Self::Start, Self::Api, Self::Idle];

    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Api => "api",
            Self::Idle => "idle",
        }
    }

    fn packages(self) -> &'static [packages::Package] {
        match self {
            Self::Start => &packages::TO_BENCH_START,
            Self::Api | Self::Idle => &packages::TO_BENCH_ETCD,
        }
    }
}

pub(crate) fn run(arguments: BenchArguments) -> Result<()> {
    let console = Console::new();
    let names = arguments.name.map_or(Name::ALL.to_vec(), |name| vec![name]);
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
