//! What people tell the scheduler about a workload, in the same words for every kind that runs
//! pods.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::checks;
use crate::{Invalid, duration};

/// The longest key of a label: a domain of 253, a slash, and a name of 63.
const LABEL_KEY_LENGTH_MAX: usize = 317;

/// What the scheduler should know of a workload.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// How long it will run, as far as is known, such as `2h30m`. The better this is, the sooner it
    /// fits into a gap before a reservation. It is no limit: what runs longer goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_time: Option<String>,
    /// When it should be done. The scheduler serves it earlier the less time is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// Goes before all others of its queue that are not urgent, where the user may ask for that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub urgent: bool,
    /// Whether it may be stopped, and started again later, to make room for others.
    #[serde(default = "yes")]
    pub preemptible: bool,
    /// Whether its processors may be shared, in a queue whose mode of sharing is `YES`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oversubscribe: bool,
    /// How close together its pods must or should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
}

/// `serde` asks for a function over a reference.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_false(value: &bool) -> bool {
    !value
}

fn yes() -> bool {
    true
}

impl Default for Scheduling {
    fn default() -> Self {
        Self { run_time: None, deadline: None, urgent: false, preemptible: true, oversubscribe: false, topology: None }
    }
}

impl Scheduling {
    /// Whether nothing differs from what holds anyway.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long it will run, if that was told.
    pub fn run_time(&self) -> Option<Duration> {
        self.run_time.as_deref().and_then(|text| duration::parse(text).ok())
    }
}

/// Nodes that are close to each other have the same value of a label: that of their zone, their
/// rack, or their domain of fast links. The levels of a pool stand in its `spec.topologyLevels`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// All its pods run on nodes with the same value of this label, or none runs: for example
    /// `topology.fermion.dev/link-domain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<String>,
    /// The same where it is possible, without waiting for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<String>,
}

/// What a workload is for. Time windows are set by this.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub enum EnvironmentKind {
    /// Somebody works in it.
    Development,
    /// It ends by itself.
    #[default]
    Training,
    /// It answers requests.
    Inference,
    /// It shows results.
    Visualization,
}

impl EnvironmentKind {
    pub const ALL: [Self; 4] = [Self::Development, Self::Training, Self::Inference, Self::Visualization];
}

pub(super) fn check(scheduling: &Scheduling, problems: &mut Vec<Invalid>) {
    checks::span("spec.scheduling.runTime", scheduling.run_time.as_deref(), problems);
    if scheduling.run_time() == Some(Duration::ZERO) {
        problems.push(Invalid::new("spec.scheduling.runTime", "must be longer than nothing; leave it out when it is not known"));
    }
    let Some(topology) = &scheduling.topology else { return };
    for (field, key) in [("required", &topology.required), ("preferred", &topology.preferred)] {
        if key.as_ref().is_some_and(|key| !is_label_key(key)) {
            let message = "is not the key of a label; write it like topology.fermion.dev/rack";
            problems.push(Invalid::new(format!("spec.scheduling.topology.{field}"), message));
        }
    }
}

/// Whether a text can be the key of a label.
pub(crate) fn is_label_key(key: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    key.len() <= LABEL_KEY_LENGTH_MAX
        && (1..=63).contains(&name.len())
        && name.bytes().all(fine)
        && domain.is_none_or(|domain| !domain.is_empty() && domain.bytes().all(fine))
}

/// Takes the default out of a field's schema: what is filled in when it is missing depends on more
/// than the object, so a hook of the API server does it.
pub(super) fn filled_in_by_a_hook(schema: &mut Schema) {
    schema.remove("default");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_facts_are_named() {
        let scheduling: Scheduling = serde_json::from_value(serde_json::json!({
            "runTime": "long", "topology": {"required": "a rack", "preferred": "topology.fermion.dev/rack"},
        }))
        .expect("facts");
        let mut problems = Vec::new();
        check(&scheduling, &mut problems);
        let fields: Vec<_> = problems.into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["spec.scheduling.runTime", "spec.scheduling.topology.required"]);
    }

    #[test]
    fn what_holds_anyway_is_not_written() {
        assert!(serde_json::from_str::<Scheduling>("{}").expect("facts").is_default());
        assert_eq!(serde_json::to_value(Scheduling::default()).expect("JSON"), serde_json::json!({"preemptible": true}));
    }
}
