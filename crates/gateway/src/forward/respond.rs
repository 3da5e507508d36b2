//! Passing a pod's answer on to the caller.

use axum::body::Body;
use futures::future::BoxFuture;
use http::header::UPGRADE;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;

use super::body::{Download, Outcome};
use super::headers::{self, Route};
use super::tunnel::{Tunnel, TunnelError};
use super::{Answer, Failure};
use crate::inbound::Inbound;

/// The caller's side of a WebSocket handshake.
pub(crate) struct Conversation {
    pub(crate) caller: OnUpgrade,
    /// Called for each message the caller sends, as far as one read tells them apart.
    pub(crate) on_message: Box<dyn FnMut() + Send>,
    /// Completes when the caller may no longer talk.
    pub(crate) withdrawn: BoxFuture<'static, ()>,
}

/// The answer as the caller gets it. `finish` is called when it has been passed on, or the
/// WebSocket it became is closed.
///
/// # Errors
/// When the pod changed the protocol without being asked.
pub(crate) fn respond(
    answer: Answer,
    inbound: &Inbound,
    route: &Route,
    conversation: Option<Conversation>,
    finish: impl FnOnce(Outcome) + Send + 'static,
) -> Result<Response<Body>, Failure> {
    let Answer { address, mut response, lease } = answer;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (head, body) = response.into_parts();
        let mut passed_on = Response::new(Body::new(Download::new(body, lease, finish)));
        *passed_on.status_mut() = head.status;
        *passed_on.headers_mut() = headers::towards_caller(&head.headers, &inbound.host, route);
        return Ok(passed_on);
    }
    let is_websocket = response.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let Some(conversation) = conversation.filter(|_| is_websocket) else {
        return Err(Failure::UnaskedUpgrade { address });
    };
    let tunnel = Tunnel { caller: conversation.caller, pod: hyper::upgrade::on(&mut response) };
    let mut switching = Response::new(Body::empty());
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switching.headers_mut() = headers::switching(response.headers(), &inbound.host, route);
    // Ends when a side closes. Its count is bounded like that of requests: what `finish`
    // holds is only released at the end.
    tokio::spawn(async move {
        let outcome = match tunnel.run(conversation.on_message, conversation.withdrawn).await {
            Ok(()) => Outcome::Complete,
            Err(TunnelError::Withdrawn) => Outcome::Abandoned,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, %address, "a WebSocket ended badly");
                Outcome::Broken
            }
        };
        finish(outcome);
    });
    Ok(switching)
}
