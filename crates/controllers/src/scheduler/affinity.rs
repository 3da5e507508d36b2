//! Pods that must stand near others, or apart from them.
//!
//! Required `podAffinity` and `podAntiAffinity` become requirements on the labels of nodes: the pods that
//! have a node, or were just given one, decide in which domains a pod may stand. A domain is the nodes
//! with the same value of a term's topology key. What a plan would bind at the same time is looked at
//! afterwards, in [`together`]: of gangs in each other's way the first goes ahead and the others wait for
//! the next round. Members of one gang that must not share a node are told to the plan itself.
//!
//! Meaning of the parts:
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity>.
//! Preferred terms and the spreading over domains are in [`super::spread`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use fermion_api::pod;
use fermion_scheduler::{Bind, Operator, Plan, Requirement, Wait, Waiting};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

use super::snapshot::Scene;
use super::spread::{self, Bound, Spreading};

/// The label whose values are single nodes.
const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) type Labels = BTreeMap<String, String>;

/// A term of a pod, ready to be held against other pods.
pub(super) struct Term {
    pub key: String,
    /// None selects no pod.
    pods: Option<Selector>,
    /// The namespaces it names; the pod's own where it names none.
    names: BTreeSet<String>,
    namespaces: Option<Selector>,
}

/// What a pod demands of those around it.
#[derive(Default)]
struct Terms {
    near: Vec<Term>,
    apart: Vec<Term>,
}

impl Terms {
    fn of(pod: &Pod) -> Option<Self> {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?;
        let near = affinity.pod_affinity.as_ref().and_then(|all| all.required_during_scheduling_ignored_during_execution.as_deref());
        let apart = affinity.pod_anti_affinity.as_ref().and_then(|all| all.required_during_scheduling_ignored_during_execution.as_deref());
        let terms = |terms: Option<&[PodAffinityTerm]>| terms.into_iter().flatten().map(|term| Term::of(term, pod)).collect();
        let all = Self { near: terms(near), apart: terms(apart) };
        (!all.near.is_empty() || !all.apart.is_empty()).then_some(all)
    }
}

impl Term {
    fn of(term: &PodAffinityTerm, pod: &Pod) -> Self {
        Self::settled(&settled(term, pod), &pod.namespace().unwrap_or_default())
    }

    /// Of a term that has no label keys left, of a pod of this namespace.
    pub(super) fn settled(term: &PodAffinityTerm, namespace: &str) -> Self {
        let names: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        let own = names.is_empty() && term.namespace_selector.is_none();
        Self {
            key: term.topology_key.clone(),
            pods: term.label_selector.as_ref().and_then(selector_of),
            names: if own { BTreeSet::from([namespace.to_owned()]) } else { names },
            namespaces: term.namespace_selector.as_ref().and_then(selector_of),
        }
    }

    /// Whether it selects a pod of this namespace with these labels.
    pub(super) fn selects(&self, namespace: &str, labels: &Labels, namespaces: &HashMap<&str, &Labels>) -> bool {
        let there = || {
            let of_namespace = namespaces.get(namespace).copied();
            let selected = |selector: &Selector| selector.matches(of_namespace.unwrap_or(&Labels::new()));
            self.names.contains(namespace) || self.namespaces.as_ref().is_some_and(selected)
        };
        there() && self.pods.as_ref().is_some_and(|selector| selector.matches(labels))
    }

    /// Whether it selects pods such as the one whose term it is. A selector of namespaces is taken to
    /// select its own.
    fn selects_its_like(&self, pod: &Pod) -> bool {
        let here = self.names.contains(&pod.namespace().unwrap_or_default()) || self.namespaces.is_some();
        here && self.pods.as_ref().is_some_and(|selector| selector.matches(pod.labels()))
    }
}

/// Admission refuses a selector that cannot be read; one that slips through selects nothing.
fn selector_of(selector: &LabelSelector) -> Option<Selector> {
    Selector::try_from(selector.clone()).ok()
}

/// A term in which `matchLabelKeys` and `mismatchLabelKeys` have become part of the selector.
pub(super) fn settled(term: &PodAffinityTerm, pod: &Pod) -> PodAffinityTerm {
    PodAffinityTerm {
        label_selector: term.label_selector.as_ref().map(|selector| with_own_labels(selector, term, pod)),
        match_label_keys: None,
        mismatch_label_keys: None,
        ..term.clone()
    }
}

