//! Between a WebSocket and a process in a pod.

use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachedProcess, TerminalSize};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

/// How often the client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A client that sent nothing, not even a pong, for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(100);
/// The longest wait for the last message to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read from the process at once.
const CHUNK_SIZE: usize = 16 * 1024;
/// The most characters of an error in a close frame, which holds 123 bytes in all.
const ERROR_LENGTH_MAX: usize = 100;

/// A terminal window's size, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Size {
    pub(super) cols: u16,
    pub(super) rows: u16,
}

/// What a text message says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    resize: Size,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Exited(i32),
    /// The client closed, or is gone: nobody is there to be told.
    Left,
    Failed(&'static str),
    Withdrawn,
    BadMessage(String),
}

/// A started process and what goes with it.
pub(super) struct Bridge<F> {
    pub(super) process: AttachedProcess,
    pub(super) size: Size,
    /// Called for every message of bytes the client sends.
    pub(super) on_message: F,
    pub(super) withdrawn: BoxFuture<'static, ()>,
}

impl<F: FnMut() + Send> Bridge<F> {
    /// Copies until one side ends. The process gets a hang-up when the client left.
    pub(super) async fn run(mut self, socket: WebSocket) {
        let (mut sink, stream) = socket.split();
        let (heard, heard_at) = watch::channel(Instant::now());
        // Each direction waits for the other side of its own only: a shell that prints
        // without reading must not block on a client that pastes without reading.
        let Some((stdin, stdout, resize, status)) = self.parts() else {
            return;
        };
        let end = tokio::select! {
            end = input(stream, stdin, resize, self.size, self.on_message, heard) => end,
            end = output(&mut sink, stdout, status, heard_at) => end,
            () = self.withdrawn => End::Withdrawn,
        };
        if let Some(frame) = close_frame(&end) {
            // A client that does not take its last message has left.
            let _left = tokio::time::timeout(CLOSE_TIMEOUT, sink.send(Message::Close(Some(frame)))).await;
        }
    }

    fn parts(
        &mut self,
    ) -> Option<(
        impl tokio::io::AsyncWrite + Unpin + Send + use<F>,
        impl tokio::io::AsyncRead + Unpin + Send + use<F>,
        futures::channel::mpsc::Sender<TerminalSize>,
        impl Future<Output = Option<Status>> + Send + use<F>,
    )> {
        Some((self.process.stdin()?, self.process.stdout()?, self.process.terminal_size()?, self.process.take_status()?))
    }
}

async fn input(
    mut stream: SplitStream<WebSocket>,
    mut stdin: impl tokio::io::AsyncWrite + Unpin,
    mut resize: futures::channel::mpsc::Sender<TerminalSize>,
    size: Size,
    mut on_message: impl FnMut(),
    heard: watch::Sender<Instant>,
) -> End {
    if resize.send(terminal_size(size)).await.is_err() {
        return End::Failed("the shell is gone");
    }
    while let Some(message) = stream.next().await {
        heard.send_replace(Instant::now());
        match message {
            Ok(Message::Binary(bytes)) => {
                on_message();
                if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
                    // The process ended; its exit code comes the other way.
                    return std::future::pending().await;
                }
            }
            Ok(Message::Text(text)) => match serde_json::from_str::<Order>(&text) {
                Ok(order) => {
                    if resize.send(terminal_size(order.resize)).await.is_err() {
                        return std::future::pending().await;
                    }
                }
                Err(error) => return End::BadMessage(error.to_string()),
            },
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) | Err(_) => return End::Left,
        }
    }
    End::Left
}

async fn output(
    sink: &mut SplitSink<WebSocket, Message>,
    mut stdout: impl tokio::io::AsyncRead + Unpin,
    status: impl Future<Output = Option<Status>>,
    heard_at: watch::Receiver<Instant>,
) -> End {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    let mut chunk = vec![0; CHUNK_SIZE];
    loop {
        let message = tokio::select! {
            read = stdout.read(&mut chunk) => match read {
                Ok(0) | Err(_) => break,
                Ok(length) => Message::Binary(Bytes::copy_from_slice(&chunk[..length])),
            },
            _ = pings.tick() => {
                if heard_at.borrow().elapsed() > SILENCE_MAX {
                    return End::Left;
                }
                Message::Ping(Bytes::new())
            }
        };
        if sink.send(message).await.is_err() {
            return End::Left;
        }
    }
    match status.await.as_ref().map(exit_code) {
        Some(Some(code)) => End::Exited(code),
        Some(None) => End::Failed("the shell ended, and how is not known"),
        None => End::Failed("the connection to the shell broke"),
    }
}

fn terminal_size(size: Size) -> TerminalSize {
    TerminalSize { width: size.cols, height: size.rows }
}

/// The exit code in the status Kubernetes sends at the end of an exec.
fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?.message.as_ref()?.parse().ok()
}

fn close_frame(end: &End) -> Option<CloseFrame> {
    let error = |text: &str| {
        // Only what JSON writes as itself, so that its length is known.
        let plain = |character: &char| matches!(character, ' '..='~') && !matches!(character, '"' | '\\');
        let text = text.chars().filter(plain).take(ERROR_LENGTH_MAX).collect::<String>();
        json!({"error": text})
    };
    let (code, reason) = match end {
        End::Left => return None,
        End::Exited(code) => (close_code::NORMAL, json!({"exitCode": code})),
        End::Failed(why) => (close_code::ERROR, error(why)),
        End::Withdrawn => (close_code::POLICY, error("you may no longer use this environment")),
        End::BadMessage(why) => (close_code::POLICY, error(&format!("not understood: {why}"))),
    };
    Some(CloseFrame { code, reason: reason.to_string().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: serde_json::Value) -> Option<i32> {
        exit_code(&serde_json::from_value(value).expect("a status"))
    }

    #[test]
    fn the_exit_code_is_read_from_the_status() {
        assert_eq!(status(json!({"status": "Success"})), Some(0));
        let failed =
            json!({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        assert_eq!(status(failed), Some(3));
        assert_eq!(status(json!({"status": "Failure", "message": "no such container"})), None);
    }

    #[test]
    fn a_close_reason_fits_into_its_frame() {
        let frame = close_frame(&End::BadMessage("\"\\ü\u{7}".repeat(100))).expect("a frame");
        assert!(frame.reason.len() <= 123, "{} bytes", frame.reason.len());
        assert!(serde_json::from_str::<serde_json::Value>(&frame.reason).is_ok());
        assert_eq!(close_frame(&End::Exited(3)).expect("a frame").reason.as_str(), "{\"exitCode\":3}");
    }

    #[test]
    fn only_a_resize_is_an_order() {
        assert!(serde_json::from_str::<Order>(r#"{"resize":{"cols":80,"rows":24}}"#).is_ok());
        assert!(serde_json::from_str::<Order>(r#"{"resize":{"cols":-1,"rows":24}}"#).is_err());
        assert!(serde_json::from_str::<Order>(r#"{"run":"x"}"#).is_err());
    }
}
