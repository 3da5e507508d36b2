//! The server as a process that outlives the chore which started it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::console::Console;
use crate::home::Home;

/// How long a start may take. A first start builds nothing; it opens the database.
const READY_WAIT: Duration = Duration::from_mins(1);
/// How long the server may take to stop before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// How often is looked whether it did.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// Last lines of the log that are shown when a start fails.
const LOG_LINES: usize = 20;

/// A process, told from others that got the same number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    /// Clock ticks from the machine's start to the process's.
    started: u64,
}

impl Process {
    fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        started(&stat).map(|started| Self { pid, started })
    }

    /// The server that `up` started in this home, if it runs.
    pub(crate) fn running(home: &Home) -> Result<Option<Self>> {
        let file = home.server_pid();
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let mut words = text.split_whitespace();
        let kept = words.next().and_then(|pid| pid.parse().ok()).zip(words.next().and_then(|started| started.parse().ok()));
        let (pid, started) = kept.with_context(|| format!("{} does not name a process; remove it", file.display()))?;
        let process = Self { pid, started };
        Ok(process.runs().then_some(process))
    }

    fn runs(self) -> bool {
        // A zombie has ended; only its parent has not asked how.
        let ended = fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| state(&stat) == Some('Z'));
        Self::of(self.pid) == Some(self) && !ended
    }

    /// Whether the file it was started from is there no more: it was built anew.
    pub(crate) fn program_was_replaced(self) -> bool {
        fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok_and(|program| program.to_string_lossy().ends_with(" (deleted)"))
    }

    fn signal(self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("a process number is above zero")?;
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Asks it to stop, waits, and kills it if it does not.
    pub(crate) fn stop(self, console: &Console) -> Result<()> {
        self.signal(Signal::TERM)?;
        if self.wait(STOP_WAIT) {
            return Ok(());
        }
        console.step(&format!("the server did not stop within {} s; killing it", STOP_WAIT.as_secs()));
        self.signal(Signal::KILL)?;
        if self.wait(STOP_WAIT) {
            Ok(())
        } else {
            bail!("process {} cannot be killed; it may wait for a disk that does not answer", self.pid)
        }
    }

    fn wait(self, limit: Duration) -> bool {
        let begun = Instant::now();
        while self.runs() {
            if begun.elapsed() > limit {
                return false;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        true
    }
}

/// The 22nd field of `/proc/PID/stat`; the second may hold spaces and brackets.
fn started(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Starts the server and waits until it is ready. Does nothing when it runs already.
pub(crate) fn start(console: &Console, fermion: &Path, home: &Home, listen: SocketAddr) -> Result<()> {
    home.create()?;
    if Process::running(home)?.is_some() {
        console.step("the server runs already");
        return wait_ready(home, listen, None);
    }
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(home.server_log()).context("cannot open the server's log")?;
    let mut child = spawn(fermion, home, listen, &log)?;
    let pid = i32::try_from(child.id()).context("a process number fits")?;
    let process = Process::of(pid).with_context(|| format!("the server ended at once{}", log_tail(home)))?;
    fs::write(home.server_pid(), format!("{} {}\n", process.pid, process.started)).context("cannot write the server's pid file")?;
    console.step(&format!("started the server as process {pid}; it logs to {}", home.server_log().display()));
    wait_ready(home, listen, Some(&mut child))
}

/// The server in a session of its own, so that Ctrl-C here does not reach it.
fn spawn(fermion: &Path, home: &Home, listen: SocketAddr, log: &File) -> Result<Child> {
    Command::new("setsid")
        .arg(fermion)
        .arg("server")
        .arg("--home")
        .arg(home.path())
        .args(["--listen", &listen.to_string()])
        .arg("--announce")
        .arg(home.announcement())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the server's log")?)
        .stderr(log.try_clone().context("cannot share the server's log")?)
        .spawn()
        .context("cannot start the server through `setsid`: apt-get install util-linux brings it")
}

fn wait_ready(home: &Home, listen: SocketAddr, mut child: Option<&mut Child>) -> Result<()> {
    let begun = Instant::now();
    loop {
        if answers_ok(listen, "/readyz") {
            return Ok(());
        }
        if let Some(child) = child.as_deref_mut()
            && let Some(ended) = child.try_wait().context("cannot wait for the server")?
        {
            // It did not take the pid file along.
            fs::remove_file(home.server_pid()).context("cannot remove the server's pid file")?;
            return Err(anyhow!("the server ended with {ended}{}", log_tail(home)));
        }
        if begun.elapsed() > READY_WAIT {
            bail!("the server is not ready after {} s{}", READY_WAIT.as_secs(), log_tail(home));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Whether a path answers 200.
pub(crate) fn answers_ok(listen: SocketAddr, path: &str) -> bool {
    let look = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&listen, LOOK_TIMEOUT)?;
        stream.set_read_timeout(Some(LOOK_TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    // Not ready yet and not there yet are the same to us.
    look().unwrap_or(false)
}

fn log_tail(home: &Home) -> String {
    let log = fs::read_to_string(home.server_log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n");
    format!("; the end of {}:\n{tail}", home.server_log().display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let own = i32::try_from(std::process::id()).expect("it fits");
        let process = Process::of(own).expect("we run");
        assert!(process.runs());
        assert!(!Process { started: process.started + 1, ..process }.runs(), "the number belongs to another process now");
    }

    #[test]
    fn a_name_with_brackets_does_not_mislead() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) Z (b) S {}", fields.join(" "));
        assert_eq!(started(&stat), Some(22));
        assert_eq!(state(&stat), Some('S'));
    }

    #[test]
    fn no_pid_file_means_no_server() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::new(Some(directory.path().to_owned())).expect("a home");
        assert_eq!(Process::running(&home).expect("readable"), None);
        fs::write(home.server_pid(), "nonsense").expect("written");
        assert!(Process::running(&home).is_err());
        fs::write(home.server_pid(), "1 1\n").expect("written");
        assert_eq!(Process::running(&home).expect("readable"), None, "process 1 did not start at tick 1");
    }
}
