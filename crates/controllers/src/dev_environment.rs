//! DevEnvironment controller: one pod to work in, its home volume, and the token by which the
//! platform's proxy signs in to its apps.

mod decide;
mod render;

use std::sync::Arc;
use std::time::Duration;

use fermion_api::ai::dev_environment::{AppKind, apps_secret_name};
use fermion_api::ai::workload::WorkloadSpec;
use fermion_api::ai::{DevEnvironment, Workload};
use fermion_api::{labels, quantity};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::cache::Cache;
use crate::error::{Error, describe};
use crate::events::Recorder;
use crate::{Caches, Options, Shutdown, children, owner, reconciling, status, workload};

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

struct Context {
    client: Client,
    pods: Cache<Pod>,
    workloads: Cache<Workload>,
    recorder: Recorder,
    sweep: Duration,
}

/// Runs the controller until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, options: Options, shutdown: Shutdown) {
    let wakes = vec![
        reconciling::owners(&caches.workloads, owner::controller::<DevEnvironment>),
        reconciling::owners(&caches.pods, |pod: &Pod| pod.labels().get(labels::DEV_ENVIRONMENT).cloned()),
    ];
    let context = Context {
        recorder: Recorder::new(client.clone(), "dev-environment-controller"),
        client: client.clone(),
        pods: caches.pods,
        workloads: caches.workloads,
        sweep: options.sweep,
    };
    reconciling::run("dev-environment", client, wakes, Arc::new(context), reconcile, shutdown).await;
}

async fn reconcile(environment: Arc<DevEnvironment>, context: Arc<Context>) -> Result<Action, Error> {
    if environment.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = environment.namespace().ok_or_else(|| Error::Incomplete { object: describe(&*environment), field: "namespace" })?;
    let existing = context.workloads.get(&namespace, &environment.name_any());
    let ours = existing.as_deref().filter(|workload| owner::is_controlled_by(*workload, &*environment));
    let pods = ours.map(|workload| workload::members(&context.pods, workload)).unwrap_or_default();
    let decision = decide::decide(&decide::Seen { environment: &environment, workload: ours, pods: &pods, now: Timestamp::now() });

    if !environment.spec.suspend {
        // Before the pod: it waits for both.
        keep_home(&context.client, &environment).await?;
        keep_tokens(&context.client, &environment).await?;
    }
    let environments: Api<DevEnvironment> = Api::namespaced(context.client.clone(), &namespace);
    if status::write(&environments, &*environment, environment.status.as_ref(), &decision.status).await? {
        context.recorder.tell(&*environment, &decision.notices).await;
    }
    if decision.stop {
        // Somebody may have begun to use it in this very moment; then it has to be started again.
        let body = json!({"metadata": {"uid": environment.metadata.uid}, "spec": {"suspend": true}});
        let answer = environments.patch(&environment.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
        answer.map_err(Error::api("stop", describe(&*environment)))?;
        return Ok(Action::requeue(context.sweep));
    }
    let child = child(&environment, decision.workload, decision.rendered);
    children::keep(&context.client, &*environment, existing.as_deref(), child).await?;
    let until = |at: Timestamp| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
    Ok(Action::requeue(decision.look_again_at.map_or(context.sweep, until).min(context.sweep)))
}

/// The Workload of an environment, whose pod set may have been made anew.
fn child(environment: &DevEnvironment, spec: WorkloadSpec, rendered: bool) -> children::Child {
    let generation = environment.metadata.generation.unwrap_or_default().to_string();
    children::Child {
        name: environment.name_any(),
        labels: [(labels::DEV_ENVIRONMENT.to_owned(), environment.name_any())].into(),
        annotations: rendered.then(|| [(labels::RENDERED_GENERATION.to_owned(), generation)].into()),
        annotations_removed: Vec::new(),
        spec,
    }
}

/// The Workload that is made of an environment that is new.
pub(crate) fn first_workload(environment: &DevEnvironment, now: Timestamp) -> Workload {
    let decision = decide::decide(&decide::Seen { environment, workload: None, pods: &[], now });
    children::new(environment, child(environment, decision.workload, decision.rendered))
}

/// Makes the home volume's claim, or asks for more room in it. It is never made smaller.
async fn keep_home(client: &Client, environment: &DevEnvironment) -> Result<(), Error> {
    let Some(claim) = render::home_claim(environment) else { return Ok(()) };
    let name = claim.name_any();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &environment.namespace().unwrap_or_default());
    let Some(existing) = api.get_opt(&name).await.map_err(Error::api("read", describe(&claim)))? else {
        let answer = api.create(&PostParams::default(), &claim).await;
        return answer.map(drop).map_err(Error::api("create", describe(&claim)));
    };
    if !owner::is_controlled_by(&existing, environment) {
        return Err(Error::NameTaken { object: describe(&existing), wanted_by: describe(environment) });
    }
    let size = |claim: &PersistentVolumeClaim| {
        let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
        Some(quantity::milli(requests.get("storage")?))
    };
    if size(&existing) >= size(&claim) {
        return Ok(());
    }
    let body = json!({"spec": {"resources": claim.spec.map(|spec| spec.resources)}});
    let answer = api.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await;
    answer.map(drop).map_err(Error::api("enlarge", describe(&existing)))
}

/// Makes a token for every app that has one of its own, where it is missing.
async fn keep_tokens(client: &Client, environment: &DevEnvironment) -> Result<(), Error> {
    let apps: Vec<&str> = environment.spec.apps.iter().filter(|app| app.kind == AppKind::Jupyter).map(|app| app.name.as_str()).collect();
    if apps.is_empty() {
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &environment.namespace().unwrap_or_default());
    let name = apps_secret_name(&environment.name_any());
    let object = format!("Secret {}/{name}", environment.namespace().unwrap_or_default());
    let existing = api.get_opt(&name).await.map_err(Error::api("read", &object))?;
    if let Some(existing) = &existing
        && !owner::is_controlled_by(existing, environment)
    {
        return Err(Error::NameTaken { object, wanted_by: describe(environment) });
    }
    let mut data = existing.as_ref().and_then(|secret| secret.data.clone()).unwrap_or_default();
    let missing: Vec<&str> = apps.into_iter().filter(|app| !data.contains_key(*app)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for app in missing {
        data.insert(app.to_owned(), token(environment)?);
    }
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: environment.namespace(),
            owner_references: owner::references(environment),
            resource_version: existing.as_ref().and_then(kube::ResourceExt::resource_version),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let answer = match existing {
        None => api.create(&PostParams::default(), &secret).await,
        Some(_) => api.replace(&name, &PostParams::default(), &secret).await,
    };
    answer.map(drop).map_err(Error::api("write", object))
}

/// A new token, in hexadecimal digits.
fn token(environment: &DevEnvironment) -> Result<ByteString, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|source| Error::Random { object: describe(environment), source })?;
    Ok(ByteString(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()))
}
