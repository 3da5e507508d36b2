//! Image: a container image people can choose.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Rules;

/// An Image is a container image people can choose: an official one that the platform
/// builds from a recipe, or any OCI image by reference.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "assets.fermion.dev",
    version = "v1alpha1",
    kind = "Image",
    status = "ImageStatus",
    derive = "PartialEq",
    shortname = "img",
    category = "fermion",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Reference", type_ = "string", json_path = ".spec.reference"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.digest", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ImageSpec {
    /// What pods write in `image`: `fermion.dev/python:latest`.
    pub reference: String,
    #[serde(default)]
    pub kind: ImageKind,
    /// What is in it and what it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Who stands for an image.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ImageKind {
    /// Built by the platform from its own recipes.
    Official,
    Community,
    #[default]
    Custom,
}

/// What was observed of an Image.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub phase: Phase,
    /// Digest of the image's manifest, `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// The same for people: `412Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// What is being done now: `step 3 of 5: pip packages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_at: Option<Time>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Phases of an Image on the node.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// Not on the node; built or pulled when a pod first needs it.
    #[default]
    Absent,
    Building,
    Present,
    /// Could not be built or pulled; the Present condition says why.
    Failed,
}

impl Rules for Image {}
