//! InferenceService controller: one Workload per revision, replaced pod by pod so that no
//! request fails.
//!
//! Scaling (`kubectl scale`) changes `spec.replicas` and nothing else. A replica that leaves
//! stops being ready for the gateway at the moment its deletion is asked for, serves on for
//! two seconds (a `preStop` sleep), and then has its grace period to finish what it was asked.

mod decide;
mod render;
mod rollout;

use std::sync::Arc;
use std::time::Duration;

use fermion_api::ai::workload::WorkloadSpec;
use fermion_api::ai::{InferenceService, Workload};
use fermion_api::labels;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt as _};

use self::decide::{Revision, until};
use crate::cache::Cache;
use crate::error::{Error, describe};
use crate::events::Recorder;
use crate::{Caches, Options, Shutdown, children, owner, reconciling, status, workload};

struct Context {
    client: Client,
    pods: Cache<Pod>,
    workloads: Cache<Workload>,
    recorder: Recorder,
    sweep: Duration,
}

/// The InferenceService that a Workload serves by its label; the cache groups by it.
pub(crate) fn service_of(workload: &Workload) -> Option<String> {
    workload.labels().get(labels::INFERENCE_SERVICE).cloned()
}

/// Runs the controller until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, options: Options, shutdown: Shutdown) {
    let wakes = vec![
        reconciling::owners(&caches.workloads, service_of),
        reconciling::owners(&caches.pods, |pod: &Pod| pod.labels().get(labels::INFERENCE_SERVICE).cloned()),
    ];
    let context = Context {
        recorder: Recorder::new(client.clone(), "inference-service-controller"),
        client: client.clone(),
        pods: caches.pods,
        workloads: caches.workloads,
        sweep: options.sweep,
    };
    reconciling::run("inference-service", client, wakes, Arc::new(context), reconcile, shutdown).await;
}

async fn reconcile(service: Arc<InferenceService>, context: Arc<Context>) -> Result<Action, Error> {
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = service.namespace().ok_or_else(|| Error::Incomplete { object: describe(&*service), field: "namespace" })?;
    let workloads = context.workloads.group(&namespace, &service.name_any());
    let ours = workloads.into_iter().filter(|workload| owner::is_controlled_by(&**workload, &*service));
    let revisions: Vec<Revision> = ours.map(|workload| Revision { pods: workload::members(&context.pods, &workload), workload }).collect();
    let decision = decide::decide(&decide::Seen { service: &service, revisions: &revisions, now: Timestamp::now() });

    let services: Api<InferenceService> = Api::namespaced(context.client.clone(), &namespace);
    if status::write(&services, &*service, service.status.as_ref(), &decision.status).await? {
        context.recorder.tell(&*service, &decision.notices).await;
    }
    let existing = context.workloads.get(&namespace, &decision.name);
    let revision = decision.status.revision.clone().unwrap_or_default();
    let child = child(&service, revision, decision.name, decision.workload, existing.is_none());
    children::keep(&context.client, &*service, existing.as_deref(), child).await?;
    for (old, spec) in decision.shrink {
        let child =
            children::Child { name: old.name_any(), labels: Default::default(), annotations: None, annotations_removed: Vec::new(), spec };
        children::keep(&context.client, &*service, Some(&old), child).await?;
    }
    let api: Api<Workload> = Api::namespaced(context.client.clone(), &namespace);
    for old in decision.delete {
        let preconditions = Preconditions { uid: old.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match api.delete(&old.name_any(), &parameters).await {
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            other => other.map(drop).map_err(Error::api("delete", describe(&*old)))?,
        }
    }
    let wait = decision.look_again_at.map_or(context.sweep, |at| until(at, Timestamp::now()));
    Ok(Action::requeue(wait.min(context.sweep)))
}

/// The Workload of the present revision.
fn child(service: &InferenceService, revision: String, name: String, spec: WorkloadSpec, is_new: bool) -> children::Child {
    children::Child {
        labels: [(labels::INFERENCE_SERVICE.to_owned(), service.name_any()), (labels::REVISION.to_owned(), revision)].into(),
        annotations: is_new.then(Default::default),
        annotations_removed: Vec::new(),
        name,
        spec,
    }
}

/// The Workload that is made of a service that is new.
pub(crate) fn first_workload(service: &InferenceService, now: Timestamp) -> Workload {
    let decision = decide::decide(&decide::Seen { service, revisions: &[], now });
    let revision = decision.status.revision.unwrap_or_default();
    children::new(service, child(service, revision, decision.name, decision.workload, true))
}
