use serde_json::{Value, json};

use super::super::{MergeStrategy, PatchError, PatchErrorClass, PatchKind, apply};
use super::order::KEYS_READ;

#[track_caller]
fn check(kind: &str, original: Value, patch: Value, expected: Value) {
    let strategy = MergeStrategy::for_kind("", kind);
    let result = apply(PatchKind::Strategic, &original, &patch, &strategy);
    assert_eq!(result, Ok(expected), "{patch}");
}

#[track_caller]
fn check_error(kind: &str, original: Value, patch: Value, expected: &str) -> PatchError {
    let strategy = MergeStrategy::for_kind("", kind);
    let error = apply(PatchKind::Strategic, &original, &patch, &strategy).unwrap_err();
    assert_eq!(error.class(), PatchErrorClass::BadRequest, "{error}");
    assert!(error.to_string().contains(expected), "{error}");
    error
}

fn pod(spec: Value) -> Value {
    json!({"spec": spec})
}

#[test]
fn containers_are_merged_by_name_and_appended() {
    check(
        "Pod",
        pod(json!({"containers": [
            {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}]},
            {"name": "b", "image": "b:1"},
        ]})),
        pod(json!({"containers": [
            {"name": "c", "image": "c:1"},
            {"name": "a", "image": "a:2", "env": [{"name": "Y", "value": "2"}, {"name": "Z", "value": "3"}]},
        ]})),
        pod(json!({"containers": [
            {"name": "a", "image": "a:2", "env": [
                {"name": "X", "value": "1"}, {"name": "Y", "value": "2"}, {"name": "Z", "value": "3"}]},
            {"name": "b", "image": "b:1"},
            {"name": "c", "image": "c:1"},
        ]})),
    );
}

#[test]
fn every_keyed_list_of_a_pod_is_merged_by_its_key() {
    for (list, key, one, two) in [
        ("containers", "name", json!("a"), json!("b")),
        ("initContainers", "name", json!("a"), json!("b")),
        ("ephemeralContainers", "name", json!("a"), json!("b")),
        ("volumes", "name", json!("a"), json!("b")),
        ("imagePullSecrets", "name", json!("a"), json!("b")),
        ("schedulingGates", "name", json!("a"), json!("b")),
        ("resourceClaims", "name", json!("a"), json!("b")),
        ("hostAliases", "ip", json!("10.0.0.1"), json!("10.0.0.2")),
        ("topologySpreadConstraints", "topologyKey", json!("zone"), json!("host")),
    ] {
        check(
            "Pod",
            pod(json!({list: [{key: one, "x": 1, "y": 1}]})),
            pod(json!({list: [{key: one, "x": 2}, {key: two, "x": 3}]})),
            pod(json!({list: [{key: one, "x": 2, "y": 1}, {key: two, "x": 3}]})),
        );
    }
    for (list, key, one, two) in [
        ("env", "name", json!("a"), json!("b")),
        ("ports", "containerPort", json!(80), json!(81)),
        ("volumeMounts", "mountPath", json!("/a"), json!("/b")),
        ("volumeDevices", "devicePath", json!("/a"), json!("/b")),
    ] {
        let spec = |items: Value| pod(json!({"containers": [{"name": "c", list: items}]}));
        check(
            "Pod",
            spec(json!([{key: one, "x": 1, "y": 1}])),
            spec(json!([{key: one, "x": 2}, {key: two, "x": 3}])),
            spec(json!([{key: one, "x": 2, "y": 1}, {key: two, "x": 3}])),
        );
    }
}

