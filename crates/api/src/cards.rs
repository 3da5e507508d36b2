//! Cards of accelerators in what pods ask for and are given.
//!
//! A pod asks in one of three ways, in whole numbers as Kubernetes has them for extended resources:
//! - `gpu.fermion.dev/MODEL: 2` whole cards;
//! - `gpu.fermion.dev/MODEL.share: 300` thousandths of the compute of one card, and with
//!   `gpu.fermion.dev/MODEL.memory: 24Gi` so much of its memory (the same part as of the compute
//!   when left out);
//! - `gpu.fermion.dev/MODEL.SLICE: 1` a slice, named as the vendor's device plugin names it:
//!   `gpu.fermion.dev/a100-sxm4-80gb.mig-1g.10gb`.
//!
//! Whatever the way, it counts as thousandths of `gpu.fermion.dev/MODEL` in queues, quotas and
//! records of usage. Which cards a pod was given stands in its annotation [`labels::CARDS`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use crate::compute::AcceleratorModel;
use crate::compute::accelerator_model::{SliceProfile, catalogue};
use crate::labels::{self, ACCELERATOR_PREFIX};
use crate::pod::Resources;
use crate::quantity::{self, Milli};

/// After the model, the word for a part of the compute.
pub const SHARE: &str = "share";
/// After the model, the word for memory.
pub const MEMORY: &str = "memory";
/// A whole card, in thousandths.
const WHOLE: Milli = 1000;
/// Thousandths in a unit.
const UNIT: Milli = 1000;
const MIB: Milli = 1 << 20;
/// Places for slices that a card has at most.
const PLACES_MAX: i32 = 8;

/// A part of one card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub model: String,
    pub size: Size,
}

/// How much of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// Thousandths of its compute, and MiB of its memory.
    Share { compute: u16, memory_mib: u32 },
    /// A slice with a place of its own on the card.
    Slice { name: String },
}

/// What a pod asks for, as it is counted, and the part of a card among it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// With all of a card as thousandths of `gpu.fermion.dev/MODEL`.
    pub requests: Resources,
    pub part: Option<Part>,
}

/// A card, or a part of one, that a pod was given.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Card {
    pub model: String,
    /// Its place among the node's cards of the model, from 0.
    pub index: u8,
    /// Thousandths of it, when it is not the whole card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u16>,
    #[serde(default, rename = "memoryMiB", skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Name of the slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Places of the card's memory that the slice takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<u8>,
}

/// What a model's nodes and pods call a slice of it.
pub fn slice_name(slice: &SliceProfile) -> String {
    let plugin = slice.resource_name.as_deref().and_then(|name| name.rsplit('/').next());
    plugin.map_or_else(|| slice.name.replace('+', "."), str::to_owned)
}

/// The slices of a model that can be asked for. Those of which a card can have fewer than there
/// are places for are left out.
pub fn slices(model: &AcceleratorModel) -> impl Iterator<Item = &SliceProfile> {
    model.spec.slices.iter().filter(|slice| slice.max.is_none() && model.spec.parts.is_some())
}

/// A slice's part of the card's compute, in thousandths; at least one.
pub fn slice_compute(model: &AcceleratorModel, slice: &SliceProfile) -> u16 {
    let parts = model.spec.parts.map_or(1, |parts| parts.compute.max(1));
    u16::try_from((slice.compute * 1000 / parts).clamp(1, 1000)).unwrap_or(1000)
}

/// Width and possible starts of a slice that has a place on the card; `None` for one that is
/// counted by its size alone.
pub fn slice_places(model: &AcceleratorModel, slice: &SliceProfile) -> Option<(u8, Vec<u8>)> {
    let whole = model.spec.parts?.memory.filter(|whole| *whole <= PLACES_MAX)?;
    let width = slice.memory_parts?;
    let any: Vec<i32> = (0..=whole - width).collect();
    let starts = if slice.starts.is_empty() { &any } else { &slice.starts };
    let starts = starts.iter().filter(|start| **start >= 0 && **start + width <= whole).filter_map(|start| u8::try_from(*start).ok());
    Some((u8::try_from(width).ok()?, starts.collect()))
}

/// The memory of a card of the model, in MiB.
pub fn memory_mib(model: &AcceleratorModel) -> Option<u32> {
    model.spec.memory.as_ref().and_then(|memory| u32::try_from(quantity::milli(memory) / UNIT / MIB).ok())
}

/// A model that the platform knows by itself.
pub fn known(name: &str) -> Option<Arc<AcceleratorModel>> {
    static KNOWN: LazyLock<BTreeMap<String, Arc<AcceleratorModel>>> =
        LazyLock::new(|| catalogue().into_iter().map(|model| (model.name_any(), Arc::new(model))).collect());
    KNOWN.get(name).cloned()
}

