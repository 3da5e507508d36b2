use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod, Secret};
use serde_json::{Value, json};

use super::super::{Validator, for_core};
use super::{check, from_yaml};

fn validator<T: schemars::JsonSchema>() -> Validator {
    Validator::compile(&for_core::<T>()).unwrap()
}

fn pod() -> Value {
    from_yaml(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: train
  namespace: default
  creationTimestamp: null
  labels: {app: train, fermion.dev/pool: local}
  annotations: {note: "x"}
  ownerReferences:
  - {apiVersion: v1, kind: ConfigMap, name: c, uid: u, controller: true, blockOwnerDeletion: true}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 30
  nodeSelector: {disk: ssd}
  securityContext: {runAsUser: 1000, fsGroup: 1000}
  tolerations:
  - {key: gpu, operator: Exists, effect: NoSchedule}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions:
          - {key: zone, operator: In, values: [a, b]}
  initContainers:
  - name: fetch
    image: fermion.dev/base:latest
    command: [sh, -c, "true"]
  containers:
  - name: main
    image: fermion.dev/python:latest
    args: ["-m", "http.server"]
    env:
    - {name: A, value: "1"}
    - name: B
      valueFrom: {secretKeyRef: {name: s, key: k}}
    - name: C
      valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}
    ports:
    - {containerPort: 8000, name: http, protocol: TCP}
    resources:
      requests: {cpu: 500m, memory: 1Gi}
      limits: {cpu: 1, memory: 2Gi, nvidia.com/gpu: 1}
    readinessProbe:
      httpGet: {path: /ready, port: http}
      periodSeconds: 5
    livenessProbe:
      tcpSocket: {port: 8000}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: scratch, mountPath: /scratch}
  volumes:
  - name: data
    persistentVolumeClaim: {claimName: data}
  - name: scratch
    emptyDir: {medium: Memory, sizeLimit: 64Mi}
  - name: config
    configMap: {name: c, defaultMode: 420, items: [{key: a, path: b}]}
status:
  phase: Running
  startTime: "2026-01-01T00:00:00Z"
  conditions:
  - {type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z", lastProbeTime: null}
  containerStatuses:
  - name: main
    image: fermion.dev/python:latest
    imageID: sha256:0
    ready: true
    restartCount: 0
    state: {running: {startedAt: "2026-01-01T00:00:00Z"}}
"#,
    )
}

#[test]
fn a_real_pod_passes_and_its_mistakes_have_exact_paths() {
    let validator = validator::<Pod>();
    check(&validator, &pod(), &[]);
    for (pointer, value, expected) in [
        ("/spec/containers/0/imgae", json!("x"), "spec.containers[0].imgae: Unknown"),
        ("/spec/containers/0/ports/0/containerPort", json!("80"), "spec.containers[0].ports[0].containerPort: integer, not string"),
        ("/spec/containers/0/resources/limits/cpu", json!("two"), "spec.containers[0].resources.limits.cpu: Format"),
        (
            "/spec/containers/0/resources/limits/nvidia.com~1gpu",
            json!({}),
            "spec.containers[0].resources.limits[nvidia.com/gpu]: integer or string, not object",
        ),
        ("/spec/containers/0/resources/request", json!({}), "spec.containers[0].resources.request: Unknown"),
        ("/spec/containers/0/readinessProbe/httpGet/port", json!("Not A Port"), "spec.containers[0].readinessProbe.httpGet.port: Format"),
        ("/spec/containers/0/env/0/value", json!(1), "spec.containers[0].env[0].value: string, not integer"),
        (
            "/spec/containers/0/env/2/valueFrom/resourceFieldRef/divisor",
            json!("x"),
            "spec.containers[0].env[2].valueFrom.resourceFieldRef.divisor: Format",
        ),
        ("/spec/volumes/1/emptyDir/sizeLimit", json!("64MB"), "spec.volumes[1].emptyDir.sizeLimit: Format"),
        ("/spec/terminationGracePeriodSeconds", json!(1.5), "spec.terminationGracePeriodSeconds: integer, not number"),
        ("/spec/containers", json!({}), "spec.containers: array, not object"),
        ("/spec/containers/0", json!({"image": "x"}), "spec.containers[0].name: Required"),
        ("/metadata/labels/app", json!(true), "metadata.labels.app: string, not boolean"),
        ("/metadata/lables", json!({}), "metadata.lables: Unknown"),
        ("/sepc", json!({}), "sepc: Unknown"),
        ("/status/startTime", json!("now"), "status.startTime: Format"),
        ("/status/containerStatuses/0/restartCount", json!(5_000_000_000_i64), "status.containerStatuses[0].restartCount: Range"),
    ] {
        let mut broken = pod();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/");
        match broken.pointer_mut(parent).unwrap() {
            Value::Object(fields) => {
                fields.insert(name, value);
            }
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
            other => panic!("{pointer} is in {other}"),
        }
        check(&validator, &broken, &[expected]);
    }
    check(&validator, &json!({"spec": {}}), &["spec.containers: Required"]);
}

