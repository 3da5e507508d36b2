//! What becomes of a body that an answer did not wait for.
//!
//! HTTP/1.1 has one request behind the other on a connection: the next one begins where this one's
//! body ends. Whoever refuses a request by its head (no token, no such address, too many at once)
//! leaves the body where it is. hyper then closes the connection without a word, and the client's
//! next request on it fails. So a body that is not long is read to its end and forgotten; for
//! others the answer says that the connection ends with it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::{Request, Response};
use tokio::sync::oneshot;

/// What is read of a body that nobody wants, in bytes. Somewhat more than the largest body that is
/// read at all, so that a client which sends too much has sent it all when it is told so.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long is waited for it. What is on its way arrives sooner.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Answers a request, and leaves the connection such that another one can follow.
pub(super) async fn answer<F>(request: Request<Incoming>, serve: impl FnOnce(Request<Body>) -> F) -> Result<Response<Body>, Infallible>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    if request.body().is_end_stream() {
        return serve(request.map(Body::new)).await;
    }
    // Such a client has sent nothing yet, and waits to be told whether it should.
    let waits = request.headers().contains_key(EXPECT);
    let (back, mut returned) = oneshot::channel();
    let mut response = serve(request.map(|body| Body::new(Lent { body: Some(body), back: Some(back) }))).await?;
    // Nothing comes back of a body that was read, nor of one that is being read still.
    if let Ok(body) = returned.try_recv()
        && (waits || !forget(body).await)
    {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Reads the rest of a body. Answers whether it came to its end.
async fn forget(mut body: Incoming) -> bool {
    if body.size_hint().lower() > BYTES_MAX {
        return false;
    }
    let rest = async {
        let mut left = BYTES_MAX;
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    tokio::time::timeout(WAIT_MAX, rest).await.unwrap_or(false)
}

/// A body that goes back where it came from when it is dropped before its end.
struct Lent {
    body: Option<Incoming>,
    back: Option<oneshot::Sender<Incoming>>,
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
            && let Some(back) = self.back.take()
        {
            // Nobody waits for it once the answer is on its way.
            let _unwanted = back.send(body);
        }
    }
}
