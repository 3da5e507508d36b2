//! Scripts of real clients, run against whatever server a kubeconfig names: the platform under
//! test, or a real Kubernetes. What they print is compared with what was written down before.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::transcript::{Transcript, normalize};

/// A client with scripts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Bash scripts around `kubectl`; `FERMION_KUBECTL` names the program.
    Kubectl,
    /// Scripts of the Python package `kubernetes`; `FERMION_PYTHON` names an interpreter that
    /// has it.
    Python,
    /// Scripts of the npm package `@kubernetes/client-node`; `FERMION_NODE_MODULES` names the
    /// folder that has it.
    Node,
}

impl Client {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Kubectl, Self::Python, Self::Node];

    /// The folder of its scripts, and the first part of the names of its suites.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubectl => "kubectl",
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Kubectl => "sh",
            Self::Python => "py",
            Self::Node => "mjs",
        }
    }

    fn interpreter(self) -> Result<OsString> {
        match self {
            Self::Kubectl => Ok("bash".into()),
            Self::Python => setting("FERMION_PYTHON"),
            Self::Node => Ok("node".into()),
        }
    }
}

/// What `cargo xtask` tells the tests about programs it found or installed.
fn setting(name: &str) -> Result<OsString> {
    std::env::var_os(name)
        .with_context(|| format!("{name} is not set: run this through `cargo xtask test`, which installs what the clients need"))
}

/// One script of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Whose script it is.
    pub client: Client,
    /// The script's name, without its extension.
    pub name: String,
    /// Where the scripts of all clients are.
    folder: PathBuf,
}

/// Whose answers a transcript holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// What the platform answers.
    Fermion,
    /// What kube-apiserver with etcd answered, written down by `cargo xtask compare --record`.
    Kubernetes,
}

impl Suite {
    /// The script `name` of `client`; `folder` holds the scripts of all clients.
    pub fn new(folder: &Path, client: Client, name: &str) -> Self {
        Self { client, name: name.to_owned(), folder: folder.to_owned() }
    }

