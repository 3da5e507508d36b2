//! Field numbers of the kinds that `kubectl` sends as protobuf. They never change: that is the
//! promise of the format.

/// A message: its fields by number.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) fields: &'static [KnownField],
}

#[derive(Debug)]
pub(super) struct KnownField {
    pub(super) number: u32,
    /// Its name in JSON.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

/// What a field holds. A plain field is always written, so its empty value says nothing; an
/// optional one is written when it is set, so its empty value counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Text,
    OptionalText,
    Bytes,
    Int,
    OptionalInt,
    Bool,
    OptionalBool,
    Message(&'static Message),
    OptionalMessage(&'static Message),
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    IntOrString,
    Quantity,
    /// A message that holds a list of texts and is one in JSON.
    TextList,
    List(&'static Shape),
    Map(&'static Shape),
    /// Known, and of no use to the server.
    Skipped,
}

use Shape::{
    Bool, Bytes, Int, IntOrString, List, Map, MicroTime, OptionalBool, OptionalInt, OptionalMessage, OptionalText, Quantity, Skipped, Text,
    TextList, Time,
};

/// The message of a kind, if it is known.
pub(super) fn for_kind(api_version: &str, kind: &str) -> Option<&'static Message> {
    Some(match (api_version, kind) {
        ("v1", "Namespace") => &NAMESPACE,
        ("v1", "ConfigMap") => &CONFIG_MAP,
        ("v1", "Secret") => &SECRET,
        ("v1", "ServiceAccount") => &SERVICE_ACCOUNT,
        ("v1", "Service") => &SERVICE,
        ("v1", "ResourceQuota") => &RESOURCE_QUOTA,
        ("v1", "Binding") => &BINDING,
        ("rbac.authorization.k8s.io/v1", "Role") => &ROLE,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => &CLUSTER_ROLE,
        ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => &ROLE_BINDING,
        ("scheduling.k8s.io/v1", "PriorityClass") => &PRIORITY_CLASS,
        ("coordination.k8s.io/v1", "Lease") => &LEASE,
        ("policy/v1", "Eviction") => &EVICTION,
        ("authentication.k8s.io/v1", "TokenRequest") => &TOKEN_REQUEST,
        ("authentication.k8s.io/v1", "TokenReview") => &TOKEN_REVIEW,
        ("authentication.k8s.io/v1", "SelfSubjectReview") => &SELF_SUBJECT_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => &SELF_SUBJECT_ACCESS_REVIEW,
        ("authorization.k8s.io/v1", "SubjectAccessReview" | "LocalSubjectAccessReview") => &SUBJECT_ACCESS_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => &SELF_SUBJECT_RULES_REVIEW,
        // Registered in every group.
        (_, "DeleteOptions") => &DELETE_OPTIONS,
        _ => return None,
    })
}

const fn field(number: u32, name: &'static str, shape: Shape) -> KnownField {
    KnownField { number, name, shape }
}

macro_rules! messages {
    ($($id:ident $name:literal { $($number:literal $field:literal $shape:expr,)* })*) => {
        $(pub(super) static $id: Message = Message { name: $name, fields: &[$(field($number, $field, $shape)),*] };)*
    };
}

const TEXTS: Shape = List(&Text);

messages! {
    OBJECT_META "ObjectMeta" {
        1 "name" Text,
        2 "generateName" Text,
        3 "namespace" Text,
        4 "selfLink" Text,
        5 "uid" Text,
        6 "resourceVersion" Text,
        7 "generation" Int,
        8 "creationTimestamp" Time,
        9 "deletionTimestamp" Time,
        10 "deletionGracePeriodSeconds" OptionalInt,
        11 "labels" Map(&Text),
        12 "annotations" Map(&Text),
        13 "ownerReferences" List(&Shape::Message(&OWNER_REFERENCE)),
        14 "finalizers" TEXTS,
        17 "managedFields" Skipped,
    }
    OWNER_REFERENCE "OwnerReference" {
        1 "kind" Text,
        3 "name" Text,
        4 "uid" Text,
        5 "apiVersion" Text,
        6 "controller" OptionalBool,
        7 "blockOwnerDeletion" OptionalBool,
    }
    LABEL_SELECTOR "LabelSelector" {
        1 "matchLabels" Map(&Text),
        2 "matchExpressions" List(&Shape::Message(&SELECTOR_REQUIREMENT)),
    }
    SELECTOR_REQUIREMENT "LabelSelectorRequirement" {
        1 "key" Text,
        2 "operator" Text,
        3 "values" TEXTS,
    }
    CONDITION "Condition" {
        1 "type" Text,
        2 "status" Text,
        3 "observedGeneration" Int,
        4 "lastTransitionTime" Time,
        5 "reason" Text,
        6 "message" Text,
    }
    DELETE_OPTIONS "DeleteOptions" {
        1 "gracePeriodSeconds" OptionalInt,
        2 "preconditions" OptionalMessage(&PRECONDITIONS),
        3 "orphanDependents" OptionalBool,
        4 "propagationPolicy" OptionalText,
        5 "dryRun" TEXTS,
    }
    PRECONDITIONS "Preconditions" {
        1 "uid" OptionalText,
        2 "resourceVersion" OptionalText,
    }
    QUANTITY "Quantity" {
        1 "string" Text,
    }
    TEXT_LIST "ExtraValue" {
        1 "items" TEXTS,
    }

    NAMESPACE "Namespace" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "spec" Shape::Message(&NAMESPACE_SPEC),
        3 "status" Shape::Message(&NAMESPACE_STATUS),
    }
    NAMESPACE_SPEC "NamespaceSpec" {
        1 "finalizers" TEXTS,
    }
    NAMESPACE_STATUS "NamespaceStatus" {
        1 "phase" Text,
        2 "conditions" List(&Shape::Message(&NAMESPACE_CONDITION)),
    }
    NAMESPACE_CONDITION "NamespaceCondition" {
        1 "type" Text,
        2 "status" Text,
        4 "lastTransitionTime" Time,
        5 "reason" Text,
        6 "message" Text,
    }
    CONFIG_MAP "ConfigMap" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "data" Map(&Text),
        3 "binaryData" Map(&Bytes),
        4 "immutable" OptionalBool,
    }
    SECRET "Secret" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "data" Map(&Bytes),
        3 "type" Text,
        4 "stringData" Map(&Text),
        5 "immutable" OptionalBool,
    }
    SERVICE_ACCOUNT "ServiceAccount" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "secrets" List(&Shape::Message(&OBJECT_REFERENCE)),
        3 "imagePullSecrets" List(&Shape::Message(&LOCAL_REFERENCE)),
        4 "automountServiceAccountToken" OptionalBool,
    }
    OBJECT_REFERENCE "ObjectReference" {
        1 "kind" Text,
        2 "namespace" Text,
        3 "name" Text,
        4 "uid" Text,
        5 "apiVersion" Text,
        6 "resourceVersion" Text,
        7 "fieldPath" Text,
    }
    LOCAL_REFERENCE "LocalObjectReference" {
        1 "name" Text,
    }
    BINDING "Binding" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "target" Shape::Message(&OBJECT_REFERENCE),
    }
    SERVICE "Service" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "spec" Shape::Message(&SERVICE_SPEC),
        3 "status" Shape::Message(&SERVICE_STATUS),
    }
    SERVICE_SPEC "ServiceSpec" {
        1 "ports" List(&Shape::Message(&SERVICE_PORT)),
        2 "selector" Map(&Text),
        3 "clusterIP" Text,
        4 "type" Text,
        5 "externalIPs" TEXTS,
        7 "sessionAffinity" Text,
        8 "loadBalancerIP" Text,
        9 "loadBalancerSourceRanges" TEXTS,
        10 "externalName" Text,
        11 "externalTrafficPolicy" Text,
        12 "healthCheckNodePort" Int,
        13 "publishNotReadyAddresses" Bool,
        14 "sessionAffinityConfig" OptionalMessage(&SESSION_AFFINITY_CONFIG),
        17 "ipFamilyPolicy" OptionalText,
        18 "clusterIPs" TEXTS,
        19 "ipFamilies" TEXTS,
        20 "allocateLoadBalancerNodePorts" OptionalBool,
        21 "loadBalancerClass" OptionalText,
        22 "internalTrafficPolicy" OptionalText,
        23 "trafficDistribution" OptionalText,
    }
    SERVICE_PORT "ServicePort" {
        1 "name" Text,
        2 "protocol" Text,
        3 "port" Int,
        4 "targetPort" IntOrString,
        5 "nodePort" Int,
        6 "appProtocol" OptionalText,
    }
    SESSION_AFFINITY_CONFIG "SessionAffinityConfig" {
        1 "clientIP" OptionalMessage(&CLIENT_IP_CONFIG),
    }
    CLIENT_IP_CONFIG "ClientIPConfig" {
        1 "timeoutSeconds" OptionalInt,
    }
    SERVICE_STATUS "ServiceStatus" {
        1 "loadBalancer" Shape::Message(&LOAD_BALANCER_STATUS),
        2 "conditions" List(&Shape::Message(&CONDITION)),
    }
    LOAD_BALANCER_STATUS "LoadBalancerStatus" {
        1 "ingress" List(&Shape::Message(&LOAD_BALANCER_INGRESS)),
    }
    LOAD_BALANCER_INGRESS "LoadBalancerIngress" {
        1 "ip" Text,
        2 "hostname" Text,
        3 "ipMode" OptionalText,
        4 "ports" List(&Shape::Message(&PORT_STATUS)),
    }
    PORT_STATUS "PortStatus" {
        1 "port" Int,
        2 "protocol" Text,
        3 "error" OptionalText,
    }
    RESOURCE_QUOTA "ResourceQuota" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "spec" Shape::Message(&RESOURCE_QUOTA_SPEC),
        3 "status" Shape::Message(&RESOURCE_QUOTA_STATUS),
    }
    RESOURCE_QUOTA_SPEC "ResourceQuotaSpec" {
        1 "hard" Map(&Quantity),
        2 "scopes" TEXTS,
        3 "scopeSelector" OptionalMessage(&SCOPE_SELECTOR),
    }
    SCOPE_SELECTOR "ScopeSelector" {
        1 "matchExpressions" List(&Shape::Message(&SCOPE_REQUIREMENT)),
    }
    SCOPE_REQUIREMENT "ScopedResourceSelectorRequirement" {
        1 "scopeName" Text,
        2 "operator" Text,
        3 "values" TEXTS,
    }
    RESOURCE_QUOTA_STATUS "ResourceQuotaStatus" {
        1 "hard" Map(&Quantity),
        2 "used" Map(&Quantity),
    }

    ROLE "Role" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "rules" List(&Shape::Message(&POLICY_RULE)),
    }
    CLUSTER_ROLE "ClusterRole" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "rules" List(&Shape::Message(&POLICY_RULE)),
        3 "aggregationRule" OptionalMessage(&AGGREGATION_RULE),
    }
    AGGREGATION_RULE "AggregationRule" {
        1 "clusterRoleSelectors" List(&Shape::Message(&LABEL_SELECTOR)),
    }
    POLICY_RULE "PolicyRule" {
        1 "verbs" TEXTS,
        2 "apiGroups" TEXTS,
        3 "resources" TEXTS,
        4 "resourceNames" TEXTS,
        5 "nonResourceURLs" TEXTS,
    }
    ROLE_BINDING "RoleBinding" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "subjects" List(&Shape::Message(&SUBJECT)),
        3 "roleRef" Shape::Message(&ROLE_REF),
    }
    SUBJECT "Subject" {
        1 "kind" Text,
        2 "apiGroup" Text,
        3 "name" Text,
        4 "namespace" Text,
    }
    ROLE_REF "RoleRef" {
        1 "apiGroup" Text,
        2 "kind" Text,
        3 "name" Text,
    }

    PRIORITY_CLASS "PriorityClass" {
        1 "metadata" Shape::Message(&OBJECT_META),
        // Always there in JSON, 0 too.
        2 "value" OptionalInt,
        3 "globalDefault" Bool,
        4 "description" Text,
        5 "preemptionPolicy" OptionalText,
    }
    LEASE "Lease" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "spec" Shape::Message(&LEASE_SPEC),
    }
    LEASE_SPEC "LeaseSpec" {
        1 "holderIdentity" OptionalText,
        2 "leaseDurationSeconds" OptionalInt,
        3 "acquireTime" MicroTime,
        4 "renewTime" MicroTime,
        5 "leaseTransitions" OptionalInt,
        6 "strategy" OptionalText,
        7 "preferredHolder" OptionalText,
    }
    EVICTION "Eviction" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "deleteOptions" OptionalMessage(&DELETE_OPTIONS),
    }

    TOKEN_REQUEST "TokenRequest" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "spec" Shape::Message(&TOKEN_REQUEST_SPEC),
        3 "status" Shape::Message(&TOKEN_REQUEST_STATUS),
    }
    TOKEN_REQUEST_SPEC "TokenRequestSpec" {
        1 "audiences" TEXTS,
        3 "boundObjectRef" OptionalMessage(&BOUND_OBJECT_REFERENCE),
        4 "expirationSeconds" OptionalInt,
    }
    BOUND_OBJECT_REFERENCE "BoundObjectReference" {
        1 "kind" Text,
        2 "apiVersion" Text,
        3 "name" Text,
        4 "uid" Text,
    }
    TOKEN_REQUEST_STATUS "TokenRequestStatus" {
        1 "token" Text,
        2 "expirationTimestamp" Time,
    }
    TOKEN_REVIEW "TokenReview" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "spec" Shape::Message(&TOKEN_REVIEW_SPEC),
        3 "status" Shape::Message(&TOKEN_REVIEW_STATUS),
    }
    TOKEN_REVIEW_SPEC "TokenReviewSpec" {
        1 "token" Text,
        2 "audiences" TEXTS,
    }
    TOKEN_REVIEW_STATUS "TokenReviewStatus" {
        1 "authenticated" Bool,
        2 "user" Shape::Message(&USER_INFO),
        3 "error" Text,
        4 "audiences" TEXTS,
    }
    SELF_SUBJECT_REVIEW "SelfSubjectReview" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "status" Shape::Message(&SELF_SUBJECT_REVIEW_STATUS),
    }
    SELF_SUBJECT_REVIEW_STATUS "SelfSubjectReviewStatus" {
        1 "userInfo" Shape::Message(&USER_INFO),
    }
    USER_INFO "UserInfo" {
        1 "username" Text,
        2 "uid" Text,
        3 "groups" TEXTS,
        4 "extra" Map(&TextList),
    }

    SELF_SUBJECT_ACCESS_REVIEW "SelfSubjectAccessReview" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "spec" Shape::Message(&SELF_SUBJECT_ACCESS_REVIEW_SPEC),
        3 "status" Shape::Message(&ACCESS_REVIEW_STATUS),
    }
    SELF_SUBJECT_ACCESS_REVIEW_SPEC "SelfSubjectAccessReviewSpec" {
        1 "resourceAttributes" OptionalMessage(&RESOURCE_ATTRIBUTES),
        2 "nonResourceAttributes" OptionalMessage(&NON_RESOURCE_ATTRIBUTES),
    }
    SUBJECT_ACCESS_REVIEW "SubjectAccessReview" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "spec" Shape::Message(&SUBJECT_ACCESS_REVIEW_SPEC),
        3 "status" Shape::Message(&ACCESS_REVIEW_STATUS),
    }
    SUBJECT_ACCESS_REVIEW_SPEC "SubjectAccessReviewSpec" {
        1 "resourceAttributes" OptionalMessage(&RESOURCE_ATTRIBUTES),
        2 "nonResourceAttributes" OptionalMessage(&NON_RESOURCE_ATTRIBUTES),
        3 "user" Text,
        4 "groups" TEXTS,
        5 "extra" Map(&TextList),
        6 "uid" Text,
    }
    RESOURCE_ATTRIBUTES "ResourceAttributes" {
        1 "namespace" Text,
        2 "verb" Text,
        3 "group" Text,
        4 "version" Text,
        5 "resource" Text,
        6 "subresource" Text,
        7 "name" Text,
        8 "fieldSelector" OptionalMessage(&SELECTOR_ATTRIBUTES),
        9 "labelSelector" OptionalMessage(&SELECTOR_ATTRIBUTES),
    }
    SELECTOR_ATTRIBUTES "SelectorAttributes" {
        1 "rawSelector" Text,
        2 "requirements" List(&Shape::Message(&SELECTOR_REQUIREMENT)),
    }
    NON_RESOURCE_ATTRIBUTES "NonResourceAttributes" {
        1 "path" Text,
        2 "verb" Text,
    }
    ACCESS_REVIEW_STATUS "SubjectAccessReviewStatus" {
        1 "allowed" Bool,
        2 "reason" Text,
        3 "evaluationError" Text,
        4 "denied" Bool,
    }
    SELF_SUBJECT_RULES_REVIEW "SelfSubjectRulesReview" {
        1 "metadata" Shape::Message(&OBJECT_META),
        2 "spec" Shape::Message(&SELF_SUBJECT_RULES_REVIEW_SPEC),
        3 "status" Shape::Message(&RULES_REVIEW_STATUS),
    }
    SELF_SUBJECT_RULES_REVIEW_SPEC "SelfSubjectRulesReviewSpec" {
        1 "namespace" Text,
    }
    RULES_REVIEW_STATUS "SubjectRulesReviewStatus" {
        1 "resourceRules" List(&Shape::Message(&POLICY_RULE)),
        2 "nonResourceRules" List(&Shape::Message(&NON_RESOURCE_RULE)),
        3 "incomplete" Bool,
        4 "evaluationError" Text,
    }
    NON_RESOURCE_RULE "NonResourceRule" {
        1 "verbs" TEXTS,
        2 "nonResourceURLs" TEXTS,
    }
}
