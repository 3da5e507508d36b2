//! An in-process transport for `kube::Client` that can upgrade: what `exec` needs.
//!
//! A router called directly answers a WebSocket handshake, but there is no connection that
//! could become one. A request that asks for an upgrade is therefore sent over a real HTTP
//! connection, through memory.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use http::header::UPGRADE;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tower::{BoxError, ServiceExt as _};

const BUFFER_SIZE: usize = 64 * 1024;

/// A client whose every call is a call of the router.
pub(crate) fn client(router: Router) -> kube::Client {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let router = router.clone();
        async move {
            let request = request.map(Body::new);
            if request.headers().contains_key(UPGRADE) { upgradable(router, request).await } else { Ok(router.oneshot(request).await?) }
        }
    });
    kube::Client::new(service, "default")
}

async fn upgradable(router: Router, request: Request<Body>) -> Result<Response, BoxError> {
    let (near, far) = tokio::io::duplex(BUFFER_SIZE);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| router.clone().oneshot(request.map(Body::new)));
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?.map(Body::new))
}
