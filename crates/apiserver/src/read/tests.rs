//! What the store is asked for a selector is what the selector means. That both databases answer what
//! the store is asked is tested there.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;

const FIELDS: [&str; 5] = ["spec.nodeName", "spec.hostNetwork", "spec.unschedulable", "status.phase", "source"];

fn any_selector(terms: Vec<&'static str>) -> impl Strategy<Value = String> {
    prop::collection::vec(select(terms), 0..4).prop_map(|terms| terms.join(","))
}

fn any_object() -> impl Strategy<Value = Value> {
    let texts = || select(vec![json!(null), json!(""), json!("a"), json!("b"), json!("5"), json!(5), json!(true), json!(["a"])]);
    (texts(), texts(), texts(), texts(), texts(), any::<bool>()).prop_map(|(app, tier, node, host, phase, bare)| {
        if bare {
            return json!({"metadata": {"name": "a"}, "source": {"component": phase}, "status": "a"});
        }
        json!({
            "metadata": {"name": "a", "namespace": "n", "labels": {"app": app, "fermion.dev/tier": tier}},
            "spec": {"nodeName": node, "hostNetwork": host, "unschedulable": host},
            "status": {"phase": phase},
        })
    })
}

proptest! {
    #[test]
    fn store_is_asked_for_what_the_selector_means(
        labels in any_selector(vec![
            "app=a", "app!=a", "app=", "app in (a,b)", "app notin (a,)", "app", "!app", "app>4", "app<6", "fermion.dev/tier==5",
        ]),
        fields in any_selector(vec![
            "metadata.name=a", "metadata.namespace!=n", "spec.nodeName=", "spec.nodeName!=a", "spec.hostNetwork=false",
            "spec.unschedulable=true", "status.phase=5", "status.phase!=true", "source=a",
        ]),
        object in any_object(),
    ) {
        let selection = Selection {
            labels: LabelSelector::parse(&labels).expect("it is a selector"),
            fields: FieldSelector::parse(&fields, &FIELDS).expect("it is a selector"),
        };
        let (filter, exact) = selection.filter();
        if exact {
            prop_assert_eq!(filter.matches(&object), selection.matches(&object));
        } else {
            prop_assert!(filter.matches(&object) || !selection.matches(&object), "the store leaves out what matches");
        }
    }
}