/// The model and the word after it of a resource's name, if it is a part of a card.
fn split(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(ACCELERATOR_PREFIX)?.split_once('.')
}

/// Whether a part of a card is asked for.
pub fn asks_for_part(requests: &Resources) -> bool {
    requests.keys().any(|name| split(name).is_some())
}

/// Makes out what is asked of cards; `model` finds a model by name.
///
/// # Errors
/// In words, what cannot be asked for, and what can be instead.
pub fn settle(requests: Resources, model: impl Fn(&str) -> Option<Arc<AcceleratorModel>>) -> Result<Settled, String> {
    if !asks_for_part(&requests) {
        return Ok(Settled { requests, part: None });
    }
    let (parts, mut rest): (Resources, Resources) = requests.into_iter().partition(|(name, _)| split(name).is_some());
    let words: BTreeMap<(&str, &str), Milli> = parts.iter().filter_map(|(name, amount)| Some((split(name)?, *amount))).collect();
    let names: BTreeSet<&str> = words.keys().map(|(name, _)| *name).collect();
    let whole = rest.iter().any(|(name, amount)| name.starts_with(ACCELERATOR_PREFIX) && *amount > 0);
    let ways = words.keys().filter(|(_, word)| *word != MEMORY).count();
    let (Some(name), 1, false, 0..=1) = (names.first().copied(), names.len(), whole, ways) else {
        return Err(
            "a pod asks for whole cards, or for a share of one card, or for one slice of a card: not for several of these".to_owned()
        );
    };
    let found = model(name).ok_or_else(|| {
        format!(
            "`{name}` is no AcceleratorModel, so that its cards cannot be divided; `kubectl get acceleratormodels` lists those there are"
        )
    })?;
    let memory = words.get(&(name, MEMORY)).copied();
    let size = match words.keys().find(|(_, word)| *word != MEMORY) {
        None => {
            return Err(format!(
                "{ACCELERATOR_PREFIX}{name}.{MEMORY} goes with {ACCELERATOR_PREFIX}{name}.{SHARE}: say how much of its compute too"
            ));
        }
        Some((_, SHARE)) => share(name, &found, words[&(name, SHARE)], memory)?,
        Some((_, word)) => {
            if memory.is_some() {
                return Err(format!("a slice has its own memory; leave out {ACCELERATOR_PREFIX}{name}.{MEMORY}"));
            }
            slice(name, &found, word, words[&(name, *word)])?
        }
    };
    let (counted, size) = size;
    rest.insert(format!("{ACCELERATOR_PREFIX}{name}"), counted);
    Ok(Settled { requests: rest, part: Some(Part { model: name.to_owned(), size }) })
}

/// What is asked for as it is counted. What cannot be made out stays as it is.
pub fn counted(requests: Resources, model: impl Fn(&str) -> Option<Arc<AcceleratorModel>>) -> Resources {
    if !asks_for_part(&requests) {
        return requests;
    }
    settle(requests.clone(), model).map_or(requests, |settled| settled.requests)
}

fn share(name: &str, model: &AcceleratorModel, amount: Milli, memory: Option<Milli>) -> Result<(Milli, Size), String> {
    let thousandths = amount / UNIT;
    if amount % UNIT != 0 || !(1..WHOLE).contains(&thousandths) {
        return Err(format!(
            "{ACCELERATOR_PREFIX}{name}.{SHARE} is in thousandths of a card, from 1 to 999; for a whole card ask for {ACCELERATOR_PREFIX}{name}"
        ));
    }
    let all = memory_mib(model);
    let memory_mib = match (memory, all) {
        (None, all) => u32::try_from(i128::from(all.unwrap_or(0)) * thousandths / WHOLE).unwrap_or(0),
        (Some(_), None) => {
            return Err(format!("how much memory a card of {name} has is not known; leave out {ACCELERATOR_PREFIX}{name}.{MEMORY}"));
        }
        (Some(bytes), Some(all)) => {
            let asked = (bytes / UNIT + MIB - 1) / MIB;
            if bytes < UNIT * MIB {
                return Err(format!("{ACCELERATOR_PREFIX}{name}.{MEMORY} is in bytes and at least 1Mi; write it like 24Gi"));
            }
            u32::try_from(asked)
                .ok()
                .filter(|asked| *asked <= all)
                .ok_or_else(|| format!("a card of {name} has {all}Mi of memory, and {ACCELERATOR_PREFIX}{name}.{MEMORY} is {asked}Mi"))?
        }
    };
    let compute = u16::try_from(thousandths).unwrap_or(u16::MAX);
    Ok((thousandths, Size::Share { compute, memory_mib }))
}

