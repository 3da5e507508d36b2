//! `ai.fermion.dev`: the workloads.

mod checks;
pub mod dev_environment;
pub mod inference_service;
pub mod scheduling;
pub mod submission;
pub mod training_job;
pub mod workload;

pub use dev_environment::{DevEnvironment, DevEnvironmentSpec, DevEnvironmentStatus};
pub use inference_service::{InferenceService, InferenceServiceSpec, InferenceServiceStatus};
pub use submission::Submission;
pub use training_job::{TrainingJob, TrainingJobSpec, TrainingJobStatus};
pub use workload::{Workload, WorkloadSpec, WorkloadStatus};

/// The queue used when none is named and nobody knows of another default.
pub(crate) fn default_queue() -> String {
    crate::compute::queue::DEFAULT.to_owned()
}

/// The highest and lowest `priority` of a workload.
pub const PRIORITY_RANGE: std::ops::RangeInclusive<i32> = -1_000_000..=1_000_000;
/// The most replicas of one pod set.
pub const REPLICAS_MAX: i32 = 10_000;
/// The most pod sets (roles) of one workload.
pub const POD_SETS_MAX: usize = 32;
/// The longest name a workload may have, so that its pods' names stay DNS labels.
pub const NAME_LENGTH_MAX: usize = 40;
