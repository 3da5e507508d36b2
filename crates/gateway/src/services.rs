//! `/services/NAMESPACE/SERVICE/…`: requests spread over the ready replicas of an
//! InferenceService.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use fermion_api::ai::inference_service::Phase;
use http::{Request, StatusCode, Uri};

use crate::access::{Resource, Token};
use crate::address::{self, Key};
use crate::balance::{self, Candidate};
use crate::directory::{Replica, Service};
use crate::forward::headers::{self, Route};
use crate::forward::{self, Conversation, Failure, Upload};
use crate::gateway::Inner;
use crate::inbound;
use crate::metrics::Fault;
use crate::problem::Problem;

/// How many replicas are tried at most: the first, and three others while nothing was sent.
const ATTEMPTS_MAX: usize = 4;
/// When to try again where no replica is ready.
const RETRY_AFTER_S: u32 = 5;

/// # Errors
/// What to answer instead.
pub(crate) async fn serve(inner: &Arc<Inner>, mut request: Request<Body>) -> Result<Response, Problem> {
    let inbound = inbound::inspect(&request)?;
    let split = address::service(request.uri().path()).map_err(|error| Problem::bad_request(error.to_string()))?;
    let (key, rest) = (split.address, split.rest.unwrap_or("/"));
    // No cookie counts here: services are called by programs.
    let missing = "Send `Authorization: Bearer TOKEN` with a token of the platform (`fermion login` keeps one).";
    let token = Token::bearer(request.headers()).ok_or_else(|| Problem::unauthenticated(missing))?;
    let Some(person) = inner.access.authenticate(&token).await? else {
        return Err(Problem::unauthenticated("The token is not valid, or no longer. Get a new one with `fermion login`."));
    };
    let resource = Resource { plural: "inferenceservices", key: key.clone() };
    inner.access.authorise(&person, &resource).await?;
    inner.check_synced()?;
    let service = inner.directory.services.get(&key).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "ServiceNotFound",
            format!("There is no InferenceService {key}. `kubectl get inferenceservices -n {}` lists those there are.", key.namespace),
        )
    })?;
    let port = u16::try_from(service.port).map_err(|_| no_port(&key, service.port))?;

    let slot = inner.slot()?;
    let tally = inner.metrics.begin(&key);
    if tally.in_flight > inner.options.requests_per_target_max {
        let problem = overloaded(&key, inner.options.requests_per_target_max);
        tally.failed(Fault::Overloaded, problem.status);
        return Err(problem);
    }
    let route = Route { prefix: address::service_prefix(&key), keep_prefix: false, https: inner.options.https, authorization: None };
    let query = request.uri().query().and_then(address::query_without_ticket);
    let uri = target(rest, query.as_deref())?;
    let conversation = inbound.websocket.then(|| Conversation {
        caller: hyper::upgrade::on(&mut request),
        on_message: Box::new(|| ()),
        withdrawn: inner.withdrawn(token, resource),
    });
    let (head, body) = request.into_parts();
    let mut outgoing = Request::new(Upload::new(body));
    *outgoing.method_mut() = head.method;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = headers::towards_pod(&head.headers, &inbound, &route);

    let patience = inner.patience(inner.options.service_answer_timeout);
    let mut tried = Vec::new();
    while tried.len() < ATTEMPTS_MAX {
        let Some((replica, address)) = choose(inner, &key, port, &tried) else { break };
        let in_flight = replica.load.begin();
        match forward::send(&replica.load, address, outgoing, patience, inbound.websocket).await {
            Ok(answer) => {
                tally.answered(answer.response.status());
                let held = (slot, in_flight);
                return forward::respond(answer, &inbound, &route, conversation, move |outcome| {
                    tally.ended(outcome);
                    drop(held);
                })
                .map_err(|failure| broken(&key, &failure).1);
            }
            Err(Failure::Unreachable { request, source, .. }) => {
                tracing::debug!(error = &source as &dyn std::error::Error, service = %key, pod = replica.name, "a replica cannot be connected to");
                outgoing = *request;
                tally.retried();
                tried.push(replica.uid.clone());
            }
            Err(failure) => {
                let (fault, problem) = broken(&key, &failure);
                tracing::warn!(error = &failure as &dyn std::error::Error, service = %key, pod = replica.name, "a replica did not answer");
                tally.failed(fault, problem.status);
                return Err(problem);
            }
        }
    }
    let (fault, problem) = if tried.is_empty() {
        (Fault::NoReadyReplica, no_replica(&key, &service))
    } else {
        (Fault::Unreachable, unreachable(&key, tried.len()))
    };
    tally.failed(fault, problem.status);
    Err(problem)
}