fn slice(name: &str, model: &AcceleratorModel, word: &str, amount: Milli) -> Result<(Milli, Size), String> {
    let Some(slice) = slices(model).find(|slice| slice_name(slice) == word) else {
        let names: Vec<String> = slices(model).map(|slice| format!("{ACCELERATOR_PREFIX}{name}.{}", slice_name(slice))).collect();
        let there_is = if names.is_empty() { "its cards have no slices".to_owned() } else { format!("there are {}", names.join(", ")) };
        return Err(format!("{name} has no slice `{word}`: {there_is}; a share is {ACCELERATOR_PREFIX}{name}.{SHARE}"));
    };
    if amount != UNIT {
        return Err(format!("a pod can have one slice of a card; ask for a larger one, or for more pods, in place of several {word}"));
    }
    let compute = slice_compute(model, slice);
    let size = if slice_places(model, slice).is_some() {
        Size::Slice { name: word.to_owned() }
    } else {
        let memory = slice.memory.as_ref().map_or(0, |memory| quantity::milli(memory) / UNIT / MIB);
        Size::Share { compute, memory_mib: u32::try_from(memory).unwrap_or(u32::MAX) }
    };
    Ok((compute.into(), size))
}

/// The cards a pod was given; none where that is not known.
pub fn of_pod(pod: &Pod) -> Vec<Card> {
    let text = pod.annotations().get(labels::CARDS);
    // Only the scheduler writes it; what cannot be read is nothing that is known.
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(list: &[(&str, &str)]) -> Result<Settled, String> {
        let amount = |text: &str| quantity::parse(text).expect("a quantity");
        settle(list.iter().map(|(name, text)| (format!("{ACCELERATOR_PREFIX}{name}"), amount(text))).collect(), known)
    }

    fn size(list: &[(&str, &str)]) -> (Milli, Size) {
        let settled = ask(list).expect("it can be asked for");
        let part = settled.part.expect("a part");
        (settled.requests[&format!("{ACCELERATOR_PREFIX}{}", part.model)], part.size)
    }

    #[test]
    fn parts_count_as_thousandths_of_their_card() {
        assert_eq!(
            size(&[("a100-sxm4-80gb.share", "300"), ("a100-sxm4-80gb.memory", "24Gi")]),
            (300, Size::Share { compute: 300, memory_mib: 24_576 })
        );
        // Of 80 GB, which are 76,293 MiB.
        assert_eq!(size(&[("a100-sxm4-80gb.share", "500")]), (500, Size::Share { compute: 500, memory_mib: 38_146 }));
        assert_eq!(size(&[("a100-sxm4-80gb.mig-1g.10gb", "1")]), (142, Size::Slice { name: "mig-1g.10gb".into() }));
        // One without a place of its own.
        assert_eq!(size(&[("ascend-310p-24gb.vir02", "1")]), (250, Size::Share { compute: 250, memory_mib: 6144 }));
        let whole = ask(&[("a100-sxm4-80gb", "2")]).expect("whole cards");
        assert_eq!((whole.part, whole.requests["gpu.fermion.dev/a100-sxm4-80gb"]), (None, 2000));
        assert!(ask(&[("nobody-knows-it", "2")]).is_ok(), "whole cards need no model");
    }

    #[test]
    fn what_cannot_be_asked_for_is_told_with_what_can() {
        let model = "a100-sxm4-80gb";
        let named = |word: &str| format!("{model}.{word}");
        let refused = |list: &[(&str, &str)]| ask(list).expect_err("refused");
        let (share, memory) = (named("share"), named("memory"));
        let lines = [
            refused(&[(&share, "1000")]),
            refused(&[(&share, "300"), (&memory, "24576")]),
            refused(&[(&share, "300"), (&memory, "100Gi")]),
            refused(&[(&memory, "24Gi")]),
            refused(&[(&share, "300"), (model, "1")]),
            refused(&[(&share, "300"), ("h100-sxm5-80gb.share", "300")]),
            refused(&[(&named("mig-9g.90gb"), "1")]),
            refused(&[(&named("mig-1g.10gb"), "2")]),
            refused(&[(&named("mig-1g.10gb"), "1"), (&memory, "1Gi")]),
            refused(&[("mine.share", "300")]),
            refused(&[("t4-16gb.mig-1g", "1")]),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn cards_are_read_as_they_are_written() {
        let whole = Card { model: "a".into(), index: 3, share: None, memory_mib: None, slice: None, places: vec![] };
        assert_eq!(serde_json::to_string(&[&whole]).expect("JSON"), r#"[{"model":"a","index":3}]"#);
        let pod = |text: &str| -> Pod {
            serde_json::from_value(serde_json::json!({"metadata": {"annotations": {labels::CARDS: text}}})).expect("a pod")
        };
        assert_eq!(of_pod(&pod(r#"[{"model":"a","index":3}]"#)), [whole]);
        assert!(of_pod(&pod("nonsense")).is_empty());
    }
}
