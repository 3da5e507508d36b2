//! Which addresses stand behind a Service. The rules are those of Kubernetes' own controller,
//! `pkg/controller/endpoint/endpoints_controller.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

/// The most addresses that are written down of one Service, as in Kubernetes.
pub(super) const ADDRESSES_MAX: usize = 1_000;

const PROTOCOL_DEFAULT: &str = "TCP";

/// What the Endpoints of a Service should say.
#[derive(Debug, PartialEq)]
pub(super) struct Decision {
    /// Pods with the same ports stand together.
    pub subsets: Vec<EndpointSubset>,
    /// Whether there are more than [`ADDRESSES_MAX`].
    pub is_truncated: bool,
}

/// What the Endpoints should say; None when they are not ours to write. The pods are those of the
/// Service's namespace.
pub(super) fn decide(service: &Service, pods: &[Arc<Pod>]) -> Option<Decision> {
    let spec = service.spec.as_ref()?;
    selector(service)?;
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    let mut behind: Vec<(&Pod, EndpointAddress)> = pods
        .iter()
        .filter(|pod| selects(service, pod) && has_place(pod, unready_too))
        .filter_map(|pod| Some((&**pod, address(service, pod)?)))
        .collect();
    let is_listed_ready = |pod: &Pod| unready_too || is_ready(pod);
    // Those that can be used come first, so that they are kept where there is not room for all.
    let uid = |pod: &Pod| pod.uid().unwrap_or_default();
    behind
        .sort_by(|(one, at), (two, at_two)| (!is_listed_ready(one), &at.ip, uid(one)).cmp(&(!is_listed_ready(two), &at_two.ip, uid(two))));
    let mut by_ports: BTreeMap<Vec<PortKey>, EndpointSubset> = BTreeMap::new();
    let (mut count, mut is_truncated) = (0, false);
    for (pod, address) in behind {
        let ports: Vec<EndpointPort> = spec.ports.iter().flatten().filter_map(|port| endpoint_port(pod, port)).collect();
        if ports.is_empty() && !(is_headless(service) && spec.ports.as_ref().is_none_or(Vec::is_empty)) {
            continue;
        }
        if count == ADDRESSES_MAX {
            is_truncated = true;
            break;
        }
        count += 1;
        let subset = by_ports
            .entry(ports.iter().map(key).collect())
            .or_insert_with(|| EndpointSubset { ports: Some(ports).filter(|ports| !ports.is_empty()), ..EndpointSubset::default() });
        let list = if is_listed_ready(pod) { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    Some(Decision { subsets: by_ports.into_values().collect(), is_truncated })
}

/// Whether a pod is one of those that the Service is for.
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let labels = pod.labels();
    selector(service).is_some_and(|selector| selector.iter().all(|(name, value)| labels.get(name) == Some(value)))
}

/// Whether a pod stands in Endpoints.
pub(super) fn names(endpoints: &Endpoints, pod: &Pod) -> bool {
    let is_pod = |address: &EndpointAddress| address.target_ref.as_ref().is_some_and(|target| target.name == pod.metadata.name);
    endpoints.subsets.iter().flatten().any(|subset| {
        let listed = subset.addresses.iter().chain(&subset.not_ready_addresses).flatten();
        listed.into_iter().any(is_pod)
    })
}

/// Whether the Service has no address of its own and says so.
pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The labels of the pods; None when the Service says nothing of pods.
fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let is_elsewhere = spec.type_.as_deref() == Some("ExternalName");
    spec.selector.as_ref().filter(|selector| !selector.is_empty() && !is_elsewhere)
}

/// Whether the pod is there to be connected to, ready or not.
fn has_place(pod: &Pod, ending_too: bool) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_over = matches!(phase, Some("Succeeded" | "Failed"));
    !is_over && (ending_too || pod.metadata.deletion_timestamp.is_none())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Where the pod is; None while it has no address.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let ip = pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())?;
    let spec = pod.spec.as_ref()?;
    let is_named_by_service = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    Some(EndpointAddress {
        hostname: spec.hostname.clone().filter(|_| is_named_by_service),
        ip,
        node_name: spec.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

/// The port of the pod that a port of the Service leads to; None when the pod has no port of that
/// name.
fn endpoint_port(pod: &Pod, of_service: &ServicePort) -> Option<EndpointPort> {
    let protocol = of_service.protocol.as_deref().unwrap_or(PROTOCOL_DEFAULT);
    let port = match &of_service.target_port {
        None => of_service.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let ports = pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|container| container.ports.iter().flatten());
            let is_meant = |port: &&k8s_openapi::api::core::v1::ContainerPort| {
                port.name.as_ref() == Some(name) && port.protocol.as_deref().unwrap_or(PROTOCOL_DEFAULT) == protocol
            };
            ports.into_iter().find(is_meant)?.container_port
        }
    };
    Some(EndpointPort {
        app_protocol: of_service.app_protocol.clone(),
        name: of_service.name.clone(),
        port,
        protocol: Some(protocol.to_owned()),
    })
}

/// What a port is ordered by.
type PortKey = (Option<String>, i32, Option<String>, Option<String>);

