//! Logs, exec, attach, port-forward and files: requests about a running container are
//! authorised here and answered by the node that runs it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, Uri};
use fermion_store::Key;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::Api;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::write::parse_stored;

/// The annotation by which kubectl lets a pod name its main container.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

impl Api {
    pub(crate) async fn pass_to_node(
        &self,
        resource: &Arc<Resource>,
        key: Key,
        subresource: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>> {
        let pod = parse_stored(&self.read(resource, &key).await?)?;
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if node.is_empty() {
            return Err(ApiError::bad_request(format!("pod {} has no node yet: it is waiting to be scheduled", key.name)));
        }
        let interface =
            self.node(node).ok_or_else(|| ApiError::unavailable(format!("node {node} of pod {} is not connected now", key.name)))?;
        let query = request.uri().query().unwrap_or_default().to_owned();
        let action = match subresource {
            "log" => "containerLogs",
            "file" => "files",
            "portforward" => "portForward",
            other => other,
        };
        let mut path = format!("/{action}/{}/{}", key.namespace, key.name);
        if subresource != "portforward" {
            path.push('/');
            path.push_str(&container(&pod, &query)?);
        }
        if !query.is_empty() {
            path.push('?');
            path.push_str(&query);
        }
        *request.uri_mut() = path.parse::<Uri>().map_err(|_| ApiError::bad_request("the query cannot be passed on"))?;
        // The node trusts this server, not the caller: who is asking has been settled.
        request.headers_mut().remove(axum::http::header::AUTHORIZATION);
        match interface.oneshot(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}

/// The container that is meant: the one named, the one the pod marks, or the only one.
fn container(pod: &Value, query: &str) -> Result<String> {
    let uri: Uri = format!("/?{query}").parse().map_err(|_| ApiError::bad_request("the query is malformed"))?;
    let named = crate::request::Query::parse(&uri)?.get("container").map(str::to_owned);
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let names: Vec<&str> = lists
        .iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
        .filter_map(|container| container["name"].as_str())
        .collect();
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    match named {
        Some(named) if names.contains(&named.as_str()) => Ok(named),
        Some(named) => Err(ApiError::bad_request(format!(
            "container {} is not valid for pod {pod_name}; choose one of: {}",
            named.escape_default(),
            names.join(", ")
        ))),
        None => {
            let marked = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str().filter(|marked| names.contains(marked));
            let first = pod["spec"]["containers"].as_array().filter(|list| list.len() == 1).and_then(|list| list[0]["name"].as_str());
            marked.or(first).map(str::to_owned).ok_or_else(|| {
                ApiError::bad_request(format!("a container name must be specified for pod {pod_name}, choose one of: {}", names.join(", ")))
            })
        }
    }
}
