use serde_json::{Value, json};

use super::{ProtobufError, decode};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/kubectl/", $name, ".pb")).as_slice()
    };
}

#[test]
fn what_kubectl_sends_is_what_its_yaml_says() {
    for (body, expected) in [
        (fixture!("namespace"), json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "examples"}})),
        (
            fixture!("configmap"),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "examples"},
                   "data": {"a": "1", "b": "two"}}),
        ),
        (
            fixture!("configmap-binary"),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "blob", "namespace": "examples"},
                   "binaryData": {"bin.dat": "AP8B"}}),
        ),
        (
            fixture!("secret"),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token", "namespace": "examples"},
                   "data": {"password": "aHVudGVyMg=="}}),
        ),
        (
            fixture!("secret-docker"),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "reg", "namespace": "examples"},
                   "type": "kubernetes.io/dockerconfigjson",
                   "data": {".dockerconfigjson": "eyJhdXRocyI6eyJzIjp7InVzZXJuYW1lIjoidSIsInBhc3N3b3JkIjoicCIsImF1dGgiOiJkVHB3In19fQ=="}}),
        ),
        (
            fixture!("serviceaccount"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "namespace": "examples"}}),
        ),
        (
            fixture!("service"),
            json!({"apiVersion": "v1", "kind": "Service",
                   "metadata": {"name": "web", "namespace": "examples", "labels": {"app": "web"}},
                   "spec": {"type": "ClusterIP", "selector": {"app": "web"},
                            "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}]}}),
        ),
        (
            fixture!("quota"),
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "examples"},
                   "spec": {"hard": {"cpu": "2", "pods": "3"}}}),
        ),
        (
            fixture!("role"),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                   "metadata": {"name": "reader", "namespace": "examples"},
                   "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "configmaps"]}]}),
        ),
        (
            fixture!("clusterrole"),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reader"},
                   "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}]}),
        ),
        (
            fixture!("clusterrole-url"),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "health"},
                   "rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]}),
        ),
        (
            fixture!("rolebinding"),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                   "metadata": {"name": "readers", "namespace": "examples"},
                   "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "ann"},
                                {"kind": "ServiceAccount", "name": "robot", "namespace": "examples"}],
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}}),
        ),
        (
            fixture!("clusterrolebinding"),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "readers"},
                   "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "team"}],
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"}}),
        ),
        (
            fixture!("priorityclass"),
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 100,
                   "preemptionPolicy": "PreemptLowerPriority"}),
        ),
        (fixture!("token"), json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}})),
        (fixture!("whoami"), json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})),
        (
            fixture!("cani"),
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                   "spec": {"resourceAttributes": {"namespace": "examples", "verb": "create", "resource": "pods"}}}),
        ),
        (
            fixture!("cani-url"),
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                   "spec": {"nonResourceAttributes": {"path": "/healthz", "verb": "get"}}}),
        ),
        (
            fixture!("cani-list"),
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "examples"}}),
        ),
    ] {
        assert_eq!(decode(body), Ok(expected));
    }
}

#[test]
fn a_kind_that_is_not_decoded_says_what_to_do() {
    let error = decode(fixture!("job")).unwrap_err();
    assert_eq!(error, ProtobufError::KindNotSupported { api_version: "batch/v1".to_owned(), kind: "Job".to_owned() });
    assert!(error.to_string().contains("--dry-run=client -o yaml"));
}

/// A field of bytes.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 0x80);
    [&[number << 3 | 2, length], content].concat()
}

/// A field of a small integer.
fn integer(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), bytes(1, &type_meta), bytes(2, raw)].concat()
}

