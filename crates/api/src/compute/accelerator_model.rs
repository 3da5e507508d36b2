//! AcceleratorModel: a model of card that computes, and how it can be divided.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks;
use crate::{Invalid, Rules, quantity};

/// An AcceleratorModel describes one model of accelerator: what it is, what its nodes call it, and
/// into which slices it can be divided. Workloads ask for it as `gpu.fermion.dev/NAME`. Those that
/// the platform knows are made at its start; what is not known of one is left out.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "AcceleratorModel",
    derive = "PartialEq",
    shortname = "accel",
    selectable = ".spec.vendor",
    selectable = ".spec.class",
    printcolumn(name = "Vendor", type_ = "string", json_path = ".spec.vendor"),
    printcolumn(name = "Product", type_ = "string", json_path = ".spec.product"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.class"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".spec.memory"),
    printcolumn(name = "Uses", type_ = "string", json_path = ".spec.uses"),
    printcolumn(name = "Form", type_ = "string", json_path = ".spec.formFactor", priority = 1),
    printcolumn(name = "Resources", type_ = "string", json_path = ".spec.resourceNames", priority = 1),
    printcolumn(name = "Slices", type_ = "string", json_path = ".spec.slices[*].name", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorModelSpec {
    /// Who makes it.
    #[schemars(length(min = 1, max = 100))]
    pub vendor: String,
    /// What the vendor calls it.
    #[schemars(length(min = 1, max = 100))]
    pub product: String,
    pub class: Class,
    /// What the vendor offers it for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<Use>,
    /// Its own memory as the vendor's data sheet gives it, such as `80G`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form_factor: Option<FormFactor>,
    /// CUDA compute capability, such as `9.0`; for cards that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// What nodes call it by the vendor's device plugin, such as `nvidia.com/gpu`. Several models may
    /// have the same name there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Links between cards of a node, the fastest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// How a whole card is counted where it can be divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
    /// The slices it can be divided into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SliceProfile>,
    /// Where this is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

/// Sorts of accelerator.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Class {
    /// General-purpose graphics processor.
    Gpu,
    /// Processor for neural networks.
    Npu,
    /// Graphcore's intelligence processor.
    Ipu,
    /// Processor for language models.
    Lpu,
    /// Reconfigurable dataflow unit.
    Rdu,
}

/// What a model is offered for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Use {
    Training,
    Inference,
}

/// How a card is built in.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum FormFactor {
    PCIe,
    /// NVIDIA's sockets for boards of several.
    SXM,
    /// Open accelerator module of the Open Compute Project.
    OAM,
    /// A module of the vendor's own.
    Module,
}

/// A link between cards of a node.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    pub kind: LinkKind,
    /// Sum over all links of a card and both directions, in gigabytes (10^9) a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub gigabytes_per_second: Option<i32>,
}

/// Sorts of links.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum LinkKind {
    NVLink,
    /// AMD's Infinity Fabric.
    InfinityFabric,
    /// Huawei's cache-coherent system.
    HCCS,
    /// Cambricon's MLU-Link.
    MLULink,
    /// Ethernet ports on the card itself.
    Ethernet,
    PCIe,
}

/// The parts of a whole card that slices are made of.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parts {
    /// Parts that compute: 7 for MIG on an A100.
    #[schemars(range(min = 1, max = 1_000))]
    pub compute: i32,
    /// Parts of the memory, which are the places that slices stand on: 8 for MIG on an A100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub memory: Option<i32>,
}

/// A slice of a card.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceProfile {
    /// The vendor's name, such as `1g.10gb`.
    pub name: String,
    /// What nodes call it, such as `nvidia.com/mig-1g.10gb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
    /// How many of the parts that compute it has.
    #[schemars(range(min = 1, max = 1_000))]
    pub compute: i32,
    /// How many of the parts of the memory it takes up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub memory_parts: Option<i32>,
    /// Its memory as the vendor gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Places among the parts of the memory at which it may begin, from 0. Any when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<i32>,
    /// How many of them one card can have, where that is less than their sizes allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max: Option<i32>,
}

