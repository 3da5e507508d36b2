use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use fermion_api::ai::Workload;
use fermion_api::compute::Queue;
use fermion_scheduler::Wait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::scheduler::cards::Catalogue;
use crate::scheduler::moving::Moves;
use crate::scheduler::rules::Ruling;
use crate::scheduler::run_times::RunTimes;
use crate::scheduler::snapshot::{Assumed, Sight};

const HOSTNAME: &str = "kubernetes.io/hostname";

static NOBODY: LazyLock<HashSet<String>> = LazyLock::new(HashSet::new);
static LEVELS: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(HashMap::new);
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::new(&[]));

const NOTHING: Ruling<'static> =
    Ruling { policies: &[], pools: &[], quotas: &[], resource_policies: &[], tickets: &[], windows: &[], users: &[], namespaces: &[] };

/// A gang, why it waits, and what is told of its spreading.
type Waits = (String, Wait, Option<String>);

/// Nodes of pool `local` with pods of one processor each, and what was given to whom.
#[derive(Default)]
struct World {
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    workloads: Vec<Arc<Workload>>,
    assumed: HashMap<String, Assumed>,
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).expect("an object"))
}

/// Pods like `app: web` over the domains of a label.
fn over(key: &str, skew_max: i32, when: &str) -> Value {
    json!({"maxSkew": skew_max, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "web"}}})
}

fn evenly(key: &str) -> Value {
    json!({"topologySpreadConstraints": [over(key, 1, "DoNotSchedule")]})
}

impl World {
    /// Nodes by zone and processors; their names are the zone and a number.
    fn of(nodes: &[(&str, u32)]) -> Self {
        let mut world = Self::default();
        for (number, (zone, cpus)) in nodes.iter().enumerate() {
            world.node(&format!("{zone}{number}"), zone, *cpus, &json!({}));
        }
        world
    }

    fn node(&mut self, name: &str, zone: &str, cpus: u32, spec: &Value) {
        let mut labels = json!({HOSTNAME: name});
        if !zone.is_empty() {
            labels["zone"] = json!(zone);
        }
        self.nodes.push(object(json!({
            "metadata": {"name": name, "labels": labels}, "spec": spec,
            "status": {"allocatable": {"cpu": cpus.to_string()}, "conditions": [{"type": "Ready", "status": "True"}]},
        })));
    }

    fn pod_with(&mut self, name: &str, metadata: &Value, spec: &Value, node: Option<&str>) {
        let mut pod = json!({"metadata": {"name": name, "namespace": "lab", "uid": name, "labels": {"app": "web"}}, "spec": spec.clone()});
        for (key, value) in metadata.as_object().into_iter().flatten() {
            pod["metadata"][key] = value.clone();
        }
        pod["spec"]["nodeName"] = json!(node);
        pod["spec"]["containers"] = json!([{"name": "main", "resources": {"requests": {"cpu": "1"}}}]);
        self.pods.push(object(pod));
    }

    fn stands(&mut self, name: &str, node: &str) {
        self.pod_with(name, &json!({}), &json!({}), Some(node));
    }

    fn waits(&mut self, name: &str, spec: &Value) {
        self.pod_with(name, &json!({}), spec, None);
    }

