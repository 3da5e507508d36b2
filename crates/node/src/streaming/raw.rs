//! Clients that speak SPDY themselves: both connections are switched and copied to each other.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{Error, SPDY, STREAM_PROTOCOL};

/// Whether the request asks to switch to SPDY.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).and_then(|value| value.to_str().ok()).is_some_and(|value| value.eq_ignore_ascii_case("SPDY/3.1"))
}

/// Switches containerd's side, answers the client, and copies until either side ends it.
pub(crate) async fn serve(headers: &HeaderMap, client: OnUpgrade, url: &str) -> Result<Response, Error> {
    let wishes: Vec<HeaderValue> = headers.get_all(STREAM_PROTOCOL).iter().cloned().collect();
    let (reply, mut upstream) = super::connect(url, &wishes).await?;
    tokio::spawn(async move {
        match client.await {
            Ok(upgraded) => {
                // Either side may break off at any time; that ends the session and nothing else.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut upstream).await;
            }
            Err(error) => tracing::debug!(%error, "the client did not switch to SPDY"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, SPDY);
    if let Some(protocol) = reply.get(STREAM_PROTOCOL) {
        headers.insert(STREAM_PROTOCOL, protocol.clone());
    }
    Ok(response)
}
