//! The cards of a container: what the runtime and the libraries inside are told of them.
//!
//! The scheduler wrote the pod's cards into its annotation. Whole cards go to the containers that
//! ask for them, in order; a share or slice to every container that asks for it. Runtimes learn of
//! cards in two ways: by variables of the vendor's runtime hook, and by names of CDI
//! (<https://github.com/cncf-tags/container-device-interface>) where the machine describes that
//! kind of device. Limits of a share are told to NVIDIA's MPS, which holds them where it runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use fermion_api::cards::{self, Card};
use fermion_api::labels::ACCELERATOR_PREFIX;
use fermion_api::pod::Resources;
use fermion_api::quantity;
use k8s_openapi::api::core::v1::{Container, Pod};

/// Where machines describe devices to runtimes.
pub(crate) const CDI_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// The most files read there, and the largest.
const CDI_FILES_MAX: usize = 64;
const CDI_FILE_BYTES_MAX: u64 = 1 << 20;
/// Tells a vendor's runtime hook to give no card, which is not what it does by itself.
const NO_CARD: &str = "void";
/// All cards of the container, with model, index and part, as JSON.
const CARDS: &str = "FERMION_CARDS";

/// The variable by which a vendor's runtime hook takes indexes of cards, by the resource of its
/// device plugin.
fn variable(resource: &str) -> Option<&'static str> {
    match resource.split('/').next()? {
        "nvidia.com" => Some("NVIDIA_VISIBLE_DEVICES"),
        "amd.com" => Some("AMD_VISIBLE_DEVICES"),
        "huawei.com" => Some("ASCEND_VISIBLE_DEVICES"),
        _ => None,
    }
}

/// What a container is given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// Goes before what the container says itself.
    pub variables: Vec<(String, String)>,
    /// Names of devices.
    pub devices: Vec<String>,
}

/// How many whole cards of a model, and whether a part of one, a container asks for.
fn asked(container: &Container, model: &str) -> (usize, bool) {
    let resources = container.resources.iter().flat_map(|resources| resources.requests.iter().chain(&resources.limits)).flatten();
    let mut whole = 0;
    let mut part = false;
    for (name, amount) in resources.filter(|(_, amount)| quantity::milli(amount) > 0) {
        let Some(rest) = name.strip_prefix(ACCELERATOR_PREFIX).and_then(|name| name.strip_prefix(model)) else { continue };
        match rest.strip_prefix('.') {
            Some(_) => part = true,
            None if rest.is_empty() => whole = whole.max(usize::try_from(quantity::milli(amount) / 1000).unwrap_or(0)),
            None => {}
        }
    }
    (whole, part)
}

/// The pod's cards that are this container's.
fn of_container(pod: &Pod, container: &Container) -> Vec<Card> {
    let mut left = cards::of_pod(pod);
    let spec = pod.spec.as_ref();
    // An init container has what it asks for before the others do.
    let own = spec.is_some_and(|spec| spec.containers.iter().any(|one| one.name == container.name));
    let before = spec.into_iter().flat_map(|spec| &spec.containers).take_while(|one| own && one.name != container.name);
    for other in before.collect::<Vec<_>>() {
        take(&mut left, other);
    }
    take(&mut left, container)
}

fn take(left: &mut Vec<Card>, container: &Container) -> Vec<Card> {
    let models: BTreeSet<String> = left.iter().map(|card| card.model.clone()).collect();
    let mut taken = Vec::new();
    for model in models {
        let (mut whole, part) = asked(container, &model);
        left.retain(|card| {
            let own = card.model == model;
            if own && card.share.is_some() && part {
                taken.push(card.clone());
            }
            let moves = own && card.share.is_none() && whole > 0;
            if moves {
                whole -= 1;
                taken.push(card.clone());
            }
            !moves
        });
    }
    taken
}

