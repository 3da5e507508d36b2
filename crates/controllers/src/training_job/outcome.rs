//! How an attempt of a job stands by the rules for success and failure.

use std::sync::Arc;

use fermion_api::ai::TrainingJob;
use fermion_api::ai::training_job::{ExitClass, Quantifier, ResultPolicy, Retries};
use fermion_api::{pod, reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::workload::pods;

/// Reasons of a pod that are no fault of the program in it.
const LOST_REASONS: [&str; 5] = [reason::NODE_LOST, "SandboxLost", "NodeShutdown", "Evicted", "Preempted"];

/// How an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing is decided yet.
    Open,
    /// The rule for success holds.
    Succeeded,
    Failed(Failure),
}

/// The failure that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub class: ExitClass,
    pub exit_code: Option<i32>,
    /// What happened, for people.
    pub message: String,
}

/// Judges the pods of one attempt. Success is looked at first. When every pod has ended and no
/// rule holds, the attempt failed: nothing more can happen.
pub(super) fn judge(job: &TrainingJob, members: &[&Arc<Pod>]) -> Outcome {
    let spec = &job.spec;
    let in_phase = |phase: &str, policy: &ResultPolicy| -> Vec<&Arc<Pod>> {
        members.iter().copied().filter(|pod| pod::phase(pod) == phase && counts(policy, pod)).collect()
    };
    let holds = |policy: &ResultPolicy, found: usize| match policy.when {
        Quantifier::All => found >= number(job, policy),
        Quantifier::Any => found > 0,
    };
    if holds(&spec.success_policy, in_phase("Succeeded", &spec.success_policy).len()) {
        return Outcome::Succeeded;
    }
    let anyone = ResultPolicy { role: None, rank: None, when: Quantifier::Any };
    let rule = spec.failure_policy.as_ref().unwrap_or(&anyone);
    let failed = in_phase("Failed", rule);
    if holds(rule, failed.len()) {
        return Outcome::Failed(first_failure(&failed, &spec.run_policy.retries));
    }
    let all_ended = members.iter().filter(|pod| pod::ended(pod)).count() >= number(job, &anyone);
    if all_ended {
        let failed = in_phase("Failed", &anyone);
        if failed.is_empty() {
            let message = "every pod ended with success, but not those that the rule for success names".to_owned();
            return Outcome::Failed(Failure { class: ExitClass::Permanent, exit_code: None, message });
        }
        return Outcome::Failed(first_failure(&failed, &spec.run_policy.retries));
    }
    Outcome::Open
}

/// Whether a rule looks at that pod.
fn counts(policy: &ResultPolicy, pod: &Pod) -> bool {
    let Some((role, index)) = pods::place(pod) else { return false };
    policy.role.as_ref().is_none_or(|wanted| wanted == role) && policy.rank.is_none_or(|rank| rank == index)
}

/// How many pods a rule looks at.
fn number(job: &TrainingJob, policy: &ResultPolicy) -> usize {
    let roles = job.spec.roles.iter().filter(|role| policy.role.as_ref().is_none_or(|name| *name == role.name));
    let replicas = roles.map(|role| if policy.rank.is_some() { 1 } else { usize::try_from(role.replicas).unwrap_or(0) });
    replicas.sum()
}

/// The failure that came first: later ones are often only its consequences.
fn first_failure(failed: &[&Arc<Pod>], retries: &Retries) -> Failure {
    let first = failed.iter().min_by_key(|pod| (pod::run_interval(pod).1.unwrap_or(Timestamp::MAX), pod.name_any()));
    first.map_or_else(
        || Failure { class: ExitClass::Permanent, exit_code: None, message: "no pod is left".to_owned() },
        |pod| classify(pod, retries),
    )
}

/// What the failure of a pod means.
fn classify(pod: &Pod, retries: &Retries) -> Failure {
    let name = pod.name_any();
    let status = pod.status.as_ref();
    let own_reason = status.and_then(|status| status.reason.as_deref()).unwrap_or_default();
    let own_message = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
    if LOST_REASONS.contains(&own_reason) {
        let exit_code = pod::exit(pod).map(|exit| exit.code).filter(|code| *code != 0);
        return Failure { class: ExitClass::Retryable, exit_code, message: format!("pod {name} was lost ({own_reason}): {own_message}") };
    }
    match pod::exit(pod).filter(|exit| exit.code != 0) {
        Some(exit) => {
            let out_of_memory = exit.reason == "OOMKilled";
            let class = match retries.classify(exit.code) {
                // The program's own code may be anything when a child of it was killed.
                ExitClass::Permanent if out_of_memory && !retries.permanent_exit_codes.contains(&exit.code) => ExitClass::Retryable,
                class => class,
            };
            let how = if out_of_memory {
                "was killed for using more memory than its limit (OOMKilled)".to_owned()
            } else {
                format!("ended with exit code {}", exit.code)
            };
            let mut message = format!("container {} of pod {name} {how}", exit.container);
            if !exit.message.is_empty() {
                message.push_str(": ");
                message.push_str(exit.message.trim());
            }
            Failure { class, exit_code: Some(exit.code), message }
        }
        None => Failure {
            class: ExitClass::Permanent,
            exit_code: None,
            message: match (own_reason, own_message) {
                ("", "") => format!("pod {name} failed"),
                (why, "") => format!("pod {name} failed ({why})"),
                ("", story) => format!("pod {name} failed: {story}"),
                (why, story) => format!("pod {name} failed ({why}): {story}"),
            },
        },
    }
}