/// The most slice profiles, resource names or links of a model.
pub const ENTRIES_MAX: usize = 64;

/// The models the platform knows, as the data of objects. Each names its sources.
const CATALOGUE: &str = include_str!("accelerator_model/catalogue.json");

/// One entry of the catalogue.
#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(flatten)]
    spec: AcceleratorModelSpec,
}

/// The models the platform knows.
pub fn catalogue() -> Vec<AcceleratorModel> {
    let entries: Vec<Entry> = serde_json::from_str(CATALOGUE).expect("a test reads the catalogue");
    entries.into_iter().map(|entry| AcceleratorModel::new(&entry.name, entry.spec)).collect()
}

impl Rules for AcceleratorModel {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let spec = &self.spec;
        if self.metadata.name.as_ref().is_some_and(|name| name.contains('.')) {
            problems
                .push(Invalid::new("metadata.name", "must not have a `.`: what follows one in the name of a resource is a part of a card"));
        }
        if spec.memory.as_ref().is_some_and(|memory| !is_amount(memory)) {
            problems.push(Invalid::new("spec.memory", "must be a quantity above zero, such as 80G"));
        }
        for (field, count) in [
            ("resourceNames", spec.resource_names.len()),
            ("slices", spec.slices.len()),
            ("links", spec.links.len()),
            ("sources", spec.sources.len()),
        ] {
            if count > ENTRIES_MAX {
                problems.push(Invalid::new(format!("spec.{field}"), format!("has more than {ENTRIES_MAX} entries")));
            }
        }
        for (index, name) in spec.resource_names.iter().enumerate() {
            resource_name(&format!("spec.resourceNames[{index}]"), name, &mut problems);
        }
        if !spec.slices.is_empty() && spec.parts.is_none() {
            problems.push(Invalid::new("spec.parts", "is required beside slices: the parts of a whole card"));
        }
        for (index, slice) in spec.slices.iter().enumerate() {
            check_slice(&format!("spec.slices[{index}]"), slice, spec.parts, &mut problems);
            if spec.slices[..index].iter().any(|other| other.name == slice.name) {
                problems.push(Invalid::new(format!("spec.slices[{index}].name"), format!("`{}` is used twice", slice.name)));
            }
        }
        problems
    }
}

fn is_amount(amount: &Quantity) -> bool {
    quantity::parse(&amount.0).is_ok_and(|amount| amount > 0)
}

fn resource_name(field: &str, name: &str, problems: &mut Vec<Invalid>) {
    if !name.contains('/') || !checks::is_resource_name(name) {
        problems.push(Invalid::new(field, format!("`{name}` is not the name of a device plugin's resource, such as nvidia.com/gpu")));
    }
}

fn check_slice(at: &str, slice: &SliceProfile, parts: Option<Parts>, problems: &mut Vec<Invalid>) {
    if slice.name.is_empty() || slice.name.len() > 63 {
        problems.push(Invalid::new(format!("{at}.name"), "must be a text of 1 to 63 characters"));
    }
    if let Some(name) = &slice.resource_name {
        resource_name(&format!("{at}.resourceName"), name, problems);
    }
    if slice.memory.as_ref().is_some_and(|memory| !is_amount(memory)) {
        problems.push(Invalid::new(format!("{at}.memory"), "must be a quantity above zero, such as 10G"));
    }
    let Some(parts) = parts else { return };
    if slice.compute > parts.compute {
        problems.push(Invalid::new(format!("{at}.compute"), format!("is more than the {} parts of the card", parts.compute)));
    }
    let (Some(whole), size) = (parts.memory, slice.memory_parts.unwrap_or(1)) else { return };
    if size > whole || slice.starts.iter().any(|start| *start < 0 || start.saturating_add(size) > whole) {
        problems.push(Invalid::new(format!("{at}.starts"), format!("leave the {whole} parts of the card's memory")));
    }
}

