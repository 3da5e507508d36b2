//! Benchmark `growth`: what becomes of each figure from a thousand objects to a million.
//!
//! One server after the other, since a million objects of one leave little room for the next. After
//! each step the values are in docs/benchmarks-growth.csv and drawn in docs/benchmarks-growth.svg;
//! servers that are not measured this time keep the values they had.

mod plot;
mod values;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub(super) use self::values::Value;
use self::values::Values;
use super::api::SETTLING;
use super::generator;
use super::kubernetes::{self, Kubernetes};
use super::platform::{Node, Platform};
use super::postgres::Postgres;
use super::{Programs, idle};
use crate::console::Console;
use crate::workspace;

/// Numbers of objects at which is measured.
const STEPS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// So many objects settle in [`SETTLING`].
const SETTLED_OBJECTS: usize = 100_000;
const CSV: &str = "docs/benchmarks-growth.csv";
const SVG: &str = "docs/benchmarks-growth.svg";

#[derive(Debug, clap::Args)]
pub(crate) struct GrowthArguments {
    /// Benchmark growth: only this server
    #[arg(long, value_name = "SERVER")]
    only: Option<Contender>,
    /// Benchmark growth: no more objects than this
    #[arg(long, value_name = "NUMBER", default_value_t = STEPS[STEPS.len() - 1])]
    objects_max: usize,
}

/// Who grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Contender {
    Sqlite,
    Postgres,
    Kubernetes,
}

impl Contender {
    const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::Kubernetes];

    /// As the plot's legend says it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "fermion on SQLite",
            Self::Postgres => "fermion on PostgreSQL",
            Self::Kubernetes => "kube-apiserver + etcd",
        }
    }
}

pub(super) fn measure(console: &Console, programs: &Programs, place: &Path, arguments: &GrowthArguments) -> Result<()> {
    let (csv, svg) = (workspace::root().join(CSV), workspace::root().join(SVG));
    let mut values = Values::read(&csv)?;
    for contender in arguments.only.map_or(Contender::ALL.to_vec(), |only| vec![only]) {
        let folder = place.join(format!("{contender:?}").to_lowercase());
        let Some(mut server) = Server::start(console, programs, place, &folder, contender)? else { continue };
        values.forget(contender.as_str());
        let mut there = 0;
        for step in STEPS.into_iter().filter(|step| *step <= arguments.objects_max) {
            let name = contender.as_str();
            console.timed(&format!("{name}: up to {step} objects"), || server.generate(programs, there, step, &[]))?;
            there = step;
            let measured = console.timed(&format!("{name}: measuring with {step} objects"), || server.measure(programs, step))?;
            values.add(name, step, measured);
            values.write(&csv)?;
            std::fs::write(&svg, plot::draw(&values)).with_context(|| format!("cannot write {}", svg.display()))?;
        }
        server.stop()?;
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    console.step(&format!("{} and {}", csv.display(), svg.display()));
    Ok(())
}

/// A server with its database.
enum Server {
    Sqlite(Platform),
    Postgres(Platform, Postgres),
    Kubernetes(Kubernetes),
}

impl Server {
    /// Nothing, if this machine has no such server.
    fn start(console: &Console, programs: &Programs, place: &Path, folder: &Path, contender: Contender) -> Result<Option<Self>> {
        std::fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let home: PathBuf = folder.join("h");
        Ok(Some(match contender {
            Contender::Sqlite => Self::Sqlite(Platform::start(&programs.fermion, &home, Node::None)?),
            Contender::Postgres => {
                // Directly in the place, which is what it opens for PostgreSQL's own user.
                let database = Postgres::start(&place.join("pg"))?;
                let url = database.url.clone();
                Self::Postgres(Platform::start_on(&programs.fermion, &home, Node::None, Some(url))?, database)
            }
            Contender::Kubernetes => match kubernetes::program()? {
                Ok(program) => Self::Kubernetes(Kubernetes::start(&program, &programs.generator, &home)?),
                Err(missing) => {
                    console.step(&kubernetes::advice(&missing));
                    return Ok(None);
                }
            },
        }))
    }

    /// Runs the load generator on it, which puts objects there if it is told nothing else.
    fn generate(&self, programs: &Programs, from: usize, to: usize, more: &[&str]) -> Result<Vec<Value>> {
        let mut command = Command::new(&programs.generator);
        command.args(["growth", "--from", &from.to_string(), "--to", &to.to_string()]).args(more);
        let (address, kubeconfig) = match self {
            Self::Sqlite(platform) | Self::Postgres(platform, _) => (platform.address, platform.kubeconfig()),
            Self::Kubernetes(server) => (server.address, server.kubeconfig()?),
        };
        command.args(["--server", &address.to_string()]).arg("--kubeconfig").arg(kubeconfig);
        generator::measure(&mut command)
    }

    fn measure(&mut self, programs: &Programs, objects: usize) -> Result<Vec<Value>> {
        let mut values = self.generate(programs, objects, objects, &["--measure"])?;
        let ready_after = self.restart()?;
        // What reads all objects behind the answer takes longer the more there are.
        std::thread::sleep(SETTLING.max(SETTLING * u32::try_from(objects / SETTLED_OBJECTS).unwrap_or(u32::MAX)));
        values.push(Value::of("start to ready", "ms", ready_after.as_secs_f64() * 1e3));
        values.push(Value::of("resident memory", "MB", self.resident_mb()?));
        Ok(values)
    }

    /// Starts it anew on its data, its database as well, and says how long that took.
    fn restart(&mut self) -> Result<Duration> {
        match self {
            Self::Sqlite(platform) => {
                platform.restart()?;
                Ok(platform.ready_after)
            }
            Self::Postgres(platform, database) => {
                let database_ready_after = database.restart()?;
                platform.restart()?;
                Ok(database_ready_after + platform.ready_after)
            }
            Self::Kubernetes(server) => {
                server.restart()?;
                Ok(server.ready_after)
            }
        }
    }

    fn resident_mb(&self) -> Result<f64> {
        match self {
            Self::Sqlite(platform) => idle::resident_mb(platform.pid()?),
            Self::Postgres(platform, database) => Ok(idle::resident_mb(platform.pid()?)? + idle::shared_mb(&database.pids()?)?),
            Self::Kubernetes(server) => server.resident_mb(),
        }
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::Sqlite(platform) => platform.remove(),
            Self::Postgres(platform, database) => {
                platform.remove()?;
                database.stop()
            }
            Self::Kubernetes(server) => server.stop(),
        }
    }
}
