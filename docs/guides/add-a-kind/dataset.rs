//! Dataset: data that jobs read.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Invalid, Rules};

/// A Dataset is a folder of a volume that has a name, so that people find it and jobs can
/// refer to it.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "assets.fermion.dev",
    version = "v1alpha1",
    kind = "Dataset",
    namespaced,
    derive = "PartialEq",
    shortname = "ds",
    category = "fermion",
    printcolumn(name = "Claim", type_ = "string", json_path = ".spec.claimName"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.path"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DatasetSpec {
    /// The PersistentVolumeClaim that holds it. It cannot be changed.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "cannot be changed; make another Dataset"}]))]
    pub claim_name: String,
    /// Folder inside the volume; all of it when left out.
    #[serde(default = "whole_volume")]
    pub path: String,
    /// What is in it and where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

fn whole_volume() -> String {
    "/".to_owned()
}

impl Rules for Dataset {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        if self.spec.path.split('/').any(|part| part == "..") {
            return vec![Invalid::new("spec.path", "may not contain `..`")];
        }
        Vec::new()
    }
}

crate::kind!(Dataset);
