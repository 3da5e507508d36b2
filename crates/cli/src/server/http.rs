//! Connections that speak HTTP: one task each, until the client or the server is done.
//!
//! Clients that offer it in the TLS handshake get HTTP/2, and with it all their watches on one
//! connection. Streams into containers need HTTP/1.1, whose connections can be taken over; their
//! clients offer nothing else.

mod gathered;
mod multiplexed;
mod unread;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::serve::Listener as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, mpsc, watch};
use tower::ServiceExt as _;

use super::port::{Connection, Port};

/// How long a connection may take until the head of its next request is whole, be it silent or
/// slow. Clients of Kubernetes close what they do not use after 90 seconds; they should come first.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// The largest head of a request, in bytes, with what of the body comes along.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Connections at once. More wait to be accepted.
const CONNECTIONS_MAX: usize = 32_768;

/// Answers what comes through the port until the server stops, then lets what is being answered end.
pub(super) async fn serve(mut port: Port, router: Router, mut stopping: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Never sent to: it ends when the last connection has.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let slot = room.clone().acquire_owned().await;
                (slot, port.accept().await)
            } => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let (Ok(slot), (connection, peer)) = accepted else { break };
        let (router, stopping, open) = (router.clone(), stopping.clone(), open.clone());
        tokio::spawn(async move {
            if connection.speaks_http2() {
                multiplexed::answer(connection, router, peer, stopping).await;
            } else {
                answer(connection, router, peer, stopping).await;
            }
            drop((slot, open));
        });
    }
    drop((open, port));
    let _ended = all_closed.recv().await;
}

async fn answer(connection: Connection, router: Router, peer: std::net::SocketAddr, mut stopping: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        unread::answer(request, move |mut request| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.oneshot(request)
        })
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(connection), service)
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        // The guard that waiting answers with must not be held while the connection ends.
        () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}
