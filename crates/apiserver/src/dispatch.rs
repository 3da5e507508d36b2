//! The way of a request: authenticate, take apart, authorise, do.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use crate::admission::{self, Admitted, Operation, Origin};
use crate::authorize::Attributes;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::fairness::Call;
use crate::iam::IAM;
use crate::identity::Identity;
use crate::patch::PatchKind;
use crate::patch::yaml::{self, YamlError};
use crate::read::json_response;
use crate::request::{Query, Target, Verb, check_head};
use crate::write::{DeleteOptions, Deleted, WriteOptions, Written};
use crate::{Api, protobuf, review, rotate_key};

/// The largest body read, in bytes, as in Kubernetes.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The most levels of JSON read: the bound of the parser, which stops there.
pub(crate) const JSON_DEPTH_MAX: usize = 128;
/// The most objects one deletion of a collection takes.
const COLLECTION_MAX: usize = 10_000;

impl Api {
    /// The API over HTTP. Callers sign in with a bearer token.
    pub fn router(self: &Arc<Self>) -> Router {
        let api = self.clone();
        Router::new().fallback(move |request: Request<Body>| {
            let api = api.clone();
            async move { api.serve(None, request).await }
        })
    }

    /// Answers a request of a known caller, or of whoever its headers say.
    pub(crate) async fn serve(self: &Arc<Self>, caller: Option<Arc<Identity>>, request: Request<Body>) -> Response<Body> {
        let head = request.method() == Method::HEAD;
        let answer = self.answer(caller, request).await;
        let mut response = answer.unwrap_or_else(ApiError::into_response);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if head {
            *response.body_mut() = Body::empty();
        }
        response
    }

    async fn answer(self: &Arc<Self>, caller: Option<Arc<Identity>>, request: Request<Body>) -> Result<Response<Body>> {
        check_head(&request)?;
        let path = request.uri().path().to_owned();
        // What monitors and people need before they can sign in.
        match path.as_str() {
            "/livez" | "/healthz" => return Ok(text_response(StatusCode::OK, "ok")),
            "/readyz" => {
                return Ok(if self.is_ready() {
                    text_response(StatusCode::OK, "ok")
                } else {
                    text_response(StatusCode::SERVICE_UNAVAILABLE, "starting")
                });
            }
            path if path.starts_with("/auth/") => return self.sign_in_or_out(path, request).await,
            _ => {}
        }
        let caller = match caller {
            Some(caller) => caller,
            None => self.authenticate(request.headers()).await?,
        };
        let caller = self.act_as(caller, request.headers())?;
        match Target::parse(&path) {
            Some(target) => {
                let target = target?;
                let call = Call::of(&caller, &target, &request)?;
                // A write's way is long, and most requests do not go it.
                self.fairness.serve(call, &caller.name, Box::pin(self.resource(&caller, target, request))).await
            }
            None => {
                let call = Call::of_document(request.method());
                self.fairness.serve(call, &caller.name, self.path(&caller, &path, request)).await
            }
        }
    }

    /// Answers at an address that is not one of a resource.
    async fn path(self: &Arc<Self>, caller: &Identity, path: &str, request: Request<Body>) -> Result<Response<Body>> {
        let verb = request.method().as_str().to_lowercase();
        let attributes = Attributes { verb, path: Some(path.to_owned()), ..Attributes::default() };
        self.authorize(caller, &attributes)?;
        if path == rotate_key::PATH {
            return self.rotate_key(caller, request).await;
        }
        self.document(path, &request)
    }

