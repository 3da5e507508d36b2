//! What is served: the core kinds of Kubernetes and the kinds of [`fermion_api::registry`],
//! and those of CustomResourceDefinitions, in one shape, so that everything generic is written
//! once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fermion_api::Invalid;
use fermion_api::registry::{self, Access, Scale};
use serde_json::Value;

use crate::core_kinds;
use crate::definitions::{CustomForm, Definition};
use crate::discovery::Documents;
use crate::error::About;
use crate::managed_fields::{self, FieldTypes};
use crate::openapi::{OpenApi, OpenApiKind};
use crate::patch::MergeStrategy;
use crate::schema::Validator;
use crate::selector::selectable_fields;
use crate::table::Columns;

/// What can be done with objects of every full kind.
pub(crate) const ALL_VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// What can be done with records.
pub(crate) const READ_VERBS: [&str; 2] = ["get", "list"];
/// What can be done with questions that are answered and not kept.
pub(crate) const REVIEW_VERBS: [&str; 1] = ["create"];
/// What can be done with measured values.
pub(crate) const METRIC_VERBS: [&str; 2] = ["get", "list"];

/// Where objects of a kind come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The object store.
    Objects,
    /// The usage facts and the pods that run.
    Usage,
    /// Answered at once, kept nowhere.
    Review,
    /// Measured by the nodes.
    Metrics,
}

/// One served kind.
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) verbs: &'static [&'static str],
    pub(crate) subresources: Vec<&'static str>,
    pub(crate) scale: Option<Scale>,
    pub(crate) source: Source,
    pub(crate) columns: Columns,
    pub(crate) selectable: Vec<String>,
    pub(crate) validator: Arc<Validator>,
    pub(crate) strategy: MergeStrategy,
    /// How its lists and maps are taken apart to tell who owns what.
    pub(crate) field_types: Arc<FieldTypes>,
    /// Whether this is one of our own kinds, which behave like those of a
    /// CustomResourceDefinition.
    pub(crate) custom: bool,
    pub(crate) set_defaults: fn(Value) -> Result<Value, Vec<Invalid>>,
    pub(crate) check: fn(&Value, Option<&Value>) -> Vec<Invalid>,
    /// What is particular to a kind of a CustomResourceDefinition.
    pub(crate) form: Option<CustomForm>,
    /// The name in keys of the store: `pods`, `trainingjobs.ai.fermion.dev`.
    pub(crate) stored_as: Arc<str>,
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn about<'a>(&'a self, name: &'a str) -> About<'a> {
        About { group: &self.group, plural: &self.plural, kind: &self.kind, name }
    }

    pub(crate) fn has_subresource(&self, name: &str) -> bool {
        self.subresources.contains(&name)
    }

    pub(crate) fn has_status(&self) -> bool {
        self.has_subresource("status")
    }

    /// Whether its objects say how often what they ask for has changed. As in Kubernetes: where
    /// somebody reports which of the changes has been seen, and for every kind of a definition.
    pub(crate) fn counts_generations(&self) -> bool {
        let reported = ["customresourcedefinitions", "mutatingwebhookconfigurations", "pods", "validatingwebhookconfigurations"];
        self.custom || reported.contains(&self.plural.as_str())
    }

    /// Whether this is the core kind of that name.
    pub(crate) fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }
}

/// A kind with the schema it was made from. The schema is needed once, for OpenAPI: as a tree it
/// takes megabytes, so it is not kept.
pub(crate) struct Described {
    pub(crate) resource: Resource,
    pub(crate) schema: Value,
}

/// Everything served at one moment. It never changes: a definition that comes or goes makes
/// another one, and requests end with the one they began with.
pub(crate) struct Catalog {
    built_in: Arc<BuiltIn>,
    /// By the name of the CustomResourceDefinition.
    definitions: BTreeMap<String, Arc<Definition>>,
    /// In the order of discovery.
    resources: Vec<Arc<Resource>>,
    /// By plural: few kinds share one.
    by_plural: HashMap<String, Vec<Arc<Resource>>>,
    pub(crate) documents: Documents,
}

/// What the platform serves of itself.
struct BuiltIn {
    resources: Vec<Arc<Resource>>,
    openapi: OpenApi,
}

impl Catalog {
    /// Builds the schemas and validators of all kinds of the platform and the documents that tell
    /// clients of them; takes a while, so it is done once.
    pub(crate) fn new(more_kinds: Vec<registry::Kind>) -> anyhow::Result<Self> {
        let mut described = core_kinds::resources()?;
        for kind in registry::kinds().into_iter().chain(more_kinds) {
            described.push(Resource::from_kind(kind)?);
        }
        let mut resources = Vec::with_capacity(described.len());
        let mut kinds = Vec::with_capacity(described.len());
        for Described { resource, schema } in described {
            kinds.push(resource.openapi_kind(schema));
            resources.push(Arc::new(resource));
        }
        let built_in = BuiltIn { resources, openapi: OpenApi::new(kinds) };
        Ok(Self::assemble(Arc::new(built_in), BTreeMap::new(), None))
    }

    /// The catalog with other definitions. What did not change is shared with this one.
    pub(crate) fn with(&self, definitions: BTreeMap<String, Arc<Definition>>) -> Self {
        Self::assemble(self.built_in.clone(), definitions, Some(&self.documents))
    }

