//! TrainingJob: batch work that ends by itself.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scheduling::{self, Scheduling, filled_in_by_a_hook};
use super::{POD_SETS_MAX, checks, default_queue};
use crate::{Invalid, Refused, Rules};

/// A TrainingJob is batch work with a start and an end: one or more roles of equal pods that
/// start together, talk to each other, are tried again when a failure is worth it, and leave
/// their resources when they are done. Any launcher can be expressed: every container gets
/// its rank, the number of replicas, and its peers' host names and ports as variables, which
/// `$(NAME)` puts into commands and arguments.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "ai.fermion.dev",
    version = "v1alpha1",
    kind = "TrainingJob",
    namespaced,
    status = "TrainingJobStatus",
    derive = "PartialEq",
    shortname = "tj",
    category = "all",
    category = "fermion",
    selectable = ".status.phase",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Attempt", type_ = "integer", json_path = ".status.attempt"),
    printcolumn(name = "Queue", type_ = "string", json_path = ".spec.queue", priority = "1"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Complete\")].message", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TrainingJobSpec {
    /// Queue that admits it; the default queue when left out.
    #[serde(default = "default_queue")]
    #[schemars(transform = filled_in_by_a_hook)]
    pub queue: String,
    /// Higher goes first within the queue.
    #[serde(default)]
    pub priority: i32,
    /// While true nothing of it runs; clearing it starts the pods again. Volumes stay.
    #[serde(default)]
    pub suspend: bool,
    /// Preset that fills in the variables a framework's launcher reads.
    #[serde(default)]
    pub framework: Framework,
    /// Groups of equal pods.
    pub roles: Vec<Role>,
    /// When the job counts as succeeded.
    #[serde(default)]
    pub success_policy: ResultPolicy,
    /// When the job counts as failed. Without it, one failed pod fails the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<ResultPolicy>,
    #[serde(default)]
    pub run_policy: RunPolicy,
    /// What the scheduler should know of it.
    #[serde(default, skip_serializing_if = "Scheduling::is_default")]
    pub scheduling: Scheduling,
    /// Runs the same pods, volumes and network with another entry point, to look around in
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<Debug>,
    /// Where the job's own numbers (loss, accuracy) are read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsSource>,
    /// Where and how often the program should save its state; given to it as variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
}

/// A group of equal pods of a TrainingJob.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Name of the role, unique in the job: `worker`, `launcher`, `ps`.
    pub name: String,
    /// How many pods.
    #[serde(default = "one")]
    pub replicas: i32,
    /// What happens inside a pod when a container ends with a failure. `OnFailure` restarts
    /// it in its place; `Never` leaves it to the job's retries.
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    /// Ports the pods of this role listen on, told to every pod of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<RolePort>,
    /// The pod.
    pub template: PodTemplateSpec,
}

fn one() -> i32 {
    1
}

/// A named port of a role.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolePort {
    pub name: String,
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// Restart of containers inside a pod.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum RestartPolicy {
    #[default]
    Never,
    OnFailure,
}

/// A preset of variables.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Framework {
    /// Only the variables every job gets (`FERMION_…`).
    #[default]
    Plain,
    /// `MASTER_ADDR`, `MASTER_PORT`, `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `NODE_RANK`, as
    /// `torch.distributed` reads them.
    PyTorch,
}

/// A rule over the pods of one role, or of all roles.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultPolicy {
    /// The role that counts; every role when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The rank within the role that counts; every rank when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<i32>,
    /// Whether all of the pods that count must end that way, or any one is enough.
    #[serde(default)]
    pub when: Quantifier,
}

/// All of them, or any one.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Quantifier {
    #[default]
    All,
    Any,
}

/// Limits on how the job runs.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunPolicy {
    /// Longest time from the first start to the end, such as `2h30m`; suspended time does
    /// not count. The job fails when it is over. In a queue with a time limit, that limit when
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
    #[serde(default)]
    pub retries: Retries,
    #[serde(default)]
    pub clean_up: CleanUp,
}

