//! Sending a request on to a pod, and its answer back, without holding either in memory.
//!
//! Start with [`send`]: one request to one pod. What it returns says whether anything was
//! sent, which alone decides whether another pod may be tried. [`respond`] passes the answer
//! on.

mod body;
mod frames;
pub(crate) mod headers;
mod respond;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(crate) use self::body::{Outcome, Upload};
pub(crate) use self::respond::{Conversation, respond};
use crate::directory::{Lease, Load};

/// The largest head of an answer.
const ANSWER_HEAD_SIZE_MAX: usize = 256 * 1024;
/// The most headers of an answer.
const ANSWER_HEADERS_MAX: usize = 200;

/// How long a pod may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) connect: Duration,
    /// From the last byte of the request to the head of the answer.
    pub(crate) answer: Duration,
}

/// A pod's answer, its body still on the way.
pub(crate) struct Answer {
    pub(crate) address: SocketAddr,
    pub(crate) response: http::Response<Incoming>,
    lease: Lease,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing was sent; here is the request back.
    #[error("no connection to {address}")]
    Unreachable { address: SocketAddr, request: Box<Request<Upload>>, source: Unreachable },
    /// The request, or a part of it, was sent, and then the connection broke.
    #[error("the connection to {address} broke before the answer began")]
    Broken { address: SocketAddr, source: hyper::Error },
    #[error("no answer from {address} within {} s", patience.as_secs())]
    Silent { address: SocketAddr, patience: Duration },
    #[error("{address} switched to a protocol nobody asked for")]
    UnaskedUpgrade { address: SocketAddr },
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error("not connected within {} s", patience.as_secs())]
    TimedOut { patience: Duration },
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Sends one request to one pod. `upgrade` takes a connection of its own.
///
/// # Errors
/// [`Failure::Unreachable`] gives the request back untouched.
pub(crate) async fn send(
    load: &Arc<Load>,
    address: SocketAddr,
    mut request: Request<Upload>,
    patience: Patience,
    upgrade: bool,
) -> Result<Answer, Failure> {
    if !upgrade {
        // Bounded by the idle connections there are: each turn uses one up.
        while let Some(lease) = load.take_idle(address.port(), Instant::now()) {
            match deliver(lease, address, request, patience).await {
                Err(Failure::Unreachable { request: unsent, .. }) => request = *unsent,
                other => return other,
            }
        }
    }
    let lease = match connect(load, address, patience.connect).await {
        Ok(lease) => lease,
        Err(source) => {
            load.failed(Instant::now());
            return Err(Failure::Unreachable { address, request: Box::new(request), source });
        }
    };
    load.succeeded();
    deliver(lease, address, request, patience).await
}

async fn connect(load: &Arc<Load>, address: SocketAddr, patience: Duration) -> Result<Lease, Unreachable> {
    let stream = tokio::time::timeout(patience, TcpStream::connect(address)).await.map_err(|_| Unreachable::TimedOut { patience })??;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        http1::Builder::new().max_buf_size(ANSWER_HEAD_SIZE_MAX).max_headers(ANSWER_HEADERS_MAX).handshake(TokioIo::new(stream)).await?;
    // Ends when the sender is dropped, or when the pod closes.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = &error as &dyn std::error::Error, %address, "a connection to a pod ended badly");
        }
    });
    Ok(Lease { sender, port: address.port(), load: Arc::clone(load) })
}

async fn deliver(mut lease: Lease, address: SocketAddr, request: Request<Upload>, patience: Patience) -> Result<Answer, Failure> {
    let progress = request.body().progress();
    tokio::select! {
        sent = lease.sender.try_send_request(request) => match sent {
            Ok(response) => Ok(Answer { address, response, lease }),
            Err(mut error) => match error.take_message() {
                Some(request) => {
                    Err(Failure::Unreachable { address, request: Box::new(request), source: error.into_error().into() })
                }
                None => Err(Failure::Broken { address, source: error.into_error() }),
            },
        },
        () = progress.stalled(patience.answer) => Err(Failure::Silent { address, patience: patience.answer }),
    }
}