/// The selector with what `matchLabelKeys` and `mismatchLabelKeys` add from the pod's own labels.
fn with_own_labels(selector: &LabelSelector, term: &PodAffinityTerm, pod: &Pod) -> LabelSelector {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    let mut selector = selector.clone();
    let mut add = |keys: &Option<Vec<String>>, operator: &str| {
        for key in keys.iter().flatten() {
            let Some(value) = pod.labels().get(key) else { continue };
            selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value.clone()]),
            });
        }
    };
    add(&term.match_label_keys, "In");
    add(&term.mismatch_label_keys, "NotIn");
    selector
}

/// Labels of namespaces by their names.
pub(super) fn by_name(namespaces: &[Arc<Namespace>]) -> HashMap<&str, &Labels> {
    namespaces.iter().filter_map(|each| Some((each.metadata.name.as_deref()?, each.labels()))).collect()
}

/// Whether a pod demands something of those around it.
pub(super) fn demands(pod: &Pod) -> bool {
    !pod::ended(pod) && (Terms::of(pod).is_some() || spread::depends(pod))
}

/// The pods that have a node, and the nodes.
pub(super) struct Neighbours<'a> {
    nodes: HashMap<String, &'a Labels>,
    namespaces: HashMap<&'a str, &'a Labels>,
    standing: Vec<(&'a Pod, String)>,
    /// What those of them demand that keep others away, with the value of the term's key where they stand.
    guarded: Vec<(Term, String)>,
    /// If a pod that waits is to be spread, or prefers to be near others.
    pub spreading: Option<Spreading<'a>>,
}

impl<'a> Neighbours<'a> {
    /// Each pod with the node that it has or was just given. `None` if no pod demands anything.
    pub(super) fn of(
        nodes: &'a [Arc<Node>],
        namespaces: &'a [Arc<Namespace>],
        pods: impl Iterator<Item = (&'a Pod, Option<&'a str>)> + Clone,
        spreading: Option<Spreading<'a>>,
    ) -> Option<Self> {
        if spreading.is_none() && !pods.clone().any(|(pod, _)| Terms::of(pod).is_some()) {
            return None;
        }
        let mut all = Self {
            nodes: nodes.iter().map(|node| (node.name_any(), node.labels())).collect(),
            namespaces: by_name(namespaces),
            standing: Vec::new(),
            guarded: Vec::new(),
            spreading,
        };
        for (pod, node) in pods {
            if let Some(node) = node {
                all.stand(pod, node);
            }
        }
        Some(all)
    }

    /// From now on the pod has that node.
    fn stand(&mut self, pod: &'a Pod, node: &str) {
        for term in Terms::of(pod).into_iter().flat_map(|terms| terms.apart) {
            if let Some(value) = self.value(node, &term.key) {
                let value = value.to_owned();
                self.guarded.push((term, value));
            }
        }
        self.standing.push((pod, node.to_owned()));
    }

    fn selects(&self, term: &Term, pod: &Pod) -> bool {
        term.selects(pod.namespace().as_deref().unwrap_or_default(), pod.labels(), &self.namespaces)
    }

    fn value(&self, node: &str, key: &str) -> Option<&'a str> {
        self.nodes.get(node)?.get(key).map(String::as_str)
    }

    /// Domains in which pods stand that the term selects.
    fn domains(&self, term: &Term) -> BTreeSet<String> {
        let selected = self.standing.iter().filter(|(pod, _)| self.selects(term, pod));
        selected.filter_map(|(_, node)| self.value(node, &term.key)).map(str::to_owned).collect()
    }

    /// What the labels of a node must be for the pod to stand on it.
    pub(super) fn requirements(&self, pod: &Pod) -> Vec<Requirement> {
        let terms = Terms::of(pod).unwrap_or_default();
        let mut kept: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for term in &terms.apart {
            kept.entry(&term.key).or_default().extend(self.domains(term));
        }
        for (term, value) in &self.guarded {
            if self.selects(term, pod) {
                kept.entry(&term.key).or_default().insert(value.clone());
            }
        }
        let of = |key: &str, operator, values: BTreeSet<String>| Requirement {
            key: key.to_owned(),
            operator,
            values: values.into_iter().collect(),
        };
        let apart = kept.into_iter().filter(|(_, values)| !values.is_empty());
        let mut requirements: Vec<Requirement> = apart.map(|(key, values)| of(key, Operator::NotIn, values)).collect();
        // The first of pods that want to be near each other may stand anywhere.
        let first = terms.near.iter().all(|term| self.selects(term, pod) && self.domains(term).is_empty());
        for term in &terms.near {
            let values = self.domains(term);
            // A node without the label is in no domain.
            let operator = if first { Operator::Exists } else { Operator::In };
            requirements.push(of(&term.key, operator, values));
        }
        requirements
    }

    fn permits(&self, pod: &Pod, node: &str) -> bool {
        self.requirements(pod).iter().all(|requirement| {
            let value = self.value(node, &requirement.key);
            let listed = value.is_some_and(|value| requirement.values.iter().any(|one| one == value));
            match requirement.operator {
                Operator::NotIn => !listed,
                Operator::In => listed,
                _ => value.is_some(),
            }
        })
    }
}

