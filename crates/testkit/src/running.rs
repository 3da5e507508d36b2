//! A command that goes on while the test does something else.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::wait::SOON;

/// Lines that nobody asked for yet.
const LINES_MAX: usize = 100_000;

/// A command under way. It is killed when it is dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// What was read so far, for people.
    seen: Vec<String>,
    command: String,
}

impl Running {
    /// Starts a command. Its standard output and standard error are read as one.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let words = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{words} cannot be started: {error}"));
        let (sender, lines) = mpsc::sync_channel(LINES_MAX);
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                // Ends with the pipe, or when nobody listens any more.
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines, seen: Vec::new(), command: words }
    }

    /// The next line that holds the text.
    ///
    /// # Panics
    /// When the command ends before, or does not say it within a minute.
    #[track_caller]
    pub fn line_with(&mut self, text: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => {
                    let how = if error == RecvTimeoutError::Timeout { "did not say" } else { "ended before it said" };
                    panic!("{} {how} {text:?}; it said:\n{}", self.command, self.seen.join("\n"));
                }
            }
        }
    }

    /// Waits for the command to end by itself; answers its exit code and all that it said.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn end_within(mut self, limit: Duration) -> (i32, String) {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} did not end within {limit:?}; it said:\n{}", self.command, self.seen.join("\n"))
                }
            }
        }
        let status = self.child.wait().expect("it ends");
        (status.code().unwrap_or(-1), self.seen.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