    fn gang(&mut self, name: &str, pods: u32, min: u32, spec: &Value) {
        let template = json!({"spec": {"containers": [{"name": "main", "image": "x"}]}});
        self.workloads.push(object(json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload", "metadata": {"name": name, "namespace": "lab", "uid": name},
            "spec": {"attempt": 1, "queue": "q", "podSets": [{"name": "worker", "replicas": pods, "minReplicas": min, "template": template}]},
        })));
        for index in 0..pods {
            let labels = json!({"app": "web", "fermion.dev/workload": name, "fermion.dev/role": "worker", "fermion.dev/index": index.to_string(), "fermion.dev/attempt": "1"});
            let owner = json!([{"apiVersion": "a", "kind": "Workload", "name": name, "uid": name, "controller": true}]);
            self.pod_with(&format!("{name}-{index}"), &json!({"labels": labels, "ownerReferences": owner}), spec, None);
        }
    }

    /// What is seen, in a pool that moves running work.
    fn look<T>(&self, look: impl FnOnce(&Sight<'_>) -> T) -> T {
        let queues = [object::<Queue>(json!({
            "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "q"}, "spec": {"pool": "local", "default": true},
        }))];
        look(&Sight {
            catalogue: &CATALOGUE,
            queues: &queues,
            nodes: &self.nodes,
            pods: &self.pods,
            workloads: &self.workloads,
            assumed: &self.assumed,
            evicted: &NOBODY,
            claims: &NOBODY,
            moves: &Moves::new(),
            moving_pools: &BTreeSet::from(["local".to_owned()]),
            ruling: NOTHING,
            owners: &NOTHING.owners(),
            run_times: &RunTimes::of_all(self.workloads.iter().map(AsRef::as_ref)),
            now: Timestamp::UNIX_EPOCH,
            levels: &LEVELS,
        })
    }

    /// One round. Answers which pods were given which nodes, and who waits.
    fn round(&mut self) -> (Vec<(String, String)>, Vec<Waits>) {
        let (scene, plan) = self.look(|sight| {
            let scene = sight.scene();
            let mut plan = plan::plan(&scene.snapshot());
            if let Some(around) = sight.neighbours() {
                affinity::together(&scene, around, &mut plan);
            }
            (scene, plan)
        });
        let waits = plan.waits.iter().map(|waiting| (waiting.gang.clone(), waiting.wait.clone(), story(&scene, &waiting.gang))).collect();
        let binds: Vec<(String, String)> =
            plan.binds.iter().map(|bind| (bind.member.trim_start_matches("lab/").to_owned(), bind.node.clone())).collect();
        for (pod, node) in &binds {
            self.assumed.insert(pod.clone(), Assumed { node: node.clone(), cards: Vec::new() });
        }
        (binds, waits)
    }

    /// Rounds until nothing is placed any more. Answers how many placed something, and why the rest waits.
    fn rest(&mut self) -> (usize, Vec<Waits>) {
        for rounds in 0..100 {
            let (binds, waits) = self.round();
            if binds.is_empty() {
                return (rounds, waits);
            }
        }
        panic!("it never comes to rest");
    }

    fn node_of(&self, pod: &Pod) -> Option<String> {
        let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        bound.or_else(|| self.assumed.get(&pod.name_any()).map(|assumed| assumed.node.clone()))
    }

    /// How many pods there are by the value of a label of their nodes.
    fn counts(&self, key: &str) -> BTreeMap<String, i64> {
        let value = |node: &Arc<Node>| node.labels().get(key).cloned();
        let mut counts: BTreeMap<String, i64> = self.nodes.iter().filter_map(value).map(|value| (value, 0)).collect();
        for node in self.pods.iter().filter_map(|pod| self.node_of(pod)) {
            let node = self.nodes.iter().find(|other| other.name_any() == node).expect("a node");
            *counts.entry(value(node).unwrap_or_default()).or_default() += 1;
        }
        counts
    }

    fn zones(&self) -> Vec<i64> {
        self.counts("zone").into_values().collect()
    }
}

#[test]
fn many_pods_are_spread_at_once() {
    let mut world = World::of(&[("a", 8), ("a", 8), ("b", 8), ("c", 8)]);
    for number in 0..7 {
        world.waits(&format!("web-{number}"), &evenly("zone"));
    }
    let (rounds, waits) = world.rest();
    assert!(rounds <= 3 && waits.is_empty(), "{rounds} {waits:?}");
    let mut zones = world.zones();
    zones.sort_unstable();
    assert_eq!(zones, [2, 2, 3]);
}