#[test]
fn keyed_lists_of_the_other_kinds_are_merged() {
    for (kind, parent, list, key) in [
        ("Pod", "status", "conditions", "type"),
        ("Pod", "status", "podIPs", "ip"),
        ("Node", "status", "conditions", "type"),
        ("Node", "status", "addresses", "type"),
        ("Namespace", "status", "conditions", "type"),
        ("PersistentVolumeClaim", "status", "conditions", "type"),
        ("Service", "status", "conditions", "type"),
        ("Service", "spec", "ports", "port"),
        ("Secret", "metadata", "ownerReferences", "uid"),
        ("ConfigMap", "metadata", "ownerReferences", "uid"),
    ] {
        check(
            kind,
            json!({parent: {list: [{key: "a", "x": 1, "y": 1}]}}),
            json!({parent: {list: [{key: "a", "x": 2}, {key: "b", "x": 3}]}}),
            json!({parent: {list: [{key: "a", "x": 2, "y": 1}, {key: "b", "x": 3}]}}),
        );
    }
    check(
        "ServiceAccount",
        json!({"secrets": [{"name": "a"}], "imagePullSecrets": [{"name": "a"}]}),
        json!({"secrets": [{"name": "b"}], "imagePullSecrets": [{"name": "b"}]}),
        json!({"secrets": [{"name": "a"}, {"name": "b"}], "imagePullSecrets": [{"name": "b"}]}),
    );
}

#[test]
fn lists_without_a_key_are_replaced() {
    check(
        "Pod",
        pod(json!({"tolerations": [{"key": "a"}], "containers": [{"name": "c", "args": ["1", "2"]}]})),
        pod(json!({"tolerations": [{"key": "b"}], "containers": [{"name": "c", "args": ["3"]}]})),
        pod(json!({"tolerations": [{"key": "b"}], "containers": [{"name": "c", "args": ["3"]}]})),
    );
    check(
        "Node",
        json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
        json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
        json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
    );
}

#[test]
fn maps_are_merged_and_null_removes() {
    check(
        "ConfigMap",
        json!({"data": {"a": "1", "b": "1"}, "metadata": {"labels": {"x": "1"}}}),
        json!({"data": {"a": null, "c": "2"}, "metadata": {"labels": {"y": "2", "z": null}, "annotations": null}}),
        json!({"data": {"b": "1", "c": "2"}, "metadata": {"labels": {"x": "1", "y": "2"}}}),
    );
    check("ConfigMap", json!({}), json!({"data": {"a": null, "b": {"c": null}}}), json!({"data": {"b": {}}}));
}

#[test]
fn finalizers_are_a_set() {
    check(
        "Pod",
        json!({"metadata": {"finalizers": ["a", "b"]}}),
        json!({"metadata": {"finalizers": ["b", "c", "c"]}}),
        json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
    );
    check(
        "Pod",
        json!({"metadata": {"finalizers": ["a", "b"]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "q"]}}),
        json!({"metadata": {"finalizers": ["b"]}}),
    );
    check(
        "Pod",
        json!({"metadata": {"finalizers": ["a", "b"]}}),
        json!({"metadata": {
            "finalizers": ["c"],
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
        }}),
        json!({"metadata": {"finalizers": ["c", "b"]}}),
    );
}

#[test]
fn directives_delete_and_replace_items_and_maps() {
    check(
        "Pod",
        pod(json!({"containers": [{"name": "a"}, {"name": "b"}]})),
        pod(json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "q", "$patch": "delete"}]})),
        pod(json!({"containers": [{"name": "b"}]})),
    );
    check(
        "Pod",
        pod(json!({"containers": [{"name": "a"}, {"name": "b"}]})),
        pod(json!({"containers": [{"$patch": "replace"}, {"name": "c"}]})),
        pod(json!({"containers": [{"name": "c"}]})),
    );
    check(
        "Pod",
        pod(json!({"nodeSelector": {"a": "1"}})),
        pod(json!({"nodeSelector": {"$patch": "replace", "b": "2"}})),
        pod(json!({"nodeSelector": {"b": "2"}})),
    );
    check(
        "Pod",
        pod(json!({"nodeSelector": {"a": "1"}})),
        pod(json!({"nodeSelector": {"$patch": "delete"}})),
        pod(json!({"nodeSelector": {}})),
    );
    check(
        "Pod",
        pod(json!({"nodeSelector": {"a": "1"}})),
        pod(json!({"nodeSelector": {"$patch": "merge", "b": "2"}})),
        pod(json!({"nodeSelector": {"a": "1", "b": "2"}})),
    );
}