#[test]
fn numbers_and_nulls_of_a_manifest_become_what_is_stored() {
    let validator = validator::<Pod>();
    let mut object = pod();
    validator.default(&mut object);
    assert_eq!(object.pointer("/spec/containers/0/resources/limits/cpu"), Some(&json!("1")));
    assert_eq!(object.pointer("/metadata/creationTimestamp"), None);
    let typed: Pod = serde_json::from_value(object).unwrap();
    assert_eq!(typed.spec.unwrap().containers.len(), 1);
}

#[test]
fn a_real_node_passes_and_its_mistakes_have_exact_paths() {
    let validator = validator::<Node>();
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "local", "labels": {"fermion.dev/pool": "local"}},
        "spec": {"unschedulable": true, "podCIDR": "10.0.0.0/24",
                 "taints": [{"key": "a", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}]},
        "status": {
            "allocatable": {"cpu": "2", "memory": "4021496Ki", "pods": "110"},
            "capacity": {"cpu": "2"},
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z",
                            "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "R", "message": "m"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": [{"names": ["a"], "sizeBytes": 12}],
            "nodeInfo": {"architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                         "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux",
                         "osImage": "", "systemUUID": ""},
        },
    });
    check(&validator, &node, &[]);
    check(
        &validator,
        &json!({"spec": {"unschedulable": "yes", "taint": []}, "status": {"allocatable": {"cpu": "2 cores"}}}),
        &["spec.taint: Unknown", "spec.unschedulable: boolean, not string", "status.allocatable.cpu: Format"],
    );
}

#[test]
fn the_other_kinds_pass_and_their_mistakes_have_exact_paths() {
    check(
        &validator::<Secret>(),
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque",
                "data": {"a.txt": "aGVsbG8="}, "stringData": {"b": "plain"}, "immutable": false}),
        &[],
    );
    check(
        &validator::<Secret>(),
        &json!({"data": {"a.txt": "not base64", "b": 1}, "strngData": {}}),
        &["data.b: string, not integer", "data[a.txt]: Format", "strngData: Unknown"],
    );
    check(
        &validator::<PersistentVolumeClaim>(),
        &json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "resources": {"requests": {"storage": "10Gi"}}}, "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}}}),
        &[],
    );
    check(
        &validator::<PersistentVolumeClaim>(),
        &json!({"spec": {"accessModes": "ReadWriteOnce", "resources": {"requests": {"storage": "10 Gi"}, "storage": "1"}}}),
        &["spec.accessModes: array, not string", "spec.resources.requests.storage: Format", "spec.resources.storage: Unknown"],
    );
    check(
        &validator::<Event>(),
        &json!({"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"kind": "Pod", "name": "p"},
                "reason": "Started", "message": "m", "type": "Normal", "count": 1, "eventTime": null,
                "firstTimestamp": "2026-01-01T00:00:00Z", "source": {"component": "node"},
                "reportingComponent": "", "reportingInstance": ""}),
        &[],
    );
    check(
        &validator::<Event>(),
        &json!({"metadata": {"name": "e"}, "involvdObject": {}, "eventTime": "soon", "count": "1"}),
        &["count: integer, not string", "eventTime: Format", "involvdObject: Unknown", "involvedObject: Required"],
    );
    check(
        &validator::<Lease>(),
        &json!({"metadata": {"name": "local", "namespace": "kube-node-lease"},
                "spec": {"holderIdentity": "local", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.123456Z"}}),
        &[],
    );
    check(
        &validator::<Lease>(),
        &json!({"spec": {"holder": "x", "leaseDurationSeconds": "40", "renewTime": 1}}),
        &["spec.holder: Unknown", "spec.leaseDurationSeconds: integer, not string", "spec.renewTime: string, not integer"],
    );
}

#[test]
fn the_schema_of_a_core_kind_is_self_contained_and_described() {
    let schema = for_core::<Pod>();
    assert!(schema.pointer("/description").is_some());
    assert!(schema.pointer("/$defs/io.k8s.api.core.v1.PodSpec/properties/containers/description").is_some());
    assert_eq!(schema.pointer("/$defs/io.k8s.apimachinery.pkg.api.resource.Quantity/format"), Some(&json!("quantity")),);
    assert!(schema.pointer("/required").is_none());
}
