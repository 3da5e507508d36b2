//! Which lists of which kinds are merged, and by which key.
//!
//! The tables follow the `patchStrategy` and `patchMergeKey` tags of Kubernetes' API types (1.33).
//! A list that stands in no table is replaced as a whole; a map that stands in none is merged
//! field by field.

/// The rules for one kind, or none if the kind has no strategic merge patch.
#[derive(Debug, Clone, Copy)]
pub struct MergeStrategy {
    rules: Option<&'static TypeRules>,
}

impl MergeStrategy {
    /// For kinds without strategic merge patch: all kinds of one's own, as in Kubernetes.
    pub const UNSUPPORTED: MergeStrategy = MergeStrategy { rules: None };

    /// The rules of a kind. The version does not matter: no served group has two that differ.
    pub fn for_kind(group: &str, kind: &str) -> MergeStrategy {
        let rules = match (group, kind) {
            ("", "Pod") => &POD,
            ("", "PodTemplate") => &POD_TEMPLATE,
            ("", "Node") => &NODE,
            ("", "Service") => &SERVICE,
            ("", "ServiceAccount") => &SERVICE_ACCOUNT,
            ("", "Namespace" | "PersistentVolumeClaim") => &WITH_CONDITIONS,
            ("admissionregistration.k8s.io", _) => &WEBHOOKS,
            (
                ""
                | "apiextensions.k8s.io"
                | "coordination.k8s.io"
                | "events.k8s.io"
                | "rbac.authorization.k8s.io"
                | "scheduling.k8s.io"
                | "storage.k8s.io",
                _,
            ) => &ONLY_METADATA,
            _ => return Self::UNSUPPORTED,
        };
        MergeStrategy { rules: Some(rules) }
    }

    pub(super) fn rules(self) -> Option<&'static TypeRules> {
        self.rules
    }
}

/// The fields of a type that are more than plain values.
#[derive(Debug)]
pub(super) struct TypeRules(&'static [(&'static str, FieldRule)]);

impl TypeRules {
    pub(super) fn field(&self, name: &str) -> FieldRule {
        self.0.iter().find(|(field, _)| *field == name).map_or(FieldRule::Plain, |(_, rule)| *rule)
    }
}

