//! The kinds the platform serves of its own, as data: what REST, OpenAPI, tables and
//! validation are made from. A kind is added by its file alone, with a line [`kind!`](crate::kind) in it.

use std::any::TypeId;

use k8s_openapi::NamespaceResourceScope;
use kube::CustomResourceExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Invalid, Rules, ai, assets, compute, iam, observe};

/// A column of `kubectl get`.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: String,
    /// Where the value stands, as `.status.phase`.
    pub json_path: String,
    pub description: String,
    /// 0 is always shown, above 0 only with `-o wide`.
    pub priority: i32,
}

/// Where the scale subresource reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub spec_replicas_path: String,
    pub status_replicas_path: String,
    pub label_selector_path: Option<String>,
}

/// What can be done with objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    Full,
    /// Records: people and controllers read them, the platform itself writes them.
    ReadOnly,
    /// Questions: they are answered when they are made, and kept nowhere.
    Review,
}

/// One kind.
#[derive(Clone, Debug)]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub has_status: bool,
    pub scale: Option<Scale>,
    /// Subresources beside these two.
    pub subresources: &'static [&'static str],
    pub columns: Vec<Column>,
    /// Fields beside `metadata.name` and `metadata.namespace` that field selectors may name.
    pub selectable: Vec<String>,
    /// Structural OpenAPI v3 schema of the whole object.
    pub schema: Value,
    pub access: Access,
    /// Fills in defaults beyond those of the schema. The object has passed the schema.
    pub set_defaults: fn(Value) -> Result<Value, Vec<Invalid>>,
    /// Checks beyond the schema; the second object is the stored one on an update.
    pub check: fn(&Value, Option<&Value>) -> Vec<Invalid>,
}

impl Kind {
    /// What the type says of itself.
    pub fn of<K: CustomResourceExt + Rules + Serialize + DeserializeOwned>(access: Access) -> Self {
        let definition = K::crd();
        let spec = definition.spec;
        let version = spec.versions.into_iter().next().expect("derive(CustomResource) makes one version");
        let subresources = version.subresources.unwrap_or_default();
        let schema = version.schema.and_then(|schema| schema.open_api_v3_schema).expect("derive(CustomResource) makes a schema");
        Self {
            group: spec.group,
            version: version.name,
            kind: spec.names.kind.clone(),
            plural: spec.names.plural,
            singular: spec.names.singular.unwrap_or_else(|| spec.names.kind.to_lowercase()),
            short_names: spec.names.short_names.unwrap_or_default(),
            categories: spec.names.categories.unwrap_or_default(),
            namespaced: spec.scope == "Namespaced",
            has_status: subresources.status.is_some(),
            scale: subresources.scale.map(|scale| Scale {
                spec_replicas_path: scale.spec_replicas_path,
                status_replicas_path: scale.status_replicas_path,
                label_selector_path: scale.label_selector_path,
            }),
            subresources: K::SUBRESOURCES,
            columns: version
                .additional_printer_columns
                .unwrap_or_default()
                .into_iter()
                .map(|column| Column {
                    name: column.name,
                    type_: column.type_,
                    json_path: column.json_path,
                    description: column.description.unwrap_or_default(),
                    priority: column.priority.unwrap_or(0),
                })
                .collect(),
            selectable: version.selectable_fields.unwrap_or_default().into_iter().map(|field| field.json_path).collect(),
            schema: serde_json::to_value(schema).expect("a schema is JSON"),
            access,
            set_defaults: set_defaults::<K>,
            check: check::<K>,
        }
    }

