//! What is served: the core kinds of Kubernetes and the kinds of [`fermion_api::registry`],
//! in one shape, so that everything generic is written once.

use std::collections::HashMap;
use std::sync::Arc;

use fermion_api::Invalid;
use fermion_api::registry::{self, Access, Scale};
use serde_json::Value;

use crate::core_kinds;
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
    pub(crate) validator: Validator,
    pub(crate) strategy: MergeStrategy,
    /// How its lists and maps are taken apart to tell who owns what.
    pub(crate) field_types: FieldTypes,
    /// Whether this is one of our own kinds, which behave like those of a
    /// CustomResourceDefinition.
    pub(crate) custom: bool,
    pub(crate) set_defaults: fn(Value) -> Result<Value, Vec<Invalid>>,
    pub(crate) check: fn(&Value, Option<&Value>) -> Vec<Invalid>,
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

/// Everything served, in the order of discovery.
pub(crate) struct Catalog {
    resources: Vec<Arc<Resource>>,
    by_name: HashMap<(String, String, String), Arc<Resource>>,
}

impl Catalog {
    /// Builds the schemas and validators of all kinds and the documents that tell clients of
    /// them; takes a while, so it is done once.
    pub(crate) fn new() -> anyhow::Result<(Self, OpenApi)> {
        let mut described = core_kinds::resources()?;
        for kind in registry::kinds() {
            described.push(Resource::from_kind(kind)?);
        }
        let mut resources = Vec::with_capacity(described.len());
        let mut by_name = HashMap::new();
        let mut kinds = Vec::with_capacity(described.len());
        for Described { resource, schema } in described {
            kinds.push(resource.openapi_kind(schema));
            let resource = Arc::new(resource);
            by_name.insert((resource.group.clone(), resource.version.clone(), resource.plural.clone()), resource.clone());
            resources.push(resource);
        }
        Ok((Self { resources, by_name }, OpenApi::new(kinds)))
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_name.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Every group and version served, the core group first.
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

impl Resource {
    fn openapi_kind(&self, schema: Value) -> OpenApiKind {
        OpenApiKind {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
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
        if kind.has_status {
            subresources.push("status");
        }
        if kind.scale.is_some() {
            subresources.push("scale");
        }
        let mut selectable: Vec<String> = selectable_fields(&kind.group, &kind.kind).iter().map(|field| (*field).to_owned()).collect();
        selectable.extend(kind.selectable.iter().map(|path| path.trim_start_matches('.').to_owned()));
        let (verbs, source) = match kind.access {
            Access::Full => (&ALL_VERBS[..], Source::Objects),
            Access::ReadOnly => (&READ_VERBS[..], Source::Usage),
        };
        let validator = Validator::compile(&kind.schema)?;
        let mut schema = kind.schema;
        let resource = Self {
            columns: Columns::for_printer_columns(&kind.columns)?,
            validator,
            strategy: MergeStrategy::UNSUPPORTED,
            field_types: managed_fields::own_kind(&mut schema),
            group: kind.group,
            version: kind.version,
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
            stored_as,
        };
        Ok(Described { resource, schema })
    }
}