/// What a container is given of the pod's cards, on a machine with these amounts that describes
/// devices of these kinds.
pub(crate) fn given(pod: &Pod, container: &Container, allocatable: &Resources, kinds: &BTreeSet<String>) -> Given {
    let mut given = Given::default();
    let models = allocatable.keys().filter_map(|name| name.strip_prefix(ACCELERATOR_PREFIX));
    let resource = |model: &str| cards::known(model).and_then(|model| model.spec.resource_names.first().cloned());
    let mine = of_container(pod, container);
    let variables: BTreeSet<&str> = models.filter_map(|model| variable(&resource(model)?)).collect();
    for name in variables {
        let of_vendor = mine.iter().filter(|card| resource(&card.model).is_some_and(|resource| variable(&resource) == Some(name)));
        // Which of the vendor's slices stands at the scheduler's places is not known here.
        let indexes: Vec<String> = of_vendor.filter(|card| card.slice.is_none()).map(|card| card.index.to_string()).collect();
        given.variables.push((name.to_owned(), if indexes.is_empty() { NO_CARD.to_owned() } else { indexes.join(",") }));
    }
    for card in &mine {
        let Some(resource) = resource(&card.model) else { continue };
        if kinds.contains(&resource) && card.slice.is_none() {
            given.devices.push(format!("{resource}={}", card.index));
        }
        if let (Some(share), None, Some("NVIDIA_VISIBLE_DEVICES")) = (card.share, &card.slice, variable(&resource)) {
            given.variables.push(("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE".to_owned(), share.div_ceil(10).to_string()));
            let memory = card.memory_mib.filter(|memory| *memory > 0);
            given.variables.extend(memory.map(|memory| ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT".to_owned(), format!("0={memory}M"))));
        }
    }
    if !mine.is_empty() {
        given.variables.push((CARDS.to_owned(), serde_json::to_string(&mine).expect("names and numbers are JSON")));
    }
    given
}

/// Kinds of devices that files in these directories describe. What cannot be read describes none.
pub(crate) fn described<P: AsRef<Path>>(directories: &[P]) -> BTreeSet<String> {
    let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    let small =
        entries.take(CDI_FILES_MAX).filter(|entry| entry.metadata().is_ok_and(|data| data.is_file() && data.len() <= CDI_FILE_BYTES_MAX));
    small.filter_map(|entry| kind(&fs::read_to_string(entry.path()).ok()?)).collect()
}

/// The kind of a description in JSON or YAML.
fn kind(text: &str) -> Option<String> {
    if let Ok(description) = serde_json::from_str::<serde_json::Value>(text) {
        return description["kind"].as_str().map(str::to_owned);
    }
    let line = text.lines().find_map(|line| line.strip_prefix("kind:"))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use fermion_api::labels;
    use serde_json::json;

    use super::*;

    fn pod(cards: &str, containers: &serde_json::Value) -> Pod {
        let object = json!({"metadata": {"annotations": {labels::CARDS: cards}}, "spec": {"containers": containers}});
        serde_json::from_value(object).expect("a pod")
    }

    fn node() -> Resources {
        [("gpu.fermion.dev/a100-sxm4-80gb".to_owned(), 8000)].into()
    }

    fn given_to(pod: &Pod, container: usize, kinds: &[&str]) -> Given {
        let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        given(pod, &pod.spec.as_ref().expect("a spec").containers[container], &node(), &kinds)
    }

    #[test]
    fn whole_cards_go_to_the_containers_that_ask_for_them() {
        let container = |name: &str, count: &str| json!({"name": name, "resources": {"limits": {"gpu.fermion.dev/a100-sxm4-80gb": count}}});
        let cards = r#"[{"model":"a100-sxm4-80gb","index":1},{"model":"a100-sxm4-80gb","index":4},{"model":"a100-sxm4-80gb","index":5}]"#;
        let pod = pod(cards, &json!([container("one", "1"), {"name": "none"}, container("two", "2")]));
        let visible = |container| given_to(&pod, container, &["nvidia.com/gpu"]).variables[0].clone();
        let name = "NVIDIA_VISIBLE_DEVICES".to_owned();
        assert_eq!([visible(0), visible(1), visible(2)], ["1", "void", "4,5"].map(|value| (name.clone(), value.to_owned())));
        assert_eq!(given_to(&pod, 2, &["nvidia.com/gpu"]).devices, ["nvidia.com/gpu=4", "nvidia.com/gpu=5"]);
        assert!(given_to(&pod, 2, &[]).devices.is_empty(), "names that the machine does not describe would keep it from starting");
    }

    #[test]
    fn a_share_is_told_with_its_limits() {
        let requests = json!({"gpu.fermion.dev/a100-sxm4-80gb.share": "305", "gpu.fermion.dev/a100-sxm4-80gb.memory": "24Gi"});
        let containers = json!([{"name": "main", "resources": {"limits": requests}}]);
        let text = r#"[{"model":"a100-sxm4-80gb","index":2,"share":305,"memoryMiB":24576}]"#;
        let given = given_to(&pod(text, &containers), 0, &[]);
        let expected = [
            ("NVIDIA_VISIBLE_DEVICES", "2"),
            ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "31"),
            ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=24576M"),
            ("FERMION_CARDS", text),
        ];
        assert_eq!(given.variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_machine_without_cards_says_nothing_of_them() {
        let pod = pod("[]", &json!([{"name": "main"}]));
        assert_eq!(given(&pod, &pod.spec.as_ref().expect("a spec").containers[0], &Resources::new(), &BTreeSet::new()), Given::default());
    }

    #[test]
    fn kinds_are_read_from_json_and_yaml() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("a.json"), r#"{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu"}"#).expect("written");
        fs::write(directory.path().join("b.yaml"), "cdiVersion: 0.6.0\nkind: \"amd.com/gpu\"\n").expect("written");
        fs::write(directory.path().join("c"), "nonsense").expect("written");
        let kinds: Vec<String> = described(&[directory.path(), Path::new("/nowhere/at/all")]).into_iter().collect();
        assert_eq!(kinds, ["amd.com/gpu", "nvidia.com/gpu"]);
    }
}