#[test]
fn directives_leave_no_trace_in_what_is_new() {
    check(
        "Pod",
        json!({}),
        pod(json!({
            "containers": [{"name": "gone", "$patch": "delete"},
                           {"name": "a", "env": [{"name": "X", "$patch": "delete"}], "$setElementOrder/env": []}],
            "$setElementOrder/containers": [{"name": "a"}],
            "securityContext": {"$patch": "replace", "runAsUser": 1, "runAsGroup": null},
            "volumes": [{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}],
        })),
        pod(json!({
            "containers": [{"name": "a", "env": []}],
            "securityContext": {"runAsUser": 1},
            "volumes": [{"name": "v", "emptyDir": {}}],
        })),
    );
}

#[test]
fn retained_keys_swap_a_volume_source() {
    check(
        "Pod",
        pod(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        pod(json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]})),
        pod(json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})),
    );
    check_error(
        "Pod",
        pod(json!({"volumes": [{"name": "v"}]})),
        pod(json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "emptyDir": {}}]})),
        "spec.volumes[0].$retainKeys: the patch sets \"emptyDir\"",
    );
}

#[test]
fn the_order_of_elements_is_set_and_servers_items_stay() {
    check(
        "Pod",
        pod(json!({"containers": [{"name": "a"}, {"name": "injected"}, {"name": "b"}]})),
        pod(json!({
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
            "containers": [{"name": "c"}],
        })),
        pod(json!({"containers": [{"name": "injected"}, {"name": "c"}, {"name": "b"}, {"name": "a"}]})),
    );
    check_error(
        "Pod",
        pod(json!({"containers": [{"name": "a"}]})),
        pod(json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "c"}]})),
        "the order does not list c",
    );
    check_error(
        "Pod",
        pod(json!({"containers": [{"name": "a"}]})),
        pod(json!({"$setElementOrder/tolerations": [{"key": "a"}]})),
        "no list that is merged",
    );
}

