//! Server-side apply: a client says what it cares for, and the server keeps apart what is whose.

use std::sync::Arc;

use axum::http::StatusCode;
use fermion_store::Key;
use serde_json::{Map, Value, json};

use crate::Api;
use crate::admission::Origin;
use crate::authorize::Attributes;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::managed_fields::{self, ApplyError, Operation, Writer};
use crate::objects::{self, Part};
use crate::schema::Problem;
use crate::tracking::{self, Owners};
use crate::write::{CHANGE_TRIES_MAX, WriteOptions, Written, check_identity, check_type, parse_stored};

impl Api {
    /// Applies a configuration; one for an object that does not exist makes it.
    pub(crate) async fn server_side_apply(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: Key,
        configuration: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        options.manager.check_given()?;
        let configuration = prepare(resource, origin.part(), &key, configuration)?;
        check_identity(resource, &key, &configuration)?;
        let writer = options.manager.writer(resource, Operation::Apply, origin.subresource);
        let pinned = !objects::text(&configuration, "resourceVersion").is_empty();
        let _lock = self.lock(&key, options).await;
        let mut tries = 0;
        loop {
            tries += 1;
            let attempt = match self.read(resource, &key).await {
                Ok(old) => {
                    let live = parse_stored(&old)?;
                    let (object, owners) = self.merged(resource, &live, &configuration, options, &writer)?;
                    let replaced = self.replace(origin, resource, &old, &live, object, owners, options).await;
                    replaced.map(|(object, warnings)| Written { code: StatusCode::OK, object, warnings })
                }
                // A subresource of an object that is not there makes none.
                Err(error) if error.reason == "NotFound" && origin.subresource.is_empty() => {
                    for field in ["uid", "resourceVersion"] {
                        if !objects::text(&configuration, field).is_empty() {
                            let why = format!("the configuration says a {field}, and there is no such object; leave it out to make one");
                            return Err(ApiError::conflict(resource.about(&key.name), &why));
                        }
                    }
                    let (object, owners) = self.merged(resource, &json!({}), &configuration, options, &writer)?;
                    let namespace = Some(&*key.namespace).filter(|namespace| !namespace.is_empty());
                    // To change what is there is not to make what is not.
                    self.authorize(origin.caller, &Attributes::creation(resource, namespace))?;
                    self.create_owned(origin.caller, resource, namespace, object, owners, options).await
                }
                Err(error) => Err(error),
            };
            match attempt {
                // Somebody else was quicker; what that makes of this apply is decided anew.
                Err(error) if matches!(error.reason, "Conflict" | "AlreadyExists") && !pinned && tries < CHANGE_TRIES_MAX => {}
                other => return other,
            }
        }
    }

    /// The object a configuration makes of another, and who owns it then.
    fn merged(
        &self,
        resource: &Resource,
        live: &Value,
        configuration: &Value,
        options: &WriteOptions,
        writer: &Writer<'_>,
    ) -> Result<(Value, Owners)> {
        let managed = tracking::stored_owners(live);
        let force = options.force.unwrap_or(false);
        let now = objects::time_text(self.now());
        let applied = managed_fields::apply(&resource.field_types, live, managed, configuration, force, writer, &now);
        let (mut object, managed) = applied.map_err(|error| match error {
            ApplyError::Conflicts(conflicts) => tracking::conflict(&conflicts),
            ApplyError::Configuration(problems) => untyped(resource, configuration, &problems),
        })?;
        managed_fields::keep_last_applied(&mut object, options.manager.name(), configuration);
        Ok((object, Owners::Applied(managed)))
    }
}

/// The configuration as it can be merged: only what this address sets, its amounts in the form
/// in which they are stored.
fn prepare(resource: &Resource, part: Part, key: &Key, mut configuration: Value) -> Result<Value> {
    check_type(resource, &configuration)?;
    if !configuration["metadata"].is_object() {
        configuration["metadata"] = json!({});
    }
    let metadata = &mut configuration["metadata"];
    if !metadata["managedFields"].is_null() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    if metadata["name"].is_null() {
        metadata["name"] = (*key.name).into();
    }
    if metadata["namespace"].is_null() && !key.namespace.is_empty() {
        metadata["namespace"] = (*key.namespace).into();
    }
    let unknown: Vec<String> = resource
        .validator
        .validate(&configuration)
        .into_iter()
        .filter(|error| error.problem == Problem::Unknown)
        .map(|error| format!(".{}: field not declared in schema", error.path))
        .collect();
    if !unknown.is_empty() {
        return Err(untyped(resource, &configuration, &unknown));
    }
    // The validator writes amounts as texts, and defaults, which are not the client's.
    let mut settled = configuration.clone();
    resource.validator.default(&mut settled);
    adopt_texts(&mut configuration, &settled);
    if resource.has_status() {
        configuration = only(part, configuration);
    }
    Ok(configuration)
}

fn untyped(resource: &Resource, configuration: &Value, problems: &[String]) -> ApiError {
    let namespace = objects::text(configuration, "namespace");
    let slash = if namespace.is_empty() { "" } else { "/" };
    ApiError::bad_request(format!(
        "failed to create typed patch object ({namespace}{slash}{}; {}, Kind={}): {}",
        objects::text(configuration, "name"),
        resource.api_version(),
        resource.kind,
        problems.join(", ")
    ))
}

/// Takes over numbers that became texts.
fn adopt_texts(configuration: &mut Value, settled: &Value) {
    match (configuration, settled) {
        (Value::Object(fields), Value::Object(settled)) => {
            for (name, field) in fields {
                if let Some(settled) = settled.get(name) {
                    adopt_texts(field, settled);
                }
            }
        }
        (Value::Array(items), Value::Array(settled)) => {
            for (item, settled) in items.iter_mut().zip(settled) {
                adopt_texts(item, settled);
            }
        }
        (number @ Value::Number(_), text @ Value::String(_)) => *number = text.clone(),
        _ => {}
    }
}

/// Of a configuration, what belongs to a part of the object, and what says which object it is.
fn only(part: Part, mut configuration: Value) -> Value {
    let Some(fields) = configuration.as_object_mut() else { return configuration };
    match part {
        Part::Main => {
            fields.remove("status");
        }
        Part::Status => {
            fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                let identity: Map<String, Value> = std::mem::take(metadata)
                    .into_iter()
                    .filter(|(name, _)| matches!(name.as_str(), "name" | "namespace" | "uid" | "resourceVersion"))
                    .collect();
                *metadata = identity;
            }
        }
    }
    configuration
}