    /// The name objects are stored and authorised under: `trainingjobs.ai.fermion.dev`.
    pub fn resource(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

/// What is needed to address objects of a kind, without its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    pub access: Access,
}

impl Names {
    fn of<K>(access: Access) -> Self
    where
        K: kube::Resource<DynamicType = ()>,
        K::Scope: 'static,
    {
        Self {
            group: K::group(&()).into_owned(),
            version: K::version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
            namespaced: TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>(),
            access,
        }
    }
}

/// Says that a type is a kind that is served: `crate::kind!(Dataset);`, or
/// `crate::kind!(UsageRecord, ReadOnly);` for one that only the platform itself writes, or
/// `crate::kind!(SchedulingReview, Review);` for a question. The crate's build script finds the line,
/// which therefore begins at the left margin.
#[macro_export]
macro_rules! kind {
    ($kind:ty) => {
        $crate::kind!($kind, Full);
    };
    ($kind:ty, $access:ident) => {
        const _: fn() -> $crate::registry::Kind = || $crate::registry::Kind::of::<$kind>($crate::registry::Access::$access);
    };
}

/// The one list of our kinds: those whose order matters, then those that are found.
macro_rules! every_kind {
    ($what:ident) => {{
        let mut all = vec![
            $what::of::<ai::TrainingJob>(Access::Full),
            $what::of::<ai::DevEnvironment>(Access::Full),
            $what::of::<ai::InferenceService>(Access::Full),
            $what::of::<ai::Workload>(Access::Full),
            $what::of::<compute::Pool>(Access::Full),
            $what::of::<compute::Queue>(Access::Full),
            $what::of::<assets::Image>(Access::Full),
            $what::of::<iam::User>(Access::Full),
            $what::of::<iam::ApiKey>(Access::Full),
            $what::of::<observe::UsageRecord>(Access::ReadOnly),
        ];
        all.extend(crate::declared::every_declared_kind!($what));
        all
    }};
}

/// Every kind of ours. Making their schemas takes a while: call it once, at the start.
pub fn kinds() -> Vec<Kind> {
    every_kind!(Kind)
}

/// The names of every kind of ours, which cost nothing.
pub fn names() -> Vec<Names> {
    every_kind!(Names)
}

impl Rules for observe::UsageRecord {}

fn set_defaults<K: Rules + Serialize + DeserializeOwned>(object: Value) -> Result<Value, Vec<Invalid>> {
    let mut typed: K = serde_json::from_value(object).map_err(unreadable)?;
    typed.set_defaults();
    serde_json::to_value(typed).map_err(unreadable)
}

fn check<K: Rules + DeserializeOwned>(object: &Value, old: Option<&Value>) -> Vec<Invalid> {
    let typed = match K::deserialize(object) {
        Ok(typed) => typed,
        Err(error) => return unreadable(error),
    };
    // A stored object that a newer schema cannot read must not block its own repair.
    let old = old.and_then(|old| K::deserialize(old).ok());
    typed.check(old.as_ref())
}

fn unreadable(error: serde_json::Error) -> Vec<Invalid> {
    vec![Invalid::new("", error.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_names_clients_need() {
        for kind in kinds() {
            assert!(kind.group.ends_with(".fermion.dev"), "{}", kind.kind);
            assert_eq!(kind.version, crate::VERSION);
            assert!(!kind.columns.is_empty(), "{}", kind.kind);
            assert!(kind.schema.get("properties").is_some(), "{}", kind.kind);
        }
    }

    #[test]
    fn names_are_those_of_the_kinds() {
        let full = kinds().into_iter().map(|kind| (kind.group, kind.version, kind.kind, kind.plural, kind.namespaced, kind.access));
        let short = names().into_iter().map(|names| (names.group, names.version, names.kind, names.plural, names.namespaced, names.access));
        assert_eq!(full.collect::<Vec<_>>(), short.collect::<Vec<_>>());
    }

    #[test]
    fn defaults_are_written_out() {
        let kind = kinds().into_iter().find(|kind| kind.kind == "Queue").expect("a kind");
        let object = (kind.set_defaults)(
            serde_json::json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "a"}, "spec": {}}),
        )
        .expect("fine");
        assert_eq!(
            object["spec"],
            serde_json::json!({
                "pool": "local", "priority": 0, "state": "UP", "default": false, "weight": 1, "maxTime": "UNLIMITED",
                "oversubscribe": {"mode": "NO"},
            })
        );
    }
}
