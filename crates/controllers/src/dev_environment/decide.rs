//! What a DevEnvironment's status and Workload should be next: a pure function of what is seen.

use std::sync::Arc;

use fermion_api::ai::dev_environment::{AppStatus, DevEnvironmentStatus, Event, Phase, app_path};
use fermion_api::ai::scheduling::EnvironmentKind;
use fermion_api::ai::workload::{EndedPods, WorkloadSpec};
use fermion_api::ai::{DevEnvironment, Workload};
use fermion_api::{conditions, duration, labels, pod, reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::render;
use crate::events::Notice;
use crate::trouble;

/// Conditions of a DevEnvironment.
const READY: &str = "Ready";
const IDLE: &str = "Idle";
const EXPIRED: &str = "Expired";

/// What is seen of a DevEnvironment.
pub(super) struct Seen<'a> {
    pub environment: &'a DevEnvironment,
    pub workload: Option<&'a Workload>,
    /// Its Workload's pods, those that leave included.
    pub pods: &'a [Arc<Pod>],
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug)]
pub(super) struct Decision {
    pub status: DevEnvironmentStatus,
    pub workload: WorkloadSpec,
    /// Whether the pod set in `workload` was made anew.
    pub rendered: bool,
    /// Nobody used it for the set time, or its time is over: `spec.suspend` is to be set.
    pub stop: bool,
    pub notices: Vec<Notice>,
    pub look_again_at: Option<Timestamp>,
}

/// Decides; see [`Decision`].
pub(super) fn decide(seen: &Seen<'_>) -> Decision {
    let spec = &seen.environment.spec;
    let mut status = seen.environment.status.clone().unwrap_or_default();
    let before = status.phase;
    let present = seen.pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
    for event in happened(seen, status.phase, present) {
        // What the phase does not allow changes nothing.
        status.phase = status.phase.apply(event).unwrap_or(status.phase);
    }

    if status.phase == Phase::Running {
        status.started_at.get_or_insert(Time(seen.now));
    } else {
        status.started_at = None;
    }
    status.pod_name = present.map(|pod| pod.name_any());
    status.observed_generation = seen.environment.metadata.generation;
    let (namespace, name) = (seen.environment.namespace().unwrap_or_default(), seen.environment.name_any());
    status.apps = spec.apps.iter().map(|app| AppStatus { name: app.name.clone(), path: app_path(&namespace, &name, &app.name) }).collect();

    let dues = [due_idle(seen, &status), due_at_limit(seen, &status)];
    let stop = dues.iter().flatten().find(|(due, _)| *due <= seen.now).map(|(_, why)| *why);
    let look_again_at = dues.iter().flatten().map(|(due, _)| *due).filter(|due| *due > seen.now).min().filter(|_| stop.is_none());
    explain(seen, present, stop, &mut status);
    let notices = notice(seen, before, stop, &status).into_iter().collect();
    let (workload, rendered) = workload(seen);
    Decision { status, workload, rendered, stop: stop.is_some(), notices, look_again_at }
}

fn happened(seen: &Seen<'_>, phase: Phase, present: Option<&Arc<Pod>>) -> Vec<Event> {
    if seen.environment.spec.suspend {
        let mut events = vec![Event::Suspended];
        events.extend(seen.pods.is_empty().then_some(Event::PodGone));
        return events;
    }
    let mut events = Vec::new();
    if matches!(phase, Phase::Stopping | Phase::Stopped) {
        events.push(Event::Resumed);
    }
    events.push(match present {
        None => Event::PodGone,
        Some(pod) if pod::ready(pod) => Event::PodReady,
        Some(pod) if pod::ended(pod) || trouble::of(pod).is_some_and(|trouble| trouble.stuck) => Event::PodFailed,
        Some(_) => Event::PodNotReady,
    });
    events
}

/// Why the platform stops an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Nobody used it.
    Idle,
    /// It ran for as long as it may.
    Expired,
}

/// When it will have been unused for as long as it may be.
fn due_idle(seen: &Seen<'_>, status: &DevEnvironmentStatus) -> Option<(Timestamp, Stop)> {
    let allowed = duration::parse(seen.environment.spec.idle_stop_after.as_deref()?).ok()?;
    let started = status.started_at.as_ref()?;
    let used = status.last_activity_at.as_ref().map_or(started.0, |used| used.0.max(started.0));
    Some((used.saturating_add(allowed).unwrap_or(Timestamp::MAX), Stop::Idle))
}

/// When it will have run for as long as it may.
fn due_at_limit(seen: &Seen<'_>, status: &DevEnvironmentStatus) -> Option<(Timestamp, Stop)> {
    let allowed = duration::parse(seen.environment.spec.max_duration.as_deref()?).ok()?;
    Some((status.started_at.as_ref()?.0.saturating_add(allowed).unwrap_or(Timestamp::MAX), Stop::Expired))
}