/// The replica to send to next, among those ready now that were not tried.
fn choose(inner: &Inner, key: &Key, port: u16, tried: &[String]) -> Option<(Arc<Replica>, SocketAddr)> {
    let mut ready = inner.directory.service_pods.of(key);
    ready.retain(|replica| replica.ready && replica.address.is_some() && !tried.contains(&replica.uid));
    let now = Instant::now();
    let candidates = ready.iter().map(|replica| Candidate::of(&replica.load, now)).collect::<Vec<_>>();
    // Without randomness the choice among equals is merely always the same.
    let replica = ready.swap_remove(balance::pick(&candidates, getrandom::u32().unwrap_or_default())?);
    let address = SocketAddr::new(replica.address?, port);
    Some((replica, address))
}

/// The origin-form target a pod gets.
pub(crate) fn target(path: &str, query: Option<&str>) -> Result<Uri, Problem> {
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    Uri::builder().path_and_query(text).build().map_err(|error| Problem::bad_request(format!("The address cannot be forwarded: {error}.")))
}

fn no_replica(key: &Key, service: &Service) -> Problem {
    let why = service.why.as_deref().map(|why| format!(" {why}")).unwrap_or_default();
    let look = format!("`kubectl describe inferenceservice {} -n {}` tells more.", key.name, key.namespace);
    let message = if service.suspended || service.phase == Phase::Suspended {
        format!(
            "{key} is suspended. Start it with: kubectl patch inferenceservice {} -n {} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'",
            key.name, key.namespace
        )
    } else if service.replicas == 0 {
        format!("{key} has no replicas. Start one with: kubectl scale inferenceservice {} -n {} --replicas 1", key.name, key.namespace)
    } else {
        format!("No replica of {key} is ready ({:?}).{why}\n{look}", service.phase)
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "NoReadyReplica", message).retry_after_s(RETRY_AFTER_S)
}

fn unreachable(key: &Key, tried: usize) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "ReplicasUnreachable",
        format!("{tried} replicas of {key} that should be ready could not be connected to. Nothing was sent, so it is safe to try again."),
    )
    .retry_after_s(1)
}

fn overloaded(key: &Key, most: usize) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "Overloaded",
        format!("{key} is busy with {most} requests already. Try again in a moment, or give it more replicas."),
    )
    .retry_after_s(1)
}

fn no_port(key: &Key, port: i32) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "BadPort", format!("spec.port of {key} is {port}, which is no port."))
}

/// A failure after (part of) the request was sent. It may have had its effect, so the
/// caller must decide whether to send it again.
fn broken(key: &Key, failure: &Failure) -> (Fault, Problem) {
    let look =
        format!("`kubectl logs -n {} -l {}={}` shows what it says.", key.namespace, fermion_api::labels::INFERENCE_SERVICE, key.name);
    match failure {
        Failure::Silent { patience, .. } => (
            Fault::Silent,
            Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "ReplicaSilent",
                format!("A replica of {key} did not begin to answer within {} s. {look}", patience.as_secs()),
            ),
        ),
        Failure::Broken { .. } | Failure::Unreachable { .. } | Failure::UnaskedUpgrade { .. } => (
            Fault::Broken,
            Problem::new(
                StatusCode::BAD_GATEWAY,
                "ReplicaBroken",
                format!("A replica of {key} broke off before it answered; the request may have had its effect. {look}"),
            ),
        ),
    }
}