/// Whether no two such pods of one gang may share a node.
pub(super) fn is_alone(pod: &Pod) -> bool {
    Terms::of(pod).is_some_and(|terms| terms.apart.iter().any(|term| term.key == HOSTNAME && term.selects_its_like(pod)))
}

/// The label in whose one domain all such pods of a gang want to be, if they want to be near each other.
pub(super) fn gathers_by(pod: &Pod) -> Option<String> {
    Terms::of(pod)?.near.iter().find(|term| term.selects_its_like(pod)).map(|term| term.key.clone())
}

/// What is to become of a gang that a plan would bind.
enum Verdict {
    /// It stands from now on.
    Stands,
    /// It or others do not want to be near, or apart.
    Averse,
    /// Not spread as it must be, as long as no others stand elsewhere.
    Crowded,
}

impl<'a> Neighbours<'a> {
    /// Has the members of a gang on their nodes, if they may all be there.
    fn admit(&mut self, members: &[Bound<'a, '_>]) -> Verdict {
        let (standing, guarded) = (self.standing.len(), self.guarded.len());
        let permitted = members.iter().all(|bound| {
            let permitted = self.permits(bound.pod, bound.node);
            self.stand(bound.pod, bound.node);
            permitted
        });
        let spread = permitted && self.spreading.as_mut().is_none_or(|spreading| spreading.admit(members));
        if spread {
            return Verdict::Stands;
        }
        self.standing.truncate(standing);
        self.guarded.truncate(guarded);
        if permitted { Verdict::Crowded } else { Verdict::Averse }
    }
}

/// Takes gangs out of a plan whose members would stand near others, or apart from them, or not spread,
/// against what they or those demand; they wait for the next round. Of what a gang can be without only so
/// much is taken as is in the way of its spreading.
pub(super) fn together<'a>(scene: &'a Scene, mut around: Neighbours<'a>, plan: &mut Plan) {
    let binds = std::mem::take(&mut plan.binds);
    let mut gangs: BTreeMap<&str, Vec<Bound<'_, '_>>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for bind in &binds {
        let Some(pod) = scene.members.get(&bind.member) else { continue };
        let gang = gangs.entry(&bind.gang).or_default();
        if gang.is_empty() {
            order.push(&bind.gang);
        }
        gang.push(Bound { pod, node: &bind.node, member: &bind.member, spread: scene.spreads.get(&bind.member) });
    }
    let mut ahead: Option<&str> = None;
    let mut refused: BTreeMap<String, Wait> = BTreeMap::new();
    let mut crowded: Vec<&str> = Vec::new();
    let pool = |gang: &str| scene.pool_of(gang).unwrap_or_default().to_owned();
    for gang in order {
        match around.admit(&gangs[gang]) {
            Verdict::Stands => ahead = Some(gang),
            Verdict::Crowded => crowded.push(gang),
            Verdict::Averse => {
                let wait = match ahead {
                    Some(ahead) => Wait::BehindOthers { ahead: ahead.to_owned() },
                    // Nobody went before it: its own members are in each other's way.
                    None => Wait::NoDomain { pool: pool(gang) },
                };
                refused.insert(gang.to_owned(), wait);
            }
        }
    }
    // Who stands elsewhere by now leaves room for more.
    loop {
        let before = crowded.len();
        crowded.retain(|gang| !matches!(around.admit(&gangs[gang]), Verdict::Stands));
        if crowded.len() == before {
            break;
        }
    }
    let mut dropped: BTreeSet<&str> = BTreeSet::new();
    for gang in crowded {
        let needed = needed(scene, gang);
        let mut members = gangs[gang].clone();
        while let Some(spare) = around.spreading.as_mut().and_then(|spreading| spreading.in_the_way(&members, &needed)) {
            dropped.insert(members.remove(spare).member);
        }
        if members.is_empty() || !matches!(around.admit(&members), Verdict::Stands) {
            dropped.extend(gangs[gang].iter().map(|bound| bound.member));
        }
        refused.insert(gang.to_owned(), Wait::NotSpread { pool: pool(gang) });
    }
    let kept = |bind: &&Bind| {
        let averse = refused.get(&bind.gang).is_some_and(|wait| !matches!(wait, Wait::NotSpread { .. }));
        !averse && !dropped.contains(bind.member.as_str())
    };
    plan.binds = binds.iter().filter(kept).cloned().collect();
    for (gang, wait) in refused {
        if plan.waits.iter().any(|waiting| waiting.gang == gang) {
            continue;
        }
        let Some(queue) = scene.queue_of(&gang).map(str::to_owned) else { continue };
        let position = plan.waits.iter().filter(|waiting| waiting.queue == queue).count() as u32 + 1;
        plan.waits.push(Waiting { gang, queue, position, wait, start: None, remedies: Vec::new() });
    }
}

