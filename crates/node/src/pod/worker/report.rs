//! Writing the pod's status and telling of restarts.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState as ContainerStateField, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::time::Instant;

use super::Worker;
use crate::events::Severity;
use crate::pod::decide::Next;
use crate::pod::state::containers;
use crate::pod::status::status;

impl Worker {
    /// Computes the status and writes it if the API has another.
    pub(super) fn report(&mut self, now: Timestamp) {
        if self.facts.gone {
            return;
        }
        let status = status(&self.input(now), &self.shared.address);
        if self.pod.status.as_ref() != Some(&status) {
            self.pod.status = Some(status.clone());
            self.shared.pods.update(&Arc::new(self.pod.clone()));
        }
        // Before the API hears of the end: the scheduler may then give the room away at once.
        if fermion_api::pod::ended(&self.pod) {
            self.shared.pods.release(&self.identity.uid);
        }
        let known = self.acknowledged.as_ref() == Some(&status);
        if known || !self.writes.is_empty() || Instant::now() < self.write_not_before {
            return;
        }
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.identity.namespace);
        let (name, uid) = (self.identity.name.clone(), self.identity.uid.clone());
        self.writes.spawn(async move {
            let patch = status_patch(&uid, &status);
            let result = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            (status, result.map(drop))
        });
    }

    pub(super) fn written(&mut self, done: Result<(PodStatus, Result<(), kube::Error>), tokio::task::JoinError>) {
        match done {
            Ok((status, Ok(()))) => {
                self.acknowledged = Some(status);
                self.write_failures = 0;
            }
            Ok((_, Err(kube::Error::Api(status)))) if status.code == 404 || status.code == 409 => {
                // No such pod, or another one of that name: ours is gone.
                self.facts.gone = true;
            }
            Ok((_, Err(error))) => self.write_failed(&error),
            Err(error) => self.write_failed(&error),
        }
    }

    pub(super) fn write_failed(&mut self, error: &dyn std::fmt::Display) {
        self.write_failures += 1;
        tracing::warn!(pod = self.identity.name, %error, "cannot write the pod's status; trying again");
        self.write_not_before = Instant::now() + self.shared.limits.retry.delay(self.write_failures);
    }

    pub(super) fn announce_back_off(&mut self, now: Timestamp) {
        let input = self.input(now);
        let delayed: Vec<(String, u32)> = containers(&self.spec)
            .filter(|(role, container)| matches!(input.next(*role, container), Next::BackOff { .. }))
            .filter_map(|(_, container)| Some((container.name.clone(), self.observed.container(&container.name)?.attempt)))
            .collect();
        if input.ended().is_some() {
            return;
        }
        for (name, attempt) in delayed {
            if self.back_off_announced.insert((name.clone(), attempt)) {
                let message = format!("Back-off restarting failed container {name}");
                self.event(Some(&name), Severity::Warning, "BackOff", message);
            }
        }
    }
}

/// Writes when a container started and ended as exactly as the runtime told it: usage is counted
/// from these times, and the usual form of a Time drops fractions of a second.
fn exact_times(fields: &mut serde_json::Value, state: Option<&ContainerStateField>) {
    let Some(state) = state else { return };
    let mut write = |kind: &str, field: &str, time: Option<&Time>| {
        if let Some(Time(time)) = time {
            fields[kind][field] = time.to_string().into();
        }
    };
    if let Some(running) = &state.running {
        write("running", "startedAt", running.started_at.as_ref());
    }
    if let Some(terminated) = &state.terminated {
        write("terminated", "startedAt", terminated.started_at.as_ref());
        write("terminated", "finishedAt", terminated.finished_at.as_ref());
    }
}

/// The merge patch that makes the stored status this one: fields that went are named as null.
fn status_patch(uid: &str, status: &PodStatus) -> serde_json::Value {
    let mut fields = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = fields.as_object_mut() {
        for name in ["message", "reason", "podIP", "podIPs", "initContainerStatuses", "containerStatuses"] {
            fields.entry(name).or_insert(serde_json::Value::Null);
        }
    }
    let lists = [("initContainerStatuses", &status.init_container_statuses), ("containerStatuses", &status.container_statuses)];
    for (list, containers) in lists {
        for (index, container) in containers.iter().flatten().enumerate() {
            exact_times(&mut fields[list][index]["state"], container.state.as_ref());
            exact_times(&mut fields[list][index]["lastState"], container.last_state.as_ref());
        }
    }
    serde_json::json!({ "metadata": { "uid": uid }, "status": fields })
}
