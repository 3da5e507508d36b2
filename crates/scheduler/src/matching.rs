//! Whether a node is one a member may run on at all, room aside.
//!
//! Meaning of the parts: <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>

use std::collections::BTreeMap;

use crate::snapshot::{Member, Node, Operator, Requirement, Taint, Term, Toleration};

type Labels = BTreeMap<String, String>;

/// Whether selector, affinity and taints allow the member on the node.
pub(crate) fn suits(member: &Member, node: &Node) -> bool {
    selected(&member.node_selector, &node.labels)
        && attracted(&member.affinity, &node.labels, &node.name)
        && tolerated(&member.tolerations, &node.taints)
}

/// Whether the node has every label of the selector.
pub(crate) fn selected(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether one of the terms holds, or there is none.
pub(crate) fn attracted(affinity: &[Term], labels: &Labels, name: &str) -> bool {
    affinity.is_empty() || affinity.iter().any(|term| holds(term, labels, name))
}

/// Whether every taint is tolerated.
pub(crate) fn tolerated(tolerations: &[Toleration], taints: &[Taint]) -> bool {
    taints.iter().all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    toleration.key.as_ref().is_none_or(|key| *key == taint.key)
        && toleration.value.as_ref().is_none_or(|value| *value == taint.value)
        && toleration.effect.is_none_or(|effect| effect == taint.effect)
}

pub(crate) fn holds(term: &Term, labels: &Labels, name: &str) -> bool {
    if term.labels.is_empty() && term.names.is_empty() {
        return false;
    }
    term.labels.iter().all(|requirement| compare(requirement, labels.get(&requirement.key).map(String::as_str)))
        && term.names.iter().all(|requirement| compare(requirement, Some(name)))
}

fn compare(requirement: &Requirement, value: Option<&str>) -> bool {
    let listed = |value: &str| requirement.values.iter().any(|one| one == value);
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = || requirement.values.first().and_then(|text| number(text));
    match (requirement.operator, value) {
        (Operator::In, value) => value.is_some_and(listed),
        (Operator::NotIn, value) => !value.is_some_and(listed),
        (Operator::Exists, value) => value.is_some(),
        (Operator::DoesNotExist, value) => value.is_none(),
        (Operator::Gt, value) => matches!((value.and_then(number), bound()), (Some(value), Some(bound)) if value > bound),
        (Operator::Lt, value) => matches!((value.and_then(number), bound()), (Some(value), Some(bound)) if value < bound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Effect;

    fn node() -> Node {
        Node {
            name: "a".into(),
            labels: [("zone".to_owned(), "west".to_owned()), ("cards".to_owned(), "8".to_owned())].into(),
            ..Node::default()
        }
    }

    #[test]
    fn affinity_compares_as_kubernetes_does() {
        use Operator as O;
        for (key, operator, values, expected) in [
            ("zone", O::In, vec!["east", "west"], true),
            ("zone", O::In, vec!["east"], false),
            ("rack", O::In, vec!["1"], false),
            ("zone", O::NotIn, vec!["east"], true),
            ("rack", O::NotIn, vec!["1"], true),
            ("zone", O::NotIn, vec!["west"], false),
            ("zone", O::Exists, vec![], true),
            ("rack", O::Exists, vec![], false),
            ("rack", O::DoesNotExist, vec![], true),
            ("cards", O::Gt, vec!["4"], true),
            ("cards", O::Gt, vec!["8"], false),
            ("cards", O::Lt, vec!["9"], true),
            ("zone", O::Gt, vec!["4"], false),
            ("cards", O::Lt, vec!["many"], false),
        ] {
            let values = values.into_iter().map(str::to_owned).collect();
            let labels = vec![Requirement { key: key.into(), operator, values }];
            let member = Member { affinity: vec![Term { labels, names: vec![] }], ..Member::default() };
            assert_eq!(suits(&member, &node()), expected, "{key} {operator:?}");
        }
    }

    #[test]
    fn one_term_is_enough_and_an_empty_one_matches_nothing() {
        let named = |name: &str| Term {
            labels: vec![],
            names: vec![Requirement { key: "metadata.name".into(), operator: Operator::In, values: vec![name.into()] }],
        };
        let member = |affinity| Member { affinity, ..Member::default() };
        assert!(suits(&member(vec![named("b"), named("a")]), &node()));
        assert!(!suits(&member(vec![named("b")]), &node()));
        assert!(!suits(&member(vec![Term::default()]), &node()));
    }

    #[test]
    fn taints_keep_away_those_who_do_not_tolerate_them() {
        let taint = Taint { key: "gpu".into(), value: "yes".into(), effect: Effect::NoSchedule };
        let node = Node { taints: vec![taint], ..node() };
        let member = |tolerations| Member { tolerations, ..Member::default() };
        let only = |key: &str, value: Option<&str>, effect| Toleration { key: Some(key.into()), value: value.map(str::to_owned), effect };
        assert!(!suits(&member(vec![]), &node));
        assert!(suits(&member(vec![Toleration::default()]), &node));
        assert!(suits(&member(vec![only("gpu", Some("yes"), None)]), &node));
        assert!(!suits(&member(vec![only("gpu", Some("no"), None)]), &node));
        assert!(!suits(&member(vec![only("gpu", None, Some(Effect::NoExecute))]), &node));
    }
}
