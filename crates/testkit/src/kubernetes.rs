//! A real Kubernetes to compare with: etcd, kube-apiserver and kube-controller-manager, with
//! nothing that runs pods.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

/// How long one of its processes may take until it is ready, on a busy machine.
const READY: Duration = Duration::from_secs(120);
/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Last lines of a log that are shown when its process ends.
const LOG_LINES: usize = 20;
/// The administrator's token; the servers listen on loopback and live as long as the comparison.
const TOKEN: &str = "administrator-of-the-comparison";

/// A Kubernetes of its own. Dropping it ends its processes.
pub struct Kubernetes {
    directory: tempfile::TempDir,
    processes: Vec<Child>,
    server: String,
}

impl Kubernetes {
    /// Starts it and waits until it is ready. `binaries` holds `kube-apiserver` and
    /// `kube-controller-manager`.
    ///
    /// # Errors
    /// When something is missing or does not become ready, with the end of its log.
    pub fn start(binaries: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("fm-kube").tempdir().context("no temporary folder")?;
        let (client, peer, secure) = (free_port()?, free_port()?, free_port()?);
        let mut kubernetes = Self { directory, processes: Vec::new(), server: format!("https://127.0.0.1:{secure}") };
        kubernetes.write_configuration()?;
        kubernetes.start_etcd(client, peer)?;
        kubernetes.start_apiserver(binaries, client, secure)?;
        kubernetes.start_controllers(binaries)?;
        Ok(kubernetes)
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    /// Where it listens.
    pub fn server(&self) -> &str {
        &self.server
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_configuration(&self) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "compared", "cluster": {"server": self.server, "insecure-skip-tls-verify": true}}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "compared", "context": {"cluster": "compared", "user": "admin", "namespace": "default"}}],
            "current-context": "compared",
        });
        fs::write(self.kubeconfig(), config.to_string()).context("cannot write a kubeconfig")?;
        fs::write(self.file("tokens"), format!("{TOKEN},admin,admin,system:masters\n")).context("cannot write tokens")?;
        let key = self.file("service-account.key");
        let made = Command::new("openssl")
            .args(["ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out"])
            .arg(&key)
            .output()
            .context("cannot start openssl: apt-get install openssl")?;
        ensure!(made.status.success(), "openssl made no key: {}", String::from_utf8_lossy(&made.stderr));
        Ok(())
    }

    fn start_etcd(&mut self, client: u16, peer: u16) -> Result<()> {
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.file("etcd")).args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer, "--initial-cluster"]);
        // What is compared are answers, not how durable they are.
        command.arg(format!("default={peer}")).args(["--unsafe-no-fsync", "--log-level", "error"]);
        self.spawn(&mut command, "etcd", "apt-get install etcd-server")
    }

    fn start_apiserver(&mut self, binaries: &Path, etcd: u16, secure: u16) -> Result<()> {
        let key = self.file("service-account.key");
        let mut command = Command::new(binaries.join("kube-apiserver"));
        command.arg(format!("--etcd-servers=http://127.0.0.1:{etcd}")).arg(format!("--secure-port={secure}"));
        command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.96.0.0/24"]);
        command.arg("--cert-dir").arg(self.file("certificates")).arg("--token-auth-file").arg(self.file("tokens"));
        command.arg("--service-account-key-file").arg(&key).arg("--service-account-signing-key-file").arg(&key);
        command.args(["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC", "--allow-privileged=true"]);
        // Nothing makes the service accounts and nodes these ask for.
        command.arg("--disable-admission-plugins=ServiceAccount,TaintNodesByCondition");
        self.spawn(&mut command, "kube-apiserver", "`cargo xtask compare` builds it from Debian's source package")?;
        self.wait_until_ready()
    }

    /// The controllers without which namespaces and dependents would never go, and the one that writes
    /// down where the pods of services are.
    fn start_controllers(&mut self, binaries: &Path) -> Result<()> {
        let port = free_port()?;
        let mut command = Command::new(binaries.join("kube-controller-manager"));
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(["--leader-elect=false", "--bind-address=127.0.0.1", "--port=0"]);
        command.arg(format!("--secure-port={port}")).arg("--cert-dir").arg(self.file("controller-certificates"));
        command.args(["--controllers=namespace,garbagecollector,clusterrole-aggregation,endpoint"]);
        self.spawn(&mut command, "kube-controller-manager", "`cargo xtask compare` builds it from Debian's source package")
    }

    fn spawn(&mut self, command: &mut Command, name: &str, advice: &str) -> Result<()> {
        let log = fs::File::create(self.file(&format!("{name}.log"))).context("cannot write a log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.processes.push(command.spawn().with_context(|| format!("cannot start {name}: {advice}"))?);
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let kubectl = std::env::var_os("FERMION_KUBECTL").context("FERMION_KUBECTL must name kubectl: use `cargo xtask compare`")?;
        let begun = Instant::now();
        loop {
            for (process, name) in self.processes.iter_mut().zip(["etcd", "kube-apiserver"]) {
                if let Some(status) = process.try_wait()? {
                    let log = fs::read_to_string(self.directory.path().join(format!("{name}.log"))).unwrap_or_default();
                    let lines: Vec<&str> = log.lines().collect();
                    bail!("{name} ended with {status}; its last lines:\n{}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
                }
            }
            // Ready, and done with the namespaces and roles it makes for itself.
            let asked = |words: &[&str]| {
                let answer = Command::new(&kubectl)
                    .args(words)
                    .env("KUBECONFIG", self.kubeconfig())
                    .env("HOME", self.directory.path())
                    .stdin(Stdio::null())
                    .output();
                answer.is_ok_and(|answer| answer.status.success())
            };
            if asked(&["get", "--raw", "/readyz"]) && asked(&["get", "namespace", "default", "kube-node-lease"]) {
                return Ok(());
            }
            ensure!(begun.elapsed() < READY, "kube-apiserver is not ready after {} s", READY.as_secs());
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        // The newest first: what is left then has nobody to complain to.
        for process in self.processes.iter_mut().rev() {
            let _ended = process.kill();
            let _reaped = process.wait();
        }
    }
}

/// A loopback port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no loopback port is free")?.local_addr()?.port())
}
