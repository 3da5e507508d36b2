//! A client for the platform's own parts: kube-rs over this crate's router, without a socket.
//!
//! A plain request is answered by a function call. One that asks for another protocol (exec
//! over WebSocket) needs a connection that can be handed over, so it gets one in memory.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use fermion_store::Fence;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use crate::Api;
use crate::error::ApiError;
use crate::identity::Identity;

/// Bytes buffered on an in-memory connection.
const PIPE_BYTES: usize = 64 * 1024;

impl Api {
    /// A client that acts as `identity`.
    pub fn client(self: &Arc<Self>, identity: Identity) -> kube::Client {
        kube::Client::new(InProcess { api: self.clone(), identity: Arc::new(identity), leads: None }, "default")
    }

    /// The same for a part that acts only while its server leads. What it writes is refused once another
    /// server was given the lead, also if this one was paused and does not know yet.
    pub fn client_of_leader(self: &Arc<Self>, identity: Identity, leads: watch::Receiver<Option<Fence>>) -> kube::Client {
        kube::Client::new(InProcess { api: self.clone(), identity: Arc::new(identity), leads: Some(leads) }, "default")
    }
}

#[derive(Clone)]
struct InProcess {
    api: Arc<Api>,
    identity: Arc<Identity>,
    leads: Option<watch::Receiver<Option<Fence>>>,
}

impl tower::Service<Request<kube::client::Body>> for InProcess {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let this = self.clone();
        let mut request = request.map(Body::new);
        // What it changes is recorded under the part's name.
        if let Ok(agent) = HeaderValue::from_str(&this.identity.name.replace("system:fermion:", "fermion-")) {
            request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
        }
        Box::pin(async move {
            if request.headers().contains_key(header::UPGRADE) {
                return Ok(match this.upgrade(request).await {
                    Ok(response) => response,
                    Err(error) => {
                        let message = format!("the in-memory connection failed: {error}");
                        ApiError::new(StatusCode::BAD_GATEWAY, "InternalError", message).into_response()
                    }
                });
            }
            let fence = this.leads.and_then(|leads| leads.borrow().clone());
            let served = Box::pin(this.api.serve(Some(this.identity), request));
            Ok(match fence {
                Some(fence) => fence.over(served).await,
                None => served.await,
            })
        })
    }
}

impl InProcess {
    async fn upgrade(self, request: Request<Body>) -> Result<Response<Body>, hyper::Error> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let (api, identity) = (self.api.clone(), self.identity.clone());
            async move { Ok::<_, Infallible>(api.serve(Some(identity), request.map(Body::new)).await) }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an in-memory connection ended");
            }
        });
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an in-memory connection ended");
            }
        });
        Ok(sender.send_request(request).await?.map(Body::new))
    }
}
