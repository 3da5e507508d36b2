//! Commands of a build, run with the image's file system put together in namespaces of their own
//! (see `enter.sh`): when a command ends or is killed, so do its processes and its mounts.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::host_settings::HostSettings;
use crate::runtime::tool::Tool;
use crate::runtime::{self, process};

const SCRIPT: &str = include_str!("enter.sh");
/// Where programs are looked for on the machine and in the image.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long killed processes may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to look whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Ends the builds of a server that was killed: `work` is the folder in which they worked. With
/// the outermost process of each go all others and all mounts. Answers how many there were.
pub(crate) fn kill_left(work: &Path) -> Result<usize, runtime::Error> {
    let is_build = |pid| {
        process::command_line(pid).is_some_and(|line| {
            line.first().is_some_and(|program| program == "unshare") && line.iter().any(|arg| Path::new(arg).starts_with(work))
        })
    };
    let running = || process::all().into_iter().filter(|pid| is_build(*pid)).collect::<Vec<_>>();
    let found = running();
    for pid in &found {
        process::kill(*pid, is_build)?;
    }
    let mut looks = KILL_TIMEOUT.as_millis() / LOOK_EVERY.as_millis();
    while let Some(pid) = running().first().copied() {
        if looks == 0 {
            return Err(runtime::Error::Process { action: "end", pid, source: std::io::ErrorKind::TimedOut.into() });
        }
        looks -= 1;
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(found.len())
}

/// A command that runs in namespaces of its own on the machine's file system.
pub(crate) fn apart(timeout: Duration) -> Tool {
    Tool::new("unshare").args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]).timeout(timeout)
}

/// A build's folder with `lower`, `upper`, `work`, `merged` and `settings` in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuildFolder<'a> {
    pub(crate) path: &'a Path,
    /// How the image below is mounted.
    pub(crate) below: &'a Mount,
}

/// What `mount` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) options: String,
}

impl BuildFolder<'_> {
    /// A command of the machine's, started in the build's folder with the image at `merged`.
    pub(crate) fn on_machine(&self, timeout: Duration, command: &[OsString]) -> Tool {
        self.enter(timeout).arg("--").args(command)
    }

    /// A shell script in the image, as its root, with the package settings of this machine.
    pub(crate) fn in_image(&self, settings: &HostSettings, timeout: Duration, script: &str) -> Tool {
        let mut tool = self.enter(timeout);
        for (source, target) in &settings.mounts {
            tool = tool.arg(source).arg(target);
        }
        let variables = settings.env.iter().map(|(key, value)| format!("{key}={value}"));
        tool.args(["--", "chroot", "merged", "/usr/bin/env", "-i"]).args(variables).arg(format!("PATH={PATH}")).args(["sh", "-euc", script])
    }

    fn enter(&self, timeout: Duration) -> Tool {
        apart(timeout).arg("--wd").arg(self.path).args(["--", "sh", "-c", SCRIPT, "fermion-build"]).args([
            &self.below.kind,
            &self.below.source,
            &self.below.options,
        ])
    }
}