#[test]
fn members_of_one_gang_keep_the_skew_among_themselves() {
    let mut world = World::of(&[("a", 8), ("b", 8), ("c", 8)]);
    world.stands("there", "a0");
    world.gang("train", 5, 5, &evenly("zone"));
    let (binds, _) = world.round();
    assert_eq!(binds.len(), 5);
    assert_eq!(world.zones(), [2, 2, 2]);
    // Each on a node of its own, and in zones evenly.
    let mut world = World::of(&[("a", 8), ("a", 8), ("b", 8), ("b", 8)]);
    world.gang(
        "train",
        4,
        4,
        &json!({"topologySpreadConstraints": [over("zone", 1, "DoNotSchedule"), over(HOSTNAME, 1, "DoNotSchedule")]}),
    );
    world.round();
    assert_eq!(world.counts(HOSTNAME).into_values().collect::<Vec<_>>(), [1, 1, 1, 1]);
}

#[test]
fn a_full_domain_holds_the_others_back_as_far_as_the_skew_goes() {
    for (skew_max, expected) in [(1, [1, 1, 0]), (3, [3, 3, 0])] {
        let mut world = World::of(&[("a", 8), ("b", 8), ("c", 0)]);
        for number in 0..8 {
            world.waits(&format!("web-{number}"), &json!({"topologySpreadConstraints": [over("zone", skew_max, "DoNotSchedule")]}));
        }
        let (_, waits) = world.rest();
        assert_eq!(world.zones(), expected);
        let (_, wait, story) = &waits[0];
        assert!(matches!(wait, Wait::ExceedsCapacity(_)), "{wait:?}");
        let told = format!("by topologySpreadConstraints (maxSkew {skew_max} over `zone`) it may go to `c` only");
        assert_eq!(story.as_deref(), Some(told.as_str()));
    }
    // A gang has all of its places or none.
    let mut world = World::of(&[("a", 8), ("b", 8), ("c", 0)]);
    world.gang("train", 3, 3, &evenly("zone"));
    let (_, waits) = world.rest();
    assert_eq!((world.zones(), waits.len()), (vec![0, 0, 0], 1));
    // Of what it can be without it has so much as the skew allows.
    let mut world = World::of(&[("a", 8), ("b", 8), ("c", 1)]);
    world.gang("serve", 8, 1, &evenly("zone"));
    world.rest();
    assert_eq!(world.zones(), [2, 2, 1]);
}

#[test]
fn a_pod_that_no_domain_may_take_is_told_so() {
    let mut world = World::of(&[("", 8)]);
    world.waits("web", &evenly("zone"));
    let (_, waits) = world.round();
    assert!(matches!(waits[0].1, Wait::NoMatchingNode { .. }), "{waits:?}");
    let told = "by topologySpreadConstraints (maxSkew 1 over `zone`) it may go nowhere, as no node that it may run on has label `zone`";
    assert_eq!(waits[0].2.as_deref(), Some(told));
}

#[test]
fn the_first_may_go_wherever_the_skew_allows_it() {
    // What is free where the fewest are is kept for a gang.
    let mut world = World::of(&[("a", 8), ("b", 2)]);
    world.stands("there", "a0");
    world.pod_with("other", &json!({"labels": {"app": "db"}}), &json!({}), Some("b1"));
    world.gang("big", 2, 2, &json!({"nodeSelector": {"zone": "b"}}));
    world.waits("web", &json!({"topologySpreadConstraints": [over("zone", 2, "DoNotSchedule")]}));
    let (binds, waits) = world.round();
    assert_eq!((binds, waits.len()), (vec![("web".to_owned(), "a0".to_owned())], 1));
}

