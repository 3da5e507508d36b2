use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Columns, IncludeObject, table};
use fermion_api::registry::Column as PrinterColumn;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn merge(base: Value, more: Value) -> Value {
    match (base, more) {
        (Value::Object(mut base), Value::Object(more)) => {
            for (key, value) in more {
                let old = base.remove(&key).unwrap_or(Value::Null);
                base.insert(key, merge(old, value));
            }
            Value::Object(base)
        }
        (_, more) => more,
    }
}

/// The cells of one object, as a row of `kubectl get -o wide`.
fn cells(group: &str, kind: &str, object: Value) -> Vec<Value> {
    let columns = Columns::for_core(group, kind);
    let meta = json!({"kind": kind, "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"}});
    let made = table(&columns, &[merge(meta, object)], IncludeObject::None, now());
    let row = made["rows"][0]["cells"].as_array().unwrap().clone();
    assert_eq!(row.len(), columns.columns().len());
    row
}

#[track_caller]
fn check(group: &str, kind: &str, object: Value, expected: Value) {
    assert_eq!(Value::Array(cells(group, kind, object)), expected);
}

/// READY, STATUS and RESTARTS of a pod.
#[track_caller]
fn check_pod(pod: Value, expected: [&str; 3]) {
    let pod = merge(json!({"spec": {"containers": [{"name": "a"}]}}), pod);
    let row = cells("", "Pod", pod.clone());
    let shown: Vec<&str> = row[1..4].iter().map(|cell| cell.as_str().unwrap()).collect();
    assert_eq!(shown, expected, "{pod}");
}

#[test]
fn a_pods_status_is_what_kubernetes_prints() {
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    let init_status = |state: Value| json!([{"name": "i", "restartCount": 1, "state": state}]);
    for (pod, expected) in [
        (json!({"status": {"phase": "Pending"}}), ["0/1", "Pending", "0"]),
        (json!({"status": {"phase": "Running", "containerStatuses": [running]}}), ["1/1", "Running", "0"]),
        (
            json!({"status": {"phase": "Running", "containerStatuses": [{"ready": false, "restartCount": 0, "state": {"running": {}}}]}}),
            ["0/1", "Running", "0"],
        ),
        (
            json!({"status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}}),
            ["0/1", "ContainerCreating", "0"],
        ),
        (
            json!({"status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}}),
            ["0/1", "ErrImagePull", "0"],
        ),
        (
            json!({"status": {"phase": "Running", "containerStatuses": [{"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}}}]}}),
            ["0/1", "CrashLoopBackOff", "4 (5m ago)"],
        ),
        (
            json!({"status": {"phase": "Succeeded", "containerStatuses": [{"restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}}),
            ["0/1", "Completed", "0"],
        ),
        (
            json!({"status": {"phase": "Failed", "containerStatuses": [{"restartCount": 0, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}}),
            ["0/1", "OOMKilled", "0"],
        ),
        (
            json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}}),
            ["0/1", "ExitCode:3", "0"],
        ),
        (
            json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 1, "signal": 9}}}]}}),
            ["0/1", "Signal:9", "0"],
        ),
        (json!({"status": {"phase": "Failed", "reason": "Evicted"}}), ["0/1", "Evicted", "0"]),
        (
            json!({"spec": init, "status": {"phase": "Pending", "initContainerStatuses": init_status(json!({"running": {}}))}}),
            ["0/1", "Init:0/2", "1"],
        ),
        (
            json!({"spec": init, "status": {"phase": "Pending", "initContainerStatuses": init_status(json!({"waiting": {"reason": "PodInitializing"}}))}}),
            ["0/1", "Init:0/2", "1"],
        ),
        (
            json!({"spec": init, "status": {"phase": "Pending", "initContainerStatuses": init_status(json!({"waiting": {"reason": "CrashLoopBackOff"}}))}}),
            ["0/1", "Init:CrashLoopBackOff", "1"],
        ),
        (
            json!({"spec": init, "status": {"phase": "Failed", "initContainerStatuses": init_status(json!({"terminated": {"exitCode": 1, "reason": "Error"}}))}}),
            ["0/1", "Init:Error", "1"],
        ),
        (
            json!({"spec": init, "status": {"phase": "Failed", "initContainerStatuses": init_status(json!({"terminated": {"exitCode": 2}}))}}),
            ["0/1", "Init:ExitCode:2", "1"],
        ),
        (
            json!({"spec": init, "status": {"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]}}),
            ["0/1", "Init:1/2", "0"],
        ),
        (
            json!({"spec": init, "status": {"phase": "Running", "initContainerStatuses": init_status(json!({"terminated": {"exitCode": 0}})),
            "containerStatuses": [running]}}),
            ["1/1", "Running", "0"],
        ),
        (
            json!({"spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "initContainerStatuses": [{"name": "s", "ready": true, "started": true, "restartCount": 2, "state": {"running": {}}}],
            "containerStatuses": [running]}}),
            ["2/2", "Running", "2"],
        ),
        (
            json!({"spec": two, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, running]}}),
            ["1/2", "NotReady", "0"],
        ),
        (
            json!({"spec": two, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, running]}}),
            ["1/2", "Running", "0"],
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}, "status": {"phase": "Running", "containerStatuses": [running]}}),
            ["1/1", "Terminating", "0"],
        ),
        (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}, "status": {"phase": "Succeeded"}}), ["0/1", "Succeeded", "0"]),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}, "status": {"phase": "Running", "reason": "NodeLost"}}),
            ["0/1", "Unknown", "0"],
        ),
        (
            json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}}),
            ["0/1", "SchedulingGated", "0"],
        ),
    ] {
        check_pod(pod, expected);
    }
}

