//! Running other programs: quiet while all is well, with their last lines when not.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::console::paint;

/// Last lines of each stream that are shown when a program fails.
const TAIL_LINES: usize = 30;
/// How often a program that runs long says that it still does.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How often the line on a terminal is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);
/// Columns of that line.
const LINE_WIDTH: usize = 100;

/// What a program wrote to standard output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) stdout: String,
}

enum Line {
    Out(String),
    Err(String),
}

/// Runs a program to its end without showing what it writes, except for its newest line on a
/// terminal. `advice` says what to do when it fails.
pub(crate) fn run(command: &mut Command, advice: &str) -> Result<Output> {
    run_with_input(command, "", advice)
}

/// As [`run`], for a program that reads something.
pub(crate) fn run_with_input(command: &mut Command, input: &str, advice: &str) -> Result<Output> {
    let shown = describe(command);
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`: {advice}"))?;
    let (sender, lines) = mpsc::channel();
    let writer = child.stdin.take().map(|mut stdin| {
        let input = input.to_owned();
        // A program that ends early tells why by itself.
        std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())))
    });
    let readers = [
        child.stdout.take().map(|out| read_lines(out, sender.clone(), Line::Out)),
        child.stderr.take().map(|err| read_lines(err, sender, Line::Err)),
    ];
    let mut status = Status::new();
    let mut output = Output::default();
    // One for each stream: what talks more must not push out what the other said.
    let (mut out_tail, mut err_tail) = (Tail::default(), Tail::default());
    let mut newest = String::new();
    loop {
        match lines.recv_timeout(REDRAW) {
            Ok(line) => match line {
                Line::Out(text) => {
                    output.stdout.push_str(&text);
                    output.stdout.push('\n');
                    newest.clone_from(&text);
                    out_tail.push(text);
                }
                Line::Err(text) => {
                    newest.clone_from(&text);
                    err_tail.push(text);
                }
            },
            Err(RecvTimeoutError::Timeout) => {}
            // Both of its outputs are closed: it has ended, or is about to.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        status.show(&newest);
    }
    status.clear();
    for reader in readers.into_iter().flatten() {
        reader.join().map_err(|_| anyhow!("reading the output of `{shown}` failed"))?;
    }
    if let Some(writer) = writer {
        writer.join().map_err(|_| anyhow!("writing the input of `{shown}` failed"))?;
    }
    let ended = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    if ended.success() {
        return Ok(output);
    }
    let last: Vec<String> = out_tail.0.into_iter().chain(err_tail.0).map(|line| format!("    {line}")).collect();
    Err(anyhow!("`{shown}` ended with {ended}; its last lines:\n{}\n  {} {advice}", last.join("\n"), paint("36", "hint:")))
}

/// The last lines of a stream.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: String) {
        self.0.push_back(line);
        if self.0.len() > TAIL_LINES {
            self.0.pop_front();
        }
    }
}

/// Runs a program that shows its own output.
pub(crate) fn show(command: &mut Command, advice: &str) -> Result<()> {
    let shown = describe(command);
    let ended = command.status().with_context(|| format!("cannot start `{shown}`: {advice}"))?;
    if ended.success() { Ok(()) } else { Err(anyhow!("`{shown}` ended with {ended}\n  {} {advice}", paint("36", "hint:"))) }
}

/// The command line for messages.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn read_lines(from: impl Read + Send + 'static, to: Sender<Line>, wrap: fn(String) -> Line) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        // A program's output may hold anything; a line that cannot be read ends the reading.
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if to.send(wrap(text)).is_err() {
                return;
            }
            line.clear();
        }
    })
}

/// The sign that a program still works.
struct Status {
    begun: Instant,
    told: Instant,
    terminal: bool,
    drawn: bool,
}

impl Status {
    fn new() -> Self {
        let now = Instant::now();
        Self { begun: now, told: now, terminal: std::io::stderr().is_terminal(), drawn: false }
    }

    fn show(&mut self, newest: &str) {
        let pause = if self.terminal { REDRAW } else { SIGN_OF_LIFE };
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let newest: String = newest.chars().filter(|c| !c.is_control()).take(LINE_WIDTH).collect();
        let text = format!("           … {:.0} s: {newest}", self.begun.elapsed().as_secs_f64());
        if self.terminal {
            self.drawn = true;
            eprint!("\r\u{1b}[K{text}");
            // Drawing is a courtesy; the work goes on without it.
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{text}");
        }
    }

    fn clear(&self) {
        if self.drawn {
            eprint!("\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_kept_apart_from_messages() {
        let output = run(&mut shell("echo one; echo two >&2; printf three"), "").expect("it succeeds");
        assert_eq!(output.stdout, "one\nthree\n");
    }

    #[test]
    fn a_program_reads_its_input_and_need_not_read_all_of_it() {
        assert_eq!(run_with_input(&mut shell("cat"), "a\nb", "").expect("it succeeds").stdout, "a\nb\n");
        assert!(run_with_input(&mut shell("exit 0"), &"x".repeat(1 << 20), "").is_ok());
    }

    #[test]
    fn a_failure_shows_the_last_lines_and_the_advice() {
        let error = run(&mut shell("seq 100; echo bad >&2; exit 3"), "look at it").expect_err("it fails").to_string();
        assert!(error.contains("exit status: 3") && error.contains("    bad") && error.contains("look at it"), "{error}");
        assert!(!error.contains("    5\n"), "only the end is shown: {error}");
    }

    #[test]
    fn a_missing_program_says_what_to_do() {
        let error = run(&mut Command::new("no-such-program-here"), "install it").expect_err("there is none");
        assert!(error.to_string().contains("install it"), "{error}");
    }
}