#[test]
fn who_comes_after_too_many_breaks_no_constraint_either() {
    let mut world = World::of(&[("a", 8), ("b", 8)]);
    world.stands("there", "a0");
    world.waits("hard", &evenly("zone"));
    world.waits("soft", &json!({"topologySpreadConstraints": [over("zone", 1, "ScheduleAnyway")]}));
    world.look(|sight| {
        let mut spreading = sight.neighbours().and_then(|around| around.spreading).expect("two wait");
        let choose =
            |spreading: &Spreading<'_>, pod: usize| spreading.choose(&world.pods[pod], &plan::Member::default(), &[], "local", true);
        assert_eq!(choose(&spreading, 1).requirements.len(), 1);
        assert!(!choose(&spreading, 2).preferred.is_empty());
        spreading.tried.borrow_mut().looks = LOOKS_MAX + 1;
        let late = choose(&spreading, 1);
        assert!(late.requirements.is_empty() && choose(&spreading, 2).preferred.is_empty());
        spreading = sight.neighbours().and_then(|around| around.spreading).expect("two wait");
        let on = |node| Bound { pod: &world.pods[1], node, member: "lab/hard", spread: late.spread.as_ref() };
        assert!(!spreading.admit(&[on("a0")]), "one is there, and none in the other zone");
        assert!(spreading.admit(&[on("b1")]));
    });
}

#[test]
fn work_that_is_spread_is_not_moved() {
    for (spec, moves) in [(json!({}), true), (evenly("zone"), false)] {
        let mut world = World::of(&[("a", 8), ("b", 8)]);
        world.gang("train", 2, 2, &spec);
        world.round();
        let placed = world.look(|sight| sight.scene().gangs["lab/train"].placed.clone());
        assert_eq!(placed.iter().map(|member| member.again.is_some()).collect::<Vec<_>>(), [moves; 2]);
    }
}

/// In which zones one pod that waits may be placed, with one pod standing in each of these.
fn places(constraint: &Value, standing: &[&str], change: impl Fn(&mut World, &mut Value)) -> Vec<String> {
    let mut places = Vec::new();
    for zone in ["a", "b", "c"] {
        let mut world = World::of(&[("a", 8), ("b", 8), ("c", 8)]);
        for (number, zone) in standing.iter().enumerate() {
            let node = format!("{zone}{}", ["a", "b", "c"].iter().position(|name| name == zone).expect("a zone"));
            world.stands(&format!("there-{number}"), &node);
        }
        // A toleration of the zone alone leaves all others to the constraint.
        let mut spec = json!({"topologySpreadConstraints": [constraint], "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}}]}}});
        change(&mut world, &mut spec);
        world.waits("new", &spec);
        let (binds, _) = world.round();
        places.extend(binds.iter().map(|(_, node)| node[..1].to_owned()).filter(|placed| placed == zone));
    }
    places
}

#[test]
fn the_skew_is_that_of_kubernetes() {
    let none = |_: &mut World, _: &mut Value| {};
    let hard = |skew_max| over("zone", skew_max, "DoNotSchedule");
    assert_eq!(places(&hard(1), &[], none), ["a", "b", "c"]);
    assert_eq!(places(&hard(1), &["a"], none), ["b", "c"]);
    assert_eq!(places(&hard(2), &["a"], none), ["a", "b", "c"]);
    assert_eq!(places(&hard(1), &["a", "a", "b"], none), ["c"]);
    // Others are not its like, and a selector of others leaves it out.
    assert_eq!(places(&json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}), &["a"], none), ["a", "b", "c"]);
    let mut others = hard(1);
    others["labelSelector"] = json!({"matchLabels": {"app": "db"}});
    assert_eq!(places(&others, &["a"], none), ["a", "b", "c"]);
    // With fewer domains than wanted the fewest count as none.
    let mut few = hard(1);
    few["minDomains"] = json!(4);
    assert_eq!(places(&few, &["a", "b", "c"], none), [""; 0]);
    few["minDomains"] = json!(3);
    assert_eq!(places(&few, &["a", "b", "c"], none), ["a", "b", "c"]);
}

