//! InferenceService: a model behind an address.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scheduling::{self, Scheduling, filled_in_by_a_hook};
use super::{checks, default_queue};
use crate::{Invalid, Refused, Rules};

/// An InferenceService answers requests for as long as it exists: equal replicas behind one
/// address of the platform, spread over those that are ready, replaced when they fail, and
/// changed one by one without a failed request.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "ai.fermion.dev",
    version = "v1alpha1",
    kind = "InferenceService",
    namespaced,
    status = "InferenceServiceStatus",
    derive = "PartialEq",
    shortname = "isvc",
    category = "all",
    category = "fermion",
    selectable = ".status.phase",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct InferenceServiceSpec {
    /// Queue that admits it; the default queue when left out.
    #[serde(default = "default_queue")]
    #[schemars(transform = filled_in_by_a_hook)]
    pub queue: String,
    /// Higher goes first within the queue.
    #[serde(default)]
    pub priority: i32,
    /// True stops every replica and keeps the service.
    #[serde(default)]
    pub suspend: bool,
    /// How many replicas.
    #[serde(default = "one")]
    pub replicas: i32,
    /// Program that serves the model. It fills in the image, command, port and probes that
    /// the template leaves out.
    #[serde(default)]
    pub engine: Engine,
    /// The model, for engines that load one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSource>,
    /// Port the first container listens on.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The pod. With an engine preset it may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplateSpec>,
    /// Longest time a new replica may take to be ready before the update counts as stuck,
    /// such as `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<String>,
    /// What the scheduler should know of it.
    #[serde(default, skip_serializing_if = "Scheduling::is_default")]
    pub scheduling: Scheduling,
}

fn one() -> i32 {
    1
}

fn default_port() -> i32 {
    8080
}

/// Time a new replica may take when `progressDeadline` is left out.
pub const PROGRESS_DEADLINE_DEFAULT: &str = "10m";

/// The program that serves.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Engine {
    /// Whatever the template's first container runs.
    #[default]
    Container,
    /// llama.cpp's server: GGUF models, OpenAI-compatible chat API.
    LlamaCpp,
}

/// Where the model comes from.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelSource {
    /// Name clients send as `model`.
    pub name: String,
    /// A PersistentVolumeClaim that holds it. Left out, the model is part of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// Path inside the volume, or inside the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Where a model's volume is mounted in the container.
pub const MODEL_MOUNT_PATH: &str = "/models";

/// Path on the platform's address under which a service answers.
pub fn endpoint_path(namespace: &str, service: &str) -> String {
    format!("/services/{namespace}/{service}/")
}

/// What was observed of an InferenceService.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceServiceStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub phase: Phase,
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Pods of every revision.
    #[serde(default)]
    pub replicas: i32,
    #[serde(default)]
    pub ready_replicas: i32,
    /// Pods of the newest revision.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Ready of wanted, as `1/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Label selector of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Path on the platform's address under which it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Hash of the newest pod template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// When the present revision began to roll out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_started_at: Option<Time>,
}

/// Phases of an InferenceService.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// No replica is ready yet.
    #[default]
    Starting,
    /// All wanted replicas are ready and of the newest revision.
    Ready,
    /// Some replicas answer; others start or are being replaced.
    Progressing,
    /// Replicas fail or do not become ready in time; the Ready condition says why.
    Degraded,
    Suspended,
}

/// What can happen to an InferenceService.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    NoneReady,
    SomeReady,
    AllReady,
    /// A replica crashed repeatedly or the progress deadline passed.
    Stuck,
    Suspended,
    Resumed,
}

impl Phase {
    pub const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::Progressing, Self::Degraded, Self::Suspended];

    /// The next phase.
    ///
    /// # Errors
    /// When the event cannot happen in this phase.
    pub fn apply(self, event: Event) -> Result<Self, Refused> {
        use Event as E;
        match (self, event) {
            (Self::Starting | Self::Ready | Self::Progressing | Self::Degraded, E::NoneReady) => Ok(Self::Starting),
            (Self::Starting | Self::Ready | Self::Progressing | Self::Degraded, E::SomeReady) => Ok(Self::Progressing),
            (Self::Starting | Self::Ready | Self::Progressing | Self::Degraded, E::AllReady) => Ok(Self::Ready),
            (Self::Starting | Self::Ready | Self::Progressing | Self::Degraded, E::Stuck) => Ok(Self::Degraded),
            (Self::Starting | Self::Ready | Self::Progressing | Self::Degraded | Self::Suspended, E::Suspended) => Ok(Self::Suspended),
            (Self::Suspended, E::Resumed) => Ok(Self::Starting),
            (Self::Suspended, E::NoneReady | E::SomeReady | E::AllReady | E::Stuck)
            | (Self::Starting | Self::Ready | Self::Progressing | Self::Degraded, E::Resumed) => Err(Refused::new(self, event)),
        }
    }
}

impl Event {
    pub const ALL: [Self; 6] = [Self::NoneReady, Self::SomeReady, Self::AllReady, Self::Stuck, Self::Suspended, Self::Resumed];
}

impl Rules for InferenceService {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let spec = &self.spec;
        checks::name(self.metadata.name.as_deref(), &mut problems);
        checks::priority(spec.priority, &mut problems);
        checks::replicas("spec.replicas", spec.replicas, 0, &mut problems);
        scheduling::check(&spec.scheduling, &mut problems);
        checks::span("spec.progressDeadline", spec.progress_deadline.as_deref(), &mut problems);
        match (&spec.template, spec.engine) {
            (Some(template), engine) => checks::template("spec.template", template, engine == Engine::Container, &mut problems),
            (None, Engine::Container) => problems.push(Invalid::new("spec.template", "is required unless an engine preset is chosen")),
            (None, Engine::LlamaCpp) => {}
        }
        if let Some(model) = &spec.model {
            let path = model.path.as_deref().unwrap_or_default();
            if path.split('/').any(|part| part == "..") {
                problems.push(Invalid::new("spec.model.path", "may not contain `..`"));
            }
            if model.claim_name.is_some() && path.is_empty() {
                problems.push(Invalid::new("spec.model.path", "is required with claimName: the model file inside the volume"));
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
}
