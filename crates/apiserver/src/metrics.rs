//! metrics.k8s.io: what nodes and pods use now, as their nodes measured it.

use axum::body::Body;
use axum::http::Request;
use fermion_store::{ListQuery, Scope};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::Api;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::write::parse_stored;

/// The largest answer taken from a node, in bytes.
const SUMMARY_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Api {
    /// NodeMetrics or PodMetrics, in the order of names.
    pub(crate) async fn metrics(&self, resource: &Resource, namespace: Option<&str>) -> Result<Vec<Value>> {
        let nodes = self
            .store
            .list(ListQuery::all(Scope { resource: "nodes".into(), namespace: None, name: None }))
            .await
            .map_err(|error| ApiError::from_store(&error, resource.about("")))?;
        let mut items = Vec::new();
        for stored in nodes.items {
            let node = parse_stored(&stored)?;
            let Some(interface) = self.node(&stored.key.name) else { continue };
            let request = Request::get("/stats/summary").body(Body::empty()).map_err(|error| ApiError::internal(error.to_string()))?;
            let response = match interface.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if !response.status().is_success() {
                tracing::warn!(node = &*stored.key.name, status = %response.status(), "a node gave no measurements");
                continue;
            }
            let body = Limited::new(response.into_body(), SUMMARY_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| ApiError::unavailable(format!("node {}: {error}", stored.key.name)))?
                .to_bytes();
            let summary: Value =
                serde_json::from_slice(&body).map_err(|error| ApiError::unavailable(format!("node {}: {error}", stored.key.name)))?;
            let time = summary["node"]["time"].as_str().map_or_else(|| crate::objects::time_text(self.now()), str::to_owned);
            if resource.plural == "nodes" {
                items.push(json!({
                    "apiVersion": resource.api_version(),
                    "kind": resource.kind,
                    "metadata": {"name": &*stored.key.name, "labels": node["metadata"]["labels"], "creationTimestamp": time},
                    "timestamp": time,
                    "window": "10s",
                    "usage": usage(&summary["node"]),
                }));
                continue;
            }
            for pod in summary["pods"].as_array().into_iter().flatten() {
                let of = &pod["podRef"];
                if namespace.is_some_and(|namespace| of["namespace"] != namespace) {
                    continue;
                }
                let containers: Vec<Value> = pod["containers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|container| json!({"name": container["name"], "usage": usage(container)}))
                    .collect();
                items.push(json!({
                    "apiVersion": resource.api_version(),
                    "kind": resource.kind,
                    "metadata": {"name": of["name"], "namespace": of["namespace"], "creationTimestamp": time},
                    "timestamp": time,
                    "window": "10s",
                    "containers": containers,
                }));
            }
        }
        let place = |item: &Value| (item["metadata"]["namespace"].to_string(), item["metadata"]["name"].to_string());
        items.sort_by_key(place);
        Ok(items)
    }
}

/// Nanocores and bytes, as quantities.
fn usage(measured: &Value) -> Value {
    let cores = measured["cpu"]["usageNanoCores"].as_u64().unwrap_or(0);
    let bytes = measured["memory"]["workingSetBytes"].as_u64().unwrap_or(0);
    json!({"cpu": format!("{cores}n"), "memory": format!("{}Ki", bytes / 1024)})
}
