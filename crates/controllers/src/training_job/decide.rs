//! What a TrainingJob's status and Workload should be next: a pure function of what is seen.

use std::sync::Arc;
use std::time::Duration;

use fermion_api::ai::scheduling::EnvironmentKind;
use fermion_api::ai::training_job::{Event, ExitClass, Phase, TrainingJobStatus, USER_REQUESTED_RESTARTS_MAX};
use fermion_api::ai::workload::{Closed, EndedPods, WorkloadSpec};
use fermion_api::ai::{TrainingJob, Workload};
use fermion_api::{conditions, duration, labels, pod, reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::outcome::{Failure, Outcome, judge};
use super::render;
use crate::events::Notice;
use crate::reconciling::doubled;
use crate::trouble;
use crate::workload::{EVICTED, pods};

/// Wait before the second retry; the first comes at once.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(5);
const RETRY_DELAY_MAX: Duration = Duration::from_mins(5);

/// Conditions of a TrainingJob.
const COMPLETE: &str = "Complete";
const FAILED: &str = "Failed";
const SUSPENDED: &str = "Suspended";
const RESTARTING: &str = "Restarting";

/// What is seen of a TrainingJob.
pub(super) struct Seen<'a> {
    pub job: &'a TrainingJob,
    pub workload: Option<&'a Workload>,
    /// The Workload's pods, of every attempt.
    pub pods: &'a [Arc<Pod>],
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug)]
pub(super) struct Decision {
    pub status: TrainingJobStatus,
    /// What the Workload should ask for.
    pub workload: WorkloadSpec,
    /// Whether the pod sets in `workload` were made anew, so that its annotations change too.
    pub rendered: bool,
    pub notices: Vec<Notice>,
    /// The job's time after its end is over.
    pub delete_job: bool,
    /// When something is due even if nothing happens.
    pub look_again_at: Option<Timestamp>,
}

/// Decides; see [`Decision`].
pub(super) fn decide(seen: &Seen<'_>) -> Decision {
    let mut step =
        Step { seen, status: seen.job.status.clone().unwrap_or_default(), notices: Vec::new(), message: None, look_again_at: None };
    step.advance();
    step.describe();
    let delete_job = step.expired();
    let (workload, rendered) = step.workload();
    Decision { status: step.status, workload, rendered, notices: step.notices, delete_job, look_again_at: step.look_again_at }
}

struct Step<'a> {
    seen: &'a Seen<'a>,
    status: TrainingJobStatus,
    notices: Vec<Notice>,
    /// What the Complete condition says: reason and sentence.
    message: Option<(&'static str, String)>,
    look_again_at: Option<Timestamp>,
}

