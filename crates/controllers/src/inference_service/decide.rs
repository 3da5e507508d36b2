//! What an InferenceService's status and Workloads should be next: a pure function of what is
//! seen.

use std::sync::Arc;
use std::time::Duration;

use fermion_api::ai::inference_service::{Event, InferenceServiceStatus, PROGRESS_DEADLINE_DEFAULT, Phase, endpoint_path};
use fermion_api::ai::scheduling::EnvironmentKind;
use fermion_api::ai::workload::{EndedPods, WorkloadSpec};
use fermion_api::ai::{InferenceService, Workload};
use fermion_api::{conditions, duration, labels, pod, reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::render;
use super::rollout::{self, Pods};
use crate::events::Notice;
use crate::trouble;
use crate::workload::pods;

const READY: &str = "Ready";

/// A revision: its Workload and that one's pods, those that leave included.
pub(super) struct Revision {
    pub workload: Arc<Workload>,
    pub pods: Vec<Arc<Pod>>,
}

/// What is seen of an InferenceService.
pub(super) struct Seen<'a> {
    pub service: &'a InferenceService,
    /// Every revision there is, in any order.
    pub revisions: &'a [Revision],
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug)]
pub(super) struct Decision {
    pub status: InferenceServiceStatus,
    /// Name of the present revision's Workload.
    pub name: String,
    /// What that Workload should ask for.
    pub workload: WorkloadSpec,
    /// Workloads of old revisions and what they should ask for.
    pub shrink: Vec<(Arc<Workload>, WorkloadSpec)>,
    /// Workloads of old revisions that are through.
    pub delete: Vec<Arc<Workload>>,
    pub notices: Vec<Notice>,
    pub look_again_at: Option<Timestamp>,
}

/// Decides; see [`Decision`].
pub(super) fn decide(seen: &Seen<'_>) -> Decision {
    let service = seen.service;
    let spec = &service.spec;
    let hash = render::revision(service);
    let name = format!("{}-{hash}", service.name_any());
    let (new, mut old): (Vec<&Revision>, Vec<&Revision>) = seen.revisions.iter().partition(|revision| revision.workload.name_any() == name);
    let new = new.into_iter().next();
    old.sort_by_key(|revision| (revision.workload.metadata.creation_timestamp.as_ref().map(|time| time.0), revision.workload.name_any()));

    let wanted = spec.replicas.max(0);
    let old_pods: Vec<Pods> = old.iter().map(|revision| sight(revision)).collect();
    let sizes = rollout::step(wanted, &new.map_or(Pods { replicas: 0, ready: Vec::new() }, sight), &old_pods);
    let set = new.and_then(|revision| revision.workload.spec.pod_sets.first().cloned());
    let set = set.map_or_else(|| render::pod_set(service, sizes.new), |set| render::sized(set, sizes.new));
    let workload = WorkloadSpec {
        queue: spec.queue.clone(),
        priority: spec.priority,
        suspend: spec.suspend,
        pod_sets: vec![set],
        attempt: new.map_or(0, |revision| revision.workload.spec.attempt),
        ended_pods: EndedPods::Replace,
        environment: EnvironmentKind::Inference,
        max_duration: None,
        owner_max_duration: None,
        scheduling: spec.scheduling.clone(),
        closed: None,
    };
    let mut shrink = Vec::new();
    let mut delete = Vec::new();
    for (revision, size) in old.iter().zip(sizes.old) {
        let through = spec.suspend || (size == 0 && revision.pods.is_empty());
        if through {
            delete.push(Arc::clone(&revision.workload));
        } else {
            let mut smaller = revision.workload.spec.clone();
            smaller.pod_sets = smaller.pod_sets.into_iter().map(|set| render::sized(set, size)).collect();
            shrink.push((Arc::clone(&revision.workload), smaller));
        }
    }
    delete.retain(|workload| workload.metadata.deletion_timestamp.is_none());

    let (status, notices, look_again_at) = Observation { seen, hash: &hash, new, old: &old, wanted }.status();
    Decision { status, name, workload, shrink, delete, notices, look_again_at }
}

/// Size and ready pods of a revision.
fn sight(revision: &Revision) -> Pods {
    let spec = &revision.workload.spec;
    let ready = revision.pods.iter().filter(|pod| pod::ready(pod)).filter_map(|pod| pods::place(pod).map(|(_, index)| index));
    Pods { replicas: spec.pod_sets.first().map_or(0, |set| set.replicas), ready: ready.collect() }
}

struct Observation<'a> {
    seen: &'a Seen<'a>,
    hash: &'a str,
    new: Option<&'a Revision>,
    old: &'a [&'a Revision],
    wanted: i32,
}