    async fn resource(self: &Arc<Self>, caller: &Identity, target: Target, request: Request<Body>) -> Result<Response<Body>> {
        let query = Query::parse(request.uri())?;
        let verb = Verb::of(request.method(), target.name.is_some(), &query)?;
        let verb = match (target.watch, verb.is_read()) {
            (true, true) => Verb::Watch,
            (true, false) => return Err(ApiError::method_not_allowed("this address can only be watched")),
            (false, _) => connect_verb(&target, verb),
        };
        let attributes = attributes(&target, verb, &query);
        if let Err(refused) = self.authorize(caller, &attributes)
            && !self.is_about_own_key(caller, &attributes, &query).await?
        {
            return Err(refused);
        }
        let resource = self.catalog().find(&target.group, &target.version, &target.plural).ok_or_else(ApiError::no_route)?.clone();
        if target.namespace.is_some() && !resource.namespaced {
            return Err(ApiError::no_route());
        }
        let all_namespaces_verb = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
        if resource.namespaced && target.namespace.is_none() && !all_namespaces_verb {
            return Err(ApiError::bad_request(format!(
                "{} are namespaced: use /namespaces/NAMESPACE/{} in the path",
                resource.plural, resource.plural
            )));
        }
        if let Some(subresource) = &target.subresource {
            if !resource.has_subresource(subresource) {
                return Err(ApiError::no_route());
            }
            return self.subresource(caller, &resource, &target, verb, query, request).await;
        }
        if !resource.verbs.contains(&verb.as_str()) {
            return Err(ApiError::method_not_allowed(format!(
                "{} do not support {}; they support {}",
                resource.plural,
                verb.as_str(),
                resource.verbs.join(", ")
            )));
        }
        let namespace = target.namespace.as_deref();
        let name = target.name.as_deref();
        match (verb, name) {
            (Verb::Get, Some(name)) => self.get(&resource, namespace, name, request.headers(), &query).await,
            (Verb::List, None) => self.list(&resource, namespace, request.headers(), &query).await,
            (Verb::Watch, name) => self.watch(&resource, namespace, name, request.headers(), &query).await,
            (Verb::Create, None) => {
                let options = WriteOptions::parse(&query, request.headers())?;
                let object = resource.named(object_body(request).await?);
                if resource.source == crate::catalog::Source::Review {
                    return review::answer(self, caller, &resource, namespace, object).await;
                }
                written(self.create(caller, &resource, namespace, object, &options).await?)
            }
            (Verb::Update, Some(name)) => {
                let options = WriteOptions::parse(&query, request.headers())?;
                let object = resource.named(object_body(request).await?);
                written(self.update(Origin::of(caller), &resource, resource.key(namespace, name), object, &options).await?)
            }
            (Verb::Patch, Some(name)) => {
                let options = WriteOptions::parse(&query, request.headers())?;
                let change = patch_body(request).await?;
                written(self.change(Origin::of(caller), &resource, resource.key(namespace, name), change, &options).await?)
            }
            (Verb::Delete, Some(name)) => {
                let options = delete_options(&query, request).await?;
                let (deleted, warnings) = self.delete(Origin::of(caller), &resource, resource.key(namespace, name), &options).await?;
                Ok(with_warnings(deleted_response(&resource, name, deleted), &warnings))
            }
            (Verb::DeleteCollection, None) => self.delete_collection(caller, &resource, namespace, &query, request).await,
            _ => Err(ApiError::method_not_allowed(format!("{} is not possible at this address", verb.as_str()))),
        }
    }

    async fn subresource(
        self: &Arc<Self>,
        caller: &Identity,
        resource: &Arc<Resource>,
        target: &Target,
        verb: Verb,
        query: Query,
        request: Request<Body>,
    ) -> Result<Response<Body>> {
        let namespace = target.namespace.as_deref();
        let (Some(name), Some(subresource)) = (target.name.as_deref(), target.subresource.as_deref()) else {
            return Err(ApiError::no_route());
        };
        let key = resource.key(namespace, name);
        let origin = Origin { caller, subresource };
        let options = &WriteOptions::parse(&query, request.headers())?;
        match (subresource, verb) {
            ("status", Verb::Get) => self.get(resource, namespace, name, request.headers(), &query).await,
            ("status", Verb::Update) => {
                let object = resource.named(object_body(request).await?);
                written(self.update(origin, resource, key, object, options).await?)
            }
            ("status", Verb::Patch) => {
                let change = patch_body(request).await?;
                written(self.change(origin, resource, key, change, options).await?)
            }
            ("finalize", Verb::Update) => {
                let object = resource.named(object_body(request).await?);
                written(self.update(origin, resource, key, object, options).await?)
            }
            ("scale", Verb::Get) => self.get_scale(resource, &key).await,
            ("scale", Verb::Update) => {
                let scale = object_body(request).await?;
                self.set_scale(origin, resource, key, &scale, options).await
            }
            ("scale", Verb::Patch) => match patch_body(request).await? {
                Change::Patch(kind, patch) => self.patch_scale(origin, resource, key, kind, &patch, options).await,
                Change::Apply(scale) => self.apply_scale(origin, resource, key, &scale, options).await,
            },
            ("binding", Verb::Create) => {
                let binding = object_body(request).await?;
                let asked = admission::Request::of_action(origin, resource, Operation::Create, &key, options.dry_run);
                let Admitted { object: binding, warnings } = self.admit_action(&asked, binding).await?;
                if !options.dry_run {
                    self.bind(resource, key, &binding).await?;
                }
                Ok(with_warnings(created(), &warnings))
            }
            ("eviction", Verb::Create) => {
                let eviction = object_body(request).await?;
                let asked = admission::Request::of_action(origin, resource, Operation::Create, &key, options.dry_run);
                let Admitted { object: eviction, mut warnings } = self.admit_action(&asked, eviction).await?;
                let options = DeleteOptions::parse(&query, Some(&eviction["deleteOptions"]))?;
                let (_, of_deletion) = self.delete(origin, resource, key, &options).await?;
                warnings.extend(of_deletion);
                Ok(with_warnings(created(), &warnings))
            }
            ("token", Verb::Create) if resource.is_core("serviceaccounts") => {
                let asked = object_body(request).await?;
                self.request_token(resource, namespace.unwrap_or_default(), name, asked, options).await
            }
            (_, Verb::Create) if resource.group == IAM => {
                let asked = optional_body(request).await?;
                self.iam_subresource(origin, resource, name, &asked, options).await
            }
            ("exec" | "attach" | "portforward", _) => {
                let asked = admission::Request::of_action(origin, resource, Operation::Connect, &key, false);
                self.admit_connection(&asked, request.uri()).await?;
                self.pass_to_node(resource, key, subresource, request).await
            }
            ("log" | "file", Verb::Get) => self.pass_to_node(resource, key, subresource, request).await,
            _ => Err(ApiError::method_not_allowed(format!("{} does not support {}", subresource, verb.as_str()))),
        }
    }

