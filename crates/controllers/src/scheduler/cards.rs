//! Cards between pods and plans: what a pod asks for and has, and how it is told what it was given.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fermion_api::cards::{self, Card, Size};
use fermion_api::compute::AcceleratorModel;
use fermion_api::labels::ACCELERATOR_PREFIX;
use fermion_api::pod;
use fermion_scheduler::device::{Model, Models, Profile};
use fermion_scheduler::{self as plan, CardHeld, CardPart, PartSize};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

/// A pod's own place among the node's pods.
const ONE_POD: plan::Milli = 1_000;
/// A whole card, in thousandths.
const WHOLE: u16 = 1000;

/// Models by name.
#[derive(Default)]
pub(super) struct Catalogue(HashMap<String, Arc<AcceleratorModel>>);

impl Catalogue {
    pub(super) fn new(models: &[Arc<AcceleratorModel>]) -> Self {
        Self(models.iter().map(|model| (model.name_any(), Arc::clone(model))).collect())
    }

    /// What a pod asks for as it is counted, its own place among the node's pods included, and the
    /// part of a card among it.
    pub(super) fn asked(&self, pod: &Pod) -> (plan::Amounts, Option<CardPart>) {
        let asked = pod.spec.as_ref().map(pod::requests).unwrap_or_default();
        // What cannot be made out is a name that no node has.
        let settled = cards::settle(asked, |name| self.0.get(name).cloned())
            .unwrap_or_else(|_| cards::Settled { requests: pod.spec.as_ref().map(pod::requests).unwrap_or_default(), part: None });
        let mut requests = settled.requests;
        requests.insert("pods".to_owned(), ONE_POD);
        let part = settled.part.map(|part| CardPart {
            model: part.model,
            size: match part.size {
                Size::Share { compute, memory_mib } => PartSize::Share { compute, memory_mib },
                Size::Slice { name } => PartSize::Slice(name),
            },
        });
        (requests, part)
    }

    /// What is known of the models that nodes have.
    pub(super) fn models<'n>(&self, nodes: impl Iterator<Item = &'n plan::Node>) -> Vec<Model> {
        let names = nodes.flat_map(|node| node.allocatable.keys()).filter_map(|name| name.strip_prefix(ACCELERATOR_PREFIX));
        let names: BTreeSet<&str> = names.collect();
        names.into_iter().filter_map(|name| self.0.get(name)).take(Models::MAX).map(|model| described(model)).collect()
    }
}

/// The cards a pod has, as its node's binding wrote them down.
pub(super) fn held_by(pod: &Pod) -> Vec<CardHeld> {
    let slices = |card: &Card| card.places.iter().filter(|place| **place < 8).fold(0_u8, |bits, place| bits | 1 << place);
    let held = |card: Card| CardHeld {
        index: card.index,
        compute: card.share.map_or(WHOLE, |share| share.min(WHOLE)),
        // All that a whole card has; a slice has its own.
        memory_mib: card.memory_mib.unwrap_or(if card.share.is_none() { u32::MAX } else { 0 }),
        slices: slices(&card),
        model: card.model,
    };
    cards::of_pod(pod).into_iter().map(held).collect()
}

fn described(model: &AcceleratorModel) -> Model {
    let profile = |slice| {
        let (width, starts) = cards::slice_places(model, slice)?;
        Some(Profile { name: cards::slice_name(slice), width, starts, compute: cards::slice_compute(model, slice) })
    };
    Model {
        name: model.name_any(),
        memory_mib: cards::memory_mib(model).unwrap_or(0),
        profiles: cards::slices(model).filter_map(profile).collect(),
    }
}