/// Which failures start the whole job over, and how often.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// How many times the job may be started over.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub limit: i32,
    /// Exit codes worth another try. When no list names a code, 1 to 127 are permanent and
    /// 128 and above (ended by a signal, out of memory, lost node) are retryable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retryable_exit_codes: Vec<i32>,
    /// Exit codes that fail the job at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permanent_exit_codes: Vec<i32>,
    /// Exit codes by which the program asks to be started over, without using up a retry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_requested_exit_codes: Vec<i32>,
}

/// The most times a program may ask to be started over, so that a job cannot loop for ever.
pub const USER_REQUESTED_RESTARTS_MAX: i32 = 1_000;

/// What an exit code means for the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitClass {
    Success,
    Retryable,
    Permanent,
    UserRequested,
}

impl Retries {
    /// The class of an exit code; see the fields for the rules.
    pub fn classify(&self, code: i32) -> ExitClass {
        if code == 0 {
            ExitClass::Success
        } else if self.user_requested_exit_codes.contains(&code) {
            ExitClass::UserRequested
        } else if self.permanent_exit_codes.contains(&code) {
            ExitClass::Permanent
        } else if self.retryable_exit_codes.contains(&code) || code >= 128 {
            ExitClass::Retryable
        } else {
            ExitClass::Permanent
        }
    }
}

/// What is removed once the job ended.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanUp {
    /// Pods deleted at the end. Kept pods hold no resources; their logs stay readable.
    #[serde(default)]
    pub pods: CleanUpPods,
    /// How long after its end the job itself is deleted, such as `7d`; never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<String>,
}

/// Which pods are deleted when the job ends.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum CleanUpPods {
    /// Those that still run.
    #[default]
    Running,
    All,
    None,
}

/// Debug mode.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Debug {
    /// Entry point in place of every main container's command.
    #[serde(default = "sleep_forever")]
    pub command: Vec<String>,
}

fn sleep_forever() -> Vec<String> {
    vec!["sleep".to_owned(), "infinity".to_owned()]
}

/// Where metrics come from. Lines are JSON objects (`{"step": 3, "loss": 0.21}`).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsSource {
    /// Role whose rank 0 is read; the first role when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// A file of JSON lines on one of the pod's volumes. Without it, JSON lines that the
    /// first container prints are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// How the program should save its state.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Directory on one of the pod's volumes (`CHECKPOINT_DIR`).
    pub directory: String,
    /// Time between two checkpoints, such as `10m` (`CHECKPOINT_INTERVAL_SECONDS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// How many to keep (`CHECKPOINT_KEEP`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep: Option<i32>,
}

/// What was observed of a TrainingJob.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrainingJobStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub phase: Phase,
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Ready pods of all pods, as `1/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// How many times the job was started over.
    #[serde(default)]
    pub attempt: i32,
    /// Of these, how many because of a failure.
    #[serde(default)]
    pub retries: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Seconds the job ran before the present start, when it was suspended in between.
    #[serde(default)]
    pub ran_s: i64,
    /// Exit code of the pod that decided the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The newest value of every metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub metrics: Option<serde_json::Map<String, serde_json::Value>>,
    /// The last metric lines, oldest first, at most [`METRICS_HISTORY_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub metrics_history: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// The most metric lines kept in the status.
pub const METRICS_HISTORY_MAX: usize = 50;

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn any_objects(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}})
}

/// Phases of a TrainingJob.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// Waits for room in its queue, or for its containers to start.
    #[default]
    Pending,
    Running,
    /// Its pods are being replaced after a failure or at its own request.
    Restarting,
    Suspended,
    Succeeded,
    Failed,
}

/// What can happen to a TrainingJob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    PodsStarted,
    /// The rule for success holds.
    SuccessReached,
    /// A failure that will be tried again.
    RetryableFailure,
    /// A failure that will not.
    FinalFailure,
    /// The pods of the former attempt are gone.
    PodsReplaced,
    /// Ran longer than allowed.
    DeadlinePassed,
    Suspended,
    Resumed,
    /// Its pods are to run another entry point (debug mode was switched).
    EntryPointChanged,
    /// It was stopped for work that goes before it, and waits for a place again.
    Evicted,
}

