//! Commands in running containers.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The most bytes of one stream that are kept; a command that writes more is an error.
pub const OUTPUT_BYTES_MAX: u64 = 16 << 20;

/// What a command wrote, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The server refused, or could not be reached.
    #[error("cannot run a command in pod {pod}")]
    Refused {
        /// The pod.
        pod: String,
        /// What the server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The program could not be started.
    #[error(transparent)]
    NotStarted(#[from] NotStarted),
    /// The connection was lost. The command may still run.
    #[error("lost the connection to the command in pod {pod}")]
    Lost {
        /// The pod.
        pod: String,
    },
    /// It wrote more than [`OUTPUT_BYTES_MAX`].
    #[error("the command in pod {pod} wrote more than {OUTPUT_BYTES_MAX} bytes")]
    TooLarge {
        /// The pod.
        pod: String,
    },
}

/// The program could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the command could not be run: {why}")]
pub struct NotStarted {
    /// What the node said.
    pub why: String,
}

/// Runs a command without input to its end. No container: the pod's main one.
///
/// For input, a terminal, or output as it comes, use [`Api::exec`], and [`exit_code`] on its status.
///
/// ```
/// # fermion_testkit::with_server(async |server| {
/// # let client = fermion_client::Client::from_home(server.home()).await?;
/// # server.run_pod("notebook", &[]).await?;
/// let output = fermion_client::exec(&client.pods(), "notebook", None, ["echo", "hello"]).await?;
/// assert_eq!((output.code, output.stdout.as_slice()), (0, b"hello\n".as_slice()));
/// # Ok(()) });
/// ```
///
/// # Errors
/// When it cannot be run, its connection is lost, or it writes too much. A command that fails is no
/// error: its code says so.
pub async fn exec<I, T>(pods: &Api<Pod>, pod: &str, container: Option<&str>, command: I) -> Result<Output, ExecError>
where
    I: IntoIterator<Item = T> + std::fmt::Debug,
    T: Into<String>,
{
    let parameters =
        AttachParams { container: container.map(str::to_owned), ..AttachParams::default().stdin(false).stdout(true).stderr(true) };
    let refused = |source| ExecError::Refused { pod: pod.to_owned(), source: Box::new(source) };
    let mut process = pods.exec(pod, command, &parameters).await.map_err(refused)?;
    let status = process.take_status();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
    let lost = || ExecError::Lost { pod: pod.to_owned() };
    let status = match status {
        Some(status) => status.await.ok_or_else(lost)?,
        None => return Err(lost()),
    };
    let code = exit_code(&status)?;
    match (stdout, stderr) {
        (Some(stdout), Some(stderr)) => Ok(Output { code, stdout, stderr }),
        _ => Err(ExecError::TooLarge { pod: pod.to_owned() }),
    }
}

/// Everything of a stream; none if it is too much, of which the rest is read and dropped.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Some(bytes) };
    let mut stream = stream.take(OUTPUT_BYTES_MAX + 1);
    // A stream ends with an error when the connection does; the status tells that.
    let _ = stream.read_to_end(&mut bytes).await;
    if bytes.len() as u64 <= OUTPUT_BYTES_MAX {
        return Some(bytes);
    }
    let _ = tokio::io::copy(stream.get_mut(), &mut tokio::io::sink()).await;
    None
}

/// The exit code that the status of an ended command tells.
///
/// # Errors
/// When the command was not run.
pub fn exit_code(status: &Status) -> Result<i32, NotStarted> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let code =
        causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode")).find_map(|cause| cause.message.as_deref()?.parse::<i32>().ok());
    code.ok_or_else(|| {
        let why = status.message.clone().or_else(|| status.reason.clone()).unwrap_or_else(|| "the server gave no reason".to_owned());
        NotStarted { why }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_commands() {
        let status = |value: serde_json::Value| serde_json::from_value::<Status>(value).unwrap();
        assert_eq!(exit_code(&status(serde_json::json!({"status": "Success"}))).unwrap(), 0);
        let failed = status(serde_json::json!({
            "status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "42"}]},
        }));
        assert_eq!(exit_code(&failed).unwrap(), 42);
        let broken = status(serde_json::json!({"status": "Failure", "message": "no such file: x"}));
        assert!(exit_code(&broken).unwrap_err().to_string().contains("no such file: x"));
    }
}