    /// Every script there is, in order. Files whose names begin with `_` are parts of others,
    /// not scripts.
    ///
    /// # Errors
    /// When the folders cannot be read.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        let mut suites = Vec::new();
        for client in Client::ALL {
            let directory = folder.join(client.name());
            let mut names = BTreeSet::new();
            for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
                let path = entry?.path();
                let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
                if path.extension().is_some_and(|extension| extension == client.extension()) && !name.starts_with('_') {
                    names.insert(name.to_owned());
                }
            }
            suites.extend(names.iter().map(|name| Self::new(folder, client, name)));
        }
        Ok(suites)
    }

    /// `kubectl-get`
    pub fn full_name(&self) -> String {
        format!("{}-{}", self.client.name(), self.name)
    }

    /// Whether it is about kinds that no Kubernetes has, so there is nothing to compare with.
    pub fn is_own(&self) -> bool {
        self.name == "own"
    }

    /// Whether it runs containers. A kube-apiserver alone, which is what we compare with, runs none.
    pub fn runs_containers(&self) -> bool {
        self.name == "containers"
    }

    /// Where the answers to this script are written down.
    pub fn answers_file(&self, whose: Whose) -> PathBuf {
        let of = match whose {
            Whose::Fermion => "fermion",
            Whose::Kubernetes => "kubernetes",
        };
        self.folder.join("answers").join(of).join(format!("{}.txt", self.full_name()))
    }

    /// What was written down.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn answers(&self, whose: Whose) -> Result<Transcript> {
        let file = self.answers_file(whose);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Transcript::parse(&text))
    }

    /// Runs the script to its end against the server that the kubeconfig names, and gives back
    /// what it printed, normalised. Scripts say by their exit code that what they assert does
    /// not hold.
    ///
    /// # Errors
    /// When it fails, with all that it printed; or when a tool is missing.
    pub fn run(&self, kubeconfig: &Path, server: &str) -> Result<String> {
        let work = tempfile::Builder::new().prefix("fm-client").tempdir().context("no temporary folder")?;
        let scripts = work.path().join("scripts");
        copy_folder(&self.folder.join(self.client.name()), &scripts)?;
        self.link_tools(work.path(), &scripts)?;
        let home = work.path().join("home");
        fs::create_dir(&home).context("no home for the client")?;
        let path = std::env::join_paths(
            std::iter::once(work.path().join("bin"))
                .chain(std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect::<Vec<_>>()),
        )?;
        let mut command = Command::new(self.client.interpreter()?);
        command
            .arg(format!("{}.{}", self.name, self.client.extension()))
            .current_dir(&scripts)
            .env("PATH", path)
            .env("KUBECONFIG", kubeconfig)
            // A client's caches and settings are of this run only.
            .env("HOME", &home)
            .env("KUBECACHEDIR", home.join("kubectl-cache"))
            .env("TMPDIR", &home)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null());
        // The servers are on this machine; a proxy of the person's is not for them.
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(variable);
        }
        let output = command.output().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{} ended with {}\n--- it printed\n{printed}\n--- and complained\n{complaints}",
            self.full_name(),
            output.status
        );
        let address = server.split("://").last().unwrap_or(server);
        let given = [
            (server.to_owned(), "<server>"),
            (address.to_owned(), "<address>"),
            (address.rsplit(':').next().unwrap_or_default().to_owned(), "<port>"),
            (home.display().to_string(), "<temporary>"),
            (scripts.display().to_string(), "<scripts>"),
        ];
        let text = normalize(&printed, &given);
        let repeated = Transcript::parse(&text).repeated().join(", ");
        ensure!(repeated.is_empty(), "{}: a step is known by its title, but these stand there twice: {repeated}", self.full_name());
        Ok(text)
    }

    /// Puts kubectl into the PATH of a script, and Node's modules where it looks for them.
    fn link_tools(&self, work: &Path, scripts: &Path) -> Result<()> {
        use std::os::unix::fs::symlink;
        let bin = work.join("bin");
        fs::create_dir(&bin).context("no folder for tools")?;
        match self.client {
            Client::Kubectl => symlink(setting("FERMION_KUBECTL")?, bin.join("kubectl")).context("cannot link kubectl"),
            Client::Node => symlink(setting("FERMION_NODE_MODULES")?, scripts.join("node_modules")).context("cannot link Node's modules"),
            Client::Python => Ok(()),
        }
    }

    /// Compares what a run printed with what is written down, or writes it down when
    /// `FERMION_ANSWERS=accept` says so.
    ///
    /// # Errors
    /// When they differ, with the lines that do.
    pub fn check(&self, whose: Whose, printed: &str) -> Result<()> {
        if std::env::var_os("FERMION_ANSWERS").is_some_and(|value| value == "accept") {
            return self.accept(whose, printed);
        }
        let file = self.answers_file(whose);
        let work = tempfile::tempdir().context("no temporary folder")?;
        let new = work.path().join("printed");
        fs::write(&new, printed).context("cannot write what was printed")?;
        let difference = Command::new("diff").arg("-u").args([&file, &new]).output().context("cannot start diff")?;
        if difference.status.success() {
            return Ok(());
        }
        bail!(
            "{} printed something else than {} holds; if that is as it should be, FERMION_ANSWERS=accept writes it down\n{}{}",
            self.full_name(),
            file.display(),
            String::from_utf8_lossy(&difference.stdout),
            String::from_utf8_lossy(&difference.stderr)
        );
    }

    /// Writes down what a run printed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn accept(&self, whose: Whose, printed: &str) -> Result<()> {
        let file = self.answers_file(whose);
        fs::create_dir_all(file.parent().context("a file is in a folder")?)?;
        fs::write(&file, printed).with_context(|| format!("cannot write {}", file.display()))
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
