//! `cargo xtask fuzz`: looks for bytes that break a law of `crates/laws`.
//!
//! The targets in `fuzz/` are laid out for cargo-fuzz, and work with it. This chore needs no tool
//! beside the compiler: it builds them with the flags that libFuzzer wants, on the stable
//! toolchain, and runs one after the other. What breaks a law is written to `fuzz/found`, where an
//! ordinary test tries it again for ever after.

mod report;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::console::{self, Console};
use crate::packages;
use crate::process;
use crate::workspace::{self, root};
use report::Report;

/// The platform that is built for. Saying it keeps the flags away from build scripts.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Counts every edge of the program and shows comparisons to the fuzzer, as cargo-fuzz does.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";

/// The longest input. Laws read a handful of small objects; more bytes only take more time.
const INPUT_BYTES_MAX: usize = 2_048;
/// One input that takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 10;
/// A target that needs more memory is a finding.
const MEMORY_MIB_MAX: u32 = 1_024;
/// Kept in memory where the machine has such a folder: the law of selectors writes to a database.
const MEMORY_FOLDER: &str = "/dev/shm";

#[derive(Debug, clap::Args)]
pub(crate) struct FuzzArguments {
    /// Only this target
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Put what was learnt into fuzz/corpus, as few inputs as reach all that was reached
    #[arg(long)]
    keep: bool,
}

/// Where one target's files are.
struct Target {
    name: String,
    program: PathBuf,
    /// Inputs of this machine, which grow from run to run.
    work: PathBuf,
    /// Inputs that everybody has.
    kept: PathBuf,
    /// Inputs that broke the law once.
    found: PathBuf,
    log: PathBuf,
}

pub(crate) fn run(arguments: FuzzArguments) -> Result<()> {
    let console = Console::new();
    packages::install(&console, &packages::TO_FUZZ)?;
    let mut names = names()?;
    if let Some(wanted) = &arguments.target {
        if !names.contains(wanted) {
            bail!("there is no target `{wanted}`, only {}", names.join(", "));
        }
        names.retain(|name| name == wanted);
    }
    let targets = build(&console, &names)?;
    let mut broken = Vec::new();
    for target in &targets {
        console.step(&format!("{}: {} s; `tail -f {}` shows it", target.name, arguments.seconds, target.log.display()));
        let report = target.run(arguments.seconds)?;
        console::answer(&report.line(&target.name))?;
        if let Some(finding) = &report.finding {
            console::answer(&finding.told(&target.name))?;
            broken.push(target.name.as_str());
        } else if arguments.keep {
            target.keep()?;
        }
    }
    if broken.is_empty() { Ok(()) } else { bail!("something was found by {}", broken.join(", ")) }
}

/// The names of all targets.
fn names() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds the targets, optimised and with everything checked that a debug build checks.
fn build(console: &Console, names: &[String]) -> Result<Vec<Target>> {
    let home = workspace::target().join("fuzz");
    console.timed("cargo build of the fuzz targets (the first takes minutes)", || {
        let mut cargo = workspace::cargo("build");
        cargo.current_dir(root().join("fuzz")).args(["--release", "--target", PLATFORM]);
        cargo.args(names.iter().flat_map(|name| ["--bin", name]));
        cargo.env("CARGO_TARGET_DIR", &home).env("RUSTFLAGS", FLAGS);
        process::run(&mut cargo, "a compiler error is shown above; `cargo build` in fuzz/ shows all of it")
    })?;
    let programs = home.join(PLATFORM).join("release");
    names.iter().map(|name| Target::new(name, programs.join(name), &home)).collect()
}

impl Target {
    fn new(name: &str, program: PathBuf, home: &Path) -> Result<Self> {
        let target = Self {
            name: name.to_owned(),
            program,
            work: home.join("corpus").join(name),
            kept: root().join("fuzz/corpus").join(name),
            found: root().join("fuzz/found").join(name),
            log: home.join(format!("{name}.log")),
        };
        for folder in [&target.work, &target.kept, &target.found] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(target)
    }

    /// libFuzzer with the bounds of every run.
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
        command.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
        command.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
        // The slash at the end makes it a folder.
        command.arg(format!("-artifact_prefix={}/", self.found.display()));
        if Path::new(MEMORY_FOLDER).is_dir() {
            command.env("TMPDIR", MEMORY_FOLDER);
        }
        let log = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        command.stderr(log);
        Ok(command)
    }

    fn run(&self, seconds: u32) -> Result<Report> {
        let mut command = self.command()?;
        command.args(["-print_final_stats=1", &format!("-max_total_time={seconds}")]);
        command.args([&self.work, &self.kept]);
        let ended = command.status().with_context(|| format!("cannot start {}", self.program.display()))?;
        let log = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        let report = Report::read(&String::from_utf8_lossy(&log));
        if !ended.success() && report.finding.is_none() {
            bail!("{} ended with {ended} and found nothing; see {}", self.name, self.log.display());
        }
        Ok(report)
    }

    /// Replaces the inputs that everybody has by as few as reach as much as all do together.
    fn keep(&self) -> Result<()> {
        let fewer = self.work.with_extension("fewer");
        if fewer.exists() {
            fs::remove_dir_all(&fewer).with_context(|| format!("cannot remove {}", fewer.display()))?;
        }
        fs::create_dir_all(&fewer).with_context(|| format!("cannot create {}", fewer.display()))?;
        let mut command = self.command()?;
        command.arg("-set_cover_merge=1").args([&fewer, &self.kept, &self.work]);
        let ended = command.status().with_context(|| format!("cannot start {}", self.program.display()))?;
        if !ended.success() {
            bail!("the inputs of {} could not be made fewer: {ended}; see {}", self.name, self.log.display());
        }
        let replace = || -> std::io::Result<()> {
            fs::remove_dir_all(&self.kept)?;
            fs::create_dir_all(&self.kept)?;
            for entry in fs::read_dir(&fewer)? {
                let entry = entry?;
                fs::copy(entry.path(), self.kept.join(entry.file_name()))?;
            }
            fs::remove_dir_all(&fewer)
        };
        replace().with_context(|| format!("cannot replace the inputs in {}", self.kept.display()))
    }
}