    /// A patch of an object, or an apply.
    async fn change(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: fermion_store::Key,
        change: Change,
        options: &WriteOptions,
    ) -> Result<Written> {
        match change {
            Change::Patch(kind, patch) => self.patch(origin, resource, key, kind, &patch, options).await,
            Change::Apply(configuration) => self.server_side_apply(origin, resource, key, configuration, options).await,
        }
    }

    async fn delete_collection(
        &self,
        caller: &Identity,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        query: &Query,
        request: Request<Body>,
    ) -> Result<Response<Body>> {
        let options = delete_options(query, request).await?;
        let selection = crate::read::Selection::parse(resource, query)?;
        let listed = self.page(resource, namespace, &selection, &Query::default()).await?;
        if listed.items.len() > COLLECTION_MAX {
            return Err(ApiError::bad_request(format!(
                "that are {} objects, more than {COLLECTION_MAX} at once; narrow it with a selector",
                listed.items.len()
            )));
        }
        let mut items = Vec::new();
        for body in &listed.items {
            let object: Value = serde_json::from_slice(body).map_err(|error| ApiError::internal(error.to_string()))?;
            let namespace = object["metadata"]["namespace"].as_str();
            let key = resource.key(namespace, object["metadata"]["name"].as_str().unwrap_or_default());
            match self.delete(Origin::of(caller), resource, key, &options).await {
                Ok(_) => items.push(object),
                Err(error) if error.reason == "NotFound" => {}
                Err(error) => return Err(error),
            }
        }
        let list = json!({
            "apiVersion": resource.api_version(),
            "kind": resource.list_kind,
            "metadata": {"resourceVersion": listed.resource_version},
            "items": items,
        });
        Ok(json_response(StatusCode::OK, &list))
    }
}

impl Resource {
    pub(crate) fn key(&self, namespace: Option<&str>, name: &str) -> fermion_store::Key {
        fermion_store::Key::new(self.stored_as.clone(), namespace.unwrap_or_default(), name)
    }
}

/// What a request asks to be allowed.
fn attributes(target: &Target, verb: Verb, query: &Query) -> Attributes {
    let name = target.name.clone().or_else(|| name_selected(verb, query)).unwrap_or_default();
    // A namespace is in itself: a role in it may be about it.
    let is_namespace = target.group.is_empty() && target.plural == "namespaces";
    let namespace = if is_namespace { target.name.clone() } else { target.namespace.clone() };
    Attributes {
        verb: verb.as_str().to_owned(),
        group: target.group.clone(),
        resource: target.plural.clone(),
        subresource: target.subresource.clone().unwrap_or_default(),
        namespace: namespace.unwrap_or_default(),
        name,
        path: None,
    }
}

/// The one object that a list, watch or deletion of a collection is narrowed to by
/// `fieldSelector=metadata.name=…`: a rule for that name allows it.
fn name_selected(verb: Verb, query: &Query) -> Option<String> {
    if !matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
        return None;
    }
    let requirement = |part: &str| {
        let value = part.trim().strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value).trim().to_owned())
    };
    query.get("fieldSelector")?.split(',').find_map(requirement)
}

/// Opening a stream into a container is `create` however the client opens it, so that the
/// right to read pods is not a right to run commands in them.
fn connect_verb(target: &Target, verb: Verb) -> Verb {
    match target.subresource.as_deref() {
        Some("exec" | "attach" | "portforward") if target.plural == "pods" => Verb::Create,
        _ => verb,
    }
}

