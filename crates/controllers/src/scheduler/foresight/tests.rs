//! What was foreseen is what the next round does, in random small worlds.

use fermion_api::labels;
use kube::ResourceExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::super::keeper::Keeper;
use super::super::view::View;
use super::*;
use crate::counts::Counts;
use crate::workload::pods;

const BEGIN: &str = "2026-06-01T00:00:00Z";
const NOW: &str = "2026-06-01T01:00:00Z";

/// Work of some pods that are alike.
#[derive(Clone, Debug)]
struct Work {
    replicas: i32,
    /// Fewer than all are enough.
    needs_one: bool,
    cpu: u8,
    queue: u8,
    user: u8,
    priority: i32,
    hours: Option<u8>,
    /// Whether its pods have the nodes on which there is room.
    runs: bool,
    /// Its pods keep apart from each other.
    apart: bool,
    /// It names a node by a label that few have.
    picky: bool,
}

fn work() -> impl Strategy<Value = Work> {
    let pods = (1_i32..4, prop::bool::weighted(0.2), 1_u8..5, prop::bool::weighted(0.05), prop::bool::weighted(0.1));
    let who = (0_u8..4, 0_u8..3, -1_i32..2, prop::option::of(1_u8..4), prop::bool::weighted(0.6));
    (pods, who).prop_map(|((replicas, needs_one, cpu, apart, picky), (queue, user, priority, hours, runs))| Work {
        replicas,
        needs_one,
        cpu,
        queue,
        user,
        priority,
        hours,
        runs,
        apart,
        picky,
    })
}

#[derive(Clone, Debug)]
struct World {
    /// Processors of each node, and whether it is closed.
    nodes: Vec<(u8, bool)>,
    work: Vec<Work>,
    preemption: bool,
    half_life: bool,
    /// What the second queue may have at most, and the third is guaranteed.
    limit: u8,
    guaranteed: u8,
    is_down: bool,
    quota: Option<u8>,
    closed_hours: bool,
    /// Rounds that were before.
    rounds: usize,
}

fn world() -> impl Strategy<Value = World> {
    let there = (prop::collection::vec((1_u8..9, prop::bool::weighted(0.1)), 0..5), prop::collection::vec(work(), 0..10));
    let rules = (any::<bool>(), any::<bool>(), 1_u8..12, 0_u8..6, prop::bool::weighted(0.1), prop::option::of(1_u8..16));
    (there, rules, prop::bool::weighted(0.1), 0_usize..3).prop_map(
        |((nodes, work), (preemption, half_life, limit, guaranteed, is_down, quota), closed_hours, rounds)| World {
            nodes,
            work,
            preemption,
            half_life,
            limit,
            guaranteed,
            is_down,
            quota,
            closed_hours,
            rounds,
        },
    )
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

/// The Workload of this work, and its pods.
fn made(name: &str, work: &Work, created_at: &str) -> (Workload, Vec<Pod>) {
    let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"fermion.dev/workload": name}}, "topologyKey": "kubernetes.io/hostname"}]}});
    let template = json!({"spec": {
        "affinity": work.apart.then_some(affinity),
        "nodeSelector": work.picky.then(|| json!({"few": "yes"})),
        "containers": [{"name": "main", "image": "x", "resources": {"requests": {"cpu": work.cpu.to_string()}}}],
    }});
    let workload: Workload = object(json!({
        "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload",
        "metadata": {"namespace": "n", "name": name, "uid": name, "creationTimestamp": created_at,
            "annotations": {labels::CREATED_BY: format!("user{}", work.user)}},
        "spec": {"queue": format!("q{}", work.queue), "priority": work.priority, "maxDuration": work.hours.map(|hours| format!("{hours}h")),
            "podSets": [{"name": "worker", "replicas": work.replicas, "minReplicas": work.needs_one.then_some(1), "template": template}]},
    }));
    let mut made: Vec<Pod> = pods::wanted(&workload).iter().map(|wanted| pods::make(&workload, wanted)).collect();
    for pod in &mut made {
        pod.metadata.uid = Some(pod.name_any());
        pod.metadata.creation_timestamp.clone_from(&workload.metadata.creation_timestamp);
    }
    (workload, made)
}

