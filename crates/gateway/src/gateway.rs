//! The gateway itself: what its routes share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::any;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use k8s_openapi::api::authentication::v1::UserInfo;
use kube::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::{Access, Resource, Token};
use crate::activity::Activity;
use crate::apps::Secrets;
use crate::directory::Directory;
use crate::forward::Patience;
use crate::metrics::{Gauges, Metrics};
use crate::problem::{Form, Problem};
use crate::session::Sessions;
use crate::{apps, services};

/// How often an open WebSocket asks whether it is still allowed.
const PERMISSION_INTERVAL: Duration = Duration::from_secs(30);

/// What can be set. The defaults suit a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether browsers reach the gateway over TLS. Cookies are then sent over TLS only.
    pub https: bool,
    /// Longest time to connect to a pod.
    pub connect_timeout: Duration,
    /// Longest time from the end of a request to an app to the head of its answer.
    pub app_answer_timeout: Duration,
    /// The same for services: a model may think long before it answers at once.
    pub service_answer_timeout: Duration,
    /// Most requests and WebSockets at once, all together.
    pub requests_max: usize,
    /// Most requests and WebSockets at once to one service, or to one environment.
    pub requests_per_target_max: usize,
    /// How long the API's answer to who somebody is and what they may do is used again. A
    /// revoked token or permission works at most this long.
    pub access_lifetime: Duration,
    /// Accept pods on loopback addresses. Only for tests: no real pod has one, and what
    /// listens on a server's loopback trusts whoever reaches it.
    pub loopback_pods: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            https: false,
            connect_timeout: Duration::from_secs(2),
            app_answer_timeout: Duration::from_mins(2),
            service_answer_timeout: Duration::from_mins(10),
            requests_max: 8192,
            requests_per_target_max: 1024,
            access_lifetime: Duration::from_secs(5),
            loopback_pods: false,
        }
    }
}

/// People's way into pods. Cheap to clone; its watches end with the last clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) client: Client,
    pub(crate) access: Access,
    pub(crate) directory: Directory,
    pub(crate) activity: Activity,
    pub(crate) metrics: Metrics,
    pub(crate) secrets: Secrets,
    sessions: Mutex<Sessions>,
    slots: Arc<Semaphore>,
}

impl Gateway {
    /// Starts to watch environments, services and their pods. Must be called in a tokio
    /// runtime.
    ///
    /// The client needs: create tokenreviews and subjectaccessreviews; list and watch pods,
    /// devenvironments, inferenceservices; get secrets; patch devenvironments/status; and for
    /// terminals pods/exec, over a transport that can upgrade.
    pub fn new(client: Client, options: Options) -> Self {
        Self(Arc::new(Inner {
            access: Access::new(client.clone(), options.access_lifetime),
            directory: Directory::watch(&client, options.loopback_pods),
            activity: Activity::new(client.clone()),
            metrics: Metrics::default(),
            secrets: Secrets::new(client.clone()),
            sessions: Mutex::new(Sessions::new()),
            slots: Arc::new(Semaphore::new(options.requests_max)),
            client,
            options,
        }))
    }

    /// Routes under `/apps/` and `/services/`, to be merged beside others. Serve them with
    /// `into_make_service_with_connect_info::<SocketAddr>()`, or pods are not told the
    /// caller's address.
    pub fn router(&self) -> Router {
        Router::new().route("/apps/{*path}", any(app)).route("/services/{*path}", any(service)).with_state(Arc::clone(&self.0))
    }

    /// Waits until the state of the platform is known. Before that, requests are answered
    /// 503.
    pub async fn synced(&self) {
        self.0.directory.synced().await;
    }

    /// Counters in the Prometheus text format, version 0.0.4.
    pub fn metrics_text(&self) -> String {
        let inner = &self.0;
        let gauges = Gauges {
            in_flight: inner.options.requests_max.saturating_sub(inner.slots.available_permits()),
            sessions: inner.sessions().len(),
        };
        inner.metrics.text(gauges, |key| inner.directory.services.get(key).is_some())
    }
}

async fn app(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let form = Form::wanted(request.headers());
    apps::serve(&inner, request).await.unwrap_or_else(|problem| problem.into_response(form))
}

async fn service(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let form = Form::wanted(request.headers());
    services::serve(&inner, request).await.unwrap_or_else(|problem| problem.into_response(form))
}

impl Inner {
    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // Each change of it is a single call that leaves it whole.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn patience(&self, answer: Duration) -> Patience {
        Patience { connect: self.options.connect_timeout, answer }
    }

    /// A place for one request; it is free again when the permit is dropped.
    ///
    /// # Errors
    /// 503 when all are taken.
    pub(crate) fn slot(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Overloaded",
                format!("The gateway is busy with {} requests already. Try again in a moment.", self.options.requests_max),
            )
            .retry_after_s(1)
        })
    }

    /// # Errors
    /// 503 until everything was listed once: an object not seen yet may well exist.
    pub(crate) fn check_synced(&self) -> Result<(), Problem> {
        if self.directory.is_synced() {
            return Ok(());
        }
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "GatewayStarting", "The gateway is starting. Try again in a moment.")
            .retry_after_s(1))
    }

    /// Completes when the person may no longer use the resource. An API that does not answer
    /// withdraws nothing.
    pub(crate) fn withdrawn(self: &Arc<Self>, token: Token, resource: Resource) -> BoxFuture<'static, ()> {
        let inner = Arc::downgrade(self);
        async move {
            loop {
                tokio::time::sleep(PERMISSION_INTERVAL).await;
                // A gateway that is gone has nobody left to ask.
                let Some(inner) = inner.upgrade() else { return };
                let person: Option<Arc<UserInfo>> = match inner.access.authenticate(&token).await {
                    Ok(person) => person,
                    Err(_) => continue,
                };
                let Some(person) = person else { return };
                if let Err(problem) = inner.access.authorise(&person, &resource).await
                    && problem.status == StatusCode::FORBIDDEN
                {
                    return;
                }
            }
        }
        .boxed()
    }
}
