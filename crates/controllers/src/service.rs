//! Service controller: writes down the addresses of the pods behind a Service, as Endpoints of its
//! name, for clients that look there where to connect.
//!
//! A Service without a selector is left alone: its Endpoints are whoever's who wrote them.

mod decide;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt as _};

use crate::cache::Cache;
use crate::error::{Error, describe};
use crate::reconciling::Wakes;
use crate::{Options, Shutdown, owner, reconciling};

/// What Kubernetes marks the Endpoints with that its controller keeps.
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
/// Says that there are more addresses than are written down.
const OVER_CAPACITY: (&str, &str) = ("endpoints.kubernetes.io/over-capacity", "truncated");
/// Says that the Service has no address of its own.
const HEADLESS: (&str, &str) = ("service.kubernetes.io/headless", "");

/// Copies of what the controller reads.
#[derive(Clone)]
pub(crate) struct Caches {
    pub pods: Cache<Pod>,
    pub services: Cache<Service>,
    pub endpoints: Cache<Endpoints>,
}

struct Context {
    client: Client,
    caches: Caches,
    sweep: Duration,
}

/// Runs the controller until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, options: Options, shutdown: Shutdown) {
    let of_name: Wakes<Service> = reconciling::owners(&caches.endpoints, |endpoints: &Endpoints| Some(endpoints.name_any()));
    let wakes = vec![of_name, of_pods(&caches)];
    let context = Context { client: client.clone(), caches, sweep: options.sweep };
    reconciling::run("service", client, wakes, Arc::new(context), reconcile, shutdown).await;
}

/// The Services that a changed pod is behind, or was until now.
fn of_pods(caches: &Caches) -> Wakes<Service> {
    let (services, endpoints) = (caches.services.clone(), caches.endpoints.clone());
    let concerned = move |pod: &Pod| {
        let namespace = pod.namespace().unwrap_or_default();
        let now = services.within(&namespace).into_iter().filter(|service| decide::selects(service, pod)).map(|service| service.name_any());
        let until_now = endpoints.within(&namespace).into_iter().filter(|known| decide::names(known, pod)).map(|known| known.name_any());
        let names: std::collections::BTreeSet<String> = now.chain(until_now).collect();
        futures::stream::iter(names.into_iter().map(move |name| ObjectRef::new(&name).within(&namespace)))
    };
    caches.pods.changes().flat_map(move |change| concerned(&change.object)).boxed()
}

async fn reconcile(service: Arc<Service>, context: Arc<Context>) -> Result<Action, Error> {
    let again = Ok(Action::requeue(context.sweep));
    if service.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes the Endpoints along.
        return Ok(Action::await_change());
    }
    let namespace = service.namespace().ok_or_else(|| Error::Incomplete { object: describe(&*service), field: "namespace" })?;
    let pods = context.caches.pods.within(&namespace);
    let Some(decision) = decide::decide(&service, &pods) else { return again };
    let known = context.caches.endpoints.get(&namespace, &service.name_any());
    let wanted = wanted(&service, known.as_deref(), decision);
    let api: Api<Endpoints> = Api::namespaced(context.client.clone(), &namespace);
    let answer = match &known {
        Some(known) if **known == wanted => return again,
        // The resource version read goes along, so a writer in between is noticed.
        Some(known) => api.replace(&known.name_any(), &PostParams::default(), &wanted).await,
        None => api.create(&PostParams::default(), &wanted).await,
    };
    match answer {
        // Made a moment ago and not in the cache yet, or the namespace is going away.
        Err(kube::Error::Api(status)) if known.is_none() && (status.is_already_exists() || status.is_forbidden()) => again,
        // Gone meanwhile, of which the cache will tell.
        Err(kube::Error::Api(status)) if status.is_not_found() => again,
        other => other.map_err(Error::api("write", describe(&wanted))).and(again),
    }
}

/// The Endpoints as they should be. What somebody else wrote there under other names stays.
fn wanted(service: &Service, known: Option<&Endpoints>, decision: decide::Decision) -> Endpoints {
    let mut wanted = known.cloned().unwrap_or_default();
    wanted.metadata.name.clone_from(&service.metadata.name);
    wanted.metadata.namespace.clone_from(&service.metadata.namespace);
    wanted.metadata.owner_references = owner::references(service);
    let mut labels: BTreeMap<String, String> = service.labels().clone();
    labels.extend(decide::is_headless(service).then(|| owned(HEADLESS)));
    labels.extend([owned(MANAGED_BY)]);
    wanted.metadata.labels = Some(labels);
    let mut annotations = wanted.metadata.annotations.take().unwrap_or_default();
    annotations.remove(OVER_CAPACITY.0);
    annotations.extend(decision.is_truncated.then(|| owned(OVER_CAPACITY)));
    wanted.metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    wanted.subsets = Some(decision.subsets).filter(|subsets| !subsets.is_empty());
    wanted
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