#[test]
fn it_counts_who_is_like_it_and_stays() {
    let hard = over("zone", 1, "DoNotSchedule");
    let with = |metadata: Value| move |world: &mut World, _: &mut Value| world.pod_with("there", &metadata, &json!({}), Some("a0"));
    assert_eq!(places(&hard, &[], with(json!({}))), ["b", "c"]);
    assert_eq!(places(&hard, &[], with(json!({"namespace": "other"}))), ["a", "b", "c"]);
    assert_eq!(places(&hard, &[], with(json!({"labels": {"app": "db"}}))), ["a", "b", "c"]);
    assert_eq!(places(&hard, &[], with(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}))), ["a", "b", "c"], "it is about to end");
    // Only those of its own version.
    let mut versions = hard.clone();
    versions["matchLabelKeys"] = json!(["app"]);
    versions["labelSelector"] = json!({});
    assert_eq!(places(&versions, &[], with(json!({"labels": {"app": "db"}}))), ["a", "b", "c"]);
    assert_eq!(places(&versions, &[], with(json!({}))), ["b", "c"]);
}

#[test]
fn only_domains_of_nodes_that_suit_it_count() {
    let mut hard = over("zone", 1, "DoNotSchedule");
    let only = |world: &mut World, spec: &mut Value| {
        world.stands("there", "a0");
        let terms = json!([{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["c"]}]}]);
        spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({"nodeSelectorTerms": terms});
    };
    assert_eq!(places(&hard, &["b"], only), ["a", "b"]);
    hard["nodeAffinityPolicy"] = json!("Ignore");
    assert_eq!(places(&hard, &["b"], only), [""; 0]);
    // Taints count only where it says so.
    let tainted = |world: &mut World, _: &mut Value| {
        world.node("d3", "d", 8, &json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}));
        world.node("e4", "e", 8, &json!({"unschedulable": true}));
    };
    assert_eq!(places(&over("zone", 1, "DoNotSchedule"), &["a", "b", "c"], tainted), [""; 0]);
    let mut heeding = over("zone", 1, "DoNotSchedule");
    heeding["nodeTaintsPolicy"] = json!("Honor");
    assert_eq!(places(&heeding, &["a", "b", "c"], tainted), ["a", "b", "c"]);
    // Nodes of other pools are none of its own.
    let elsewhere = |world: &mut World, _: &mut Value| {
        let labels = json!({"zone": "d", labels::POOL: "other"});
        world.nodes.push(object(json!({"metadata": {"name": "d3", "labels": labels}, "status": {"allocatable": {"cpu": "8"}}})));
    };
    assert_eq!(places(&over("zone", 1, "DoNotSchedule"), &["a", "b", "c"], elsewhere), ["a", "b", "c"]);
}

#[test]
fn what_may_be_scheduled_anyway_is_spread_as_far_as_there_is_room() {
    let mut world = World::of(&[("a", 8), ("b", 8), ("c", 1)]);
    for number in 0..7 {
        world.waits(&format!("web-{number}"), &json!({"topologySpreadConstraints": [over("zone", 1, "ScheduleAnyway")]}));
    }
    world.round();
    assert_eq!(world.zones(), [3, 3, 1]);
}

#[test]
fn preferred_terms_attract_and_keep_apart_as_far_as_there_is_room() {
    let preferred = |how: &str, app: &str, key: &str| {
        let term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key});
        json!({"affinity": {how: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "podAffinityTerm": term}]}}})
    };
    let mut world = World::of(&[("a", 2), ("b", 2), ("c", 2)]);
    for number in 0..5 {
        world.waits(&format!("web-{number}"), &preferred("podAntiAffinity", "web", HOSTNAME));
    }
    world.round();
    let mut nodes: Vec<i64> = world.counts(HOSTNAME).into_values().collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [1, 2, 2]);
    // Two of its like there are worth more than one.
    let mut world = World::of(&[("a", 8), ("b", 3), ("c", 8)]);
    for (name, node) in [("one", "a0"), ("two", "b1"), ("three", "b1")] {
        world.stands(name, node);
    }
    for name in ["near", "nearer"] {
        world.waits(name, &preferred("podAffinity", "web", "zone"));
    }
    world.round();
    assert_eq!(world.zones(), [2, 3, 0]);
}