impl Observation<'_> {
    fn status(&self) -> (InferenceServiceStatus, Vec<Notice>, Option<Timestamp>) {
        let service = self.seen.service;
        let mut status = service.status.clone().unwrap_or_default();
        let before = status.phase;
        let mut notices = Vec::new();

        let number = |pods: &mut dyn Iterator<Item = &Arc<Pod>>| i32::try_from(pods.count()).unwrap_or(i32::MAX);
        let stays = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_none();
        let new_pods = || self.new.into_iter().flat_map(|revision| &revision.pods).filter(stays);
        let old_pods = || self.old.iter().flat_map(|revision| &revision.pods).filter(stays);
        let ready_new = number(&mut new_pods().filter(|pod| pod::ready(pod)));
        status.updated_replicas = number(&mut new_pods());
        status.replicas = status.updated_replicas + number(&mut old_pods());
        status.ready_replicas = ready_new + number(&mut old_pods().filter(|pod| pod::ready(pod)));
        status.ready = Some(format!("{}/{}", status.ready_replicas, self.wanted));
        status.selector = Some(format!("{}={}", labels::INFERENCE_SERVICE, service.name_any()));
        status.endpoint = Some(endpoint_path(&service.namespace().unwrap_or_default(), &service.name_any()));
        status.observed_generation = service.metadata.generation;
        if status.revision.as_deref() != Some(self.hash) {
            if status.revision.is_some() {
                notices.push(Notice::normal("NewRevision", format!("replicas of revision {} take over one by one", self.hash)));
            }
            status.revision = Some(self.hash.to_owned());
            status.revision_started_at = Some(Time(self.seen.now));
        }

        let all_ready = ready_new >= self.wanted && self.old.is_empty();
        let (stuck, look_again_at) = if all_ready || service.spec.suspend { (None, None) } else { self.stuck(&status) };
        for event in self.happened(&status, all_ready, stuck.is_some()) {
            // What the phase does not allow changes nothing.
            status.phase = status.phase.apply(event).unwrap_or(status.phase);
        }
        let (holds, why, message) = self.explain(&status, stuck);
        if before != status.phase {
            notices.extend(match status.phase {
                Phase::Ready => Some(Notice::normal(reason::READY, message.clone())),
                Phase::Degraded => Some(Notice::warning(why, message.clone())),
                Phase::Suspended => Some(Notice::normal(reason::SUSPENDED, message.clone())),
                Phase::Starting | Phase::Progressing => None,
            });
        }
        conditions::set(&mut status.conditions, READY, holds, why, message, service.metadata.generation, self.seen.now);
        (status, notices, look_again_at)
    }

    fn happened(&self, status: &InferenceServiceStatus, all_ready: bool, stuck: bool) -> Vec<Event> {
        if self.seen.service.spec.suspend {
            return vec![Event::Suspended];
        }
        let mut events = Vec::new();
        if status.phase == Phase::Suspended {
            events.push(Event::Resumed);
        }
        events.push(if all_ready {
            Event::AllReady
        } else if stuck {
            Event::Stuck
        } else if status.ready_replicas == 0 {
            Event::NoneReady
        } else {
            Event::SomeReady
        });
        events
    }

    /// Why it gets no further, as a reason and a sentence; else when that will be said.
    fn stuck(&self, status: &InferenceServiceStatus) -> (Option<(&'static str, String)>, Option<Timestamp>) {
        let pods = self.new.into_iter().flat_map(|revision| &revision.pods);
        let mut troubles = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none()).filter_map(|pod| trouble::of(pod));
        if let Some(trouble) = troubles.find(|trouble| trouble.stuck || trouble.crashes) {
            let why = if trouble.crashes { reason::CRASH_LOOP } else { "ContainerCannotStart" };
            return (Some((why, trouble.message)), None);
        }
        let text = self.seen.service.spec.progress_deadline.as_deref().unwrap_or(PROGRESS_DEADLINE_DEFAULT);
        let Ok(allowed) = duration::parse(text) else { return (None, None) };
        let due = self.waiting_since(status).saturating_add(allowed).unwrap_or(Timestamp::MAX);
        if due > self.seen.now {
            return (None, Some(due));
        }
        let story = self.waits_for().map(|story| format!("; {story}")).unwrap_or_default();
        let message = format!("{} of {} replicas became ready within {text}{story}", status.ready_replicas, self.wanted);
        (Some((reason::PROGRESS_DEADLINE_EXCEEDED, message)), None)
    }

    /// Since when something is missing: the last time all was well, or the start of the
    /// revision.
    fn waiting_since(&self, status: &InferenceServiceStatus) -> Timestamp {
        let started = status.revision_started_at.as_ref().map_or(self.seen.now, |time| time.0);
        match conditions::find(&status.conditions, READY) {
            // It was ready until this very moment.
            Some(ready) if ready.status == "True" => self.seen.now,
            Some(ready) => ready.last_transition_time.0.max(started),
            None => started,
        }
    }

    /// What the new revision's pods wait for, if anything says so.
    fn waits_for(&self) -> Option<String> {
        let revision = self.new?;
        if let Some(waiting) = revision.workload.status.as_ref().and_then(|status| status.waiting.as_ref()) {
            return Some(format!("waits at place {} of its queue: {}", waiting.position, waiting.message));
        }
        revision
            .pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .find_map(|pod| trouble::of(pod))
            .map(|trouble| trouble.message)
    }

    fn explain(&self, status: &InferenceServiceStatus, stuck: Option<(&'static str, String)>) -> (bool, &'static str, String) {
        let progress = || {
            let story = self.waits_for().map(|story| format!("; {story}")).unwrap_or_default();
            format!("{} of {} replicas are ready{story}", status.ready_replicas, self.wanted)
        };
        match (status.phase, stuck) {
            (Phase::Suspended, _) => (false, reason::SUSPENDED, "is suspended; set spec.suspend to false to go on".to_owned()),
            (Phase::Degraded, Some((why, message))) => (false, why, message),
            (Phase::Degraded, None) => (false, reason::CRASH_LOOP, progress()),
            (Phase::Ready, _) if self.wanted == 0 => (true, reason::READY, "no replicas are wanted".to_owned()),
            (Phase::Ready, _) => (true, reason::READY, format!("all {} replicas are ready", self.wanted)),
            (Phase::Starting, _) => (false, reason::STARTING, progress()),
            (Phase::Progressing, _) => (false, "Progressing", progress()),
        }
    }
}

/// How long until a moment.
pub(super) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
