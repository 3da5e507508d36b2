//! From a definition to the kinds that are served, and between the forms that objects are stored
//! and served in.

use std::sync::Arc;

use fermion_api::registry::{Column, Scale};
use fermion_store::Stored;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::status::holds;
use crate::catalog::{ALL_VERBS, Resource, Source};
use crate::error::{ApiError, Result};
use crate::managed_fields::FieldTypes;
use crate::openapi::OpenApiKind;
use crate::patch::MergeStrategy;
use crate::schema::{SchemaError, Validator};
use crate::table::Columns;

/// A definition as it is served.
pub(crate) struct Definition {
    /// Of everything that what is served follows from.
    fingerprint: [u8; 32],
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) openapi: Vec<Arc<OpenApiKind>>,
    /// By the fingerprint of the schema.
    compiled: Vec<([u8; 32], Compiled)>,
    /// Turned true when it is served no more in this form: open watches end then.
    retired: watch::Sender<bool>,
}

/// What a schema is compiled to; versions with the same schema share it.
#[derive(Clone)]
struct Compiled {
    validator: Arc<Validator>,
    field_types: Arc<FieldTypes>,
}

/// What is particular to a kind of a definition.
#[derive(Debug)]
pub(crate) struct CustomForm {
    /// `GROUP/VERSION` in which objects are stored.
    stored_api_version: String,
    /// Whether stored objects may have been written in another version or by an older schema.
    may_differ: bool,
    /// Every version in which the kind is served.
    served_versions: Arc<[String]>,
    /// Whether the definition is being deleted: no new objects then.
    pub(crate) is_terminating: bool,
    /// Turns true when this form is served no more.
    pub(crate) retired: watch::Receiver<bool>,
}

/// Why a stored definition is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unservable {
    #[error("version {version}")]
    Schema {
        version: String,
        #[source]
        source: SchemaError,
    },
    #[error("a printer column of version {version}: {problem}")]
    Column { version: String, problem: String },
}

fn digest(parts: &[&Value]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.to_string().as_bytes());
        hasher.update([0]);
    }
    hasher.finalize().into()
}

impl Definition {
    /// Whether this is what would be built from the object.
    pub(crate) fn is_of(&self, object: &Value) -> bool {
        self.fingerprint == fingerprint(object)
    }

    /// Builds what is served; what did not change is taken over from `before`. A definition that
    /// is not established serves nothing.
    pub(crate) fn build(object: &Value, before: Option<&Definition>) -> Result<Self, Unservable> {
        let (retired, retirement) = watch::channel(false);
        let mut definition =
            Self { fingerprint: fingerprint(object), resources: Vec::new(), openapi: Vec::new(), compiled: Vec::new(), retired };
        if !holds(object, "Established") {
            return Ok(definition);
        }
        let versions: Vec<&Value> = object["spec"]["versions"].as_array().into_iter().flatten().collect();
        for version in versions.iter().filter(|version| version["served"] == true) {
            let name = text(version, "name");
            let schema = &version["schema"]["openAPIV3Schema"];
            let compiled = definition.compiled(schema, before).map_err(|source| Unservable::Schema { version: name.to_owned(), source })?;
            let resource = resource(object, version, compiled, retirement.clone())
                .map_err(|problem| Unservable::Column { version: name.to_owned(), problem })?;
            let kind = resource.openapi_kind(schema.clone());
            // A kind whose description is what it was keeps the document that it is in.
            let known = before.and_then(|before| before.openapi.iter().find(|known| ***known == kind));
            definition.openapi.push(known.cloned().unwrap_or_else(|| Arc::new(kind)));
            definition.resources.push(Arc::new(resource));
        }
        Ok(definition)
    }

    fn compiled(&mut self, schema: &Value, before: Option<&Definition>) -> Result<Compiled, SchemaError> {
        let fingerprint = digest(&[schema]);
        let known = self.compiled.iter().chain(before.into_iter().flat_map(|before| &before.compiled));
        let compiled = match known.into_iter().find(|(known, _)| *known == fingerprint) {
            Some((_, compiled)) => compiled.clone(),
            None => Compiled { validator: Validator::compile(schema)?.into(), field_types: FieldTypes::compile(schema).into() },
        };
        self.compiled.push((fingerprint, compiled.clone()));
        Ok(compiled)
    }

    /// Ends what is open on this form.
    pub(crate) fn retire(&self) {
        self.retired.send_replace(true);
    }
}