/// Members without which the gang is not to have any place.
fn needed<'s>(scene: &'s Scene, gang: &str) -> BTreeSet<&'s str> {
    let sets = scene.gangs.get(gang).into_iter().flat_map(|gang| &gang.sets);
    sets.flat_map(|set| set.pending.iter().take(set.needed())).map(|member| member.id.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use fermion_scheduler::Gang;
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, zone: &str) -> Arc<Node> {
        let labels = json!({HOSTNAME: name, "zone": zone});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a node"))
    }

    fn nodes() -> Vec<Arc<Node>> {
        vec![node("a1", "a"), node("a2", "a"), node("b1", "b")]
    }

    fn pod(name: &str, app: &str, affinity: &Value) -> Pod {
        let metadata = json!({"name": name, "namespace": "lab", "labels": {"app": app}});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"affinity": affinity, "containers": []}})).expect("a pod")
    }

    /// Wants `how` towards pods of an application within the domains of a label.
    fn demand(how: &str, app: &str, key: &str) -> Value {
        let terms = json!([{"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}]);
        json!({how: {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
    }

    fn apart(app: &str, key: &str) -> Value {
        demand("podAntiAffinity", app, key)
    }

    fn near(app: &str, key: &str) -> Value {
        demand("podAffinity", app, key)
    }

    /// Where a pod may stand, with these others.
    fn places(pod: &Pod, standing: &[(&Pod, &'static str)]) -> Vec<&'static str> {
        let nodes = nodes();
        let all = standing.iter().map(|(pod, node)| (*pod, Some(*node))).chain([(pod, None)]);
        let Some(around) = Neighbours::of(&nodes, &[], all, None) else { return vec!["a1", "a2", "b1"] };
        ["a1", "a2", "b1"].into_iter().filter(|node| around.permits(pod, node)).collect()
    }

    #[test]
    fn a_pod_keeps_apart_by_node_or_by_zone() {
        let there = pod("there", "db", &Value::Null);
        assert_eq!(places(&pod("new", "web", &apart("db", HOSTNAME)), &[(&there, "a1")]), ["a2", "b1"]);
        assert_eq!(places(&pod("new", "web", &apart("db", "zone")), &[(&there, "a1")]), ["b1"]);
        assert_eq!(places(&pod("new", "web", &apart("cache", "zone")), &[(&there, "a1")]), ["a1", "a2", "b1"]);
        // Nodes without the label are in no domain, so nobody is there.
        assert_eq!(places(&pod("new", "web", &apart("db", "room")), &[(&there, "a1")]), ["a1", "a2", "b1"]);
    }

    #[test]
    fn who_stands_keeps_others_away() {
        let there = pod("there", "db", &apart("web", "zone"));
        assert_eq!(places(&pod("new", "web", &Value::Null), &[(&there, "a1")]), ["b1"]);
        assert_eq!(places(&pod("new", "cache", &Value::Null), &[(&there, "a1")]), ["a1", "a2", "b1"]);
    }

    #[test]
    fn a_pod_stands_near_others_and_the_first_of_its_like_anywhere() {
        let there = pod("there", "db", &Value::Null);
        assert_eq!(places(&pod("new", "web", &near("db", "zone")), &[(&there, "a1")]), ["a1", "a2"]);
        assert!(places(&pod("new", "web", &near("db", "zone")), &[]).is_empty(), "there is nobody to be near");
        assert_eq!(places(&pod("new", "db", &near("db", "zone")), &[]), ["a1", "a2", "b1"]);
        assert!(places(&pod("new", "db", &near("db", "room")), &[]).is_empty(), "no node is in a room");
        assert_eq!(places(&pod("new", "db", &near("db", "zone")), &[(&there, "b1")]), ["b1"]);
    }

    #[test]
    fn others_are_those_of_the_named_namespaces() {
        let mut there = pod("there", "db", &Value::Null);
        there.metadata.namespace = Some("other".into());
        let mut demanded = apart("db", HOSTNAME);
        let new = |demanded: &Value| pod("new", "web", demanded);
        assert_eq!(places(&new(&demanded), &[(&there, "a1")]), ["a1", "a2", "b1"]);
        let term = "/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0";
        demanded.pointer_mut(term).expect("is there")["namespaceSelector"] = json!({});
        assert_eq!(places(&new(&demanded), &[(&there, "a1")]), ["a2", "b1"]);
        demanded.pointer_mut(term).expect("is there")["namespaceSelector"] = json!({"matchLabels": {"tier": "gold"}});
        assert_eq!(places(&new(&demanded), &[(&there, "a1")]), ["a1", "a2", "b1"]);
        demanded.pointer_mut(term).expect("is there")["namespaces"] = json!(["other"]);
        assert_eq!(places(&new(&demanded), &[(&there, "a1")]), ["a2", "b1"]);
    }

    #[test]
    fn label_keys_add_the_pods_own_values() {
        let there = pod("there", "db", &Value::Null);
        let mut demanded = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {}, "matchLabelKeys": ["app"], "topologyKey": HOSTNAME}]}});
        assert_eq!(places(&pod("new", "db", &demanded), &[(&there, "a1")]), ["a2", "b1"]);
        assert_eq!(places(&pod("new", "web", &demanded), &[(&there, "a1")]), ["a1", "a2", "b1"]);
        let term = &mut demanded["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        term["mismatchLabelKeys"] = term["matchLabelKeys"].take();
        assert_eq!(places(&pod("new", "db", &demanded), &[(&there, "a1")]), ["a1", "a2", "b1"]);
        assert_eq!(places(&pod("new", "web", &demanded), &[(&there, "a1")]), ["a2", "b1"]);
    }

    #[test]
    fn of_gangs_in_each_others_way_the_first_goes_ahead() {
        let nodes = nodes();
        let pods: Vec<Pod> = ["one", "two", "three"].map(|name| pod(name, "web", &apart("web", "zone"))).into();
        let gang = |name: &str| Gang { id: name.into(), queue: "q".into(), ..Gang::default() };
        let members = pods.iter().map(|pod| (pod.name_any(), Arc::new(pod.clone()))).collect();
        let gangs = ["one", "three", "two"].map(|name| (name.to_owned(), Arc::new(gang(name)))).into();
        let scene = Scene { gangs, members, ..Scene::default() };
        let bind = |name: &str, node: &str| Bind { gang: name.into(), member: name.into(), node: node.into(), cards: Vec::new() };
        let mut plan = Plan { binds: vec![bind("one", "a1"), bind("two", "a2"), bind("three", "b1")], ..Plan::default() };
        let around = Neighbours::of(&nodes, &[], pods.iter().map(|pod| (pod, None)), None).expect("they demand something");
        together(&scene, around, &mut plan);
        assert_eq!(plan.binds, [bind("one", "a1"), bind("three", "b1")]);
        let [waiting] = &plan.waits[..] else { panic!("{:?}", plan.waits) };
        assert_eq!((waiting.gang.as_str(), &waiting.wait), ("two", &Wait::BehindOthers { ahead: "one".into() }));
    }

    #[test]
    fn members_of_one_gang_are_known_to_keep_apart_or_together() {
        assert!(is_alone(&pod("new", "web", &apart("web", HOSTNAME))));
        assert!(!is_alone(&pod("new", "web", &apart("web", "zone"))) && !is_alone(&pod("new", "web", &apart("db", HOSTNAME))));
        assert_eq!(gathers_by(&pod("new", "web", &near("web", "zone"))).as_deref(), Some("zone"));
        assert_eq!(gathers_by(&pod("new", "web", &near("db", "zone"))), None);
    }
}