/// What a pod is told of the cards it was given; `None` without any.
pub(super) fn told(given: &[CardHeld], part: Option<&CardPart>) -> Option<String> {
    let slice = |held: &CardHeld| match part.map(|part| &part.size) {
        Some(PartSize::Slice(name)) if held.slices != 0 => Some(name.clone()),
        _ => None,
    };
    let card = |held: &CardHeld| {
        let slice = slice(held);
        Card {
            model: held.model.clone(),
            index: held.index,
            share: part.is_some().then_some(held.compute),
            memory_mib: (part.is_some() && slice.is_none()).then_some(held.memory_mib),
            slice,
            places: (0..8).filter(|place| held.slices >> place & 1 == 1).collect(),
        }
    };
    let cards: Vec<Card> = given.iter().map(card).collect();
    (!cards.is_empty()).then(|| serde_json::to_string(&cards).expect("names and numbers are JSON"))
}

#[cfg(test)]
mod tests {
    use fermion_api::compute::accelerator_model::catalogue;
    use fermion_api::labels;
    use serde_json::json;

    use super::*;

    fn known() -> Catalogue {
        Catalogue::new(&catalogue().into_iter().map(Arc::new).collect::<Vec<_>>())
    }

    fn pod(requests: &serde_json::Value) -> Pod {
        let containers = json!([{"name": "main", "resources": {"requests": requests}}]);
        serde_json::from_value(json!({"spec": {"containers": containers}})).expect("a pod")
    }

    #[test]
    fn what_a_pod_is_told_is_read_again_as_it_was_given() {
        let held = |index, compute, memory_mib, slices| CardHeld { model: "a100-sxm4-80gb".into(), index, compute, memory_mib, slices };
        let share = CardPart { model: "a100-sxm4-80gb".into(), size: PartSize::Share { compute: 300, memory_mib: 24_576 } };
        let slice = CardPart { model: "a100-sxm4-80gb".into(), size: PartSize::Slice("mig-2g.20gb".into()) };
        let cases = [
            (vec![held(0, 1000, u32::MAX, 0), held(5, 1000, u32::MAX, 0)], None),
            (vec![held(2, 300, 24_576, 0)], Some(&share)),
            (vec![held(1, 285, 0, 0b0011_0000)], Some(&slice)),
        ];
        let texts: Vec<String> = cases.iter().map(|(given, part)| told(given, *part).expect("cards")).collect();
        for ((given, _), text) in cases.iter().zip(&texts) {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"annotations": {labels::CARDS: text}}})).expect("a pod");
            assert_eq!(held_by(&pod), *given, "{text}");
        }
        insta::assert_snapshot!(texts.join("\n"));
        assert_eq!(told(&[], None), None);
    }

    #[test]
    fn models_of_nodes_have_their_memory_and_slices() {
        let node = plan::Node { allocatable: [("gpu.fermion.dev/a100-sxm4-80gb".to_owned(), 8000)].into(), ..plan::Node::default() };
        let models = known().models([node].iter());
        assert_eq!((models.len(), models[0].memory_mib), (1, 76_293));
        let profile = models[0].profiles.iter().find(|profile| profile.name == "mig-3g.40gb").expect("a profile");
        assert_eq!((profile.width, profile.starts.as_slice(), profile.compute), (4, &[0, 4][..], 428));
        assert!(models[0].profiles.iter().all(|profile| !profile.name.contains(".me")), "only one of those is on a card");
    }

    #[test]
    fn parts_are_counted_as_their_card() {
        let (requests, part) = known().asked(&pod(&json!({"gpu.fermion.dev/a100-sxm4-80gb.mig-1g.10gb": "1"})));
        assert_eq!((requests["gpu.fermion.dev/a100-sxm4-80gb"], requests["pods"], requests.len()), (142, 1000, 2));
        assert_eq!(part.expect("a part").size, PartSize::Slice("mig-1g.10gb".into()));
        let (requests, part) = known().asked(&pod(&json!({"gpu.fermion.dev/mine.share": "100"})));
        assert!(part.is_none() && requests.contains_key("gpu.fermion.dev/mine.share"), "of no node");
    }
}