    fn assemble(built_in: Arc<BuiltIn>, definitions: BTreeMap<String, Arc<Definition>>, before: Option<&Documents>) -> Self {
        let mut custom: Vec<Arc<Resource>> = definitions.values().flat_map(|definition| definition.resources.iter().cloned()).collect();
        custom.sort_by(|one, two| {
            let versions = || version_order(&one.version).cmp(&version_order(&two.version));
            one.group.cmp(&two.group).then_with(versions).then_with(|| one.plural.cmp(&two.plural))
        });
        let resources: Vec<Arc<Resource>> = built_in.resources.iter().cloned().chain(custom).collect();
        let mut by_plural: HashMap<String, Vec<Arc<Resource>>> = HashMap::new();
        for resource in &resources {
            by_plural.entry(resource.plural.clone()).or_default().push(resource.clone());
        }
        let kinds: Vec<Arc<OpenApiKind>> = definitions.values().flat_map(|definition| definition.openapi.iter().cloned()).collect();
        let openapi = built_in.openapi.with(&kinds, before.map(|before| &before.openapi));
        Self { built_in, definitions, resources, by_plural, documents: Documents::new(openapi) }
    }

    pub(crate) fn definitions(&self) -> &BTreeMap<String, Arc<Definition>> {
        &self.definitions
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_plural.get(plural)?.iter().find(|resource| resource.group == group && resource.version == version)
    }

    /// Whether the platform itself serves kinds of a group.
    pub(crate) fn is_built_in_group(&self, group: &str) -> bool {
        self.built_in.resources.iter().any(|resource| resource.group == group)
    }

    /// Every group and version served, the core group first; of a group the preferred version
    /// first.
    pub(crate) fn group_versions(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for resource in &self.resources {
            let pair = (resource.group.clone(), resource.version.clone());
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
        found
    }

    pub(crate) fn of_group<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.resources.iter().filter(move |resource| resource.group == group && resource.version == version)
    }
}

/// Sorts versions as Kubernetes does: released before beta before alpha, newer before older,
/// then everything else by name.
fn version_order(version: &str) -> (u8, Reverse<u64>, Reverse<u64>, String) {
    let parsed = || {
        let rest = version.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..end].parse().ok()?;
        let (stage, minor) = match &rest[end..] {
            "" => (0, ""),
            other => other.strip_prefix("beta").map(|minor| (1, minor)).or_else(|| other.strip_prefix("alpha").map(|minor| (2, minor)))?,
        };
        let minor: u64 = if stage == 0 { 0 } else { minor.parse().ok()? };
        Some((stage, major, minor))
    };
    match parsed() {
        Some((stage, major, minor)) => (stage, Reverse(major), Reverse(minor), String::new()),
        None => (3, Reverse(0), Reverse(0), version.to_owned()),
    }
}

impl Resource {
    pub(crate) fn openapi_kind(&self, schema: Value) -> OpenApiKind {
        OpenApiKind {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
            list_kind: self.list_kind.clone(),
            plural: self.plural.clone(),
            namespaced: self.namespaced,
            schema,
            subresources: self.subresources.iter().map(|name| (*name).to_owned()).collect(),
            verbs: self.verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        }
    }

    fn from_kind(kind: registry::Kind) -> anyhow::Result<Described> {
        let stored_as = kind.resource().into();
        let mut subresources = Vec::new();
        // The status of a question is its answer.
        if kind.has_status && kind.access != Access::Review {
            subresources.push("status");
        }
        if kind.scale.is_some() {
            subresources.push("scale");
        }
        subresources.extend(kind.subresources);
        let mut selectable: Vec<String> = selectable_fields(&kind.group, &kind.kind).iter().map(|field| (*field).to_owned()).collect();
        selectable.extend(kind.selectable.iter().map(|path| path.trim_start_matches('.').to_owned()));
        let (verbs, source) = match kind.access {
            Access::Full => (&ALL_VERBS[..], Source::Objects),
            Access::ReadOnly => (&READ_VERBS[..], Source::Usage),
            Access::Review => (&REVIEW_VERBS[..], Source::Review),
        };
        let validator = Validator::compile(&kind.schema)?;
        let mut schema = kind.schema;
        let resource = Self {
            columns: Columns::for_printer_columns(&kind.columns)?,
            validator: validator.into(),
            strategy: MergeStrategy::UNSUPPORTED,
            field_types: managed_fields::own_kind(&mut schema).into(),
            group: kind.group,
            version: kind.version,
            list_kind: format!("{}List", kind.kind),
            kind: kind.kind,
            plural: kind.plural,
            singular: kind.singular,
            short_names: kind.short_names,
            categories: kind.categories,
            namespaced: kind.namespaced,
            verbs,
            subresources,
            scale: kind.scale,
            source,
            selectable,
            custom: true,
            set_defaults: kind.set_defaults,
            check: kind.check,
            form: None,
            stored_as,
        };
        Ok(Described { resource, schema })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_preferred_as_in_kubernetes() {
        let mut versions = ["v1beta1", "v10", "v1alpha2", "foo1", "v2", "v11beta2", "v1", "v12alpha1", "foo10", "v3beta1"];
        versions.sort_by_key(|version| version_order(version));
        assert_eq!(versions, ["v10", "v2", "v1", "v11beta2", "v3beta1", "v1beta1", "v12alpha1", "v1alpha2", "foo1", "foo10"]);
    }
}
