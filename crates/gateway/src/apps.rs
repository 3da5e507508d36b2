//! `/apps/NAMESPACE/ENVIRONMENT/APP/…`: the tools inside a DevEnvironment.

mod entry;
mod secrets;
mod terminal;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use fermion_api::ai::dev_environment::{App, AppKind, Phase};
use http::{HeaderMap, Method, Request, StatusCode};
use k8s_openapi::api::authentication::v1::UserInfo;

pub(crate) use self::secrets::Secrets;
use crate::access::{Resource, Token};
use crate::activity;
use crate::address::{self, AppAddress};
use crate::directory::{Environment, Replica};
use crate::forward::headers::{self, Route, SESSION_COOKIE};
use crate::forward::{self, Conversation, Failure, Upload};
use crate::gateway::Inner;
use crate::inbound::{self, Inbound};
use crate::origin;
use crate::problem::{Form, Problem};
use crate::services::target;

/// The most session cookies of one request that are looked at.
const COOKIES_MAX: usize = 8;
/// When to try again while an environment starts. Pages reload by themselves.
const STARTING_RETRY_S: u32 = 2;

/// Who asks, known and checked for this app.
struct Visitor {
    token: Token,
    person: Arc<UserInfo>,
    /// Whether the browser added the credential by itself.
    by_cookie: bool,
}

/// # Errors
/// What to answer instead.
pub(crate) async fn serve(inner: &Arc<Inner>, request: Request<Body>) -> Result<Response, Problem> {
    let inbound = inbound::inspect(&request)?;
    let split = address::app(request.uri().path()).map_err(|error| Problem::bad_request(error.to_string()))?;
    let (address, query) = (split.address, request.uri().query());
    let Some(rest) = split.rest.map(str::to_owned) else {
        // Links of a page are relative to its folder, so the folder's slash matters.
        return entry::redirect(StatusCode::PERMANENT_REDIRECT, &address.cookie_path(), query);
    };
    if let Some(ticket) = query.and_then(address::ticket)
        && *request.method() == Method::GET
        && !inbound.websocket
    {
        return entry::exchange(inner, &address, &rest, ticket, &request);
    }
    let visitor = identify(inner, &address, request.headers()).await?;
    if visitor.by_cookie {
        origin::check(request.method(), request.headers(), &inbound.host, inbound.websocket)
            .map_err(|error| Problem::new(StatusCode::FORBIDDEN, "ForeignOrigin", format!("Refused: {error}.")))?;
    }
    let resource = Resource { plural: "devenvironments", key: address.environment.clone() };
    inner.access.authorise(&visitor.person, &resource).await?;
    if *request.method() == Method::POST && rest == "/ticket" {
        return entry::issue(inner, &address, visitor, &inbound);
    }
    inner.check_synced()?;
    let environment = inner.directory.environments.get(&address.environment).ok_or_else(|| {
        let namespace = &address.environment.namespace;
        Problem::new(
            StatusCode::NOT_FOUND,
            "EnvironmentNotFound",
            format!(
                "There is no DevEnvironment {}. `kubectl get devenvironments -n {namespace}` lists those there are.",
                address.environment
            ),
        )
    })?;
    let app = find_app(&environment, &address)?;
    let pod = find_pod(&environment, &address, inner.directory.environment_pods.of(&address.environment))?;
    let visit = Visit { address, app: app.clone(), pod, visitor, resource, rest, inbound };
    match app.kind {
        AppKind::Terminal => terminal::serve(inner, visit, request).await,
        AppKind::Jupyter | AppKind::Web => proxy(inner, visit, request).await,
    }
}

/// A request that may go to its app.
struct Visit {
    address: AppAddress,
    app: App,
    pod: Arc<Replica>,
    visitor: Visitor,
    resource: Resource,
    rest: String,
    inbound: Inbound,
}

/// A valid bearer token, else a cookie of this app.
///
/// An invalid token does not end the search: pages inside an app may use the header for
/// ends of their own, which is not forwarded but must not lock them out either.
async fn identify(inner: &Inner, address: &AppAddress, headers: &HeaderMap) -> Result<Visitor, Problem> {
    if let Some(token) = Token::bearer(headers)
        && let Some(person) = inner.access.authenticate(&token).await?
    {
        return Ok(Visitor { token, person, by_cookie: false });
    }
    for id in headers::cookies(headers, SESSION_COOKIE).take(COOKIES_MAX) {
        let grant = inner.sessions().resume(id, address, Instant::now());
        if let Some(grant) = grant
            && let Some(person) = inner.access.authenticate(&grant.token).await?
            && person.username.as_deref() == Some(grant.username.as_str())
        {
            return Ok(Visitor { token: grant.token, person, by_cookie: true });
        }
    }
    Err(Problem::unauthenticated(format!(
        "Please sign in. `fermion open` prints a link that lets a browser in; a program sends `Authorization: Bearer TOKEN`.\n\
         (A link comes from POST {}/ticket. Sessions end when the server restarts.)",
        address.prefix(),
    )))
}

fn find_app<'a>(environment: &'a Environment, address: &AppAddress) -> Result<&'a App, Problem> {
    environment.apps.iter().find(|app| app.name == address.app).ok_or_else(|| {
        let names = environment.apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>().join(", ");
        let there = if names.is_empty() { "It has none; add one to spec.apps.".to_owned() } else { format!("It has: {names}.") };
        Problem::new(StatusCode::NOT_FOUND, "AppNotFound", format!("{} has no app named {}. {there}", address.environment, address.app))
    })
}