fn key(port: &EndpointPort) -> PortKey {
    (port.name.clone(), port.port, port.protocol.clone(), port.app_protocol.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec})).expect("a service")
    }

    fn pod(name: &str, ip: &str, ready: bool) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"), "labels": {"app": "web", "x": "y"}},
            "spec": {"nodeName": "local", "containers": [{"name": "a", "ports": [
                {"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            ]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        })
    }

    /// Subsets as `ready addresses | others | ports`.
    fn told(service: &Service, pods: &[Value]) -> Option<Vec<String>> {
        let pods: Vec<Arc<Pod>> = pods.iter().map(|pod| Arc::new(serde_json::from_value(pod.clone()).expect("a pod"))).collect();
        let addresses = |list: &Option<Vec<EndpointAddress>>| list.iter().flatten().map(|at| at.ip.clone()).collect::<Vec<_>>().join(",");
        let ports = |subset: &EndpointSubset| {
            let told = subset.ports.iter().flatten().map(|port| {
                format!("{}:{}/{}", port.name.as_deref().unwrap_or_default(), port.port, port.protocol.as_deref().unwrap_or_default())
            });
            told.collect::<Vec<_>>().join(",")
        };
        let decision = decide(service, &pods)?;
        let line = |subset: &EndpointSubset| {
            format!("{}|{}|{}", addresses(&subset.addresses), addresses(&subset.not_ready_addresses), ports(subset))
        };
        Some(decision.subsets.iter().map(line).collect())
    }

    fn with(mut pod: Value, pointer: &str, value: Value) -> Value {
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        pod.pointer_mut(parent).expect("an object")[field] = value;
        pod
    }

    #[test]
    fn pods_that_are_selected_stand_where_their_readiness_puts_them() {
        let web = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}));
        let others = [
            with(pod("d", "10.0.0.4", true), "/metadata/labels", json!({"app": "other"})),
            with(pod("e", "", true), "/status/podIP", Value::Null),
            with(pod("f", "10.0.0.6", true), "/status/phase", json!("Succeeded")),
            with(pod("g", "10.0.0.7", true), "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ];
        let pods = [vec![pod("b", "10.0.0.2", true), pod("a", "10.0.0.1", true), pod("c", "10.0.0.3", false)], others.to_vec()].concat();
        assert_eq!(told(&web, &pods), Some(vec!["10.0.0.1,10.0.0.2|10.0.0.3|:8080/TCP".to_owned()]));
        assert_eq!(told(&web, &[]), Some(Vec::new()));
        let unready = service(json!({"selector": {"app": "web"}, "publishNotReadyAddresses": true, "ports": [{"port": 80}]}));
        assert_eq!(told(&unready, &pods), Some(vec!["10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.7||:80/TCP".to_owned()]));
    }

    #[test]
    fn ports_are_those_of_the_pods() {
        let ports = json!([{"name": "web", "port": 80, "targetPort": "http"}, {"name": "names", "port": 53, "protocol": "UDP", "targetPort": "dns"}]);
        let named = service(json!({"selector": {"app": "web"}, "ports": ports}));
        let elsewhere = with(
            pod("b", "10.0.0.2", true),
            "/spec/containers",
            json!([{"name": "a", "ports": [{"name": "http", "containerPort": 9090}]}]),
        );
        let without = with(pod("c", "10.0.0.3", true), "/spec/containers", json!([{"name": "a"}]));
        assert_eq!(
            told(&named, &[pod("a", "10.0.0.1", true), elsewhere, without]),
            Some(vec!["10.0.0.1||web:8080/TCP,names:53/UDP".to_owned(), "10.0.0.2||web:9090/TCP".to_owned()])
        );
        let headless = service(json!({"selector": {"app": "web"}, "clusterIP": "None"}));
        assert_eq!(told(&headless, &[pod("a", "10.0.0.1", true)]), Some(vec!["10.0.0.1||".to_owned()]));
    }

    #[test]
    fn services_that_say_nothing_of_pods_are_left_alone() {
        let pods = [pod("a", "10.0.0.1", true)];
        let ports = json!([{"port": 80}]);
        assert_eq!(told(&service(json!({"ports": ports})), &pods), None);
        assert_eq!(told(&service(json!({"selector": {}, "ports": ports})), &pods), None);
        assert_eq!(told(&service(json!({"selector": {"app": "web"}, "type": "ExternalName", "externalName": "a.example"})), &pods), None);
    }

    #[test]
    fn addresses_have_a_bound_and_ready_ones_come_first() {
        let web = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
        let pods: Vec<Arc<Pod>> = (0..=ADDRESSES_MAX)
            .map(|index| {
                // The first ones by address are not ready.
                let pod = pod(&format!("p{index}"), &format!("10.0.{}.{}", index / 256 + 100, index % 256), index > 10);
                Arc::new(serde_json::from_value(pod).expect("a pod"))
            })
            .collect();
        let decision = decide(&web, &pods).expect("a decision");
        assert!(decision.is_truncated);
        let counts = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
        assert_eq!((counts(&decision.subsets[0].addresses), counts(&decision.subsets[0].not_ready_addresses)), (ADDRESSES_MAX - 10, 10));
        assert!(!decide(&web, &pods[1..]).expect("a decision").is_truncated);
    }

    #[test]
    fn pods_are_found_where_they_stand() {
        let pod: Pod = serde_json::from_value(pod("a", "10.0.0.1", false)).expect("a pod");
        let target = json!({"kind": "Pod", "name": "a", "namespace": "n"});
        let endpoints = json!({"metadata": {"name": "web"}, "subsets": [{"notReadyAddresses": [{"ip": "10.0.0.1", "targetRef": target}]}]});
        assert!(names(&serde_json::from_value(endpoints).expect("endpoints"), &pod));
        assert!(!names(&Endpoints::default(), &pod));
    }
}
