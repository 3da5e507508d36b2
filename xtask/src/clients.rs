//! The client libraries whose scripts the tests run: Python's and Node's clients of Kubernetes,
//! in the exact versions that stand beside the scripts.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::console::Console;
use crate::{process, tools, workspace};

/// Where the scripts are, and what they need.
const SCRIPTS: &str = "crates/cli/tests/clients";
/// Tells the tests which Python has the client.
const PYTHON_VARIABLE: &str = "FERMION_PYTHON";
/// Tells the tests where Node's modules are.
const NODE_MODULES_VARIABLE: &str = "FERMION_NODE_MODULES";
/// The oldest Node.js that the client runs on.
const NODE_MAJOR_MIN: u32 = 20;

/// Interpreters and libraries, ready for the scripts.
pub(crate) struct Clients {
    python: PathBuf,
    node_modules: PathBuf,
}

impl Clients {
    /// Installs what is not there yet. What is there is used as it is: the folder's name tells
    /// which versions it holds.
    pub(crate) fn install(console: &Console) -> Result<Self> {
        let scripts = workspace::root().join(SCRIPTS);
        Ok(Self { python: python(console, &scripts.join("python"))?, node_modules: node(console, &scripts.join("node"))? })
    }

    /// Tells a command where they are.
    pub(crate) fn announce(&self, command: &mut Command) {
        command.env(PYTHON_VARIABLE, &self.python).env(NODE_MODULES_VARIABLE, &self.node_modules);
    }
}

fn python(console: &Console, scripts: &Path) -> Result<PathBuf> {
    let list = scripts.join("requirements.txt");
    let environment = folder("python-clients", &[&list])?;
    let interpreter = environment.join("bin/python");
    let finished = environment.join("installed");
    if !finished.is_file() {
        console.timed("installing Python's client of Kubernetes (PyPI)", || {
            remove(&environment)?;
            let advice = "apt-get install python3-venv; then try again";
            process::run(Command::new("python3").args(["-m", "venv"]).arg(&environment), advice)?;
            let mut pip = Command::new(&interpreter);
            // Every package is pinned in the list, those that others need as well.
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]).arg(&list);
            process::run(&mut pip, "can pip reach its index? `pip config list` shows which")?;
            process::run(Command::new(&interpreter).args(["-m", "pip", "check"]), "the list of requirements is not complete")?;
            fs::write(&finished, "").context("cannot mark the environment as installed")
        })?;
    }
    Ok(interpreter)
}

fn node(console: &Console, scripts: &Path) -> Result<PathBuf> {
    let version = process::run(Command::new("node").arg("--version"), "install Node.js 20 or newer")?;
    let major = version.stdout.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    ensure!(
        major.is_some_and(|major| major >= NODE_MAJOR_MIN),
        "Node.js {} is too old: install {NODE_MAJOR_MIN} or newer",
        version.stdout.trim()
    );
    let files = [scripts.join("package.json"), scripts.join("package-lock.json")];
    let folder = folder("node-clients", &[&files[0], &files[1]])?;
    let finished = folder.join("installed");
    if !finished.is_file() {
        console.timed("installing Node's client of Kubernetes (npm)", || {
            remove(&folder)?;
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            for file in &files {
                fs::copy(file, folder.join(file.file_name().context("a file has a name")?))
                    .with_context(|| format!("cannot copy {}", file.display()))?;
            }
            let mut npm = Command::new("npm");
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder);
            process::run(&mut npm, "can npm reach its registry? `npm ping` tells")?;
            fs::write(&finished, "").context("cannot mark the modules as installed")
        })?;
    }
    Ok(folder.join("node_modules"))
}

/// A folder of the cache whose name follows from what is installed into it.
fn folder(name: &str, lists: &[&Path]) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for list in lists {
        fs::read(list).with_context(|| format!("cannot read {}", list.display()))?.hash(&mut hasher);
    }
    Ok(tools::cache()?.join(format!("tools/{name}-{:016x}", hasher.finish())))
}

/// Takes away what an interrupted installation left.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}, which is not whole", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_installed_into_another_folder() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let list = directory.path().join("requirements.txt");
        fs::write(&list, "kubernetes==1\n").expect("written");
        let one = folder("python-clients", &[&list]).expect("a folder");
        assert_eq!(folder("python-clients", &[&list]).expect("a folder"), one);
        fs::write(&list, "kubernetes==2\n").expect("written");
        assert_ne!(folder("python-clients", &[&list]).expect("a folder"), one);
    }
}
