//! What a Workload's pods and status should be next: a pure function of what is seen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fermion_api::ai::Workload;
use fermion_api::ai::training_job::CleanUpPods;
use fermion_api::ai::workload::{EndedPods, Event, Phase, PodSet, PodSetStatus, WorkloadStatus};
use fermion_api::compute::AcceleratorModel;
use fermion_api::{cards, conditions, duration, pod, quantity, reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::pods::{self, Wanted};
use crate::events::Notice;
use crate::reconciling::doubled;

/// Wait before the second replacement of an ended pod in a row; the first comes at once.
const REPLACE_DELAY_MIN: Duration = Duration::from_secs(10);
const REPLACE_DELAY_MAX: Duration = Duration::from_mins(5);
/// A set whose pods have all been ready for this long starts again from the first delay.
const CALM_AFTER: Duration = Duration::from_mins(10);

/// What is seen of a Workload.
pub(super) struct Seen<'a> {
    pub workload: &'a Workload,
    /// Its own pods, of every attempt.
    pub pods: &'a [Arc<Pod>],
    /// Whether another object has that pod name.
    pub taken: &'a dyn Fn(&str) -> bool,
    /// The model of accelerator of that name.
    pub models: &'a dyn Fn(&str) -> Option<Arc<AcceleratorModel>>,
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub create: Vec<Pod>,
    pub delete: Vec<Arc<Pod>>,
    pub status: WorkloadStatus,
    pub notices: Vec<Notice>,
    /// When something is due even if nothing happens.
    pub look_again_at: Option<Timestamp>,
}

/// Decides; see [`Decision`].
pub(super) fn decide(seen: &Seen<'_>) -> Decision {
    let spec = &seen.workload.spec;
    let mut decision = Decision { status: seen.workload.status.clone().unwrap_or_default(), ..Decision::default() };
    let before = decision.status.phase;
    begin_attempt(seen, &mut decision.status);

    let wanted = pods::wanted(seen.workload);
    let (current, outdated): (Vec<_>, Vec<_>) = seen.pods.iter().partition(|pod| pods::attempt(pod) == Some(spec.attempt));
    decision.delete.extend(outdated.iter().map(|pod| Arc::clone(pod)));
    let names: BTreeSet<&str> = wanted.iter().map(|wanted| wanted.name.as_str()).collect();
    let (current, surplus): (Vec<_>, Vec<_>) = current.into_iter().partition(|pod| names.contains(pod.name_any().as_str()));
    decision.delete.extend(surplus.into_iter().map(Arc::clone));
    let time_ran_out = time_ran_out(seen, &mut decision);
    decision.delete.extend(unwanted(seen, &current, time_ran_out));
    replace_ended(seen, &current, &mut decision);
    decision.delete.retain(|pod| pod.metadata.deletion_timestamp.is_none());

    let live: Vec<&Pod> = current.iter().map(AsRef::as_ref).filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    count(seen, &live, &mut decision.status);
    for event in happened(seen, &decision.status, time_ran_out) {
        // What the phase does not allow changes nothing: an ended Workload stays ended.
        if let Ok(next) = decision.status.phase.apply(event) {
            decision.status.phase = next;
        }
    }

    let phase = decision.status.phase;
    let mut taken = Vec::new();
    if matches!(phase, Phase::Pending | Phase::Admitted | Phase::Running) && outdated.is_empty() {
        let existing: BTreeSet<String> = seen.pods.iter().map(|pod| pod.name_any()).collect();
        let (blocked, missing): (Vec<&Wanted<'_>>, Vec<_>) =
            wanted.iter().filter(|wanted| !existing.contains(&wanted.name)).partition(|wanted| (seen.taken)(&wanted.name));
        decision.create = missing.into_iter().map(|wanted| pods::make(seen.workload, wanted)).collect();
        taken = blocked.into_iter().map(|wanted| wanted.name.clone()).collect();
    }

    match phase {
        Phase::Admitted | Phase::Running if decision.status.admitted_at.is_none() => {
            decision.status.admitted_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(seen.now));
        }
        Phase::Suspended => decision.status.admitted_at = None,
        _ => {}
    }
    // With the same write as what it is now; the scheduler takes away what is left.
    let placed = || decision.status.pod_sets.iter().all(|set| set.scheduled >= set.replicas);
    if decision.status.waiting.is_some()
        && (matches!(phase, Phase::Succeeded | Phase::Failed) || (matches!(phase, Phase::Admitted | Phase::Running) && placed()))
    {
        decision.status.waiting = None;
    }
    returned(seen, &live, before, &mut decision.status);
    explain(seen, &taken, time_ran_out, &mut decision.status);
    decision.status.observed_generation = seen.workload.metadata.generation;
    decision.notices.extend(notice(before, &decision.status));
    decision
}