#[test]
fn a_pods_wide_columns_tell_where_it_is() {
    let row = cells(
        "",
        "Pod",
        json!({
            "spec": {"containers": [{}], "nodeName": "local", "readinessGates": [{"conditionType": "g"}, {"conditionType": "h"}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "conditions": [{"type": "g", "status": "True"}]},
        }),
    );
    assert_eq!(row[4..], [json!("60m"), json!("10.0.0.2"), json!("local"), json!("<none>"), json!("1/2")]);
}

#[test]
fn the_other_kinds_print_as_in_kubernetes() {
    check(
        "",
        "Node",
        json!({
            "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "", "a": "b"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                       "nodeInfo": {"kubeletVersion": "v1", "osImage": "Debian", "containerRuntimeVersion": "containerd://1.6"}},
        }),
        json!([
            "n",
            "Ready,SchedulingDisabled",
            "control-plane,worker",
            "60m",
            "v1",
            "127.0.0.1",
            "<none>",
            "Debian",
            "<unknown>",
            "containerd://1.6"
        ]),
    );
    check(
        "",
        "Node",
        json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
        json!(["n", "NotReady", "<none>", "60m", "", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>"]),
    );
    check("", "Namespace", json!({"status": {"phase": "Active"}}), json!(["n", "Active", "60m"]));
    check("", "ConfigMap", json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": ""}}), json!(["n", 3, "60m"]));
    check("", "Secret", json!({"type": "Opaque", "data": {"a": ""}}), json!(["n", "Opaque", 1, "60m"]));
    check("", "ServiceAccount", json!({}), json!(["n", 0, "60m"]));
    check(
        "",
        "Service",
        json!({"spec": {"type": "ClusterIP", "clusterIP": "10.1.0.1", "selector": {"b": "2", "a": "1"},
        "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]}}),
        json!(["n", "ClusterIP", "10.1.0.1", "<none>", "80/TCP,53:30053/UDP", "60m", "a=1,b=2"]),
    );
    check(
        "",
        "Service",
        json!({"spec": {"type": "LoadBalancer"}}),
        json!(["n", "LoadBalancer", "<none>", "<pending>", "<none>", "60m", "<none>"]),
    );
    check("", "Endpoints", json!({}), json!(["n", "<none>", "60m"]));
    check(
        "",
        "Endpoints",
        json!({"subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 443}]},
            {"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]},
            {"notReadyAddresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 80}]},
        ]}),
        json!(["n", "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 2 more...", "60m"]),
    );
    check(
        "",
        "Endpoints",
        json!({"subsets": [{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}]}),
        json!(["n", "[fd00::1]:80", "60m"]),
    );
    check("", "Endpoints", json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]}), json!(["n", "10.0.0.1", "60m"]));
    check(
        "",
        "PersistentVolumeClaim",
        json!({
            "spec": {"volumeName": "v", "storageClassName": "local", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce", "ReadWriteMany"], "capacity": {"storage": "1Gi"}},
        }),
        json!(["n", "Bound", "v", "1Gi", "RWO,RWX", "local", "<unset>", "60m", "Filesystem"]),
    );
    check(
        "",
        "PersistentVolumeClaim",
        json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Pending"}}),
        json!(["n", "Terminating", "", "", "", "", "<unset>", "60m", "<unset>"]),
    );
    check(
        "",
        "Event",
        json!({
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:59:00Z", "count": 3, "type": "Warning", "reason": "BackOff",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"}, "source": {"component": "node", "host": "local"},
            "message": " again \n",
        }),
        json!(["60s", "Warning", "BackOff", "pod/p", "spec.containers{a}", "node, local", "again", "60m", 3, "n"]),
    );
    check(
        "",
        "Event",
        json!({"eventTime": "2026-01-01T00:58:00.000000Z", "involvedObject": {"kind": "Node"}, "reportingComponent": "c"}),
        json!(["2m", "", "", "node", "", "c", "", "2m", 1, "n"]),
    );
    check("coordination.k8s.io", "Lease", json!({"spec": {"holderIdentity": "local"}}), json!(["n", "local", "60m"]));
    check("rbac.authorization.k8s.io", "Role", json!({}), json!(["n", "2026-01-01T00:00:00Z"]));
    check(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        json!({"roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [
            {"kind": "User", "name": "ann"}, {"kind": "User", "name": "bob"}, {"kind": "Group", "name": "dev"},
            {"kind": "ServiceAccount", "name": "robot", "namespace": "lab"},
        ]}),
        json!(["n", "ClusterRole/view", "60m", "ann, bob", "dev", "lab/robot"]),
    );
}

fn printer_column(name: &str, type_: &str, json_path: &str) -> PrinterColumn {
    PrinterColumn {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path: json_path.to_owned(),
        description: String::new(),
        priority: 0,
    }
}

#[test]
fn printer_columns_take_their_cells_from_paths() {
    let columns = Columns::for_printer_columns(&[
        printer_column("Phase", "string", ".status.phase"),
        printer_column("Ready", "integer", ".status.ready"),
        printer_column("Share", "number", ".status.share"),
        printer_column("Done", "boolean", ".status.done"),
        printer_column("Roles", "string", ".spec.roles[*].name"),
        printer_column("Reason", "string", ".status.conditions[?(@.type==\"Complete\")].message"),
        printer_column("Spec", "string", ".spec.map"),
        printer_column("Age", "date", ".metadata.creationTimestamp"),
    ])
    .unwrap();
    let object = json!({
        "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"roles": [{"name": "a"}, {"name": "b"}], "map": {"k": 1}},
        "status": {"phase": "Running", "ready": 2, "share": 0.5, "done": false, "conditions": [{"type": "Complete", "message": "all well"}]},
    });
    let made = table(&columns, std::slice::from_ref(&object), IncludeObject::Metadata, now());
    assert_eq!(made["rows"][0]["cells"], json!(["n", "Running", 2, 0.5, false, "a b", "all well", "{\"k\":1}", "60m"]));
    assert_eq!(made["rows"][0]["object"]["kind"], json!("PartialObjectMetadata"));
    assert_eq!(made["rows"][0]["object"]["metadata"]["name"], json!("n"));
    assert_eq!(made["rows"][0].get("conditions"), None);
    assert_eq!(made["columnDefinitions"][0]["format"], json!("name"));

    let empty = json!({"metadata": {"name": "n"}, "status": {"phase": null, "ready": "two"}});
    let made = table(&columns, &[empty], IncludeObject::None, now());
    assert_eq!(made["rows"][0]["cells"], json!(["n", null, null, null, null, null, null, null, null]));
    assert_eq!(made["rows"][0]["object"], Value::Null);

    assert!(Columns::for_printer_columns(&[printer_column("Bad", "string", "status")]).is_err());
    let bare = Columns::for_printer_columns(&[]).unwrap();
    let headings: Vec<&str> = bare.columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(headings, ["Name", "Age"]);
}

#[test]
fn the_columns_of_every_own_kind_can_be_made() {
    for kind in fermion_api::registry::kinds() {
        let columns = Columns::for_printer_columns(&kind.columns).unwrap();
        assert_eq!(columns.columns().len(), kind.columns.len() + 1, "{}", kind.kind);
    }
}

#[test]
fn rows_of_ended_pods_are_marked() {
    let columns = Columns::for_core("", "Pod");
    for (phase, expected) in [("Succeeded", json!("Succeeded")), ("Failed", json!("Failed")), ("Running", Value::Null)] {
        let pod = json!({"kind": "Pod", "metadata": {"name": "n"}, "status": {"phase": phase}});
        let made = table(&columns, &[pod], IncludeObject::Object, now());
        assert_eq!(made["rows"][0]["conditions"][0]["reason"], expected);
        assert_eq!(made["rows"][0]["object"]["status"]["phase"], json!(phase));
    }
}
