//! Starting a container by a call that outlives this process.
//!
//! containerd breaks off a call when its caller is gone. A start that is broken off leaves a
//! container that ended with code 128, although its program may have begun: a pod that must not
//! run twice would fail only because the server was killed or restarted at that moment. So a
//! process of its own makes the call, and comes to its end whatever becomes of this one; a new
//! server finds the container started, or still being started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::cri::{CHANGE_TIMEOUT, Cri, Error, v1};

const CALL: &str = "start_container";
/// How long the process is waited for: its own bound, and some time to start and end.
const HELPER_TIMEOUT: Duration = Duration::from_secs(CHANGE_TIMEOUT.as_secs() + 15);

/// The program that makes the call: it is given containerd's socket and the container's id as
/// its last arguments, calls [`for_another`] and prints the [`Answer`].
#[derive(Clone, Debug)]
pub struct StartHelper {
    /// What to run.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

/// How the call went, as one line of JSON between two processes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// containerd has started the container.
    Started,
    /// containerd does not answer.
    Unavailable(String),
    /// containerd will not or cannot.
    Refused(String),
    /// No answer in time.
    TimedOut,
}

/// Starts a container on behalf of a node, in the process that the node has started for it.
pub async fn for_another(socket: &Path, container_id: String) -> Answer {
    match Cri::new(socket).start_container(v1::StartContainerRequest { container_id }).await {
        Ok(_) => Answer::Started,
        Err(Error::Unavailable { source, .. }) => Answer::Unavailable(source.message().to_owned()),
        Err(Error::Refused { status, .. }) => Answer::Refused(status.message().to_owned()),
        Err(Error::TimedOut { .. }) => Answer::TimedOut,
    }
}

/// Starts a container: through the helper where there is one.
pub(crate) async fn start(cri: &Cri, helper: Option<&StartHelper>, container_id: &str) -> Result<(), Error> {
    let answer = match helper {
        Some(helper) => through(helper, cri.socket(), container_id).await,
        None => None,
    };
    match answer {
        Some(answer) => read(answer, cri.socket()),
        None => cri.start_container(v1::StartContainerRequest { container_id: container_id.to_owned() }).await.map(drop),
    }
}

/// Whether a start was refused because one is under way, as that of a former server.
pub(crate) fn is_under_way(error: &Error) -> bool {
    matches!(error, Error::Refused { status, .. } if status.message().contains("already in starting state"))
}

/// Runs the helper; `None` if it cannot be run.
async fn through(helper: &StartHelper, socket: &Path, container_id: &str) -> Option<Answer> {
    let mut command = Command::new(&helper.program);
    command
        .arg0("fermion")
        .args(&helper.arguments)
        .arg(socket)
        .arg(container_id)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Whoever ends the server with Ctrl-C does not mean this one.
        .process_group(0)
        // It is there to outlive whoever waits for it.
        .kill_on_drop(false);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!(%error, program = %helper.program.display(), "a container is started by the server itself: its helper cannot be run");
            return None;
        }
    };
    let Ok(ended) = tokio::time::timeout(HELPER_TIMEOUT, child.wait_with_output()).await else { return Some(Answer::TimedOut) };
    Some(match ended {
        Ok(output) => parse(&output),
        Err(error) => Answer::Refused(format!("the process that starts it cannot be waited for: {error}")),
    })
}

fn parse(output: &Output) -> Answer {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        // Whether the container runs is seen at the next look.
        Answer::Refused(format!("the process that was to start it ended without an answer ({})", output.status))
    })
}

fn read(answer: Answer, socket: &Path) -> Result<(), Error> {
    match answer {
        Answer::Started => Ok(()),
        Answer::Unavailable(message) => {
            Err(Error::Unavailable { socket: socket.to_owned(), source: Box::new(tonic::Status::unavailable(message)) })
        }
        Answer::Refused(message) => Err(Error::Refused { call: CALL, status: Box::new(tonic::Status::unknown(message)) }),
        Answer::TimedOut => Err(Error::TimedOut { call: CALL, after: CHANGE_TIMEOUT }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_cross_the_pipe() {
        for answer in [Answer::Started, Answer::Unavailable("a".to_owned()), Answer::Refused("b".to_owned()), Answer::TimedOut] {
            let text = serde_json::to_vec(&answer).expect("JSON");
            assert_eq!(parse(&Output { status: Default::default(), stdout: text, stderr: Vec::new() }), answer);
        }
        let silent = parse(&Output { status: Default::default(), stdout: Vec::new(), stderr: Vec::new() });
        assert!(matches!(silent, Answer::Refused(message) if message.contains("without an answer")));
    }

    #[test]
    fn what_containerd_says_of_a_start_under_way_is_known() {
        let socket = Path::new("/run/c.sock");
        let refused = |text: &str| read(Answer::Refused(text.to_owned()), socket).expect_err("refused");
        assert!(is_under_way(&refused("failed to set starting state: container is already in starting state")));
        assert!(!is_under_way(&refused("failed to create containerd task: no such file")));
        assert!(read(Answer::Unavailable(String::new()), socket).expect_err("away").is_unavailable());
    }

    #[tokio::test]
    async fn a_helper_that_cannot_be_run_is_done_without() {
        let helper = StartHelper { program: "/nonexistent/program".into(), arguments: Vec::new() };
        assert_eq!(through(&helper, Path::new("/run/c.sock"), "id").await, None);
    }
}
