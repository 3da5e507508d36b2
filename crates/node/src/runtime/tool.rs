//! Running the machine's own tools (`ip`, `iptables`, `ctr`, `mmdebstrap`, …): bounded in time and
//! in memory, with errors that name the Debian package of a tool that is missing.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// How long a tool may run unless told otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// The most output of a tool that is kept for its caller: enough for a machine's whole rule set.
const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// How many of a failed tool's last lines its error repeats, of each of its two streams: the one
/// that talks more must not hide what the other said.
const TAIL_LINES_MAX: usize = 12;
/// How much of one line is kept for an error.
const TAIL_LINE_BYTES_MAX: usize = 500;

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tool is not there.
    #[error("`{program}` is not installed: `apt-get install {package}` brings it")]
    Missing {
        /// The program that was to be run.
        program: String,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// It could not be started or waited for.
    #[error("could not run `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It ran and failed.
    #[error("`{command}` failed ({status}){}", indented(.tail))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
    /// It was ended because it took too long.
    #[error("`{command}` was ended: it took longer than {} s{}", after.as_secs(), indented(.tail))]
    TimedOut {
        /// The command line.
        command: String,
        /// The bound that was reached.
        after: Duration,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
}

fn indented(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n    {line}");
        text
    })
}

/// One command line, to be run once.
#[derive(Debug)]
pub(crate) struct Tool {
    program: String,
    args: Vec<OsString>,
    label: Option<String>,
    env: Option<Vec<(OsString, OsString)>>,
    timeout: Duration,
}

impl Tool {
    pub(crate) fn new(program: &str) -> Self {
        Self { program: program.to_owned(), args: Vec::new(), label: None, env: None, timeout: TIMEOUT }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs with exactly these variables in place of the server's own.
    pub(crate) fn env_only(mut self, env: Vec<(OsString, OsString)>) -> Self {
        self.env = Some(env);
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What messages call it, where the command line itself would not help.
    pub(crate) fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// The command line, for messages.
    pub(crate) fn command_line(&self) -> String {
        if let Some(label) = &self.label {
            return label.clone();
        }
        let mut line = self.program.clone();
        for arg in &self.args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line
    }

    /// The command with its environment and no standard streams; ends with its handle.
    pub(crate) fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).kill_on_drop(true);
        if let Some(env) = &self.env {
            command.env_clear().envs(env.iter().map(|(key, value)| (key, value)));
        }
        command
    }

    pub(crate) fn start_error(&self, source: std::io::Error) -> Error {
        if source.kind() == std::io::ErrorKind::NotFound {
            Error::Missing { program: self.program.clone(), package: package_of(&self.program) }
        } else {
            Error::Start { command: self.command_line(), source }
        }
    }

    /// Runs it to its end and answers what it wrote to standard output.
    pub(crate) async fn run(self) -> Result<String, Error> {
        let mut stdout = String::new();
        self.run_with(|stream, line| {
            if stream == Stream::Output && stdout.len() + line.len() < OUTPUT_BYTES_MAX {
                stdout.push_str(line);
                stdout.push('\n');
            }
        })
        .await?;
        Ok(stdout)
    }

