//! Port forwarding over a WebSocket whose messages carry SPDY bytes.

use axum::extract::ws::{Message, WebSocket};
use bytes::BytesMut;
use futures::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The WebSocket sub-protocol.
pub(crate) const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// The sub-protocol inside.
const UPSTREAM_PROTOCOL: HeaderValue = HeaderValue::from_static("portforward.k8s.io");
/// How much is read from containerd at once, in bytes.
const CHUNK_BYTES: usize = 32 << 10;

/// Serves one session: copies until either side ends it.
pub(crate) async fn serve(socket: WebSocket, url: String) {
    let (mut to_client, mut from_client) = socket.split();
    let upstream = match super::connect(&url, &[UPSTREAM_PROTOCOL]).await {
        Ok((_, upstream)) => upstream,
        Err(error) => {
            tracing::warn!(%error, "a port-forward session cannot be opened");
            // The client sees the end of the session; there is no channel for a reason.
            let _ = to_client.send(Message::Close(None)).await;
            return;
        }
    };
    let (mut reader, mut writer) = tokio::io::split(upstream);
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK_BYTES);
            match reader.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) => return,
            }
            if to_client.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                return;
            }
        }
    };
    let inward = async {
        while let Some(Ok(message)) = from_client.next().await {
            match message {
                Message::Binary(bytes) => {
                    if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                        return;
                    }
                }
                Message::Close(_) => return,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
    // A client that left needs no farewell.
    let _ = to_client.send(Message::Close(None)).await;
}