#[test]
fn preferred_node_affinity_decides_among_nodes() {
    let term = |weight: i32, zone: &str| json!({"weight": weight, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}});
    let mut world = World::of(&[("a", 8), ("b", 1), ("c", 8)]);
    let empty = json!({"weight": 100, "preference": {}});
    let terms = json!([term(20, "b"), empty, term(10, "c"), term(5, "c")]);
    let spec = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}});
    for name in ["one", "two"] {
        world.waits(name, &spec);
    }
    world.round();
    assert_eq!(world.zones(), [0, 1, 1]);
}

/// Work that comes: so many pods at once, and how many of them it needs; one pod alone where none are.
type Asked = (u32, u32, i32);

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn no_round_breaks_a_constraint_and_who_could_go_goes(
        nodes in prop::collection::vec((0_usize..3, 0_u32..5), 1..6),
        standing in prop::collection::vec(0_usize..6, 0..4),
        asked in prop::collection::vec((0_u32..5, 0_u32..5, 1_i32..3), 1..6),
    ) {
        let asked: Vec<Asked> = asked;
        let zones = ["a", "b", "c"];
        let nodes: Vec<(&str, u32)> = nodes.into_iter().map(|(zone, cpus)| (zones[zone], cpus)).collect();
        let mut world = World::of(&nodes);
        for (number, place) in standing.into_iter().enumerate() {
            let place = place % nodes.len();
            world.stands(&format!("there-{number}"), &format!("{}{place}", nodes[place].0));
        }
        let mut skews: HashMap<String, i64> = HashMap::new();
        for (number, (pods, min, skew_max)) in asked.iter().enumerate() {
            let spec = json!({"topologySpreadConstraints": [over("zone", *skew_max, "DoNotSchedule")]});
            if *pods == 0 {
                world.waits(&format!("web{number}"), &spec);
            } else {
                world.gang(&format!("web{number}"), *pods, *min, &spec);
            }
            skews.insert(format!("web{number}"), i64::from(*skew_max));
        }
        for _ in 0..64 {
            let (binds, waits) = world.round();
            let counts = world.counts("zone");
            let least = counts.values().copied().min().unwrap_or(0);
            // Some order there is in which each was permitted where it went: the last of it is taken back, out
            // of the fullest domain.
            let (mut before, mut given) = (counts.clone(), binds.clone());
            while !given.is_empty() {
                let least = before.values().copied().min().unwrap_or(0);
                let allowed = |(pod, node): &(String, String)| before[&node[..1]] - least <= skews[pod.split('-').next().expect("a name")];
                let last = (0..given.len()).filter(|number| allowed(&given[*number])).max_by_key(|number| before[&given[*number].1[..1]]);
                let Some(last) = last else {
                    return Err(TestCaseError::fail(format!("{given:?} stand against their constraints: {before:?}")));
                };
                let (_, node) = given.remove(last);
                *before.get_mut(&node[..1]).expect("a zone") -= 1;
            }
            if !binds.is_empty() {
                continue;
            }
            // At rest nobody waits alone whom a zone with room may take, unless room is kept for others.
            let for_others = |(gang, wait, _): &Waits| !gang.starts_with("pod ") || matches!(wait, Wait::BehindOthers { .. } | Wait::Evicting { .. });
            if waits.iter().any(for_others) {
                return Ok(());
            }
            let used = world.counts(HOSTNAME);
            let has_room = |zone: &str| world.nodes.iter().zip(&nodes).any(|(node, (of, cpus))| *of == zone && used[&node.name_any()] < i64::from(*cpus));
            for pod in world.pods.iter().filter(|pod| world.node_of(pod).is_none() && !pod.name_any().contains('-')) {
                let skew_max = skews[&pod.name_any()];
                let place = counts.iter().find(|(zone, count)| *count + 1 - least <= skew_max && has_room(zone));
                prop_assert!(place.is_none(), "{} could go to {place:?}: {counts:?}; {waits:?}", pod.name_any());
            }
            return Ok(());
        }
        prop_assert!(false, "it never comes to rest");
    }
}
