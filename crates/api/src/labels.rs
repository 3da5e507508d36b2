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
/// Organisation that a project belongs to, on its namespace.
pub const ORGANIZATION: &str = "iam.fermion.dev/organization";
/// Tenant that a project belongs to, on its namespace.
pub const TENANT: &str = "iam.fermion.dev/tenant";
/// Partition a node is in; set by the platform from Partition objects.
pub const PARTITION: &str = "compute.fermion.dev/partition";
/// Resource group a node is in; set by the platform from ResourceGroup objects.
pub const RESOURCE_GROUP: &str = "compute.fermion.dev/resource-group";
/// Whether a node may be used in its HPC partition; set by the platform from Partition objects.
pub const HPC_AUTHORIZED: &str = "compute.fermion.dev/hpc-authorized";
/// Zone of a node: what fails together.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Rack of a node.
pub const RACK: &str = "topology.fermion.dev/rack";
/// Nodes that reach each other over the fastest links there are.
pub const LINK_DOMAIN: &str = "topology.fermion.dev/link-domain";
/// Before the name of an AcceleratorModel, it is the resource pods ask for: `gpu.fermion.dev/h100-sxm5-80gb`.
pub const ACCELERATOR_PREFIX: &str = "gpu.fermion.dev/";
/// Annotation of a pod: the cards it was given, as JSON; written with its node.
pub const CARDS: &str = "gpu.fermion.dev/cards";
/// Taint of a node on which work dies that does not die elsewhere. Taking it away lifts the quarantine.
pub const QUARANTINE: &str = "fermion.dev/quarantine";
/// Annotation of such a node: when the quarantine ends by itself.
pub const QUARANTINED_UNTIL: &str = "fermion.dev/quarantined-until";
/// Annotation of such a node: what died there.
pub const QUARANTINE_REASON: &str = "fermion.dev/quarantine-reason";
/// Annotation of a node: when its last quarantine ended. What died before is not held against it.
pub const QUARANTINE_ENDED: &str = "fermion.dev/quarantine-ended";
/// Annotation of a node: IP address of its management controller.
pub const BMC_ADDRESS: &str = "compute.fermion.dev/bmc-address";
/// Annotation of a node: MAC address of its management controller.
pub const BMC_MAC: &str = "compute.fermion.dev/bmc-mac";
/// Annotation of a node that exists only as an object; nobody reports for it.
pub const FAKE_NODE: &str = "fermion.dev/fake-node";
/// Annotation of such a node that makes it not ready, with the reason people read.
pub const FAKE_NODE_DOWN: &str = "fermion.dev/fake-node-down";
/// Annotation of a pod on such a node: how long it runs, such as `30s` or `500ms`; for ever when missing.
pub const FAKE_RUN_TIME: &str = "fermion.dev/fake-run-time";
/// Annotation of a pod on such a node: the exit code it ends with; 0 when missing.
pub const FAKE_EXIT_CODE: &str = "fermion.dev/fake-exit-code";
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
/// The Secret in [`SYSTEM_NAMESPACE`] that holds the password of a node's root.
pub fn node_password_secret(node: &str) -> String {
    format!("node-{node}-root")
}

/// Host and path prefix of the official images: `fermion.dev/python:latest`.
pub const OFFICIAL_IMAGE_PREFIX: &str = "fermion.dev/";
