//! What the apiserver asks of the node over HTTP, after it has checked who asks.
//!
//! Paths are those of the kubelet; errors are Kubernetes `Status` objects in plain words.

mod files;
mod log;
mod query;
mod session;
mod stats;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::StatusCode;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::shared::Shared;

/// The node's routes.
pub(crate) fn router(shared: Arc<Shared>, stats: Arc<crate::stats::Sampler>) -> Router {
    let streams = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(log::get))
        .route("/exec/{namespace}/{pod}/{container}", any(session::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(session::attach))
        .route("/portForward/{namespace}/{pod}", any(session::port_forward))
        .route("/files/{namespace}/{pod}/{container}", get(files::get))
        .with_state(Arc::clone(&shared));
    let stats = Router::new().route("/stats/summary", get(stats::summary)).with_state((shared, stats));
    streams.merge(stats).fallback(|| async { Refusal::not_found("the node has no such path") })
}

/// A refusal as a Kubernetes `Status`.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, reason: "BadRequest", message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { code: StatusCode::NOT_FOUND, reason: "NotFound", message: message.into() }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { code: StatusCode::SERVICE_UNAVAILABLE, reason: "ServiceUnavailable", message: message.into() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { code: StatusCode::INTERNAL_SERVER_ERROR, reason: "InternalError", message: message.into() }
    }
}

impl From<crate::cri::Error> for Refusal {
    fn from(error: crate::cri::Error) -> Self {
        if error.is_unavailable() { Self::unavailable(error.to_string()) } else { Self::internal(error.to_string()) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        (self.code, axum::Json(body)).into_response()
    }
}

fn find_pod(shared: &Shared, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
    shared.pods.find(namespace, name).ok_or_else(|| Refusal::not_found(format!("pod {namespace}/{name} is not on node {}", shared.name)))
}

fn find_container<'a>(pod: &'a Pod, name: &str) -> Result<&'a Container, Refusal> {
    let spec = pod.spec.as_ref();
    let all = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let names: Vec<&str> = all.clone().map(|container| container.name.as_str()).collect();
    all.into_iter().find(|container| container.name == name).ok_or_else(|| {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        Refusal::bad_request(format!("container {name} is not in pod {pod}; it has {}", names.join(", ")))
    })
}