fn fingerprint(object: &Value) -> [u8; 32] {
    let is_terminating = Value::Bool(object["metadata"]["deletionTimestamp"].is_string());
    let is_established = Value::Bool(holds(object, "Established"));
    let is_first = Value::Bool(object["metadata"]["generation"] == 1);
    let (spec, status) = (&object["spec"], &object["status"]);
    digest(&[
        &object["metadata"]["uid"],
        spec,
        &status["acceptedNames"],
        &status["storedVersions"],
        &is_terminating,
        &is_established,
        &is_first,
    ])
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn resource(object: &Value, version: &Value, compiled: Compiled, retired: watch::Receiver<bool>) -> Result<Resource, String> {
    let spec = &object["spec"];
    let names = &object["status"]["acceptedNames"];
    let group = text(spec, "group").to_owned();
    let versions: Vec<&Value> = spec["versions"].as_array().into_iter().flatten().collect();
    let storage = versions.iter().find(|version| version["storage"] == true).map_or("", |version| text(version, "name"));
    let columns: Vec<Column> = version["additionalPrinterColumns"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|column| Column {
            name: text(column, "name").to_owned(),
            type_: text(column, "type").to_owned(),
            json_path: text(column, "jsonPath").to_owned(),
            description: text(column, "description").to_owned(),
            priority: column["priority"].as_i64().and_then(|priority| i32::try_from(priority).ok()).unwrap_or(0),
        })
        .collect();
    let scale = version["subresources"]["scale"].as_object().map(|scale| {
        let path = |field: &str| scale.get(field).and_then(Value::as_str).map(str::to_owned);
        Scale {
            spec_replicas_path: path("specReplicasPath").unwrap_or_default(),
            status_replicas_path: path("statusReplicasPath").unwrap_or_default(),
            label_selector_path: path("labelSelectorPath"),
        }
    });
    let mut subresources = Vec::new();
    if version["subresources"]["status"].is_object() {
        subresources.push("status");
    }
    if scale.is_some() {
        subresources.push("scale");
    }
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    Ok(Resource {
        columns: Columns::for_printer_columns(&columns).map_err(|error| error.to_string())?,
        selectable: selectable.map(|field| text(field, "jsonPath").trim_start_matches('.').to_owned()).collect(),
        stored_as: format!("{}.{group}", text(names, "plural")).into(),
        form: Some(CustomForm {
            stored_api_version: format!("{group}/{storage}"),
            served_versions: versions
                .iter()
                .filter(|version| version["served"] == true)
                .map(|version| text(version, "name").to_owned())
                .collect(),
            // The first spec of a single version is what every stored object was written by.
            may_differ: versions.len() > 1 || object["metadata"]["generation"] != 1,
            is_terminating: object["metadata"]["deletionTimestamp"].is_string(),
            retired,
        }),
        group,
        version: text(version, "name").to_owned(),
        kind: text(names, "kind").to_owned(),
        list_kind: text(names, "listKind").to_owned(),
        plural: text(names, "plural").to_owned(),
        singular: text(names, "singular").to_owned(),
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        namespaced: text(spec, "scope") == "Namespaced",
        verbs: &ALL_VERBS,
        subresources,
        scale,
        source: Source::Objects,
        validator: compiled.validator,
        field_types: compiled.field_types,
        strategy: MergeStrategy::UNSUPPORTED,
        custom: true,
        set_defaults: Ok,
        check: |_, _| Vec::new(),
    })
}

impl Resource {
    /// A stored object in the version and by the schema that it is served in: unknown fields are
    /// dropped and defaults filled in, as they would be if it were written now.
    pub(crate) fn as_served(&self, stored: Stored) -> Result<Stored> {
        let Some(CustomForm { may_differ: true, .. }) = &self.form else { return Ok(stored) };
        let mut object: Value = serde_json::from_slice(&stored.body).map_err(|error| {
            tracing::error!(%error, key = %stored.key, "a stored object cannot be read");
            ApiError::internal("a stored object cannot be read; the server's log says which")
        })?;
        object["apiVersion"] = self.api_version().into();
        object["kind"] = self.kind.clone().into();
        self.validator.prune(&mut object);
        self.validator.default(&mut object);
        Ok(Stored { body: object.to_string().into(), ..stored })
    }

    /// The versions in which a kind of a definition is served.
    pub(crate) fn served_versions(&self) -> impl Iterator<Item = &str> {
        self.form.iter().flat_map(|form| form.served_versions.iter()).map(String::as_str)
    }

    /// Whether objects are served with exactly the fields that are stored.
    pub(crate) fn is_served_as_stored(&self) -> bool {
        !matches!(&self.form, Some(CustomForm { may_differ: true, .. }))
    }

    /// An object in the version that it is stored in.
    pub(crate) fn as_stored(&self, mut object: Value) -> Value {
        if let Some(form) = &self.form {
            object["apiVersion"] = form.stored_api_version.clone().into();
        }
        object
    }
}