/// Says of a Workload that was stopped for others that it has its place again: with pods that were
/// made since, or were there without a node and were given one since. Times are in seconds, so pods
/// of the second in which it was stopped may be those of before; they count only once it was seen to
/// wait.
fn returned(seen: &Seen<'_>, live: &[&Pod], before: Phase, status: &mut WorkloadStatus) {
    let Some(evicted) = conditions::find(&status.conditions, EVICTED).filter(|condition| condition.status == "True") else { return };
    let since = evicted.last_transition_time.0.as_second();
    let waited = before == Phase::Pending;
    let new = |pod: &&Pod| {
        let made = pod.metadata.creation_timestamp.as_ref().map(|made| made.0.as_second());
        let began = made.max(placed_at(pod).map(Timestamp::as_second));
        began.is_some_and(|began| began > since || (began == since && waited))
    };
    if matches!(status.phase, Phase::Admitted | Phase::Running) && live.iter().all(new) {
        let (generation, message) = (seen.workload.metadata.generation, "it has its place again");
        conditions::set(&mut status.conditions, EVICTED, false, reason::RETURNED, message, generation, seen.now);
    }
}

/// Forgets what the status says about a former attempt.
fn begin_attempt(seen: &Seen<'_>, status: &mut WorkloadStatus) {
    if status.observed_attempt == seen.workload.spec.attempt {
        return;
    }
    status.observed_attempt = seen.workload.spec.attempt;
    status.admitted_at = None;
    status.phase = status.phase.apply(Event::StartedOver).expect("every phase allows a new attempt");
}

/// Whether it had its place for longer than it may run; when it has not, that moment is looked at
/// again.
fn time_ran_out(seen: &Seen<'_>, decision: &mut Decision) -> bool {
    let spec = &seen.workload.spec;
    let limit = spec.max_duration.as_deref().and_then(|text| duration::parse(text).ok());
    let (Some(limit), Some(admitted), None, false) = (limit, &decision.status.admitted_at, &spec.closed, spec.suspend) else {
        return false;
    };
    match decision.status.phase {
        Phase::Succeeded => return false,
        // Whether that was why it failed stands in its condition.
        Phase::Failed => {
            let admitted = conditions::find(&decision.status.conditions, ADMITTED);
            return admitted.is_some_and(|condition| condition.reason == reason::MAX_DURATION_EXCEEDED);
        }
        Phase::Pending | Phase::Admitted | Phase::Running | Phase::Suspended => {}
    }
    let due = admitted.0.saturating_add(limit).unwrap_or(Timestamp::MAX);
    if due > seen.now {
        decision.look_again_at = Some(decision.look_again_at.map_or(due, |earlier| earlier.min(due)));
    }
    due <= seen.now
}

/// Pods of the present attempt that must go because the Workload is suspended or over.
fn unwanted(seen: &Seen<'_>, current: &[&Arc<Pod>], time_ran_out: bool) -> Vec<Arc<Pod>> {
    let spec = &seen.workload.spec;
    let goes = |pod: &Pod| match &spec.closed {
        Some(closed) => match closed.delete_pods {
            CleanUpPods::Running => !pod::ended(pod),
            CleanUpPods::All => true,
            CleanUpPods::None => false,
        },
        // An ended pod of a job holds nothing and is kept for its logs.
        None if time_ran_out => !pod::ended(pod),
        None => spec.suspend && (spec.ended_pods == EndedPods::Replace || !pod::ended(pod)),
    };
    current.iter().filter(|pod| goes(pod)).map(|pod| Arc::clone(pod)).collect()
}

