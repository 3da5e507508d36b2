//! Names of the labels, annotations and finalizers the platform sets.
//!
//! A pod carries the labels of what it belongs to, so that `kubectl get pods -l …`
//! answers the questions people have.

/// Name of the Workload a pod is a member of.
pub const WORKLOAD: &str = "fermion.dev/workload";
/// Name of the pod set (role) inside the Workload.
pub const ROLE: &str = "fermion.dev/role";
/// Index of the pod in its pod set, from 0.
pub const INDEX: &str = "fermion.dev/index";
/// Which start of the Workload made the pod, from 0.
pub const ATTEMPT: &str = "fermion.dev/attempt";
/// Name of the TrainingJob a Workload or pod serves.
pub const TRAINING_JOB: &str = "fermion.dev/training-job";
/// Name of the DevEnvironment a Workload or pod serves.
pub const DEV_ENVIRONMENT: &str = "fermion.dev/dev-environment";
/// Name of the InferenceService a Workload or pod serves.
pub const INFERENCE_SERVICE: &str = "fermion.dev/inference-service";
/// Hash of the pod template, telling the revisions of a service apart.
pub const REVISION: &str = "fermion.dev/revision";
/// Name of the Pool a node belongs to.
pub const POOL: &str = "fermion.dev/pool";
/// Person or service account that created an object, set by the apiserver.
pub const CREATED_BY: &str = "fermion.dev/created-by";
/// Annotation of a TrainingJob's Workload: whether its pods were made for debug mode, and with
/// which entry point.
pub const ENTRY_POINT: &str = "fermion.dev/entry-point";
/// Annotation of a Workload: the generation of its owner that its pod sets were made from.
pub const RENDERED_GENERATION: &str = "fermion.dev/rendered-generation";
/// Annotation of a pod: how many pods its gang has; the node waits for their addresses before it starts
/// containers.
pub const GANG_SIZE: &str = "fermion.dev/gang-size";

/// Namespace of the platform's own objects (leases and the like).
pub const SYSTEM_NAMESPACE: &str = "fermion-system";
/// Host and path prefix of the official images: `fermion.dev/python:latest`.
pub const OFFICIAL_IMAGE_PREFIX: &str = "fermion.dev/";