impl Phase {
    pub const ALL: [Self; 6] = [Self::Pending, Self::Running, Self::Restarting, Self::Suspended, Self::Succeeded, Self::Failed];

    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// The next phase.
    ///
    /// # Errors
    /// When the event cannot happen in this phase.
    pub fn apply(self, event: Event) -> Result<Self, Refused> {
        use Event as E;
        match (self, event) {
            (Self::Pending | Self::Running, E::PodsStarted) => Ok(Self::Running),
            (Self::Pending | Self::Running, E::SuccessReached) => Ok(Self::Succeeded),
            (Self::Pending | Self::Running, E::RetryableFailure) => Ok(Self::Restarting),
            (Self::Pending | Self::Running | Self::Restarting, E::FinalFailure | E::DeadlinePassed) => Ok(Self::Failed),
            (Self::Restarting, E::PodsReplaced) => Ok(Self::Pending),
            (Self::Pending | Self::Running | Self::Restarting | Self::Suspended, E::Suspended) => Ok(Self::Suspended),
            (Self::Suspended, E::Resumed) => Ok(Self::Pending),
            (Self::Pending | Self::Running | Self::Restarting, E::EntryPointChanged) => Ok(Self::Restarting),
            (Self::Suspended, E::EntryPointChanged) => Ok(Self::Suspended),
            (Self::Pending | Self::Running, E::Evicted) => Ok(Self::Pending),
            (Self::Restarting, E::Evicted) => Ok(Self::Restarting),
            (Self::Suspended, E::Evicted) => Ok(Self::Suspended),
            (Self::Pending | Self::Running, E::PodsReplaced | E::Resumed)
            | (Self::Restarting, E::PodsStarted | E::SuccessReached | E::RetryableFailure | E::Resumed)
            | (
                Self::Suspended,
                E::PodsStarted | E::SuccessReached | E::RetryableFailure | E::FinalFailure | E::PodsReplaced | E::DeadlinePassed,
            )
            | (
                Self::Succeeded | Self::Failed,
                E::PodsStarted
                | E::SuccessReached
                | E::RetryableFailure
                | E::FinalFailure
                | E::PodsReplaced
                | E::DeadlinePassed
                | E::Suspended
                | E::Resumed
                | E::EntryPointChanged
                | E::Evicted,
            ) => Err(Refused::new(self, event)),
        }
    }
}

impl Event {
    pub const ALL: [Self; 10] = [
        Self::PodsStarted,
        Self::SuccessReached,
        Self::RetryableFailure,
        Self::FinalFailure,
        Self::PodsReplaced,
        Self::DeadlinePassed,
        Self::Suspended,
        Self::Resumed,
        Self::EntryPointChanged,
        Self::Evicted,
    ];
}

