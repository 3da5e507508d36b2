//! An app of kind Terminal: a page, and the WebSocket that connects it to a shell in the
//! environment's first container.
//!
//! The protocol of `GET …/ws` is in the guide. In short: binary messages are bytes both
//! ways; a text message is JSON, `{"resize":{"cols":80,"rows":24}}`; the reason in the last
//! close frame is JSON, `{"exitCode":0}` or `{"error":"…"}`.

mod bridge;
mod page;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::{IntoResponse as _, Response};
use http::{Method, Request, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;

use self::bridge::{Bridge, Size};
use super::Visit;
use crate::gateway::Inner;
use crate::problem::Problem;

/// The longest wait for a shell to start.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest message a client may send, such as a pasted text.
const MESSAGE_SIZE_MAX: usize = 1024 * 1024;
/// Bytes on their way between the shell and the WebSocket, each way.
const BUFFER_SIZE: usize = 64 * 1024;
/// The longest name of a terminal type.
const TERM_LENGTH_MAX: usize = 32;
/// What a client is taken for that does not say.
const TERM_DEFAULT: &str = "xterm-256color";
/// The window's size until the client tells it.
const SIZE_DEFAULT: Size = Size { cols: 80, rows: 24 };

/// # Errors
/// What to answer instead.
pub(super) async fn serve(inner: &Arc<Inner>, visit: Visit, request: Request<Body>) -> Result<Response, Problem> {
    match (request.method(), visit.rest.as_str()) {
        (&Method::GET | &Method::HEAD, "/") => {
            inner.activity.touch(&visit.address.environment);
            Ok(page::response())
        }
        (&Method::GET, "/ws") if visit.inbound.websocket => open(inner, visit, request).await,
        (_, "/ws") => Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "UpgradeRequired", "This address speaks WebSocket.")),
        _ => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("A terminal has a page at {} and a WebSocket at ws below it.", visit.address.cookie_path()),
        )),
    }
}

async fn open(inner: &Arc<Inner>, visit: Visit, request: Request<Body>) -> Result<Response, Problem> {
    let slot = inner.slot()?;
    let (mut head, _empty) = request.into_parts();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &()).await.map_err(|rejection| {
        Problem::new(rejection.into_response().status(), "BadHandshake", "This is no complete WebSocket handshake.")
    })?;

    let key = visit.address.environment.clone();
    let api = Api::<Pod>::namespaced(inner.client.clone(), &key.namespace);
    let mut parameters = AttachParams::interactive_tty().max_stdin_buf_size(BUFFER_SIZE).max_stdout_buf_size(BUFFER_SIZE);
    if let Some(container) = &visit.pod.container {
        parameters = parameters.container(container);
    }
    let process = match tokio::time::timeout(START_TIMEOUT, api.exec(&visit.pod.name, command(terminal_type(&query)), &parameters)).await {
        Ok(Ok(process)) => process,
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, environment = %key, pod = visit.pod.name, "cannot start a shell");
            return Err(not_started(&visit));
        }
        Err(_) => return Err(not_started(&visit)),
    };
    inner.activity.touch(&key);
    let (activity, size) = (inner.activity.clone(), size(&query));
    let withdrawn = inner.withdrawn(visit.visitor.token, visit.resource);
    let in_flight = visit.pod.load.begin();
    Ok(upgrade.max_message_size(MESSAGE_SIZE_MAX).max_frame_size(MESSAGE_SIZE_MAX).on_upgrade(async move |socket| {
        Bridge { process, size, on_message: move || activity.touch(&key), withdrawn }.run(socket).await;
        drop((slot, in_flight));
    }))
}

fn not_started(visit: &Visit) -> Problem {
    let (pod, namespace) = (&visit.pod.name, &visit.address.environment.namespace);
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "ShellNotStarted",
        format!("No shell could be started in pod {pod}. `kubectl describe pod {pod} -n {namespace}` tells its state."),
    )
}

/// The best shell the image has, as a login shell, in a terminal of that type.
fn command(term: &str) -> [String; 3] {
    let script = format!("TERM={term}; export TERM; if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi");
    ["/bin/sh".to_owned(), "-c".to_owned(), script]
}

/// The client's `term`, if it is harmless in a shell's text.
fn terminal_type(query: &str) -> &str {
    let fine =
        |term: &&str| (1..=TERM_LENGTH_MAX).contains(&term.len()) && term.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    parameter(query, "term").filter(fine).unwrap_or(TERM_DEFAULT)
}

fn size(query: &str) -> Size {
    let number = |name| parameter(query, name).and_then(|value| value.parse().ok());
    number("cols").zip(number("rows")).map_or(SIZE_DEFAULT, |(cols, rows)| Size { cols, rows })
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(found, _)| *found == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_type_cannot_carry_commands() {
        assert_eq!(terminal_type("cols=1&term=dumb"), "dumb");
        for hostile in ["term=", "term=a;b", "term=$(x)", "term=a%20b", "term=a b", "term=`x`", &format!("term={}", "a".repeat(33))] {
            assert_eq!(terminal_type(hostile), TERM_DEFAULT, "{hostile}");
        }
    }

    #[test]
    fn a_size_needs_both_numbers() {
        assert_eq!(size("cols=100&rows=30"), Size { cols: 100, rows: 30 });
        assert_eq!(size("cols=100"), SIZE_DEFAULT);
        assert_eq!(size("cols=-1&rows=99999999"), SIZE_DEFAULT);
    }
}
