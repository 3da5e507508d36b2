//! containerd as a process: started so that it outlives us, found again by its pid file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;

use super::Error;
use super::paths::Paths;
use super::tool::{self, Tool};

/// How long containerd may take to end when asked; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a killed process may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// A log longer than this is moved aside when containerd is started.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// Where containerd, its shims, runc and the network plugins find their tools.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The variables of the server's that containerd gets: what pulling an image needs, no secrets.
const PASSED_VARIABLES: &[&str] =
    &["HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Starts containerd in a session of its own and writes down its pid, which `exec` keeps.
const LAUNCH: &str = r#"echo $$ > "$1.new" && mv "$1.new" "$1" && exec containerd --config "$2""#;

/// A running containerd, held by a pidfd: its pid cannot come to mean another process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// The home's containerd, if it runs.
    pub(crate) fn find(paths: &Paths) -> Result<Option<Self>, Error> {
        let Some(pid) = std::fs::read_to_string(paths.pid_file()).ok().and_then(|text| text.trim().parse().ok()) else {
            return Ok(None);
        };
        // First the handle, then the look at what it is: in this order it cannot be mixed up.
        let Some(process) = Self::open(pid)? else {
            return Ok(None);
        };
        let configuration = paths.configuration();
        let ours = command_line(pid).is_some_and(|line| line.iter().any(|arg| Path::new(arg) == configuration));
        Ok((ours && !is_dead(pid)).then_some(process))
    }

    #[expect(deprecated, reason = "sound here, since an `OwnedFd` stays valid; its successor is an unsafe function")]
    fn open(pid: i32) -> Result<Option<Self>, Error> {
        let Some(id) = Pid::from_raw(pid) else {
            return Ok(None);
        };
        let failed = |source| Error::Process { action: "watch", pid, source };
        match rustix::process::pidfd_open(id, PidfdFlags::NONBLOCK) {
            Ok(handle) => Ok(Some(Self { pid, handle: AsyncFd::new(handle).map_err(failed)? })),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Starts containerd with the home's configuration. It is no child of ours and shares no
    /// session with us, so neither our end nor a closed terminal ends it.
    pub(crate) async fn start(paths: &Paths) -> Result<Self, Error> {
        let log = open_log(&paths.log())?;
        let second = log.try_clone().map_err(|source| Error::File { action: "write to", path: paths.log(), source })?;
        // A file of an earlier containerd would name a process that is not this one.
        let pid_file = paths.pid_file();
        match std::fs::remove_file(&pid_file) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { action: "remove", path: pid_file, source });
            }
            _ => {}
        }
        // A missing containerd must be told as such, not as a failed shell.
        Tool::new("containerd").arg("--version").env_only(environment()).run().await?;
        // `setsid --fork` ends at once; the shell then writes the file.
        let launcher = Tool::new("setsid")
            .args(["--fork", "sh", "-c", LAUNCH, "fermion-containerd"])
            .arg(&pid_file)
            .arg(paths.configuration())
            .env_only(environment());
        let status = launcher
            .command()
            .current_dir("/")
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(second))
            .status()
            .await
            .map_err(|source| launcher.start_error(source))?;
        if !status.success() {
            return Err(Error::Tool(tool::Error::Failed { command: launcher.command_line(), status, tail: log_tail(&paths.log()) }));
        }
        let found = wait_until(START_TIMEOUT, || Self::find(paths).transpose()).await;
        found.unwrap_or_else(|| Err(Error::EndedAtStart { log: paths.log(), tail: log_tail(&paths.log()).join("\n") }))
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        // A pidfd becomes readable when its process ends, and stays so.
        if !is_dead(self.pid) {
            // An error only says that the async runtime itself is ending.
            let _ = self.handle.readable().await;
        }
    }

    /// Asks it to end, and kills it if it does not. Containers go on without it.
    pub(crate) async fn stop(&self) -> Result<(), Error> {
        for (signal, timeout) in [(Signal::TERM, STOP_TIMEOUT), (Signal::KILL, KILL_TIMEOUT)] {
            match rustix::process::pidfd_send_signal(self.handle.get_ref(), signal) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(errno) => {
                    return Err(Error::Process { action: "end", pid: self.pid, source: errno.into() });
                }
            }
            if tokio::time::timeout(timeout, self.ended()).await.is_ok() {
                return Ok(());
            }
        }
        Err(Error::Process { action: "end", pid: self.pid, source: std::io::ErrorKind::TimedOut.into() })
    }
}

/// How long the shell that becomes containerd may take to do so.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait between two looks at something that gives no sign of its own.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until there is something or the time is up.
pub(crate) async fn wait_until<T>(timeout: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let wait = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(timeout, wait).await.ok()
}

fn environment() -> Vec<(OsString, OsString)> {
    PASSED_VARIABLES
        .iter()
        .filter_map(|key| Some((OsString::from(key), std::env::var_os(key)?)))
        .chain([(OsString::from("PATH"), OsString::from(PATH))])
        .collect()
}

fn open_log(path: &Path) -> Result<File, Error> {
    let open = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if std::fs::metadata(path).is_ok_and(|data| data.len() > LOG_BYTES_MAX) {
            std::fs::rename(path, path.with_extension("log.1"))?;
        }
        OpenOptions::new().create(true).append(true).open(path)
    };
    open().map_err(|source| Error::File { action: "write to", path: path.to_owned(), source })
}

/// The last lines of containerd's log, for an error.
pub(crate) fn log_tail(path: &Path) -> Vec<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const TAIL_BYTES: u64 = 4096;
    const TAIL_LINES: usize = 8;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    // The log only adds to an error that is told anyway.
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Every process there is.
pub(crate) fn all() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// A process's arguments; nothing once it is gone.
pub(crate) fn command_line(pid: i32) -> Option<Vec<String>> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(bytes.split(|byte| *byte == 0).filter(|arg| !arg.is_empty()).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect())
}

/// Whether a process is gone, or is only still there for its parent to ask how it ended.
fn is_dead(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // `pid (name) state …`, where the name may hold anything.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Ends a process at once, if it is still the one whose arguments `is_it` knows.
pub(crate) fn kill(pid: i32, is_it: impl Fn(i32) -> bool) -> Result<(), Error> {
    let Some(id) = Pid::from_raw(pid) else {
        return Ok(());
    };
    let end = || -> rustix::io::Result<()> {
        let handle = rustix::process::pidfd_open(id, PidfdFlags::empty())?;
        if is_it(pid) {
            rustix::process::pidfd_send_signal(&handle, Signal::KILL)?;
        }
        Ok(())
    };
    match end() {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::Process { action: "end", pid, source: errno.into() }),
    }
}
