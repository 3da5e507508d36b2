//! `cargo xtask down`: stops what `up` started, and sees to it that nothing is left.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::console::Console;
use crate::server::Process;
use crate::{HomeArgument, process, workspace};

/// What the alias of a bridge of ours starts with.
const BRIDGE_ALIAS_PREFIX: &str = "fermion home ";

#[derive(Debug, clap::Args)]
pub(crate) struct DownArguments {
    #[command(flatten)]
    home: HomeArgument,
    /// Also delete everything the platform keeps: objects, volumes, images, logs
    #[arg(long)]
    purge: bool,
}

pub(crate) fn run(arguments: DownArguments) -> Result<()> {
    let console = Console::new();
    let home = arguments.home.home()?;
    if !home.path().exists() {
        console.step(&format!("there is nothing at {}", home.path().display()));
        return Ok(());
    }
    refuse_to_delete_more(home.path())?;
    match Process::running(&home)? {
        Some(server) => console.timed("stopping the server", || server.stop(&console))?,
        None => console.step("the server does not run"),
    }
    remove_if_there(&home.server_pid())?;
    let binary = binary(&console)?;
    let bridges = bridges(home.path())?;
    let mut teardown = Command::new(binary);
    teardown.arg("teardown").arg("--home").arg(home.path());
    if arguments.purge {
        teardown.arg("--purge");
    }
    console.timed("removing containers, mounts and networks", || {
        process::run(&mut teardown, "run `cargo xtask down` again; what it names above may need a hand")
    })?;
    let mut left = left_over(home.path())?;
    left.extend(rules_without_bridge(&bridges)?);
    if !left.is_empty() {
        bail!(
            "something of {} is left:\n{}",
            home.path().display(),
            left.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
        );
    }
    if arguments.purge {
        console.timed(&format!("deleting {}", home.path().display()), || {
            fs::remove_dir_all(home.path()).with_context(|| format!("cannot delete {}", home.path().display()))
        })?;
    }
    console.step(if arguments.purge {
        "nothing is left"
    } else {
        "stopped; `cargo xtask up` goes on from here, `cargo xtask down --purge` deletes the data"
    });
    Ok(())
}

/// A home that was set by mistake must not cost somebody their files.
fn refuse_to_delete_more(home: &Path) -> Result<()> {
    let known = ["data", "kubeconfig", "server.pid", "log", "containerd"];
    let ours = known.iter().any(|name| home.join(name).exists());
    let shallow = home.components().count() <= 2;
    let is_home = std::env::home_dir().is_some_and(|own| own == home);
    if shallow || is_home || !ours {
        bail!("{} does not look like a home of the platform; nothing was changed\n  is FERMION_HOME or --home right?", home.display());
    }
    Ok(())
}

/// The binary that `up` built, else a new one.
fn binary(console: &Console) -> Result<std::path::PathBuf> {
    let built = workspace::target().join("debug/fermion");
    if built.exists() { Ok(built) } else { workspace::build_fermion(console) }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Network bridges of the home; their alias names it.
fn bridges(home: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/class/net").context("cannot read the list of network interfaces")? {
        let Ok(entry) = entry else { continue };
        // An interface may go while we look.
        let alias = fs::read_to_string(entry.path().join("ifalias")).unwrap_or_default();
        if alias_names(&alias, home) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// The node writes `fermion home HOME SUBNET`.
fn alias_names(alias: &str, home: &Path) -> bool {
    let owner = alias.trim().strip_prefix(BRIDGE_ALIAS_PREFIX).and_then(|rest| rest.rsplit_once(' '));
    owner.is_some_and(|(owner, _)| Path::new(owner) == home)
}

/// iptables rules for bridges that are no more. A bridge of the same name may by now belong
/// to another home; then the rules are its own.
fn rules_without_bridge(bridges: &[String]) -> Result<Vec<String>> {
    let gone: Vec<&String> = bridges.iter().filter(|bridge| !Path::new("/sys/class/net").join(bridge).exists()).collect();
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let rules = process::run(&mut Command::new("iptables-save"), "apt-get install iptables brings it")?;
    let of_gone = |rule: &&str| gone.iter().any(|bridge| rule.split(' ').any(|word| word == bridge.as_str()));
    Ok(rules.stdout.lines().filter(of_gone).map(|rule| format!("iptables rule {rule}")).collect())
}

/// Processes, mounts and bridges that still use the home.
fn left_over(home: &Path) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the list of mounts")?;
    let mut left: Vec<String> = mounts_below(&mounts, home).into_iter().map(|mount| format!("mount {mount}")).collect();
    left.extend(bridges(home)?.into_iter().map(|bridge| format!("network bridge {bridge}")));
    for entry in fs::read_dir("/proc").context("cannot read the list of processes")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while we look.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<String> = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        if pid != std::process::id() && is_ours(&words, home) {
            left.push(format!("process {pid}: {}", words.join(" ").trim()));
        }
    }
    Ok(left)
}

/// The server, containerd or a shim of this home, by its command line. People's editors and
/// shells that merely name a file in it are none.
fn is_ours(words: &[String], home: &Path) -> bool {
    let program = words.first().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let ours = matches!(program, "fermion" | "containerd" | "containerd-shim-runc-v2" | "containerd-shim" | "runc");
    ours && words.iter().skip(1).any(|word| Path::new(word).starts_with(home))
}

fn mounts_below(mountinfo: &str, home: &Path) -> Vec<String> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // The kernel writes a space as \040.
        .map(|point| point.replace("\\040", " "))
        .filter(|point| Path::new(point).starts_with(home) && Path::new(point) != home)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_home_count() {
        let mountinfo = "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /srv/fermion rw - ext4 x rw\n\
                         3 1 0:3 / /srv/fermion/run/a\\040b rw - tmpfs x rw\n4 1 0:4 / /srv/fermion2/x rw - tmpfs x rw";
        assert_eq!(mounts_below(mountinfo, Path::new("/srv/fermion")), ["/srv/fermion/run/a b"]);
    }

    #[test]
    fn a_bridge_of_another_home_is_not_ours() {
        let home = Path::new("/srv/fermion");
        assert!(alias_names("fermion home /srv/fermion 10.208.0.0/16\n", home));
        assert!(!alias_names("fermion home /srv/fermion2 10.208.0.0/16\n", home));
        assert!(!alias_names("", home));
    }

    #[test]
    fn an_editor_in_the_home_is_nobody_elses_business() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let home = Path::new("/srv/fermion");
        assert!(is_ours(&words("/usr/bin/containerd --config /srv/fermion/run/containerd.toml"), home));
        assert!(!is_ours(&words("vim /srv/fermion/log/server.log"), home));
        assert!(!is_ours(&words("/usr/bin/containerd"), home));
    }

    #[test]
    fn a_directory_that_is_not_ours_is_not_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(refuse_to_delete_more(directory.path()).is_err());
        assert!(refuse_to_delete_more(Path::new("/")).is_err());
        fs::create_dir(directory.path().join("data")).expect("created");
        assert!(refuse_to_delete_more(directory.path()).is_ok());
    }
}