    /// Runs it to its end and hands every line that it writes to `each_line`.
    pub(crate) async fn run_with(self, mut each_line: impl FnMut(Stream, &str)) -> Result<(), Error> {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|source| self.start_error(source))?;
        let mut output = child.stdout.take().map(BufReader::new);
        let mut errors = child.stderr.take().map(BufReader::new);
        let (mut output_tail, mut error_tail) = (VecDeque::new(), VecDeque::new());
        let ended = tokio::time::timeout(self.timeout, async {
            let (mut output_line, mut error_line) = (Vec::new(), Vec::new());
            while output.is_some() || errors.is_some() {
                tokio::select! {
                    more = read_line(output.as_mut(), &mut output_line), if output.is_some() => {
                        if more? {
                            take_line(&mut output_line, Stream::Output, &mut output_tail, &mut each_line);
                        } else {
                            output = None;
                        }
                    }
                    more = read_line(errors.as_mut(), &mut error_line), if errors.is_some() => {
                        if more? {
                            take_line(&mut error_line, Stream::Errors, &mut error_tail, &mut each_line);
                        } else {
                            errors = None;
                        }
                    }
                }
            }
            child.wait().await
        })
        .await;
        let tail: Vec<String> = output_tail.into_iter().chain(error_tail).collect();
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Error::Failed { command: self.command_line(), status, tail }),
            Ok(Err(source)) => Err(self.start_error(source)),
            Err(_) => {
                // Best effort: it may have ended at this very moment.
                let _ = child.kill().await;
                Err(Error::TimedOut { command: self.command_line(), after: self.timeout, tail })
            }
        }
    }
}

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Errors,
}

/// Reads on to the end of a line; false at the end of the stream. Keeps what it read in `line`
/// when it is cancelled, as `select!` does.
async fn read_line(reader: Option<&mut BufReader<impl AsyncRead + Unpin>>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let Some(reader) = reader else {
        return Ok(false);
    };
    reader.read_until(b'\n', line).await?;
    Ok(!line.is_empty())
}

fn take_line(line: &mut Vec<u8>, stream: Stream, tail: &mut VecDeque<String>, each_line: &mut impl FnMut(Stream, &str)) {
    let text = String::from_utf8_lossy(line);
    let text = &without_passwords(text.trim_end_matches(['\n', '\r']));
    each_line(stream, text);
    if !text.trim().is_empty() {
        if tail.len() == TAIL_LINES_MAX {
            tail.pop_front();
        }
        tail.push_back(shortened(text));
    }
    line.clear();
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(TAIL_LINE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A line without the names and passwords that addresses of package sources may hold.
fn without_passwords(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || matches!(c, '"' | '\'' | ')')).unwrap_or(after.len());
        let (authority, more) = after.split_at(end);
        clean.push_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        rest = more;
    }
    clean.push_str(rest);
    clean
}

/// The Debian package that holds a program we call.
fn package_of(program: &str) -> &'static str {
    match program {
        "containerd" | "ctr" => "containerd",
        "runc" => "runc",
        "iptables" => "iptables",
        "ip" => "iproute2",
        "mmdebstrap" => "mmdebstrap",
        "unshare" | "setsid" | "mount" => "util-linux",
        "apt-get" => "apt",
        "npm" => "npm",
        _ => "coreutils",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_tool_names_its_package() {
        let mut tool = Tool::new("containerd");
        tool.env = Some(vec![("PATH".into(), "/nowhere".into())]);
        let error = tool.run().await.expect_err("there is no such program");
        assert_eq!(error.to_string(), "`containerd` is not installed: `apt-get install containerd` brings it");
    }

    #[tokio::test]
    async fn a_failed_tool_shows_its_last_lines() {
        let error = Tool::new("sh").args(["-c", "seq 1 100; echo broken >&2; exit 3"]).run().await.expect_err("it exits 3");
        let Error::Failed { tail, status, .. } = error else { panic!("{error}") };
        assert_eq!(status.code(), Some(3));
        assert_eq!(tail.len(), TAIL_LINES_MAX + 1);
        assert_eq!(tail.last().map(String::as_str), Some("broken"));
    }

    #[test]
    fn passwords_in_addresses_are_not_repeated() {
        assert_eq!(
            without_passwords("Get http://me:s3cret@host/a and https://host/b?c=d@e https://x@y"),
            "Get http://host/a and https://host/b?c=d@e https://y"
        );
    }

    #[tokio::test]
    async fn a_tool_that_hangs_is_ended() {
        let error = Tool::new("sleep").arg("1000").timeout(Duration::from_millis(50)).run().await.expect_err("it takes too long");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }
}
