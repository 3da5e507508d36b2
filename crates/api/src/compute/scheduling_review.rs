//! SchedulingReview: whether work would start, asked before it is submitted.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ai::workload::Waiting;
use crate::{Invalid, Rules};

/// Kinds of objects that can be asked about: API version and kind.
pub const KINDS: [(&str, &str); 5] = [
    ("ai.fermion.dev/v1alpha1", "TrainingJob"),
    ("ai.fermion.dev/v1alpha1", "DevEnvironment"),
    ("ai.fermion.dev/v1alpha1", "InferenceService"),
    ("ai.fermion.dev/v1alpha1", "Workload"),
    ("v1", "Pod"),
];
/// The most bytes of JSON that the object of a review may be.
pub const OBJECT_BYTES_MAX: usize = 256 * 1024;

/// A SchedulingReview asks what would become of an object if it were submitted at this moment:
/// whether it would be taken, whether it would start, and if not, why, and what would help. It is
/// answered in its status and kept nowhere, and neither is the object.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "SchedulingReview",
    namespaced,
    status = "SchedulingReviewStatus",
    derive = "PartialEq",
    printcolumn(name = "Object", type_ = "string", json_path = ".status.name"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason")
)]
#[serde(rename_all = "camelCase")]
pub struct SchedulingReviewSpec {
    /// What would be submitted: a TrainingJob, DevEnvironment, InferenceService, Workload or Pod,
    /// whole, with its `apiVersion` and `kind`. Its namespace is that of the review.
    #[schemars(schema_with = "any_object")]
    pub object: Value,
}

/// What would become of the object.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulingReviewStatus {
    pub outcome: Outcome,
    /// The name that the object would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The queue that it would be in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Stable code of why it would not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The sentence for people.
    pub message: String,
    /// Why it would wait, as the `status.waiting` of its Workload would say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
}

/// What can become of an object that is submitted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Outcome {
    /// All the pods it needs would have a place in the next round.
    Starts,
    /// It would be taken, and wait.
    Waits,
    /// It, or what is made of it, would not be taken.
    Refused,
    /// It would be taken, and there would be nothing to start.
    Idle,
}

crate::kind!(SchedulingReview, Review);

impl Rules for SchedulingReview {
    fn check(&self, _: Option<&Self>) -> Vec<Invalid> {
        let object = &self.spec.object;
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let mut problems = Vec::new();
        if !KINDS.contains(&(text("apiVersion"), text("kind"))) {
            let known: Vec<String> = KINDS.iter().map(|(version, kind)| format!("{kind} ({version})")).collect();
            problems.push(Invalid::new("spec.object", format!("must be one of {}", known.join(", "))));
        }
        if object.to_string().len() > OBJECT_BYTES_MAX {
            problems.push(Invalid::new("spec.object", format!("must not be larger than {OBJECT_BYTES_MAX} bytes")));
        }
        problems
    }
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(object: Value) -> Vec<String> {
        let review = SchedulingReview::new("", SchedulingReviewSpec { object });
        review.check(None).into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn work_can_be_asked_about_and_nothing_else() {
        for (version, kind) in KINDS {
            assert_eq!(problems(json!({"apiVersion": version, "kind": kind})), Vec::<String>::new());
        }
        for object in
            [json!({"apiVersion": "v1", "kind": "Secret"}), json!({"apiVersion": "v2", "kind": "Pod"}), json!({}), json!({"kind": 1})]
        {
            assert_eq!(problems(object).len(), 1);
        }
    }

    #[test]
    fn an_object_is_bounded() {
        let large = json!({"apiVersion": "v1", "kind": "Pod", "spec": "x".repeat(OBJECT_BYTES_MAX)});
        assert_eq!(problems(large), [format!("must not be larger than {OBJECT_BYTES_MAX} bytes")]);
    }
}
