//! A kube-apiserver with etcd on loopback, with their own defaults for durability.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use serde_json::json;

use super::etcd::Etcd;
use super::idle;
use super::spawned::{Spawned, free_address};
use crate::{process, tools};

/// Names the program to measure.
const VARIABLE: &str = "FERMION_KUBE_APISERVER";
/// Where `cargo xtask compare` leaves it, below the cache.
const BUILT: &str = "tools/kube-v1.20.2/kube-apiserver";
/// The administrator's token; the server listens on loopback and lives for minutes.
const TOKEN: &str = "benchmark";

/// The program, if one was built before, or where it should be.
pub(super) fn program() -> Result<Result<PathBuf, PathBuf>> {
    let path = match std::env::var_os(VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => tools::cache()?.join(BUILT),
    };
    Ok(if path.is_file() { Ok(path) } else { Err(path) })
}

/// How one comes there.
pub(super) fn advice(missing: &Path) -> String {
    format!("there is no kube-apiserver at {}: `cargo xtask compare` builds one, or name yours in {VARIABLE}", missing.display())
}

pub(super) struct Kubernetes {
    program: PathBuf,
    generator: PathBuf,
    folder: PathBuf,
    etcd: Etcd,
    process: Spawned,
    pub(super) address: SocketAddr,
    /// From the start of etcd, and then of the API server, until the latter is ready.
    pub(super) ready_after: Duration,
}

impl Kubernetes {
    /// Starts both on the data in a folder, if there is any, and waits until they are ready.
    pub(super) fn start(program: &Path, generator: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let key = folder.join("service-account.key");
        if !key.exists() {
            let mut openssl = Command::new("openssl");
            openssl.args(["ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out"]).arg(&key);
            process::run(&mut openssl, "apt-get install openssl")?;
        }
        let tokens = folder.join("tokens");
        fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n")).context("cannot write a token")?;
        let etcd = Etcd::start_with_room(&folder.join("etcd"))?;
        let begun = Instant::now();
        let address = free_address()?;
        let mut command = Command::new(program);
        command.arg(format!("--etcd-servers=http://{}", etcd.address)).arg(format!("--secure-port={}", address.port()));
        command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.96.0.0/24"]);
        command.arg("--cert-dir").arg(folder.join("certificates")).arg("--token-auth-file").arg(&tokens);
        command.arg("--service-account-key-file").arg(&key).arg("--service-account-signing-key-file").arg(&key);
        command.args(["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"]);
        // Nothing makes the accounts of new namespaces here.
        command.arg("--disable-admission-plugins=ServiceAccount");
        let process = Spawned::start(&mut command, &folder.join("kube-apiserver.log"))?;
        let ready_after = etcd.ready_after;
        let mut started = Self {
            program: program.to_owned(),
            generator: generator.to_owned(),
            folder: folder.to_owned(),
            etcd,
            process,
            address,
            ready_after,
        };
        process::run(
            started.arguments(Command::new(generator).arg("wait-kubernetes")),
            "see kube-apiserver.log in the benchmark's folder",
        )?;
        started.ready_after += begun.elapsed();
        Ok(started)
    }

    /// How the load generator reaches it.
    pub(super) fn arguments<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.args(["--kubernetes", &self.address.to_string()]).env("KUBERNETES_TOKEN", TOKEN);
        command.arg("--authority").arg(self.folder.join("certificates/apiserver.crt"))
    }

    /// A file that says how it is reached, and by whom.
    pub(super) fn kubeconfig(&self) -> Result<PathBuf> {
        let file = self.folder.join("kubeconfig");
        let authority = self.folder.join("certificates/apiserver.crt");
        let config = json!({"clusters": [{"cluster": {"certificate-authority": authority}}], "users": [{"user": {"token": TOKEN}}]});
        fs::write(&file, config.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// Memory of both processes, the API server and etcd.
    pub(super) fn resident_mb(&self) -> Result<f64> {
        Ok(idle::resident_mb(self.process.pid())? + idle::resident_mb(self.etcd.pid())?)
    }

    pub(super) fn stop(self) -> Result<()> {
        self.process.stop()?;
        self.etcd.stop()
    }

    /// Stops both and starts them again on the same data.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.process.ask_to_stop()?;
        self.etcd.ask_to_stop()?;
        *self = Self::start(&self.program, &self.generator, &self.folder)?;
        Ok(())
    }
}