impl Step<'_> {
    fn apply(&mut self, event: Event) -> bool {
        match self.status.phase.apply(event) {
            Ok(next) => {
                self.status.phase = next;
                true
            }
            // What the phase does not allow changes nothing.
            Err(_) => false,
        }
    }

    fn set(&mut self, condition: &str, holds: bool, why: &str, message: impl Into<String>) {
        // A condition that never held is not there.
        if holds || conditions::find(&self.status.conditions, condition).is_some() {
            conditions::set(&mut self.status.conditions, condition, holds, why, message, self.seen.job.metadata.generation, self.seen.now);
        }
    }

    fn look_again(&mut self, at: Timestamp) {
        self.look_again_at = Some(self.look_again_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// The pods of the present attempt. One that is being deleted ends because of that, which
    /// says nothing about the job; another takes its place.
    fn members(&self) -> Vec<&Arc<Pod>> {
        let counts = |pod: &&Arc<Pod>| pods::attempt(pod) == Some(self.status.attempt) && pod.metadata.deletion_timestamp.is_none();
        self.seen.pods.iter().filter(counts).collect()
    }

    fn total(&self) -> usize {
        self.seen.job.spec.roles.iter().map(|role| usize::try_from(role.replicas).unwrap_or(0)).sum()
    }

    fn advance(&mut self) {
        self.status.observed_generation = self.seen.job.metadata.generation;
        if self.status.phase.is_final() {
            return;
        }
        if self.seen.job.spec.suspend {
            self.suspend();
            return;
        }
        if self.status.phase == Phase::Suspended && self.apply(Event::Resumed) {
            self.set(SUSPENDED, false, "Resumed", "was resumed");
            self.set(RESTARTING, false, "Resumed", "was resumed");
            self.notices.push(Notice::normal("Resumed", "its pods are made again"));
        }
        self.switch_entry_point();
        if self.status.phase == Phase::Restarting {
            self.finish_restart();
        }
        if self.out_of_time() {
            return;
        }
        if matches!(self.status.phase, Phase::Pending | Phase::Running) {
            self.follow_pods();
        }
    }

    fn suspend(&mut self) {
        if self.status.phase == Phase::Suspended {
            return;
        }
        if self.apply(Event::Suspended) {
            if let Some(start) = self.status.started_at.take() {
                self.status.ran_s += self.seen.now.duration_since(start.0).as_secs().max(0);
            }
            self.set(SUSPENDED, true, reason::SUSPENDED, "is suspended; set spec.suspend to false to go on");
            self.notices.push(Notice::normal(reason::SUSPENDED, "its pods are being stopped"));
        }
    }

    /// Starts over when debug mode was switched while pods run.
    fn switch_entry_point(&mut self) {
        let Some(workload) = self.seen.workload.filter(|workload| !workload.spec.suspend) else { return };
        let current = workload.annotations().get(labels::ENTRY_POINT);
        let wanted = render::entry_point(self.seen.job);
        if current == wanted.as_ref() || workload.spec.attempt != self.status.attempt || !self.apply(Event::EntryPointChanged) {
            return;
        }
        let message = match wanted {
            Some(command) => format!("its pods start again with the entry point of debug mode, `{command}`"),
            None => "its pods start again with their own entry point".to_owned(),
        };
        self.restart(reason::ENTRY_POINT_CHANGED, message);
    }

    /// Counts a new attempt; the phase is Restarting already.
    fn restart(&mut self, why: &'static str, message: String) {
        self.status.attempt += 1;
        self.set(RESTARTING, true, why, message.clone());
        self.notices.push(Notice::normal(why, message));
    }

    /// How long the present restart waits before new pods are made.
    fn restart_due(&self) -> Timestamp {
        let Some(condition) = conditions::find(&self.status.conditions, RESTARTING).filter(|condition| condition.status == "True") else {
            return Timestamp::MIN;
        };
        let delay = match u32::try_from(self.status.retries) {
            Ok(retries) if retries > 1 && condition.reason == reason::RETRYING => doubled(RETRY_DELAY_MIN, retries - 2, RETRY_DELAY_MAX),
            _ => Duration::ZERO,
        };
        condition.last_transition_time.0.saturating_add(delay).unwrap_or(Timestamp::MAX)
    }

    fn finish_restart(&mut self) {
        let due = self.restart_due();
        let old_left = self.seen.pods.iter().any(|pod| pods::attempt(pod) != Some(self.status.attempt));
        let told = self.seen.workload.is_some_and(|workload| workload.spec.attempt == self.status.attempt);
        if due > self.seen.now {
            self.look_again(due);
        } else if told && !old_left && self.apply(Event::PodsReplaced) {
            self.set(RESTARTING, false, "Replaced", "the pods of the former attempt are gone");
        }
    }

    /// Ends the job when it ran longer than allowed.
    fn out_of_time(&mut self) -> bool {
        let policy = &self.seen.job.spec.run_policy;
        let Some(allowed) = policy.max_duration.as_deref().and_then(|text| duration::parse(text).ok()) else { return false };
        let Some(start) = &self.status.started_at else { return false };
        let before = Duration::from_secs(self.status.ran_s.max(0).unsigned_abs());
        let end = start.0.saturating_add(allowed.saturating_sub(before)).unwrap_or(Timestamp::MAX);
        if end > self.seen.now {
            self.look_again(end);
            return false;
        }
        // The rules may have been met before the clock was looked at.
        if judge(self.seen.job, &self.members()) == Outcome::Succeeded {
            return false;
        }
        if self.apply(Event::DeadlinePassed) {
            let text = policy.max_duration.clone().unwrap_or_default();
            self.fail(reason::MAX_DURATION_EXCEEDED, format!("ran longer than its runPolicy.maxDuration of {text}"), None);
        }
        true
    }

    fn follow_pods(&mut self) {
        let members: Vec<Arc<Pod>> = self.members().into_iter().map(Arc::clone).collect();
        let references: Vec<&Arc<Pod>> = members.iter().collect();
        let begun = members.iter().filter(|pod| pod::ended(pod) || pod::phase(pod) == "Running").count();
        let status = self.seen.workload.and_then(|workload| workload.status.as_ref());
        let evicted = status.is_some_and(|status| conditions::holds(&status.conditions, EVICTED));
        if evicted
            && self.apply(Event::Evicted)
            && let Some(start) = self.status.started_at.take()
        {
            // The clock stands still while it waits.
            self.status.ran_s += self.seen.now.duration_since(start.0).as_secs().max(0);
        }
        if !evicted && begun >= self.total() && self.apply(Event::PodsStarted) && self.status.started_at.is_none() {
            // The moment at which the last of them started.
            let starts = members.iter().filter_map(|pod| pod::run_interval(pod).0);
            let start = starts.max().map_or(self.seen.now, |start| start.min(self.seen.now));
            self.status.started_at = Some(Time(start));
            self.notices.push(Notice::normal(reason::RUNNING, "every pod runs"));
        }
        match judge(self.seen.job, &references) {
            Outcome::Open => {}
            Outcome::Succeeded => {
                if self.apply(Event::SuccessReached) {
                    self.end(&members, Some(0));
                    self.message = Some((reason::SUCCEEDED, "the rule for success holds".to_owned()));
                    self.notices.push(Notice::normal(reason::SUCCEEDED, "the job succeeded"));
                }
            }
            Outcome::Failed(failure) => self.fail_attempt(failure, &members),
        }
    }

    /// Starts over or gives up, by the class of the failure.
    fn fail_attempt(&mut self, failure: Failure, members: &[Arc<Pod>]) {
        let limit = self.seen.job.spec.run_policy.retries.limit;
        let retries = self.status.retries;
        let asked = self.status.attempt - retries;
        let Failure { class, exit_code, message } = failure;
        let give_up = match class {
            ExitClass::Retryable if retries < limit => {
                if self.apply(Event::RetryableFailure) {
                    self.status.exit_code = exit_code;
                    self.status.retries += 1;
                    self.restart(reason::RETRYING, format!("{message}; starting over (retry {} of {limit})", retries + 1));
                }
                return;
            }
            ExitClass::UserRequested if asked < USER_REQUESTED_RESTARTS_MAX => {
                if self.apply(Event::RetryableFailure) {
                    self.status.exit_code = exit_code;
                    self.restart(reason::USER_REQUESTED, format!("{message}, by which it asks to be started over"));
                }
                return;
            }
            ExitClass::Retryable if limit == 0 => {
                (reason::RETRIES_EXHAUSTED, format!("{message}; no retries are allowed (spec.runPolicy.retries.limit)"))
            }
            ExitClass::Retryable => (reason::RETRIES_EXHAUSTED, format!("{message}; all {limit} retries are used up")),
            ExitClass::UserRequested => (
                reason::RETRIES_EXHAUSTED,
                format!("{message}; it was started over {USER_REQUESTED_RESTARTS_MAX} times at its own request"),
            ),
            ExitClass::Permanent | ExitClass::Success => (reason::PERMANENT_FAILURE, message),
        };
        if self.apply(Event::FinalFailure) {
            self.end(members, exit_code);
            self.fail(give_up.0, give_up.1, exit_code);
        }
    }

    fn fail(&mut self, why: &'static str, message: String, exit_code: Option<i32>) {
        self.status.exit_code = exit_code;
        self.status.finished_at.get_or_insert(Time(self.seen.now));
        self.set(FAILED, true, why, message.clone());
        self.set(RESTARTING, false, why, "the job is over");
        self.notices.push(Notice::warning(why, message.clone()));
        self.message = Some((why, message));
    }

    fn end(&mut self, members: &[Arc<Pod>], exit_code: Option<i32>) {
        let last = members.iter().filter_map(|pod| pod::run_interval(pod).1).max();
        let end = last.map_or(self.seen.now, |last| last.min(self.seen.now));
        let start = self.status.started_at.as_ref().map_or(end, |start| start.0);
        self.status.finished_at = Some(Time(end.max(start)));
        self.status.exit_code = exit_code;
    }

    /// Fills in what people look at first.
    fn describe(&mut self) {
        let members: Vec<Arc<Pod>> = self.members().into_iter().map(Arc::clone).collect();
        let ready = members.iter().filter(|pod| pod::ready(pod)).count();
        self.status.ready = Some(format!("{ready}/{}", self.total()));
        let (why, message) = match (self.status.phase, self.message.take()) {
            // Said when it ended; nothing to add.
            (Phase::Succeeded | Phase::Failed, None) => return,
            (_, Some(said)) => said,
            (Phase::Pending, None) => waits_for(self.seen.workload, &members),
            (Phase::Running, None) => {
                let ended = members.iter().filter(|pod| pod::ended(pod)).count();
                (reason::RUNNING, format!("{} of {} pods run, {ended} ended", members.len() - ended, self.total()))
            }
            (Phase::Restarting, None) => {
                let why = conditions::find(&self.status.conditions, RESTARTING).map(|condition| condition.message.clone());
                (reason::RETRYING, why.unwrap_or_default())
            }
            (Phase::Suspended, None) => (reason::SUSPENDED, "is suspended; set spec.suspend to false to go on".to_owned()),
        };
        let holds = self.status.phase == Phase::Succeeded;
        let generation = self.seen.job.metadata.generation;
        conditions::set(&mut self.status.conditions, COMPLETE, holds, why, message, generation, self.seen.now);
    }

    /// Whether the job has been over for as long as it may stay.
    fn expired(&mut self) -> bool {
        let ttl = self.seen.job.spec.run_policy.clean_up.ttl_after_finished.as_deref();
        let (Some(ttl), Some(end)) = (ttl.and_then(|text| duration::parse(text).ok()), &self.status.finished_at) else { return false };
        if !self.status.phase.is_final() {
            return false;
        }
        let due = end.0.saturating_add(ttl).unwrap_or(Timestamp::MAX);
        if due > self.seen.now {
            self.look_again(due);
        }
        due <= self.seen.now
    }

    /// What the Workload should ask for. Its pod sets are made anew only when the job was
    /// changed and no pod would notice: a new version of this program must not restart jobs.
    fn workload(&self) -> (WorkloadSpec, bool) {
        let job = self.seen.job;
        let phase = self.status.phase;
        let closed =
            phase.is_final().then(|| Closed { succeeded: phase == Phase::Succeeded, delete_pods: job.spec.run_policy.clean_up.pods });
        let kept = self.seen.workload.filter(|workload| {
            let generation = job.metadata.generation.unwrap_or_default().to_string();
            let up_to_date = workload.annotations().get(labels::RENDERED_GENERATION) == Some(&generation);
            let unnoticed = workload.spec.suspend || workload.spec.attempt != self.status.attempt;
            up_to_date || !unnoticed || closed.is_some()
        });
        let delayed = phase == Phase::Restarting && self.restart_due() > self.seen.now;
        let spec = WorkloadSpec {
            queue: job.spec.queue.clone(),
            priority: job.spec.priority,
            suspend: phase == Phase::Suspended || delayed,
            pod_sets: kept.map_or_else(|| render::pod_sets(job), |workload| workload.spec.pod_sets.clone()),
            attempt: self.status.attempt,
            ended_pods: EndedPods::Keep,
            environment: EnvironmentKind::Training,
            // The job keeps its limit itself: time while it is suspended does not count.
            max_duration: None,
            owner_max_duration: job.spec.run_policy.max_duration.clone(),
            scheduling: render::scheduling(job),
            closed,
        };
        (spec, kept.is_none())
    }
}

/// What a job that is not running yet waits for.
fn waits_for(workload: Option<&Workload>, members: &[Arc<Pod>]) -> (&'static str, String) {
    if let Some(waiting) = workload.and_then(|workload| workload.status.as_ref()?.waiting.as_ref()) {
        return ("Waiting", format!("waits at place {} of its queue: {}", waiting.position, waiting.message));
    }
    match members.iter().find_map(|pod| trouble::of(pod)) {
        Some(trouble) => (reason::STARTING, trouble.message),
        None if members.iter().any(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())) => {
            (reason::STARTING, "its containers are being started".to_owned())
        }
        None => (reason::STARTING, "its pods are being made".to_owned()),
    }
}

#[cfg(test)]
mod tests;