impl World {
    /// Fills copies with what there is.
    fn put(&self) -> Copies {
        let copies = Copies::alone();
        copies.pools.apply(object(json!({
            "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Pool", "metadata": {"name": "sim"},
            "spec": {"kind": "Local", "schedulingPolicy": "p"},
        })));
        let half_life = if self.half_life { "1h" } else { "7d" };
        copies.ruling.policies.apply(object(json!({
            "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "SchedulingPolicy", "metadata": {"name": "p"},
            "spec": {"preemption": self.preemption, "halfLife": half_life},
        })));
        if let Some(most) = self.quota {
            copies.ruling.quotas.apply(object(json!({
                "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Quota", "metadata": {"name": "n"},
                "spec": {"subject": {"kind": "Project", "name": "n"}, "hard": {"cpu": most.to_string()}},
            })));
        }
        if self.closed_hours {
            copies.ruling.windows.apply(object(json!({
                "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "TimeWindow", "metadata": {"name": "past"},
                "spec": {"subjects": {"users": ["user0"]}, "allowed": {"Training": [{"firstDate": "2020-01-01", "lastDate": "2020-01-02"}]}},
            })));
        }
        let queue = |name: &str, spec: Value| {
            let mut spec = spec;
            spec["pool"] = "sim".into();
            copies.queues.apply(object(json!({
                "apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Queue", "metadata": {"name": name}, "spec": spec,
            })));
        };
        queue("q0", json!({"jobOrder": "FairShare"}));
        queue("q1", json!({"limit": {"cpu": self.limit.to_string()}, "priority": 5}));
        queue("q2", json!({"guaranteed": {"cpu": self.guaranteed.to_string()}, "state": if self.is_down { "DOWN" } else { "UP" }}));
        let mut free = Vec::new();
        for (index, (cpu, closed)) in self.nodes.iter().enumerate() {
            let few = if index == 0 { "yes" } else { "no" };
            let name = format!("node{index}");
            copies.nodes.apply(object(json!({
                "metadata": {"name": name, "labels": {labels::POOL: "sim", "few": few, "kubernetes.io/hostname": name}},
                "spec": {"unschedulable": closed},
                "status": {"allocatable": {"cpu": cpu.to_string()}, "conditions": [{"type": "Ready", "status": "True"}]},
            })));
            free.push(*cpu);
        }
        for (index, work) in self.work.iter().enumerate() {
            let (mut workload, mut pods) = made(&format!("w{index}"), work, BEGIN);
            if work.runs {
                let mut after = free.clone();
                let places: Vec<Option<usize>> = pods
                    .iter()
                    .map(|_| {
                        let place = after.iter().position(|free| *free >= work.cpu)?;
                        after[place] -= work.cpu;
                        Some(place)
                    })
                    .collect();
                if places.iter().all(Option::is_some) {
                    free = after;
                    for (pod, place) in pods.iter_mut().zip(places.into_iter().flatten()) {
                        pod.spec.as_mut().expect("a spec").node_name = Some(format!("node{place}"));
                    }
                    workload.status = Some(object(json!({"phase": "Running", "admittedAt": BEGIN})));
                }
            }
            copies.workloads.apply(workload);
            for pod in pods {
                copies.pods.apply(pod);
            }
        }
        copies
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_is_foreseen_is_what_the_next_round_does(world in world(), asked in work()) {
        let copies = world.put();
        let (assumed, evicted, claims) = (HashMap::new(), HashSet::new(), HashSet::new());
        let mut now: Timestamp = NOW.parse().expect("a time");
        let mut view = View::new(copies.clone(), &Arc::new(Notify::new()));
        let mut keeper = Keeper::new(Counts::default());
        for _ in 0..world.rounds {
            let news = view.update(Own { assumed: &assumed, evicted: &evicted, claims: &claims, moves: &Moves::new(), now });
            keeper.plan(view.scene(), &news, true);
            now = now.checked_add(jiff::SignedDuration::from_mins(10)).expect("in range");
        }
        let (workload, pods) = made("new", &asked, &now.to_string());
        let tried = Tried { workload: Some(Arc::new(workload.clone())), pods: pods.iter().cloned().map(Arc::new).collect() };
        let known = Known { past: keeper.past(), ..Known::default() };
        let foreseen = foresee(&copies, &known, &tried, now);
        let nothing = (copies.pods.get("n", "new-worker-0"), copies.workloads.get("n", "new"));
        prop_assert!(matches!(nothing, (None, None)), "asking leaves nothing behind");

        copies.workloads.apply(workload);
        for pod in pods {
            copies.pods.apply(pod);
        }
        let own = Own { assumed: &assumed, evicted: &evicted, claims: &claims, moves: &Moves::new(), now };
        let news = view.update(own);
        let mut plan = keeper.plan(view.scene(), &news, false);
        if !plan.binds.is_empty() && view.has_demands() {
            view.with_sight(own, |sight| {
                if let Some(around) = sight.neighbours() {
                    affinity::together(view.scene(), around, &mut plan);
                }
            });
        }
        prop_assert_eq!(foreseen.placed, plan.binds.iter().filter(|bind| bind.gang == "n/new").count());
        let waits = plan.waits.iter().find(|waiting| waiting.gang == "n/new");
        let told = waits.map(|waiting| sentence::waiting(waiting, &view.scene().troubles, spread::story(view.scene(), "n/new").as_deref()));
        let queue = format!("q{}", asked.queue);
        prop_assert_eq!(foreseen.queue.as_deref(), Some(queue.as_str()));
        match (foreseen.waiting, told) {
            (Some(mut foreseen), Some(told)) => {
                // A round tells few what would help, and leaves out when one starts who waits like another.
                if told.suggestions.is_empty() {
                    foreseen.suggestions.clear();
                }
                if told.estimated_start.is_none() {
                    (foreseen.estimated_start, foreseen.estimate_basis) = (None, None);
                }
                prop_assert_eq!(foreseen, told);
            }
            (foreseen, told) => prop_assert_eq!(foreseen, told),
        }
    }
}

#[test]
fn who_asks_is_told_what_would_help_however_many_wait() {
    let waiting = Work {
        replicas: 1,
        needs_one: false,
        cpu: 4,
        queue: 0,
        user: 0,
        priority: 0,
        hours: Some(1),
        runs: false,
        apart: false,
        picky: false,
    };
    let mut work = vec![Work { runs: true, ..waiting.clone() }];
    work.extend((0..40).map(|user| Work { user, ..waiting.clone() }));
    let world = World {
        nodes: vec![(4, false)],
        work,
        preemption: false,
        half_life: false,
        limit: 1,
        guaranteed: 0,
        is_down: false,
        quota: None,
        closed_hours: false,
        rounds: 0,
    };
    let copies = world.put();
    let (workload, pods) = made("new", &waiting, NOW);
    let tried = Tried { workload: Some(Arc::new(workload)), pods: pods.into_iter().map(Arc::new).collect() };
    let foreseen = foresee(&copies, &Known::default(), &tried, NOW.parse().expect("a time"));
    let told = foreseen.waiting.expect("it waits");
    assert_eq!((foreseen.placed, told.position), (0, 41));
    let actions: Vec<&str> = told.suggestions.iter().map(|suggestion| suggestion.action.as_str()).collect();
    assert!(actions.contains(&"EndWork"), "{actions:?}");
}
