//! `cargo xtask`: one way to do each chore of the project.
//!
//! Start with [`up`]; it is what a newcomer types first. Every external command goes through
//! [`process`], so that its failure shows its last lines and what to do.

mod bench;
mod ci;
mod clients;
mod compare;
mod console;
mod down;
mod fuzz;
mod history;
mod home;
mod licences;
mod metadata;
mod packages;
mod process;
mod server;
mod test;
mod tidy;
mod tools;
mod up;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::home::Home;

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Install what is missing, build, start the platform, run the example, print what to look at
    Up(up::UpArguments),
    /// Stop what `up` started and remove its containers, mounts and networks
    Down(down::DownArguments),
    /// Install what the tests need and run them
    Test(test::TestArguments),
    /// Everything a change must pass: format, lints, licences, tidy, build, history checker, tests
    Ci,
    /// Check the rules of the source tree that no compiler checks
    Tidy,
    /// Check licences, sources and duplicate versions of what we stand on
    Licences,
    /// Hold the answers of Kubernetes that are written down against a real one
    Compare(compare::CompareArguments),
    /// Run the history checker of the store: clients beside kills, pauses and cut connections
    CheckHistory(history::HistoryArguments),
    /// Look for inputs that break what holds for every input
    Fuzz(fuzz::FuzzArguments),
    /// Measure the platform beside its peers on this machine, in a release build
    Bench(bench::BenchArguments),
}

/// Where the platform keeps its files.
#[derive(Clone, Debug, clap::Args)]
struct HomeArgument {
    /// Where the platform keeps everything [default: ~/.fermion]
    #[arg(long, env = "FERMION_HOME", hide_env_values = true, value_name = "DIRECTORY")]
    home: Option<PathBuf>,
}

impl HomeArgument {
    fn home(self) -> anyhow::Result<Home> {
        Home::new(self.home)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.chore {
        Chore::Up(arguments) => up::run(arguments),
        Chore::Down(arguments) => down::run(arguments),
        Chore::Test(arguments) => test::run(arguments),
        Chore::Ci => ci::run(),
        Chore::Tidy => tidy::run(),
        Chore::Licences => metadata::read().and_then(|metadata| licences::run(&metadata)),
        Chore::Compare(arguments) => compare::run(arguments),
        Chore::CheckHistory(arguments) => history::run(&arguments),
        Chore::Fuzz(arguments) => fuzz::run(arguments),
        Chore::Bench(arguments) => bench::run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&error);
            ExitCode::FAILURE
        }
    }
}
