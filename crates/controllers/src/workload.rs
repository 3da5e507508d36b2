//! Workload controller: keeps the pods that a Workload asks for.
//!
//! It makes pods without a node under names that follow from the Workload, so that making
//! them twice is refused; the scheduler gives them their nodes. It never restarts a job by
//! itself: a pod of an older attempt goes when the owner raises `spec.attempt`.

mod decide;
pub(crate) use self::decide::EVICTED;
pub(crate) mod pods;

use std::sync::Arc;
use std::time::Duration;

use fermion_api::ai::Workload;
use fermion_api::compute::AcceleratorModel;
use fermion_api::{conditions, labels, reason};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt as _};

use crate::cache::Cache;
use crate::error::{Error, describe};
use crate::events::{Notice, Recorder};
use crate::{Caches, Options, Shutdown, owner, reconciling, status};

/// How many pods of one Workload are made or deleted at the same time.
const REQUESTS_AT_ONCE: usize = 64;

/// How long pods that were made may take to be seen before a Workload is looked at again anyway.
const MADE_SEEN_AFTER: Duration = Duration::from_secs(1);

struct Context {
    client: Client,
    pods: Cache<Pod>,
    models: Cache<AcceleratorModel>,
    recorder: Recorder,
    sweep: Duration,
}

/// Runs the controller until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, options: Options, shutdown: Shutdown) {
    let context = Context {
        client: client.clone(),
        pods: caches.pods.clone(),
        models: caches.models.clone(),
        recorder: Recorder::new(client.clone(), "workload-controller"),
        sweep: options.sweep,
    };
    let wakes = vec![reconciling::owners(&caches.pods, workload_of)];
    reconciling::run("workload", client, wakes, Arc::new(context), reconcile, shutdown).await;
}

/// The Workload that a pod belongs to by its label.
pub(crate) fn workload_of(pod: &Pod) -> Option<String> {
    pod.labels().get(labels::WORKLOAD).cloned()
}

/// Whether the pod was made for exactly this Workload and not for a namesake before it.
pub(crate) fn is_member(pod: &Pod, workload: &Workload) -> bool {
    owner::is_controlled_by(pod, workload)
}

/// The pods of a Workload, as the cache has them.
pub(crate) fn members(pods: &Cache<Pod>, workload: &Workload) -> Vec<Arc<Pod>> {
    let mut members = pods.group(&workload.namespace().unwrap_or_default(), &workload.name_any());
    members.retain(|pod| is_member(pod, workload));
    members
}

async fn reconcile(workload: Arc<Workload>, context: Arc<Context>) -> Result<Action, Error> {
    if workload.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes the pods along.
        return Ok(Action::await_change());
    }
    let namespace = workload.namespace().ok_or_else(|| Error::Incomplete { object: describe(&*workload), field: "namespace" })?;
    let members = members(&context.pods, &workload);
    let taken = |name: &str| context.pods.get(&namespace, name).is_some_and(|pod| !is_member(&pod, &workload));
    let now = Timestamp::now();
    let models = |name: &str| context.models.get("", name);
    let mut decision = decide::decide(&decide::Seen { workload: &workload, pods: &members, taken: &taken, models: &models, now });

    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let refused = create(&pods, &decision.create).await?;
    if let Some(message) = &refused {
        let generation = workload.metadata.generation;
        conditions::set(&mut decision.status.conditions, decide::MEMBERS_MADE, false, reason::REFUSED, message, generation, now);
        decision.notices.push(Notice::warning(reason::REFUSED, message));
    }
    if refused.is_none() && is_only_a_beginning(&workload, &decision) {
        return Ok(Action::requeue(MADE_SEEN_AFTER));
    }
    let workloads: Api<Workload> = Api::namespaced(context.client.clone(), &namespace);
    let written = status::write(&workloads, &*workload, workload.status.as_ref(), &decision.status).await?;
    // Only now: what was counted (replaced pods) must be kept before it takes effect.
    delete(&pods, &decision.delete).await?;
    if written {
        context.recorder.tell(&*workload, &decision.notices).await;
    }

    let until = |at: Timestamp| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
    Ok(Action::requeue(decision.look_again_at.map_or(context.sweep, until).min(context.sweep)))
}

/// Whether pods were made and nothing else is news: they are seen in a moment, and what is written then
/// counts them too.
fn is_only_a_beginning(workload: &Workload, decision: &decide::Decision) -> bool {
    let before = workload.status.clone().unwrap_or_default();
    let same = before.phase == decision.status.phase && before.observed_attempt == decision.status.observed_attempt;
    !decision.create.is_empty() && decision.delete.is_empty() && decision.notices.is_empty() && same
}

/// Makes pods; those that exist by now are fine. Answers why one was refused, if the request
/// itself is wrong, so that trying at once again would not help.
async fn create(api: &Api<Pod>, pods: &[Pod]) -> Result<Option<String>, Error> {
    let make = |pod: Pod| async move {
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(kube::Error::Api(status)) if status.is_invalid() || status.is_forbidden() || status.code == 400 => {
                Ok(Some(format!("cannot make pod {}: {}", pod.name_any(), status.message)))
            }
            Err(error) => Err(Error::api("create", describe(&pod))(error)),
        }
    };
    futures::stream::iter(pods.to_vec())
        .map(make)
        .buffered(REQUESTS_AT_ONCE)
        .try_fold(None, |first, refused| async move { Ok(first.or(refused)) })
        .await
}

/// Deletes exactly these pods; those that are gone are fine.
async fn delete(api: &Api<Pod>, pods: &[Arc<Pod>]) -> Result<(), Error> {
    let remove = |pod: Arc<Pod>| async move { remove(api, &pod).await.map_err(Error::api("delete", describe(&*pod))) };
    futures::stream::iter(pods.to_vec()).map(remove).buffer_unordered(REQUESTS_AT_ONCE).try_collect().await
}

/// Deletes exactly this pod; one that is gone is fine, and so is a new one of its name.
pub(crate) async fn remove(api: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match api.delete(&pod.name_any(), &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}