/// How one field is merged.
#[derive(Debug, Clone, Copy)]
pub(super) enum FieldRule {
    /// A map is merged field by field, everything else is replaced.
    Plain,
    /// A map whose fields have rules.
    Struct(&'static TypeRules),
    /// A list of maps, merged item by item.
    ListByKey(&'static ListRule),
    /// A list of scalars without duplicates, merged by adding what is missing.
    Set,
}

#[derive(Debug)]
pub(super) struct ListRule {
    /// The field that tells items apart.
    pub(super) key: &'static str,
    /// A second field, with its default, that decides between items whose key is the same.
    pub(super) tie_breaker: Option<(&'static str, &'static str)>,
    pub(super) item: &'static TypeRules,
}

const fn by(key: &'static str, item: &'static TypeRules) -> ListRule {
    ListRule { key, tie_breaker: None, item }
}

pub(super) static NO_RULES: TypeRules = TypeRules(&[]);

static BY_NAME: ListRule = by("name", &NO_RULES);
static BY_TYPE: ListRule = by("type", &NO_RULES);
static BY_IP: ListRule = by("ip", &NO_RULES);

static OBJECT_META: TypeRules =
    TypeRules(&[("finalizers", FieldRule::Set), ("ownerReferences", FieldRule::ListByKey(&by("uid", &NO_RULES)))]);

static ONLY_METADATA: TypeRules = TypeRules(&[("metadata", FieldRule::Struct(&OBJECT_META))]);

static CONDITIONS: TypeRules = TypeRules(&[("conditions", FieldRule::ListByKey(&BY_TYPE))]);

static WITH_CONDITIONS: TypeRules = TypeRules(&[("metadata", FieldRule::Struct(&OBJECT_META)), ("status", FieldRule::Struct(&CONDITIONS))]);

static CONTAINER: TypeRules = TypeRules(&[
    ("env", FieldRule::ListByKey(&BY_NAME)),
    ("ports", FieldRule::ListByKey(&ListRule { key: "containerPort", tie_breaker: Some(("protocol", "TCP")), item: &NO_RULES })),
    ("volumeDevices", FieldRule::ListByKey(&by("devicePath", &NO_RULES))),
    ("volumeMounts", FieldRule::ListByKey(&by("mountPath", &NO_RULES))),
]);

static EPHEMERAL_VOLUME: TypeRules = TypeRules(&[("volumeClaimTemplate", FieldRule::Struct(&ONLY_METADATA))]);

static VOLUME: TypeRules = TypeRules(&[("ephemeral", FieldRule::Struct(&EPHEMERAL_VOLUME))]);

static CONTAINERS: ListRule = by("name", &CONTAINER);

// Tolerations and environment sources are replaced as a whole, as in Kubernetes.
static POD_SPEC: TypeRules = TypeRules(&[
    ("containers", FieldRule::ListByKey(&CONTAINERS)),
    ("ephemeralContainers", FieldRule::ListByKey(&CONTAINERS)),
    ("hostAliases", FieldRule::ListByKey(&BY_IP)),
    ("imagePullSecrets", FieldRule::ListByKey(&BY_NAME)),
    ("initContainers", FieldRule::ListByKey(&CONTAINERS)),
    ("resourceClaims", FieldRule::ListByKey(&BY_NAME)),
    ("schedulingGates", FieldRule::ListByKey(&BY_NAME)),
    ("topologySpreadConstraints", FieldRule::ListByKey(&by("topologyKey", &NO_RULES))),
    ("volumes", FieldRule::ListByKey(&by("name", &VOLUME))),
]);

static POD_STATUS: TypeRules = TypeRules(&[
    ("conditions", FieldRule::ListByKey(&BY_TYPE)),
    ("hostIPs", FieldRule::ListByKey(&BY_IP)),
    ("podIPs", FieldRule::ListByKey(&BY_IP)),
    ("resourceClaimStatuses", FieldRule::ListByKey(&BY_NAME)),
]);

static POD: TypeRules = TypeRules(&[
    ("metadata", FieldRule::Struct(&OBJECT_META)),
    ("spec", FieldRule::Struct(&POD_SPEC)),
    ("status", FieldRule::Struct(&POD_STATUS)),
]);

static POD_TEMPLATE: TypeRules = TypeRules(&[("metadata", FieldRule::Struct(&OBJECT_META)), ("template", FieldRule::Struct(&POD))]);

// Taints are replaced as a whole: several may have the same key with different effects.
static NODE: TypeRules = TypeRules(&[
    ("metadata", FieldRule::Struct(&OBJECT_META)),
    ("spec", FieldRule::Struct(&TypeRules(&[("podCIDRs", FieldRule::Set)]))),
    (
        "status",
        FieldRule::Struct(&TypeRules(&[("addresses", FieldRule::ListByKey(&BY_TYPE)), ("conditions", FieldRule::ListByKey(&BY_TYPE))])),
    ),
]);

static SERVICE: TypeRules = TypeRules(&[
    ("metadata", FieldRule::Struct(&OBJECT_META)),
    (
        "spec",
        FieldRule::Struct(&TypeRules(&[(
            "ports",
            FieldRule::ListByKey(&ListRule { key: "port", tie_breaker: Some(("protocol", "TCP")), item: &NO_RULES }),
        )])),
    ),
    ("status", FieldRule::Struct(&CONDITIONS)),
]);

static WEBHOOKS: TypeRules = TypeRules(&[("metadata", FieldRule::Struct(&OBJECT_META)), ("webhooks", FieldRule::ListByKey(&BY_NAME))]);

static SERVICE_ACCOUNT: TypeRules =
    TypeRules(&[("metadata", FieldRule::Struct(&OBJECT_META)), ("secrets", FieldRule::ListByKey(&BY_NAME))]);