/// The environment's running pod, or why there is none.
fn find_pod(environment: &Environment, address: &AppAddress, mut pods: Vec<Arc<Replica>>) -> Result<Arc<Replica>, Problem> {
    let key = &address.environment;
    let why = environment.why.as_deref().map(|why| format!("\n{why}")).unwrap_or_default();
    let look = format!("`kubectl describe devenvironment {} -n {}` tells more.", key.name, key.namespace);
    let unavailable = |reason, message: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason, message);
    if environment.suspended || matches!(environment.phase, Phase::Stopping | Phase::Stopped) {
        let stopped = if environment.suspended { "is stopped; its volumes are kept." } else { "is just being stopped or started." };
        return Err(unavailable(
            "EnvironmentStopped",
            format!(
                "{key} {stopped}{why}\nStart it with: kubectl patch devenvironment {} -n {} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'",
                key.name, key.namespace
            ),
        ));
    }
    if environment.phase == Phase::Failed {
        return Err(unavailable("EnvironmentFailed", format!("{key} cannot run.{why}\n{look}")));
    }
    // The controller says which pod it is; a pod that merely carries the label is not taken
    // when it does.
    pods.retain(|pod| {
        let named = environment.pod_name.as_ref().is_none_or(|name| *name == pod.name);
        named && pod.running && !pod.going && pod.address.is_some()
    });
    pods.into_iter()
        .max_by_key(|pod| pod.created_at)
        .ok_or_else(|| unavailable("EnvironmentStarting", format!("{key} is starting.{why}\n{look}")).retry_after_s(STARTING_RETRY_S))
}

async fn proxy(inner: &Arc<Inner>, visit: Visit, mut request: Request<Body>) -> Result<Response, Problem> {
    let Visit { address, app, pod, visitor, resource, rest, inbound } = visit;
    let key = address.environment.clone();
    let port = app.port().and_then(|port| u16::try_from(port).ok()).zip(pod.address);
    let Some((port, ip)) = port else {
        return Err(Problem::new(StatusCode::BAD_GATEWAY, "BadPort", format!("The app {} of {key} has no usable port.", app.name)));
    };
    let slot = inner.slot()?;
    let in_flight = pod.load.begin();
    if pod.load.outstanding() > inner.options.requests_per_target_max {
        let message = format!("{key} is busy with {} requests already. Try again in a moment.", inner.options.requests_per_target_max);
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", message).retry_after_s(1));
    }
    let jupyter = app.kind == AppKind::Jupyter;
    let authorization = if jupyter { Some(inner.secrets.authorization(&address, &pod.uid).await?) } else { None };
    // Jupyter is started with the address it is reached at as its base_url.
    let keep_prefix = jupyter || app.keep_prefix;
    let route = Route { prefix: address.prefix(), keep_prefix, https: inner.options.https, authorization };
    if !inbound.websocket && activity::is_use(app.kind, request.method(), Form::wanted(request.headers())) {
        inner.activity.touch(&key);
    }
    let path = if keep_prefix { request.uri().path() } else { &rest };
    let query = request.uri().query().and_then(address::query_without_ticket);
    let uri = target(path, query.as_deref())?;
    let conversation = inbound.websocket.then(|| {
        let (activity, key) = (inner.activity.clone(), key.clone());
        Conversation {
            caller: hyper::upgrade::on(&mut request),
            on_message: Box::new(move || activity.touch(&key)),
            withdrawn: inner.withdrawn(visitor.token, resource),
        }
    });
    let (head, body) = request.into_parts();
    let mut outgoing = Request::new(Upload::new(body));
    *outgoing.method_mut() = head.method;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = headers::towards_pod(&head.headers, &inbound, &route);

    let patience = inner.patience(inner.options.app_answer_timeout);
    let answer = forward::send(&pod.load, SocketAddr::new(ip, port), outgoing, patience, inbound.websocket)
        .await
        .map_err(|failure| not_answering(&address, &pod, port, &failure))?;
    let held = (slot, in_flight);
    forward::respond(answer, &inbound, &route, conversation, move |_| drop(held))
        .map_err(|failure| not_answering(&address, &pod, port, &failure))
}

fn not_answering(address: &AppAddress, pod: &Replica, port: u16, failure: &Failure) -> Problem {
    tracing::debug!(error = failure as &dyn std::error::Error, environment = %address.environment, app = address.app, "an app did not answer");
    let (app, key) = (&address.app, &address.environment);
    let look = format!("`kubectl logs {} -n {}` shows what the container says.", pod.name, key.namespace);
    match failure {
        Failure::Unreachable { .. } => Problem::new(
            StatusCode::BAD_GATEWAY,
            "AppNotListening",
            format!("Nothing listens on port {port} of {key}. If {app} was just started, it may need some more seconds.\n{look}"),
        )
        .retry_after_s(STARTING_RETRY_S),
        Failure::Silent { patience, .. } => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "AppSilent",
            format!("{app} in {key} did not begin to answer within {} s.\n{look}", patience.as_secs()),
        ),
        Failure::Broken { .. } | Failure::UnaskedUpgrade { .. } => Problem::new(
            StatusCode::BAD_GATEWAY,
            "AppBroken",
            format!("{app} in {key} broke off before it answered; does it speak HTTP on port {port}?\n{look}"),
        ),
    }
}
