//! What all kinds that run pods for people have in common, as far as limits on people ask.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::de::DeserializeOwned;

use super::scheduling::Scheduling;
use super::{DevEnvironment, InferenceService, TrainingJob, Workload, dev_environment, inference_service, training_job, workload};
use crate::cards;
use crate::pod::{self, Resources};
use crate::quantity::Milli;

/// An object that runs pods for a person.
pub trait Submission: kube::Resource + DeserializeOwned {
    /// How many pods of which templates; `None` for pods that the platform fills in later.
    fn pods(&self) -> Vec<(i32, Option<&PodTemplateSpec>)>;
    fn priority(&self) -> i32;
    fn scheduling(&self) -> &Scheduling;
    /// Whether it waits: for room, or for its containers to start.
    fn waits(&self) -> bool;

    /// How many pods it has.
    fn pod_count(&self) -> i64 {
        self.pods().iter().map(|(replicas, _)| i64::from(*replicas)).sum()
    }

    /// What its pods ask for together, as far as it says that itself.
    fn requests(&self) -> Resources {
        let mut sum = Resources::new();
        for (replicas, template) in self.pods() {
            let Some(spec) = template.and_then(|template| template.spec.as_ref()) else { continue };
            for amount in cards::counted(pod::requests(spec), cards::known) {
                let total = sum.entry(amount.0).or_default();
                *total = total.saturating_add(amount.1.saturating_mul(Milli::from(replicas)));
            }
        }
        sum
    }
}

impl Submission for TrainingJob {
    fn pods(&self) -> Vec<(i32, Option<&PodTemplateSpec>)> {
        self.spec.roles.iter().map(|role| (role.replicas, Some(&role.template))).collect()
    }

    fn priority(&self) -> i32 {
        self.spec.priority
    }

    fn scheduling(&self) -> &Scheduling {
        &self.spec.scheduling
    }

    fn waits(&self) -> bool {
        !self.spec.suspend && self.status.as_ref().is_none_or(|status| status.phase == training_job::Phase::Pending)
    }
}

impl Submission for DevEnvironment {
    fn pods(&self) -> Vec<(i32, Option<&PodTemplateSpec>)> {
        vec![(1, Some(&self.spec.template))]
    }

    fn priority(&self) -> i32 {
        self.spec.priority
    }

    fn scheduling(&self) -> &Scheduling {
        &self.spec.scheduling
    }

    fn waits(&self) -> bool {
        !self.spec.suspend && self.status.as_ref().is_none_or(|status| status.phase == dev_environment::Phase::Starting)
    }
}

impl Submission for InferenceService {
    fn pods(&self) -> Vec<(i32, Option<&PodTemplateSpec>)> {
        vec![(self.spec.replicas, self.spec.template.as_ref())]
    }

    fn priority(&self) -> i32 {
        self.spec.priority
    }

    fn scheduling(&self) -> &Scheduling {
        &self.spec.scheduling
    }

    fn waits(&self) -> bool {
        let wanted = !self.spec.suspend && self.spec.replicas > 0;
        wanted && self.status.as_ref().is_none_or(|status| status.phase == inference_service::Phase::Starting)
    }
}

impl Submission for Workload {
    fn pods(&self) -> Vec<(i32, Option<&PodTemplateSpec>)> {
        self.spec.pod_sets.iter().map(|set| (set.replicas, Some(&set.template))).collect()
    }

    fn priority(&self) -> i32 {
        self.spec.priority
    }

    fn scheduling(&self) -> &Scheduling {
        &self.spec.scheduling
    }

    /// One that another object made waits with that, and is not counted beside it.
    fn waits(&self) -> bool {
        let own = self.metadata.owner_references.iter().flatten().all(|owner| owner.controller != Some(true));
        let open = !self.spec.suspend && self.spec.closed.is_none();
        let phase = self.status.as_ref().map(|status| status.phase).unwrap_or_default();
        own && open && matches!(phase, workload::Phase::Pending | workload::Phase::Admitted)
    }
}