crate::kind!(AcceleratorModel);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_catalogue_is_valid_and_names_its_sources() {
        let mut names = BTreeSet::new();
        for model in catalogue() {
            let name = model.metadata.name.clone().expect("a name");
            assert!(model.check(None).is_empty(), "{name}: {:?}", model.check(None));
            assert!(checks::is_object_name(&name) && !name.contains('.') && name.len() <= 63, "{name} names a resource");
            assert!(!model.spec.sources.is_empty(), "{name} has no source");
            assert!(model.spec.sources.iter().all(|source| source.starts_with("https://")), "{name}");
            assert!(names.insert(name));
        }
    }

    #[test]
    fn every_vendor_that_must_be_there_is() {
        let models = catalogue();
        let has = |vendor: &str, products: &[&str]| {
            for product in products {
                let found = models.iter().any(|model| model.spec.vendor == vendor && model.spec.product.contains(product));
                assert!(found, "{vendor} {product}");
            }
        };
        has("Kunlunxin", &["P800", "R200", "R300", "RG800", "R480-X8"]);
        has("Huawei", &["Ascend 910", "Ascend 310", "Ascend 910B"]);
        has("Cambricon", &["MLU370"]);
        has("Enflame", &[""]);
        has("Hygon", &["Z100", "Z100L"]);
        has("Iluvatar", &[""]);
        has("Biren", &["BR100", "BR104"]);
        has("Moore Threads", &["MTT S"]);
        has("MetaX", &[""]);
        has("Moffett", &[""]);
        has("AMD", &["MI250X", "MI300X"]);
        has("FuriosaAI", &["Warboy", "RNGD"]);
        has("Graphcore", &["IPU"]);
        has("Groq", &["GroqCard"]);
        has("HyperAccel", &[""]);
        has("Intel", &["Gaudi 2", "Gaudi 3"]);
        has("Rebellions", &["ATOM", "ATOM+"]);
        has("SambaNova", &["SN30", "SN40L"]);
        has("SAPEON", &["X220", "X330"]);
        has("Tenstorrent", &["Wormhole"]);
        has("NVIDIA", &["T4", "A30", "A100", "H100", "H200", "B200"]);
    }

    #[test]
    fn whole_cards_are_made_of_their_slices() {
        let models = catalogue();
        for (name, smallest, count, whole) in [
            ("a100-sxm4-40gb", "1g.5gb", 7, "7g.40gb"),
            ("a100-sxm4-80gb", "1g.10gb", 7, "7g.80gb"),
            ("a30-24gb", "1g.6gb", 4, "4g.24gb"),
            ("h100-sxm5-80gb", "1g.10gb", 7, "7g.80gb"),
            ("h200-sxm5-141gb", "1g.18gb", 7, "7g.141gb"),
            ("b200-sxm6-180gb", "1g.23gb", 7, "7g.180gb"),
        ] {
            let model = models.iter().find(|model| model.metadata.name.as_deref() == Some(name)).expect(name);
            let parts = model.spec.parts.expect("it can be divided");
            let slice = |name: &str| model.spec.slices.iter().find(|slice| slice.name == name).expect(name);
            assert_eq!((slice(smallest).starts.len(), slice(smallest).compute), (count, 1), "{name}");
            assert_eq!((slice(whole).starts.as_slice(), slice(whole).memory_parts), (&[0][..], parts.memory), "{name}");
            assert_eq!(slice(whole).compute, parts.compute, "{name}");
            // No two starts of a profile overlap.
            for slice in &model.spec.slices {
                let size = slice.memory_parts.expect("known");
                assert!(slice.starts.windows(2).all(|pair| pair[1] - pair[0] >= size), "{name} {}", slice.name);
            }
        }
    }
}