/// Reads a body of JSON or, for the kinds kubectl sends that way, Kubernetes protobuf.
pub(crate) async fn object_body(request: Request<Body>) -> Result<Value> {
    let media = media_type(request.headers());
    let body = read_body(request).await?;
    match media.as_str() {
        "application/json" | "" => parse_json(&body),
        "application/vnd.kubernetes.protobuf" => {
            protobuf::decode(&body).map_err(|error| ApiError::unsupported_media_type(error.to_string()))
        }
        other => Err(ApiError::unsupported_media_type(format!("{}: send application/json", other.escape_default()))),
    }
}

/// Reads a body that may be left out.
async fn optional_body(request: Request<Body>) -> Result<Value> {
    let body = read_body(request).await?;
    if body.is_empty() { Ok(json!({})) } else { parse_json(&body) }
}

/// What the body of a PATCH asks for.
enum Change {
    Patch(PatchKind, Value),
    Apply(Value),
}

async fn patch_body(request: Request<Body>) -> Result<Change> {
    let media = media_type(request.headers());
    // Read in any case: a connection with an unread body is closed, also for the next request.
    let body = read_body(request).await?;
    if media == "application/apply-patch+yaml" {
        return yaml::parse(&body).map(Change::Apply).map_err(|error| match error {
            YamlError::Malformed { .. } => ApiError::bad_request(error.to_string()),
            YamlError::TooLarge => ApiError::too_large(error.to_string()),
        });
    }
    let kind = PatchKind::from_content_type(&media).ok_or_else(|| {
        ApiError::unsupported_media_type(
            "send application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json or application/apply-patch+yaml",
        )
    })?;
    Ok(Change::Patch(kind, parse_json(&body)?))
}

async fn delete_options(query: &Query, request: Request<Body>) -> Result<DeleteOptions> {
    let media = media_type(request.headers());
    let body = read_body(request).await?;
    let body = match (body.is_empty(), media.as_str()) {
        (true, _) => None,
        (false, "application/vnd.kubernetes.protobuf") => {
            Some(protobuf::decode(&body).map_err(|error| ApiError::unsupported_media_type(error.to_string()))?)
        }
        (false, _) => Some(parse_json(&body)?),
    };
    DeleteOptions::parse(query, body.as_ref())
}

fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default()
}

pub(crate) async fn read_body(request: Request<Body>) -> Result<Bytes> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::too_large(format!("the body is larger than {BODY_BYTES_MAX} bytes")))
        }
        Err(_) => Err(ApiError::bad_request("the body ended before it was complete")),
    }
}

pub(crate) fn parse_json(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|error| {
        let what = if error.to_string().starts_with("recursion limit") {
            format!("the body is nested more than {JSON_DEPTH_MAX} levels deep")
        } else {
            format!("the body is not JSON: {error}")
        };
        ApiError::bad_request(what)
    })
}

fn written(written: Written) -> Result<Response<Body>> {
    Ok(with_warnings(crate::read::raw_response(written.code, written.object.body), &written.warnings))
}

pub(crate) fn with_warnings(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    for warning in warnings.iter().take(WARNINGS_MAX) {
        // 299 is "miscellaneous persistent warning"; the agent is unknown (RFC 7234 section 5.5).
        let text: String = warning.chars().filter(|c| !c.is_control() && c.is_ascii()).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// The answer to an action that makes no object.
fn created() -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    json_response(StatusCode::CREATED, &status)
}

/// The most warnings sent with one answer.
const WARNINGS_MAX: usize = 20;

fn deleted_response(resource: &Resource, name: &str, deleted: Deleted) -> Response<Body> {
    match deleted {
        Deleted::Marked(stored) => crate::read::raw_response(StatusCode::OK, stored.body),
        Deleted::Gone { uid } => {
            let mut status = json!({
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": {"name": name, "kind": resource.plural, "uid": uid},
            });
            if !resource.group.is_empty() {
                status["details"]["group"] = resource.group.as_str().into();
            }
            json_response(StatusCode::OK, &status)
        }
    }
}

pub(crate) fn text_response(code: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_to_its_greatest_depth_and_no_deeper() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_json(nested(JSON_DEPTH_MAX - 1).as_bytes()).is_ok());
        let refused = parse_json(nested(JSON_DEPTH_MAX + 1).as_bytes()).expect_err("a refusal");
        assert_eq!(refused.message, "the body is nested more than 128 levels deep");
        assert!(parse_json(nested(1_000_000).as_bytes()).is_err());
    }
}