impl Rules for TrainingJob {
    fn check(&self, old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let spec = &self.spec;
        checks::name(self.metadata.name.as_deref(), &mut problems);
        checks::priority(spec.priority, &mut problems);
        if spec.roles.is_empty() || spec.roles.len() > POD_SETS_MAX {
            problems.push(Invalid::new("spec.roles", format!("needs 1 to {POD_SETS_MAX} entries")));
        }
        for (index, role) in spec.roles.iter().enumerate() {
            let at = |field: &str| format!("spec.roles[{index}].{field}");
            checks::label(&at("name"), &role.name, &mut problems);
            checks::replicas(&at("replicas"), role.replicas, 1, &mut problems);
            checks::template(&at("template"), &role.template, true, &mut problems);
            if spec.roles[..index].iter().any(|other| other.name == role.name) {
                problems.push(Invalid::new(at("name"), format!("`{}` is used twice", role.name)));
            }
            for (place, port) in role.ports.iter().enumerate() {
                checks::label(&format!("spec.roles[{index}].ports[{place}].name"), &port.name, &mut problems);
            }
        }
        let policies = [("spec.successPolicy", Some(&spec.success_policy)), ("spec.failurePolicy", spec.failure_policy.as_ref())];
        for (field, policy) in policies {
            let Some(policy) = policy else { continue };
            let role = policy.role.as_ref().map(|name| spec.roles.iter().find(|role| role.name == *name));
            match (role, policy.rank) {
                (Some(None), _) => problems.push(Invalid::new(format!("{field}.role"), "names no role of this job")),
                (Some(Some(role)), Some(rank)) if !(0..role.replicas).contains(&rank) => {
                    problems.push(Invalid::new(format!("{field}.rank"), format!("must lie between 0 and {}", role.replicas - 1)));
                }
                (None, Some(_)) => problems.push(Invalid::new(format!("{field}.rank"), "needs a role beside it")),
                (None | Some(Some(_)), _) => {}
            }
        }
        if let Some(name) = spec.metrics.as_ref().and_then(|metrics| metrics.role.as_ref())
            && !spec.roles.iter().any(|role| role.name == *name)
        {
            problems.push(Invalid::new("spec.metrics.role", "names no role of this job"));
        }
        scheduling::check(&spec.scheduling, &mut problems);
        checks::span("spec.runPolicy.maxDuration", spec.run_policy.max_duration.as_deref(), &mut problems);
        checks::span("spec.runPolicy.cleanUp.ttlAfterFinished", spec.run_policy.clean_up.ttl_after_finished.as_deref(), &mut problems);
        if let Some(checkpoint) = &spec.checkpoint {
            checks::span("spec.checkpoint.interval", checkpoint.interval.as_deref(), &mut problems);
        }
        for (field, codes) in [
            ("retryableExitCodes", &spec.run_policy.retries.retryable_exit_codes),
            ("permanentExitCodes", &spec.run_policy.retries.permanent_exit_codes),
            ("userRequestedExitCodes", &spec.run_policy.retries.user_requested_exit_codes),
        ] {
            if codes.iter().any(|code| !(1..=255).contains(code)) {
                problems.push(Invalid::new(format!("spec.runPolicy.retries.{field}"), "exit codes lie between 1 and 255"));
            }
        }
        if spec.debug.as_ref().is_some_and(|debug| debug.command.is_empty()) {
            problems.push(Invalid::new("spec.debug.command", "needs at least one word"));
        }
        if let Some(old) = old {
            let finished = old.status.as_ref().is_some_and(|status| status.phase.is_final());
            if finished && old.spec != self.spec {
                problems.push(Invalid::new("spec", "the job has ended; create a new one to run it again"));
            } else if old.spec.roles != self.spec.roles && !old.spec.suspend {
                problems.push(Invalid::new("spec.roles", "can only be changed while the job is suspended"));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_answers_every_event() {
        insta::assert_snapshot!(crate::rules::matrix(&Phase::ALL, &Event::ALL, Phase::apply));
    }

    #[test]
    fn exit_codes_fall_into_classes() {
        let retries = Retries {
            retryable_exit_codes: vec![3],
            permanent_exit_codes: vec![139],
            user_requested_exit_codes: vec![42],
            ..Default::default()
        };
        for (code, class) in [
            (0, ExitClass::Success),
            (1, ExitClass::Permanent),
            (3, ExitClass::Retryable),
            (42, ExitClass::UserRequested),
            (137, ExitClass::Retryable),
            (139, ExitClass::Permanent),
        ] {
            assert_eq!(retries.classify(code), class, "{code}");
        }
    }

    #[test]
    fn policies_must_name_roles_that_exist() {
        let job: TrainingJob = serde_json::from_value(serde_json::json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a"},
            "spec": {
                "roles": [{"name": "worker", "replicas": 2, "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}}],
                "successPolicy": {"role": "chief"},
                "failurePolicy": {"role": "worker", "rank": 2},
                "runPolicy": {"maxDuration": "soon"},
            },
        }))
        .expect("a job");
        let fields: Vec<_> = job.check(None).into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["spec.successPolicy.role", "spec.failurePolicy.rank", "spec.runPolicy.maxDuration"]);
    }
}
