//! What is served, told to clients: discovery (aggregated and one group at a time), OpenAPI,
//! the version.

use std::sync::OnceLock;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Api;
use crate::catalog::{Catalog, Resource};
use crate::error::{ApiError, Result};
use crate::openapi::OpenApi;
use crate::read::{json_response, raw_response};
use crate::request::Query;

/// The version of Kubernetes whose API this one follows; clients choose features by it.
const KUBERNETES: (&str, &str) = ("1", "33");
/// Kinds in `get all` and the like are found by this media type.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// OpenAPI v2 in protobuf, as kube-apiserver names it, and as it did before 1.24: `@` is not allowed there.
const OPENAPI_V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const OPENAPI_V2_PROTOBUF_BEFORE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// How long a document may be kept whose address changes when it does: a year.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Documents of one [`Catalog`], each made when it is first asked for.
pub(crate) struct Documents {
    /// Aggregated discovery of `/api` and `/apis`.
    core: OnceLock<Tagged>,
    groups: OnceLock<Tagged>,
    pub(crate) openapi: OpenApi,
}

/// A document and what tells it from another one at the same address.
struct Tagged {
    body: Bytes,
    /// Quoted, as it stands in headers.
    tag: String,
}

impl Tagged {
    fn new(body: String) -> Self {
        use std::fmt::Write as _;
        let mut tag = String::from("\"");
        for byte in Sha256::digest(&body) {
            // Writing to a String cannot fail.
            let _ = write!(tag, "{byte:02X}");
        }
        tag.push('"');
        Self { body: body.into(), tag }
    }
}

impl Documents {
    pub(crate) fn new(openapi: OpenApi) -> Self {
        Self { core: OnceLock::new(), groups: OnceLock::new(), openapi }
    }
}

impl Api {
    /// Answers an address that is no resource.
    pub(crate) fn document(&self, path: &str, request: &Request<Body>) -> Result<Response<Body>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(ApiError::method_not_allowed(format!("{} is not possible at this address", request.method())));
        }
        let wants_aggregated = request
            .headers()
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|accept| accept.split(',').any(|range| range.contains("as=APIGroupDiscoveryList") && range.contains("v=v2;")));
        let trimmed = path.trim_end_matches('/');
        let catalog = &*self.catalog();
        let documents = &catalog.documents;
        match trimmed {
            "/api" if wants_aggregated => {
                let document = documents.core.get_or_init(|| Tagged::new(aggregated(catalog, str::is_empty).to_string()));
                return Ok(aggregated_response(document, request));
            }
            "/apis" if wants_aggregated => {
                let document = documents.groups.get_or_init(|| Tagged::new(aggregated(catalog, |group| !group.is_empty()).to_string()));
                return Ok(aggregated_response(document, request));
            }
            "/api" => {
                let versions = json!({"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"], "serverAddressByClientCIDRs": []});
                return Ok(json_response(StatusCode::OK, &versions));
            }
            "/apis" => return Ok(json_response(StatusCode::OK, &group_list(catalog))),
            "/version" => return Ok(json_response(StatusCode::OK, &version())),
            "/openapi/v3" => return Ok(raw_response(StatusCode::OK, documents.openapi.index())),
            "/openapi/v2" => return version_2(documents, request),
            "/metrics" => {
                let mut response = Response::new(Body::from(self.metrics_text()));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
                return Ok(response);
            }
            "" => {
                let paths = ["/api", "/apis", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];
                return Ok(json_response(StatusCode::OK, &json!({"paths": paths})));
            }
            _ => {}
        }
        if let Some(group_version) = trimmed.strip_prefix("/openapi/v3/") {
            return openapi_document(documents, group_version, request);
        }
        let parts: Vec<&str> = trimmed.split('/').skip(1).collect();
        let found = match parts.as_slice() {
            ["api", version] => resource_list(catalog, "", version),
            ["apis", group] => group_of(catalog, group),
            ["apis", group, version] => resource_list(catalog, group, version),
            _ => None,
        };
        found.map(|document| json_response(StatusCode::OK, &document)).ok_or_else(ApiError::no_route)
    }
}

fn aggregated_response(document: &Tagged, request: &Request<Body>) -> Response<Body> {
    let mut response = tagged_response(document.body.clone(), &document.tag, request);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// A document, or that it is the one which the client has.
fn tagged_response(body: Bytes, tag: &str, request: &Request<Body>) -> Response<Body> {
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag));
    let mut response = if is_known { raw_response(StatusCode::NOT_MODIFIED, Bytes::new()) } else { raw_response(StatusCode::OK, body) };
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A document of OpenAPI v3. At its address with the hash it never changes; at one with the hash
/// of an earlier document the client is sent to where it is now.
fn openapi_document(documents: &Documents, path: &str, request: &Request<Body>) -> Result<Response<Body>> {
    let body = documents.openapi.document(path).ok_or_else(ApiError::no_route)?;
    let hash = documents.openapi.hash(path).unwrap_or_default();
    let query = Query::parse(request.uri())?;
    let mut response = tagged_response(body, &format!("\"{hash}\""), request);
    match query.get("hash") {
        None => {}
        Some(asked) if asked == hash => {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
        }
        Some(_) => {
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            *response.body_mut() = Body::empty();
            if let Ok(address) = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={hash}")) {
                response.headers_mut().insert(header::LOCATION, address);
            }
        }
    }
    Ok(response)
}

