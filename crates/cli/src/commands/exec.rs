//! `fermion exec`, also called `fermion ssh`: a command or a shell in a running container.

use std::io::IsTerminal as _;
use std::time::Duration;

use fermion_client::exec::NotStarted;
use futures::SinkExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use kube::{Api, ResourceExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::pods::{Target, container_names};
use crate::terminal;

/// Bytes buffered in each direction.
const BUFFER_BYTES: usize = 32 * 1024;
/// How long the result may come after the output has ended.
const RESULT_WAIT: Duration = Duration::from_secs(10);
/// The shell when no command is given: bash where there is one.
const SHELL: [&str; 3] = ["/bin/sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a command it opens a shell.
Examples:
  fermion exec notebook                       a shell in the environment `notebook`
  fermion exec job/digits --index 1 -- nvidia-smi
  tar c data | fermion exec -i notebook -- tar x -C /home/work")]
pub(crate) struct ExecArguments {
    /// NAME, or job/NAME, env/NAME, service/NAME, pod/NAME
    target: Target,
    /// Which of its running pods, counted from 0
    #[arg(long, default_value_t = 0)]
    index: usize,
    /// Pass standard input on (the default for a shell)
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal (the default for a shell typed at a terminal)
    #[arg(short = 't', long)]
    tty: bool,
    /// The container; the first one when left out
    #[arg(short, long)]
    container: Option<String>,
    /// The command, after --
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) async fn run(arguments: ExecArguments, session: &Session) -> Outcome<Exit> {
    let resolved = arguments.target.resolve(session).await?;
    let pods = resolved.pods(session).await?;
    let running: Vec<&Pod> = pods.iter().filter(|pod| fermion_api::pod::phase(pod) == "Running").collect();
    let Some(pod) = running.get(arguments.index) else {
        let why = match running.len() {
            0 => format!("none of its {} pods runs", pods.len()),
            count => format!("{count} of its pods run, counted from 0"),
        };
        return Err(Failure::new(format!("{} has no running pod {}", resolved.title(), arguments.index))
            .why(why)
            .hint("`fermion status` says what it waits for; logs of ended pods stay readable: `fermion logs`"));
    };
    let container = match arguments.container {
        Some(name) => name,
        None => container_names(pod).into_iter().next().unwrap_or_default(),
    };
    let shell = arguments.command.is_empty();
    let tty = arguments.tty || (shell && terminal::is_interactive());
    if tty && !std::io::stdin().is_terminal() {
        return Err(Failure::new("cannot give the command a terminal")
            .why("standard input is none")
            .hint("leave -t out; -i passes a pipe on"));
    }
    let command: Vec<String> = if shell { SHELL.iter().map(|word| (*word).to_owned()).collect() } else { arguments.command };
    let parameters = AttachParams::default()
        .container(container)
        .stdin(arguments.stdin || shell || tty)
        .stdout(true)
        .stderr(!tty)
        .tty(tty)
        .max_stdin_buf_size(BUFFER_BYTES)
        .max_stdout_buf_size(BUFFER_BYTES)
        .max_stderr_buf_size(BUFFER_BYTES);
    let api: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    let name = pod.name_any();
    let process = api.exec(&name, command, &parameters).await.attempt(|| format!("cannot run the command in pod `{name}`"))?;
    converse(process, tty, &name).await
}

/// Connects the process to our own input and output until it ends.
async fn converse(mut process: AttachedProcess, tty: bool, pod: &str) -> Outcome<Exit> {
    let lost = || {
        Failure::new(format!("lost the connection to the command in pod `{pod}`"))
            .why("it ended without telling its exit code")
            .hint("the pod or the server may have gone; the command may still run")
    };
    let result = process.take_status().ok_or_else(lost)?;
    let stdin = process.stdin();
    let stdout = process.stdout();
    let stderr = process.stderr();
    let sizes = process.terminal_size();
    let raw =
        if tty { Some(terminal::Mode::raw().map_err(|error| Failure::new("cannot prepare the terminal").because(error))?) } else { None };
    if let Some(mut stdin) = stdin {
        tokio::spawn(async move {
            // Either side may close first; then there is nothing more to pass on.
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut stdin).await;
            let _ = stdin.shutdown().await;
        });
    }
    if let Some(mut sizes) = sizes {
        let mut changes =
            signal(SignalKind::window_change()).map_err(|error| Failure::new("cannot watch the terminal's size").because(error))?;
        tokio::spawn(async move {
            loop {
                if let Some((width, height)) = terminal::size()
                    && sizes.send(TerminalSize { width, height }).await.is_err()
                {
                    return;
                }
                if changes.recv().await.is_none() {
                    return;
                }
            }
        });
    }
    let output = async {
        tokio::try_join!(pass(stdout, std::io::stdout()), pass(stderr, std::io::stderr()))?;
        Ok::<_, Failure>(())
    };
    output.await?;
    let status = tokio::time::timeout(RESULT_WAIT, result).await.ok().flatten();
    drop(raw);
    exit_of(&status.ok_or_else(lost)?)
}

/// Copies a stream of the process to ours.
async fn pass(from: Option<impl AsyncRead + Unpin>, mut to: impl std::io::Write) -> Outcome<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        // The stream ends with an error when the connection does; the result tells that.
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return Ok(()) };
        to.write_all(&buffer[..count])?;
        to.flush()?;
    }
}

/// The command's own exit code.
fn exit_of(status: &Status) -> Outcome<Exit> {
    match fermion_client::exec::exit_code(status) {
        Ok(0) => Ok(Exit::Done),
        Ok(code) => Ok(Exit::Of(u8::try_from(code & 0xff).unwrap_or(1))),
        Err(NotStarted { why }) => Err(Failure::new("the command could not be run")
            .why(why)
            .hint("is the program there? `fermion exec TARGET` opens a shell to look")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_commands() {
        let status = |value: serde_json::Value| serde_json::from_value::<Status>(value).expect("a status");
        assert_eq!(exit_of(&status(serde_json::json!({"status": "Success"}))).expect("fine"), Exit::Done);
        let failed = status(serde_json::json!({
            "status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "42"}]},
        }));
        assert_eq!(exit_of(&failed).expect("fine"), Exit::Of(42));
        let broken = status(serde_json::json!({"status": "Failure", "message": "no such file: x"}));
        assert!(exit_of(&broken).expect_err("not run").to_string().contains("no such file: x"));
    }
}