/// Removes ended pods that are to be replaced, each when its time has come.
fn replace_ended(seen: &Seen<'_>, current: &[&Arc<Pod>], decision: &mut Decision) {
    let spec = &seen.workload.spec;
    if spec.ended_pods == EndedPods::Keep || spec.suspend || spec.closed.is_some() || decision.status.phase == Phase::Failed {
        return;
    }
    for set in &spec.pod_sets {
        let of_set: Vec<&Arc<Pod>> =
            current.iter().copied().filter(|pod| pods::place(pod).is_some_and(|(name, _)| name == set.name)).collect();
        let before = decision.status.pod_sets.iter().find(|status| status.name == set.name).map_or(0, |status| status.replaced);
        let mut replaced = if calm(set, &of_set, seen.now) { 0 } else { before };
        let delay = match u32::try_from(replaced) {
            Ok(times) if times > 0 => doubled(REPLACE_DELAY_MIN, times - 1, REPLACE_DELAY_MAX),
            _ => Duration::ZERO,
        };
        for pod in of_set.into_iter().filter(|pod| pod::ended(pod) && pod.metadata.deletion_timestamp.is_none()) {
            let due = ended_at(pod).saturating_add(delay).unwrap_or(Timestamp::MAX);
            if due > seen.now {
                decision.look_again_at = Some(decision.look_again_at.map_or(due, |earlier| earlier.min(due)));
                continue;
            }
            replaced = replaced.saturating_add(1);
            let why = pod::exit(pod).map_or_else(
                || pod.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_else(|| "it ended".to_owned()),
                |exit| format!("container {} ended with exit code {}", exit.container, exit.code),
            );
            decision.notices.push(Notice::warning("PodReplaced", format!("replacing pod {}: {why}", pod.name_any())));
            decision.delete.push(Arc::clone(pod));
        }
        match decision.status.pod_sets.iter_mut().find(|status| status.name == set.name) {
            Some(status) => status.replaced = replaced,
            None => decision.status.pod_sets.push(PodSetStatus { name: set.name.clone(), replaced, ..PodSetStatus::default() }),
        }
    }
}

/// Whether every pod of the set has been ready for a while.
fn calm(set: &PodSet, pods: &[&Arc<Pod>], now: Timestamp) -> bool {
    let ready_for = |pod: &Pod| {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
        Duration::try_from(now.duration_since(ready.last_transition_time.as_ref()?.0)).ok()
    };
    let long_ready = pods.iter().filter(|pod| ready_for(pod).is_some_and(|span| span >= CALM_AFTER)).count();
    i32::try_from(long_ready).is_ok_and(|ready| ready >= set.replicas)
}

/// When a pod ended, as well as is known.
fn ended_at(pod: &Pod) -> Timestamp {
    let (_, finished) = pod::run_interval(pod);
    finished
        .or_else(|| pod.status.as_ref()?.start_time.as_ref().map(|time| time.0))
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Counts the pods and sums what they ask for.
fn count(seen: &Seen<'_>, live: &[&Pod], status: &mut WorkloadStatus) {
    let mut total = pod::Resources::new();
    let mut sets = Vec::new();
    for set in &seen.workload.spec.pod_sets {
        let asked = set.template.spec.as_ref().map(pod::requests).unwrap_or_default();
        let asked = cards::counted(asked, seen.models);
        for (name, amount) in asked {
            let sum = total.entry(name).or_default();
            *sum = sum.saturating_add(amount.saturating_mul(i128::from(set.replicas.max(0))));
        }
        let of_set: Vec<_> = live.iter().filter(|pod| pods::place(pod).is_some_and(|(name, _)| name == set.name)).collect();
        let number = |holds: &dyn Fn(&Pod) -> bool| i32::try_from(of_set.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX);
        sets.push(PodSetStatus {
            name: set.name.clone(),
            replicas: set.replicas,
            scheduled: number(&|pod| has_node(pod)),
            running: number(&|pod| pod::phase(pod) == "Running"),
            ready: number(&pod::ready),
            succeeded: number(&|pod| pod::phase(pod) == "Succeeded"),
            failed: number(&|pod| pod::phase(pod) == "Failed"),
            replaced: status.pod_sets.iter().find(|status| status.name == set.name).map_or(0, |status| status.replaced),
        });
    }
    status.pod_sets = sets;
    status.requests = total.into_iter().map(|(name, amount)| (name.clone(), quantity::format(&name, amount))).collect();
}

fn has_node(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// When a pod got its node, as well as is known.
fn placed_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref().filter(|_| has_node(pod))?;
    let mut conditions = status.conditions.iter().flatten();
    let scheduled = conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "True");
    let scheduled = scheduled.and_then(|condition| condition.last_transition_time.as_ref());
    scheduled.or(status.start_time.as_ref()).map(|time| time.0)
}