#[test]
fn every_shape_is_decoded() {
    let options = [integer(1, 0), bytes(2, &bytes(1, b"u")), integer(3, 0), bytes(4, b"Orphan"), bytes(5, b"All")].concat();
    assert_eq!(
        decode(&body("apps/v1", "DeleteOptions", &options)),
        Ok(json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"},
                  "orphanDependents": false, "propagationPolicy": "Orphan", "dryRun": ["All"]})),
    );
    assert_eq!(decode(&body("v1", "DeleteOptions", &[])), Ok(json!({"apiVersion": "v1", "kind": "DeleteOptions"})));

    let owner = [bytes(1, b"Pod"), bytes(3, b"p"), bytes(4, b"u"), bytes(5, b"v1"), integer(6, 1), integer(7, 0)].concat();
    let time = [integer(1, 60), integer(2, 5)].concat();
    let label = [bytes(1, b"a"), bytes(2, b"b")].concat();
    let bare_label = bytes(1, b"c");
    let managed = bytes(1, b"kubectl");
    let metadata = [
        bytes(1, b"n"),
        integer(7, 2),
        bytes(8, &time),
        bytes(8, &[]),
        integer(10, 0),
        bytes(11, &label),
        bytes(11, &bare_label),
        bytes(13, &owner),
        bytes(14, b"f"),
        vec![0x8a, 0x01, u8::try_from(managed.len()).unwrap()],
        managed,
    ]
    .concat();
    let decoded = decode(&body("v1", "Secret", &bytes(1, &metadata))).unwrap();
    assert_eq!(
        decoded["metadata"],
        json!({"name": "n", "generation": 2, "creationTimestamp": "1970-01-01T00:01:00Z", "deletionGracePeriodSeconds": 0,
               "labels": {"a": "b", "c": ""}, "finalizers": ["f"],
               "ownerReferences": [{"kind": "Pod", "name": "p", "uid": "u", "apiVersion": "v1", "controller": true, "blockOwnerDeletion": false}]}),
    );

    let spec = [bytes(1, b"me"), bytes(4, &time)].concat();
    let decoded = decode(&body("coordination.k8s.io/v1", "Lease", &bytes(2, &spec))).unwrap();
    assert_eq!(decoded["spec"], json!({"holderIdentity": "me", "renewTime": "1970-01-01T00:01:00.000000Z"}));

    let extra = [bytes(1, b"k"), bytes(2, &[bytes(1, b"x"), bytes(1, b"y")].concat())].concat();
    let decoded = decode(&body("authorization.k8s.io/v1", "SubjectAccessReview", &bytes(2, &bytes(5, &extra)))).unwrap();
    assert_eq!(decoded["spec"]["extra"], json!({"k": ["x", "y"]}));

    let port = [integer(3, 80), bytes(4, &[integer(1, 1), integer(2, 0), bytes(3, b"http")].concat())].concat();
    let decoded = decode(&body("v1", "Service", &bytes(2, &bytes(1, &port)))).unwrap();
    assert_eq!(decoded["spec"]["ports"], json!([{"port": 80, "targetPort": "http"}]));

    let eviction = [bytes(1, &[bytes(1, b"p"), bytes(3, b"n")].concat()), bytes(2, &integer(1, 5))].concat();
    assert_eq!(
        decode(&body("policy/v1", "Eviction", &eviction)),
        Ok(json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "n"},
                  "deleteOptions": {"gracePeriodSeconds": 5}})),
    );
    let binding = bytes(2, &[bytes(1, b"Node"), bytes(3, b"local")].concat());
    assert_eq!(
        decode(&body("v1", "Binding", &binding)),
        Ok(json!({"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "local"}})),
    );
}

#[test]
fn unknown_fields_are_errors_unless_they_say_nothing() {
    let metadata = bytes(1, &bytes(1, b"n"));
    let says_nothing = [metadata.clone(), bytes(15, b""), integer(14, 0)].concat();
    assert!(decode(&body("v1", "ConfigMap", &says_nothing)).is_ok());
    let says_something = [metadata, bytes(15, b"x")].concat();
    assert_eq!(
        decode(&body("v1", "ConfigMap", &says_something)),
        Err(ProtobufError::FieldNotSupported { message: "ConfigMap", number: 15 }),
    );
}

#[test]
fn bodies_that_lie_are_refused() {
    assert_eq!(decode(b""), Err(ProtobufError::NotKubernetes));
    assert_eq!(decode(b"{}"), Err(ProtobufError::NotKubernetes));
    assert_eq!(decode(b"k8s\0"), Err(ProtobufError::KindNotSupported { api_version: String::new(), kind: String::new() }));
    for bad in [
        body("v1", "ConfigMap", &integer(1, 1)),
        body("v1", "ConfigMap", &bytes(1, &bytes(1, &[0xff, 0xfe]))),
        body("v1", "ConfigMap", &bytes(4, b"x")),
        body("v1", "ConfigMap", &bytes(2, &bytes(3, b"x"))),
        body("v1", "ConfigMap", &[0x0a]),
        [body("v1", "ConfigMap", &[]), bytes(3, b"gzip")].concat(),
        body("v1", "Namespace", &bytes(1, &bytes(8, &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]))),
    ] {
        assert!(matches!(decode(&bad), Err(ProtobufError::Malformed { .. })), "{bad:?}: {:?}", decode(&bad));
    }
    for cut in 4..fixture!("service").len() {
        // Never a panic; where a field ends, what is there may be a smaller object.
        let _: Result<Value, _> = decode(&fixture!("service")[..cut]);
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
        let _ = decode(&bytes);
        let _ = decode(&body("v1", "Service", &bytes));
        let _ = decode(&body("authorization.k8s.io/v1", "SubjectAccessReview", &bytes));
    }
}