/// OpenAPI v2, as JSON or as protobuf.
fn version_2(documents: &Documents, request: &Request<Body>) -> Result<Response<Body>> {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    // Ranges are taken in the order in which they are sent; nobody weighs these two.
    let form = accept.split(',').find_map(|range| match range.split(';').next().unwrap_or_default().trim() {
        "application/json" | "application/*" | "*/*" => Some(None),
        OPENAPI_V2_PROTOBUF | OPENAPI_V2_PROTOBUF_BEFORE => Some(Some(OPENAPI_V2_PROTOBUF)),
        _ => None,
    });
    let Some(form) = form else {
        let message = format!("OpenAPI v2 is served as application/json and {OPENAPI_V2_PROTOBUF}");
        return Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message));
    };
    let (body, hash) = if form.is_some() { documents.openapi.version_2_protobuf() } else { documents.openapi.version_2() };
    let mut response = tagged_response(body, &format!("\"{hash}\""), request);
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Some(media) = form {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    }
    Ok(response)
}

fn version() -> Value {
    let (major, minor) = KUBERNETES;
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("v{major}.{minor}.0+fermion-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }),
    })
}

/// The kind and version that a subresource's body has.
fn subresource_kind(resource: &Resource, subresource: &str) -> (String, String, String) {
    let own = (resource.group.clone(), resource.version.clone(), resource.kind.clone());
    match subresource {
        "scale" => ("autoscaling".to_owned(), "v1".to_owned(), "Scale".to_owned()),
        "binding" => (String::new(), "v1".to_owned(), "Binding".to_owned()),
        "eviction" => ("policy".to_owned(), "v1".to_owned(), "Eviction".to_owned()),
        "token" if resource.is_core("serviceaccounts") => ("authentication.k8s.io".to_owned(), "v1".to_owned(), "TokenRequest".to_owned()),
        "exec" => (String::new(), "v1".to_owned(), "PodExecOptions".to_owned()),
        "attach" => (String::new(), "v1".to_owned(), "PodAttachOptions".to_owned()),
        "portforward" => (String::new(), "v1".to_owned(), "PodPortForwardOptions".to_owned()),
        _ => own,
    }
}

pub(crate) fn subresource_verbs(subresource: &str) -> &'static [&'static str] {
    match subresource {
        "status" | "scale" => &["get", "patch", "update"],
        "finalize" => &["update"],
        "log" | "file" => &["get"],
        "token" | "password" | "signout" => &["create"],
        _ => &["create", "get"],
    }
}

fn aggregated(catalog: &Catalog, wanted: impl Fn(&str) -> bool) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for (group, version) in catalog.group_versions().into_iter().filter(|(group, _)| wanted(group)) {
        let resources: Vec<Value> = catalog
            .of_group(&group, &version)
            .map(|resource| {
                let kind = |(group, version, kind): (String, String, String)| json!({"group": group, "version": version, "kind": kind});
                let mut entry = json!({
                    "resource": resource.plural,
                    "responseKind": kind((group.clone(), version.clone(), resource.kind.clone())),
                    "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
                    "singularResource": resource.singular,
                    "verbs": resource.verbs,
                });
                if !resource.short_names.is_empty() {
                    entry["shortNames"] = json!(resource.short_names);
                }
                if !resource.categories.is_empty() {
                    entry["categories"] = json!(resource.categories);
                }
                if !resource.subresources.is_empty() {
                    let subresources: Vec<Value> = resource
                        .subresources
                        .iter()
                        .map(|name| {
                            json!({
                                "subresource": name,
                                "responseKind": kind(subresource_kind(resource, name)),
                                "verbs": subresource_verbs(name),
                            })
                        })
                        .collect();
                    entry["subresources"] = subresources.into();
                }
                entry
            })
            .collect();
        let served = json!({"version": version, "resources": resources, "freshness": "Current"});
        match items.iter_mut().find(|item| item["metadata"]["name"] == *group) {
            Some(item) => {
                if let Some(versions) = item["versions"].as_array_mut() {
                    versions.push(served);
                }
            }
            None => items.push(json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": [served]})),
        }
    }
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn resource_list(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for resource in catalog.of_group(group, version) {
        let mut entry = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        resources.push(entry);
        for name in &resource.subresources {
            let (kind_group, kind_version, kind) = subresource_kind(resource, name);
            let mut entry = json!({
                "name": format!("{}/{name}", resource.plural),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind,
                "verbs": subresource_verbs(name),
            });
            if (kind_group.as_str(), kind_version.as_str()) != (group, version) {
                entry["group"] = kind_group.into();
                entry["version"] = kind_version.into();
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}))
}

fn group_of(catalog: &Catalog, group: &str) -> Option<Value> {
    let versions: Vec<Value> = catalog
        .group_versions()
        .into_iter()
        .filter(|(found, _)| found == group && !group.is_empty())
        .map(|(group, version)| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": versions, "preferredVersion": preferred}))
}

fn group_list(catalog: &Catalog) -> Value {
    let mut groups: Vec<Value> = Vec::new();
    for (group, _) in catalog.group_versions() {
        if groups.iter().any(|found| found["name"] == *group) {
            continue;
        }
        groups.extend(group_of(catalog, &group));
    }
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}
