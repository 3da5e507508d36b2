//! HTTP/2: many requests at once on one connection, as Go's clients of Kubernetes speak it.
//!
//! What stands behind sees no difference: requests are given the form they have in HTTP/1.1. Whom to
//! serve first is decided there too, for each request and by its user, so a connection with a hundred
//! streams counts as a hundred requests.
//!
//! What one connection may cost is bounded, against clients that mean harm as well: streams opened and
//! reset in a row (CVE-2023-44487), answers that nobody reads, heads without an end, silence.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::header::{COOKIE, HOST, HeaderValue};
use hyper::server::conn::http2;
use hyper::{HeaderMap, Request, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tower::ServiceExt as _;

use super::gathered::Gathered;
use super::{HEAD_BYTES_MAX, HEAD_TIMEOUT};
use crate::server::port::Connection;

/// Requests and watches at once on a connection: what Go's clients assume until they are told, and
/// what kube-apiserver allows since CVE-2023-44487 (it was 250). Clients open more connections for more.
const STREAMS_MAX: u32 = 100;
/// Streams that a client may have reset before they were begun; the next one ends the connection.
const EARLY_RESETS_MAX: usize = 20;
/// Streams that the server may have had to reset because of the client's errors.
const ERROR_RESETS_MAX: usize = 256;
/// Bytes of a body that a client may send before they are read: most objects as a whole, as in
/// kube-apiserver.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of an answer that wait for the client to read, beside the piece that was begun.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// After how long without a word a client is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PONG_WAIT: Duration = Duration::from_secs(20);
/// How often is looked whether a connection is used at all. One on which nothing was asked between two
/// looks, and nothing is being answered, is closed.
const USE_INTERVAL: Duration = HEAD_TIMEOUT;
/// How long the client of such a connection may take to agree to its end.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// Answers what comes on a connection, until the client goes, it is unused, or the server stops and
/// what is being answered has ended.
pub(super) async fn answer(connection: Connection, router: Router, peer: SocketAddr, mut stopping: watch::Receiver<bool>) {
    let streams = Arc::new(Streams::default());
    let service = {
        let streams = streams.clone();
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let (router, open) = (router.clone(), streams.open());
            async move {
                let mut request = as_in_http1(request).map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                let response = router.oneshot(request).await?;
                Ok::<_, Infallible>(response.map(|body| Counted { body, _open: open }))
            }
        })
    };
    let gathered = Gathered::new(connection);
    let mut served = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(EARLY_RESETS_MAX)
            .max_local_error_reset_streams(ERROR_RESETS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BYTES_MAX)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PONG_WAIT)
            .serve_connection(TokioIo::new(gathered.clone()), service)
    );
    let mut used = interval_at(Instant::now() + USE_INTERVAL, USE_INTERVAL);
    used.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut begun_before = 0;
    let mut turn = Turn::default();
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|context| turn.poll(served.as_mut(), &gathered, context)) => break ended,
            // The guard that waiting answers with must not be held while the connection ends.
            () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
                served.as_mut().graceful_shutdown();
                break poll_fn(|context| turn.poll(served.as_mut(), &gathered, context)).await;
            }
            _ = used.tick() => {
                if streams.are_unused_since(&mut begun_before) {
                    served.as_mut().graceful_shutdown();
                    break tokio::select! {
                        ended = poll_fn(|context| turn.poll(served.as_mut(), &gathered, context)) => ended,
                        // What was asked in the last moment is answered still.
                        () = streams.gone_after(CLOSE_WAIT) => Ok(()),
                    };
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

/// Drives a connection so that what its streams send in one go leaves together.
#[derive(Default)]
struct Turn {
    /// Others had their turn since the connection was last at work.
    waited: bool,
}

impl Turn {
    /// Lets the connection work, and sends what came of it. A stream that has something to send wakes
    /// the connection's task, which tokio would run before the tasks of all the other streams that the
    /// same event woke; so it goes to the end of the line once.
    fn poll<C, E>(&mut self, connection: Pin<&mut C>, gathered: &Gathered, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        C: Future<Output = Result<(), E>>,
        E: std::error::Error + Send + Sync + 'static,
    {
        if !std::mem::replace(&mut self.waited, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        if let Poll::Ready(ended) = connection.poll(context) {
            return Poll::Ready(ended.map_err(io::Error::other));
        }
        match gathered.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    }
}

/// The streams of a connection, as counted.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    /// All there ever were.
    begun: AtomicU64,
}

/// A stream that is open until this is dropped.
struct Open(Arc<Streams>);

impl Streams {
    fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// Whether none is open and none was begun since `begun` said how many there were.
    fn are_unused_since(&self, begun: &mut u64) -> bool {
        let before = std::mem::replace(begun, self.begun.load(Ordering::Relaxed));
        *begun == before && self.open.load(Ordering::Relaxed) == 0
    }

    /// Ends when no stream is open at the end of such a time.
    async fn gone_after(&self, wait: Duration) {
        loop {
            sleep(wait).await;
            if self.open.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, whose stream is open until it has ended.
struct Counted {
    body: Body,
    _open: Open,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request in the form that it has in HTTP/1.1 (RFC 9113 section 8.3.1): the host in a header of its
/// own, the target without it, cookies in one header (section 8.2.3). No other header that says a host
/// may stand beside the one that the client was routed by.
fn as_in_http1<B>(request: Request<B>) -> Request<B> {
    let (mut parts, body) = request.into_parts();
    if let Some(host) = parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        parts.headers.insert(HOST, host);
    }
    if let Some(target) = parts.uri.path_and_query() {
        parts.uri = Uri::from(target.clone());
    }
    join_cookies(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Request::from_parts(parts, body)
}

fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    // Made of what fits headers, it fits one.
    if let Ok(mut joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_look_as_in_http1() {
        let request = Request::builder()
            .version(Version::HTTP_2)
            .uri("https://api.example:6443/api/v1/pods?watch=true")
            .header(HOST, "other.example")
            .header(COOKIE, "a=1")
            .header(COOKIE, "b=2")
            .body(())
            .unwrap();
        let request = as_in_http1(request);
        assert_eq!((request.version(), request.uri().to_string().as_str()), (Version::HTTP_11, "/api/v1/pods?watch=true"));
        let all = |name| request.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((all(HOST), all(COOKIE)), (vec!["api.example:6443"], vec!["a=1; b=2"]));
    }

    #[test]
    fn a_connection_is_unused_when_nothing_was_asked_between_two_looks() {
        let (streams, mut begun) = (Arc::new(Streams::default()), 0);
        let watch = streams.open();
        assert!(!streams.are_unused_since(&mut begun), "one was begun");
        assert!(!streams.are_unused_since(&mut begun), "it is open");
        drop(watch);
        assert!(streams.are_unused_since(&mut begun));
        drop(streams.open());
        assert!(!streams.are_unused_since(&mut begun), "another one came and went");
        assert!(streams.are_unused_since(&mut begun));
    }
}