fn explain(seen: &Seen<'_>, present: Option<&Arc<Pod>>, stop: Option<Stop>, status: &mut DevEnvironmentStatus) {
    let generation = seen.environment.metadata.generation;
    let stays = |condition| seen.environment.spec.suspend && conditions::holds(&status.conditions, condition);
    let idle_holds = stop == Some(Stop::Idle) || stays(IDLE);
    let expired_holds = stop == Some(Stop::Expired) || stays(EXPIRED);
    let (holds, why, message) = match status.phase {
        Phase::Running => (true, reason::READY, "it runs".to_owned()),
        Phase::Starting => (false, reason::STARTING, starting(seen, present)),
        Phase::Failed => {
            let story = present.and_then(|pod| trouble::of(pod)).map(|trouble| trouble.message);
            (false, "Failed", story.unwrap_or_else(|| "its pod ended; a new one is made".to_owned()))
        }
        Phase::Stopping => (false, reason::STOPPING, "its container is being stopped".to_owned()),
        Phase::Stopped if idle_holds => {
            (false, reason::IDLE, "was stopped because nobody used it; set spec.suspend to false to start it".to_owned())
        }
        Phase::Stopped if expired_holds => (
            false,
            reason::MAX_DURATION_EXCEEDED,
            "was stopped because its time was over; set spec.suspend to false to start it".to_owned(),
        ),
        Phase::Stopped => (false, reason::SUSPENDED, "is stopped; set spec.suspend to false to start it".to_owned()),
    };
    conditions::set(&mut status.conditions, READY, holds, why, message, generation, seen.now);
    if idle_holds || conditions::find(&status.conditions, IDLE).is_some() {
        let (why, message) = if idle_holds {
            let span = seen.environment.spec.idle_stop_after.as_deref().unwrap_or_default();
            (reason::IDLE, format!("nobody used it for {span} (spec.idleStopAfter)"))
        } else {
            ("InUse", "it is in use".to_owned())
        };
        conditions::set(&mut status.conditions, IDLE, idle_holds, why, message, generation, seen.now);
    }
    if expired_holds || conditions::find(&status.conditions, EXPIRED).is_some() {
        let (why, message) = if expired_holds {
            let span = seen.environment.spec.max_duration.as_deref().unwrap_or_default();
            (reason::MAX_DURATION_EXCEEDED, format!("it ran for {span} (spec.maxDuration)"))
        } else {
            ("InTime", "it may run on".to_owned())
        };
        conditions::set(&mut status.conditions, EXPIRED, expired_holds, why, message, generation, seen.now);
    }
}

/// What a starting environment waits for.
fn starting(seen: &Seen<'_>, present: Option<&Arc<Pod>>) -> String {
    if let Some(waiting) = seen.workload.and_then(|workload| workload.status.as_ref()?.waiting.as_ref()) {
        return format!("waits at place {} of its queue: {}", waiting.position, waiting.message);
    }
    match present {
        None => "its pod is being made".to_owned(),
        Some(pod) => trouble::of(pod).map_or_else(|| "its container is being started".to_owned(), |trouble| trouble.message),
    }
}

fn notice(seen: &Seen<'_>, before: Phase, stop: Option<Stop>, status: &DevEnvironmentStatus) -> Option<Notice> {
    let spec = &seen.environment.spec;
    match stop {
        None => {}
        Some(Stop::Idle) => {
            let span = spec.idle_stop_after.as_deref().unwrap_or_default();
            return Some(Notice::normal(reason::IDLE, format!("stopping it: nobody used it for {span}")));
        }
        Some(Stop::Expired) => {
            let span = spec.max_duration.as_deref().unwrap_or_default();
            return Some(Notice::normal(reason::MAX_DURATION_EXCEEDED, format!("stopping it: it ran for {span}")));
        }
    }
    if before == status.phase {
        return None;
    }
    let message = conditions::find(&status.conditions, READY).map(|condition| condition.message.clone()).unwrap_or_default();
    match status.phase {
        Phase::Starting => None,
        Phase::Running => Some(Notice::normal(reason::RUNNING, message)),
        Phase::Stopping => Some(Notice::normal(reason::STOPPING, message)),
        Phase::Stopped => Some(Notice::normal("Stopped", message)),
        Phase::Failed => Some(Notice::warning("Failed", message)),
    }
}

/// What the Workload should ask for. Its pod set is made anew only while it is stopped: a
/// change of the environment takes effect at its next start.
fn workload(seen: &Seen<'_>) -> (WorkloadSpec, bool) {
    let environment = seen.environment;
    let generation = environment.metadata.generation.unwrap_or_default().to_string();
    let kept = seen
        .workload
        .filter(|workload| !workload.spec.suspend || workload.annotations().get(labels::RENDERED_GENERATION) == Some(&generation));
    let spec = WorkloadSpec {
        queue: environment.spec.queue.clone(),
        priority: environment.spec.priority,
        suspend: environment.spec.suspend,
        pod_sets: kept.map_or_else(|| vec![render::pod_set(environment)], |workload| workload.spec.pod_sets.clone()),
        attempt: seen.workload.map_or(0, |workload| workload.spec.attempt),
        ended_pods: EndedPods::Replace,
        environment: EnvironmentKind::Development,
        // The environment keeps its limit itself, by stopping.
        max_duration: None,
        owner_max_duration: environment.spec.max_duration.clone(),
        scheduling: render::scheduling(environment),
        closed: None,
    };
    (spec, kept.is_none())
}

#[cfg(test)]
mod tests;
