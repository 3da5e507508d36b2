//! TrainingJob controller: turns a job into a Workload, starts it over when a failure is worth
//! it, and ends it by its own rules.

mod decide;
mod metrics;
mod outcome;
mod render;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fermion_api::ai::training_job::Phase;
use fermion_api::ai::workload::WorkloadSpec;
use fermion_api::ai::{TrainingJob, Workload};
use fermion_api::labels;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::error::{Error, chain, describe};
use crate::events::Recorder;
use crate::{Caches, Options, Shutdown, children, owner, reconciling, status, workload};

struct Context {
    client: Client,
    pods: Cache<Pod>,
    workloads: Cache<Workload>,
    recorder: Recorder,
    sweep: Duration,
    metrics_interval: Duration,
    /// When the metrics of a job were last read, by uid. Jobs that ended are taken out.
    metrics_read: Mutex<HashMap<String, Instant>>,
}

/// Runs the controller until shutdown.
pub(crate) async fn run(client: Client, caches: Caches, options: Options, shutdown: Shutdown) {
    let wakes = vec![
        reconciling::owners(&caches.workloads, owner::controller::<TrainingJob>),
        reconciling::owners(&caches.pods, |pod: &Pod| pod.labels().get(labels::TRAINING_JOB).cloned()),
    ];
    let context = Context {
        recorder: Recorder::new(client.clone(), "training-job-controller"),
        client: client.clone(),
        pods: caches.pods,
        workloads: caches.workloads,
        sweep: options.sweep,
        metrics_interval: options.metrics_interval,
        metrics_read: Mutex::new(HashMap::new()),
    };
    reconciling::run("training-job", client, wakes, Arc::new(context), reconcile, shutdown).await;
}

async fn reconcile(job: Arc<TrainingJob>, context: Arc<Context>) -> Result<Action, Error> {
    let (Some(namespace), Some(uid)) = (job.namespace(), job.metadata.uid.clone()) else {
        return Err(Error::Incomplete { object: describe(&*job), field: "namespace and uid" });
    };
    if job.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes the Workload along.
        context.forget_metrics(&uid);
        return Ok(Action::await_change());
    }
    let existing = context.workloads.get(&namespace, &job.name_any());
    let ours = existing.as_deref().filter(|workload| owner::is_controlled_by(*workload, &*job));
    let pods = ours.map(|workload| workload::members(&context.pods, workload)).unwrap_or_default();
    let mut decision = decide::decide(&decide::Seen { job: &job, workload: ours, pods: &pods, now: Timestamp::now() });

    let before = job.status.as_ref().map(|status| status.phase).unwrap_or_default();
    let after = decision.status.phase;
    if context.metrics_due(&job, &uid, before, after) {
        // Numbers are good to have; the job goes on without them.
        match metrics::read(&context.client, &job).await {
            Ok(lines) => metrics::merge(&mut decision.status, lines.unwrap_or_default()),
            Err(error) => tracing::warn!(job = describe(&*job), error = chain(&error), "cannot read metrics"),
        }
    }
    if after.is_final() {
        context.forget_metrics(&uid);
    }

    let jobs: Api<TrainingJob> = Api::namespaced(context.client.clone(), &namespace);
    let write_status = async {
        if status::write(&jobs, &*job, job.status.as_ref(), &decision.status).await? {
            context.recorder.tell(&*job, &decision.notices).await;
        }
        Ok::<_, Error>(())
    };
    if decision.delete_job {
        write_status.await?;
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        return match jobs.delete(&job.name_any(), &parameters).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::await_change()),
            other => other.map(|_| Action::await_change()).map_err(Error::api("delete", describe(&*job))),
        };
    }
    let child = child(&job, decision.workload, decision.rendered);
    match &existing {
        // Nothing to run, and nothing to stop.
        None if after.is_final() => write_status.await?,
        // What is made first cannot be decided differently later, so it need not wait.
        None => {
            children::keep(&context.client, &*job, None, child).await?;
            write_status.await?;
        }
        // A new attempt must be counted before its pods are made.
        Some(existing) => {
            write_status.await?;
            children::keep(&context.client, &*job, Some(existing), child).await?;
        }
    }

    let mut wait = context.sweep;
    if let Some(at) = decision.look_again_at {
        wait = wait.min(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO));
    }
    if after == Phase::Running && job.spec.metrics.is_some() {
        wait = wait.min(context.metrics_interval);
    }
    Ok(Action::requeue(wait))
}

/// The Workload of a job, whose pod sets may have been made anew.
fn child(job: &TrainingJob, spec: WorkloadSpec, rendered: bool) -> children::Child {
    children::Child {
        name: job.name_any(),
        labels: [(labels::TRAINING_JOB.to_owned(), job.name_any())].into(),
        annotations: rendered.then(|| render::annotations(job)),
        annotations_removed: if rendered { vec![labels::ENTRY_POINT] } else { Vec::new() },
        spec,
    }
}

/// The Workload that is made of a job that is new.
pub(crate) fn first_workload(job: &TrainingJob, now: Timestamp) -> Workload {
    let decision = decide::decide(&decide::Seen { job, workload: None, pods: &[], now });
    children::new(job, child(job, decision.workload, decision.rendered))
}

impl Context {
    /// Whether metrics are to be read now: every so often while the job runs, and once more
    /// when an attempt ends.
    fn metrics_due(&self, job: &TrainingJob, uid: &str, before: Phase, after: Phase) -> bool {
        if job.spec.metrics.is_none() {
            return false;
        }
        let ends = before != after && (after.is_final() || matches!(after, Phase::Restarting | Phase::Suspended));
        if !ends && after != Phase::Running {
            return false;
        }
        let mut read = self.metrics_read.lock().expect("no thread panics while it holds this lock");
        let fresh = read.get(uid).is_some_and(|at| at.elapsed() < self.metrics_interval);
        if fresh && !ends {
            return false;
        }
        read.insert(uid.to_owned(), Instant::now());
        true
    }

    fn forget_metrics(&self, uid: &str) {
        self.metrics_read.lock().expect("no thread panics while it holds this lock").remove(uid);
    }
}
