//! The way of a request: authenticate, take apart, authorise, do.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use crate::admission::{self, Admitted, Operation, Origin};
use crate::authorize::Attributes;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::exchange::Exchange;
use crate::fairness::Call;
use crate::field_validation::Form;
use crate::iam::IAM;
use crate::identity::Identity;
use crate::peoples_list::PeoplesList;
use crate::read::json_response;
use crate::request::body::{self, Change};
use crate::request::{Query, Target, Verb, check_head};
use crate::write::{DeleteOptions, Deleted, WriteOptions, Written};
use crate::{Api, review, rotate_key};

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
        let answer = Box::pin(self.answer(caller, request)).await;
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
                return Ok(match self.unready() {
                    None => text_response(StatusCode::OK, "ok"),
                    Some(why) => text_response(StatusCode::SERVICE_UNAVAILABLE, why),
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
        let exchange = Exchange::asked(verb, &target, &query)?;
        let verb = exchange.map_or(verb, Exchange::verb);
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
        // The rows of an import may name their namespaces.
        let all_namespaces_verb = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection) || exchange.is_some();
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
            return Box::pin(self.subresource(caller, &resource, &target, verb, query, request)).await;
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
        if let Some(asked) = exchange {
            return Box::pin(self.exchange(caller, &resource, namespace, asked, &query, request)).await;
        }
        match (verb, name) {
            (Verb::Get, Some(name)) => self.get(&resource, namespace, name, request.headers(), &query).await,
            (Verb::List, None) => self.list(&resource, namespace, request.headers(), &query).await,
            (Verb::Watch, name) => self.watch(&resource, namespace, name, request.headers(), &query).await,
            (Verb::Create, None) => {
                let mut options = WriteOptions::parse(&query, request.headers())?;
                let object = resource.named(body::object(request).await?.note(&mut options));
                if resource.source == crate::catalog::Source::Review {
                    return review::answer(self, caller, &resource, namespace, object, &options).await;
                }
                written(self.create(caller, &resource, namespace, object, &options).await?)
            }
            (Verb::Update, Some(name)) => {
                let mut options = WriteOptions::parse(&query, request.headers())?;
                let object = resource.named(body::object(request).await?.note(&mut options));
                written(self.update(Origin::of(caller), &resource, resource.key(namespace, name), object, &options).await?)
            }
            (Verb::Patch, Some(name)) => {
                let mut options = WriteOptions::parse(&query, request.headers())?;
                let change = body::change(request).await?.note(&mut options);
                written(self.change(Origin::of(caller), &resource, resource.key(namespace, name), change, &options).await?)
            }
            (Verb::Delete, Some(name)) => {
                let options = body::delete_options(&query, request).await?;
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
        let options = &mut WriteOptions::parse(&query, request.headers())?;
        match (subresource, verb) {
            ("status", Verb::Get) => self.get(resource, namespace, name, request.headers(), &query).await,
            ("status", Verb::Update) => {
                let object = resource.named(body::object(request).await?.note(options));
                written(self.update(origin, resource, key, object, options).await?)
            }
            ("status", Verb::Patch) => {
                let change = body::change(request).await?.note(options);
                written(self.change(origin, resource, key, change, options).await?)
            }
            ("finalize", Verb::Update) => {
                let object = resource.named(body::object(request).await?.note(options));
                written(self.update(origin, resource, key, object, options).await?)
            }
            ("scale", Verb::Get) => self.get_scale(resource, &key).await,
            ("scale", Verb::Update) => {
                let scale = body::object(request).await?.note(options);
                self.set_scale(origin, resource, key, &scale, options).await
            }
            ("scale", Verb::Patch) => match body::change(request).await?.note(options) {
                Change::Patch(kind, patch) => self.patch_scale(origin, resource, key, kind, &patch, options).await,
                Change::Apply(scale) => self.apply_scale(origin, resource, key, &scale, options).await,
            },
            ("binding", Verb::Create) => {
                let mut binding = body::object(request).await?.note(options);
                let mut warnings = Vec::new();
                Form::of_binding().settle(&mut binding, options, &mut warnings)?;
                let asked = admission::Request::of_action(origin, resource, Operation::Create, &key, options.dry_run);
                let Admitted { object: binding, warnings: of_admission } = self.admit_action(&asked, binding).await?;
                warnings.extend(of_admission);
                if !options.dry_run {
                    self.bind(resource, key, &binding).await?;
                }
                Ok(with_warnings(created(), &warnings))
            }
            ("eviction", Verb::Create) => {
                let mut eviction = body::object(request).await?.note(options);
                let mut warnings = Vec::new();
                Form::of_eviction().settle(&mut eviction, options, &mut warnings)?;
                let asked = admission::Request::of_action(origin, resource, Operation::Create, &key, options.dry_run);
                let Admitted { object: eviction, warnings: of_admission } = self.admit_action(&asked, eviction).await?;
                warnings.extend(of_admission);
                let options = DeleteOptions::parse(&query, Some(&eviction["deleteOptions"]))?;
                let (_, of_deletion) = self.delete(origin, resource, key, &options).await?;
                warnings.extend(of_deletion);
                Ok(with_warnings(created(), &warnings))
            }
            ("token", Verb::Create) if resource.is_core("serviceaccounts") => {
                let mut asked = body::object(request).await?.note(options);
                let mut warnings = Vec::new();
                Form::of_token_request().settle(&mut asked, options, &mut warnings)?;
                let token = self.request_token(resource, namespace.unwrap_or_default(), name, asked, options).await?;
                Ok(with_warnings(token, &warnings))
            }
            (_, Verb::Create) if resource.group == IAM => {
                let asked = body::optional(request).await?;
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
        PeoplesList::refuse_search(query, "a deletion")?;
        let options = body::delete_options(query, request).await?;
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