#[test]
fn ports_of_one_number_are_told_apart_by_protocol() {
    check(
        "Service",
        json!({"spec": {"ports": [{"port": 53, "name": "tcp"}, {"port": 53, "protocol": "UDP", "name": "udp"}]}}),
        json!({"spec": {"ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]}}),
        json!({"spec": {"ports": [{"port": 53, "name": "tcp"},
                                  {"port": 53, "protocol": "UDP", "name": "udp", "nodePort": 30053}]}}),
    );
    check(
        "Service",
        json!({"spec": {"ports": [{"port": 53, "name": "tcp"}, {"port": 53, "protocol": "UDP", "name": "udp"}]}}),
        json!({"spec": {"ports": [{"port": 53, "protocol": "TCP", "$patch": "delete"}]}}),
        json!({"spec": {"ports": [{"port": 53, "protocol": "UDP", "name": "udp"}]}}),
    );
}

#[test]
fn mistakes_name_their_field() {
    let original = || pod(json!({"containers": [{"name": "a"}]}));
    check_error("Pod", original(), pod(json!({"containers": [{"image": "x"}]})), "spec.containers[0]: the list is merged by \"name\"");
    check_error("Pod", json!({}), pod(json!({"containers": [{"image": "x"}]})), "spec.containers[0]: the list is merged by \"name\"");
    check_error("Pod", original(), pod(json!({"containers": ["x"]})), "spec.containers[0]: expected an object");
    check_error(
        "Pod",
        original(),
        pod(json!({"containers": [{"name": "a", "$patch": "explode"}]})),
        "spec.containers[0].$patch: expected \"delete\", \"replace\" or \"merge\"",
    );
    check_error("Pod", original(), pod(json!({"$frobnicate": 1})), "spec.$frobnicate: unknown directive");
    check_error("Pod", original(), pod(json!({"new": {"$frobnicate": 1}})), "spec.new.$frobnicate");
    check_error("Pod", original(), json!({"metadata": {"finalizers": [{}]}}), "metadata.finalizers[0]: expected a plain value");
    check_error("Pod", original(), json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}), "expected a list of values");
    check_error("Pod", original(), pod(json!({"$retainKeys": "x"})), "expected a list of keys");
}

#[test]
fn changed_types_are_replaced() {
    check("ConfigMap", json!({"data": {"a": "1"}}), json!({"data": 3}), json!({"data": 3}));
    check(
        "Pod",
        pod(json!({"containers": {"a": 1}})),
        pod(json!({"containers": [{"name": "a"}]})),
        pod(json!({"containers": [{"name": "a"}]})),
    );
}

#[test]
fn work_on_lists_grows_with_their_length_and_no_faster() {
    type Case = fn(usize) -> (Value, Value, Value);
    let onto_itself: Case = |count| {
        let original = pod(json!({"volumes": (0..count).map(|n| json!({"name": n.to_string()})).collect::<Vec<_>>()}));
        (original.clone(), original.clone(), original)
    };
    let all_deleted: Case = |count| {
        let items = (0..count).map(|n| json!({"name": n.to_string()}));
        let deletions: Vec<Value> = (0..count).map(|n| json!({"name": n.to_string(), "$patch": "delete"})).collect();
        let order: Vec<Value> = items.clone().rev().collect();
        let patch = pod(json!({"volumes": deletions, "$setElementOrder/volumes": order}));
        (pod(json!({"volumes": items.collect::<Vec<_>>()})), patch, pod(json!({"volumes": []})))
    };
    let of_one_key: Case = |count| {
        let ports: Vec<Value> = (0..count).map(|n| json!({"containerPort": 1, "protocol": n.to_string()})).collect();
        let original = pod(json!({"containers": [{"name": "c", "ports": ports}]}));
        (original.clone(), original.clone(), original)
    };
    let of_one_key_deleted: Case = |count| {
        let port = |n: usize| json!({"containerPort": 1, "protocol": n.to_string()});
        let ports: Vec<Value> = (0..count).map(port).collect();
        let deletions: Vec<Value> =
            (count..2 * count).map(|n| json!({"containerPort": 1, "protocol": n.to_string(), "$patch": "delete"})).collect();
        let of = |ports: &[Value]| pod(json!({"containers": [{"name": "c", "ports": ports}]}));
        (of(&ports), of(&deletions), of(&ports))
    };
    let strategy = MergeStrategy::for_kind("", "Pod");
    for (name, case) in
        [("onto itself", onto_itself), ("all deleted", all_deleted), ("of one key", of_one_key), ("of one key deleted", of_one_key_deleted)]
    {
        let work = |count: usize| {
            let (original, patch, expected) = case(count);
            let before = KEYS_READ.get();
            assert_eq!(apply(PatchKind::Strategic, &original, &patch, &strategy).unwrap(), expected, "{name}");
            KEYS_READ.get() - before
        };
        let (once, twice) = (work(500), work(1_000));
        assert!(once >= 500, "{name}: work is counted");
        assert!(twice <= 2 * once, "{name}: {once} keys are read of 500 items, {twice} of twice as many");
    }
}

proptest::proptest! {
    #[test]
    fn a_patch_of_an_object_onto_itself_changes_nothing(
        names in proptest::collection::btree_set("[a-d]", 0..4),
        labels in proptest::collection::btree_map("[a-d]", "[a-z]{0,3}", 0..4),
    ) {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "x"})).collect();
        let object = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
        let strategy = MergeStrategy::for_kind("", "Pod");
        let result = apply(PatchKind::Strategic, &object, &object, &strategy);
        proptest::prop_assert_eq!(result, Ok(object));
    }
}