/// What happened, in the order in which it happened.
fn happened(seen: &Seen<'_>, status: &WorkloadStatus, time_ran_out: bool) -> Vec<Event> {
    let spec = &seen.workload.spec;
    if let Some(closed) = &spec.closed {
        return vec![if closed.succeeded { Event::AllSucceeded } else { Event::MemberFailed }];
    }
    if spec.suspend {
        return vec![Event::Suspended];
    }
    if time_ran_out {
        return vec![Event::TimeRanOut];
    }
    let mut events = Vec::new();
    if status.phase == Phase::Suspended {
        events.push(Event::Resumed);
    }
    let sets = || spec.pod_sets.iter().zip(&status.pod_sets);
    let keep = spec.ended_pods == EndedPods::Keep;
    let owned = seen.workload.owner_references().iter().any(|owner| owner.controller == Some(true));
    let some = spec.pod_sets.iter().any(|set| set.replicas > 0);
    let enough = |of: &dyn Fn(&PodSetStatus) -> i32| sets().all(|(set, status)| of(status) >= pods::min_of(set));
    // Pods that ended without a node never had their place.
    let placed = |status: &PodSetStatus| status.scheduled;
    let started = |status: &PodSetStatus| status.running + if keep { status.succeeded + status.failed } else { 0 };
    if keep && some && sets().all(|(set, status)| status.succeeded == set.replicas) {
        events.push(Event::AllSucceeded);
    } else if keep && !owned && status.pod_sets.iter().any(|status| status.failed > 0) {
        // The owner, where there is one, has rules of its own for what counts as failed.
        events.push(Event::MemberFailed);
    } else if enough(&started) {
        events.push(Event::MembersStarted);
    } else if enough(&placed) {
        events.push(Event::MembersPlaced);
    } else {
        events.push(Event::MemberLost);
    }
    events
}

/// Says in the conditions why it is as it is.
fn explain(seen: &Seen<'_>, taken: &[String], time_ran_out: bool, status: &mut WorkloadStatus) {
    let generation = seen.workload.metadata.generation;
    let (holds, why, message) = match status.phase {
        Phase::Pending => match &status.waiting {
            Some(waiting) => (false, waiting.reason.clone(), waiting.message.clone()),
            None => (false, "Waiting".to_owned(), "waits for the scheduler".to_owned()),
        },
        Phase::Suspended => (false, reason::SUSPENDED.to_owned(), "is suspended".to_owned()),
        Phase::Admitted | Phase::Running => (true, reason::ADMITTED.to_owned(), "every member it needs has its place".to_owned()),
        Phase::Succeeded => (false, reason::SUCCEEDED.to_owned(), "is over: succeeded".to_owned()),
        Phase::Failed if time_ran_out => {
            let limit = seen.workload.spec.max_duration.as_deref().unwrap_or_default();
            (false, reason::MAX_DURATION_EXCEEDED.to_owned(), format!("is over: it ran for longer than {limit} (spec.maxDuration)"))
        }
        Phase::Failed => (false, "Failed".to_owned(), "is over: failed".to_owned()),
    };
    conditions::set(&mut status.conditions, ADMITTED, holds, &why, message, generation, seen.now);
    if !taken.is_empty() {
        let message = format!("cannot make pod {}: another pod has that name; delete it or rename this workload", taken[0]);
        conditions::set(&mut status.conditions, MEMBERS_MADE, false, reason::NAME_TAKEN, message, generation, seen.now);
    } else if conditions::find(&status.conditions, MEMBERS_MADE).is_some() {
        conditions::set(&mut status.conditions, MEMBERS_MADE, true, "Made", "every pod could be made", generation, seen.now);
    }
}

/// The condition that is True while every member it needs has its place.
const ADMITTED: &str = "Admitted";
/// The condition that is True from when it was stopped for others until it has its place again.
pub(crate) const EVICTED: &str = "Evicted";
/// The condition that is False while some pod cannot be made.
pub(super) const MEMBERS_MADE: &str = "MembersMade";

/// What people are told when the phase changed.
fn notice(before: Phase, status: &WorkloadStatus) -> Option<Notice> {
    if before == status.phase {
        return None;
    }
    match status.phase {
        Phase::Pending => None,
        Phase::Admitted => Some(Notice::normal(reason::ADMITTED, "every member it needs has its place")),
        Phase::Running => Some(Notice::normal(reason::RUNNING, "the members it needs run")),
        Phase::Suspended => Some(Notice::normal(reason::SUSPENDED, "its pods are being stopped")),
        Phase::Succeeded => Some(Notice::normal(reason::SUCCEEDED, "every pod that counts ended with success")),
        Phase::Failed => Some(Notice::warning("Failed", "a pod that counts failed")),
    }
}

#[cfg(test)]
mod tests;
