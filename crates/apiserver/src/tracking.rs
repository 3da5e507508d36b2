//! Who owns which fields, in the way of a write: from the request's field manager to
//! `metadata.managedFields` of the object that is stored. The rules are in
//! [`crate::managed_fields`].

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::catalog::Resource;
use crate::error::{About, ApiError, Cause, Result};
use crate::managed_fields::{self, Conflicts, FieldSet, ManagedFields, ManagedFieldsError, Operation, Writer};
use crate::objects;
use crate::request::Query;

/// The longest name of a field manager, in bytes, as in Kubernetes.
const MANAGER_LENGTH_MAX: usize = 128;
/// The manager of requests that name nobody.
const UNKNOWN: &str = "unknown";

/// Under which name a request's changes are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldManager {
    name: String,
    /// Whether the request said the name, and not its client's User-Agent.
    given: bool,
}

impl FieldManager {
    /// The `fieldManager` of the query, or else what the User-Agent starts with.
    pub(crate) fn parse(query: &Query, headers: &HeaderMap) -> Result<Self> {
        if let Some(name) = query.get("fieldManager") {
            let wrong = if name.len() > MANAGER_LENGTH_MAX {
                Some("Too long: may not be more than 128 bytes")
            } else if name.chars().any(char::is_control) {
                Some("Invalid value: should only contain printable characters")
            } else {
                None
            };
            return match wrong {
                Some(message) => Err(refused("fieldManager", "FieldValueInvalid", message)),
                None => Ok(Self { name: name.to_owned(), given: true }),
            };
        }
        let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut name: String = agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        name.truncate(name.floor_char_boundary(MANAGER_LENGTH_MAX));
        Ok(Self { name: if name.is_empty() { UNKNOWN.to_owned() } else { name }, given: false })
    }

    /// A part of the server itself.
    pub(crate) fn server() -> Self {
        Self { name: "fermion-apiserver".to_owned(), given: true }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Who applies must say a name of its own: what it applied before is found by it.
    pub(crate) fn check_given(&self) -> Result<()> {
        if self.given { Ok(()) } else { Err(refused("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")) }
    }

    /// This manager, writing objects of a kind or a subresource of theirs.
    pub(crate) fn writer<'a>(&'a self, resource: &Resource, operation: Operation, subresource: &'a str) -> Writer<'a> {
        Writer {
            manager: Cow::Borrowed(&self.name),
            operation,
            api_version: Cow::Owned(resource.api_version()),
            subresource: Cow::Borrowed(subresource),
        }
    }
}

/// A refused option of a patch.
pub(crate) fn refused(field: &str, reason: &'static str, message: &str) -> ApiError {
    let about = About { group: "meta.k8s.io", plural: "", kind: "PatchOptions", name: "" };
    ApiError::invalid(about, vec![Cause { field: field.to_owned(), reason, message: message.to_owned() }])
}

/// Who owns the fields of an object that is written.
pub(crate) enum Owners {
    /// Whoever changed them last.
    Changed,
    /// As an apply decided.
    Applied(ManagedFields),
}

impl Owners {
    pub(crate) fn operation(&self) -> Operation {
        match self {
            Self::Changed => Operation::Update,
            Self::Applied(_) => Operation::Apply,
        }
    }
}

/// Records who made an object.
pub(crate) fn created(resource: &Resource, object: &mut Value, owners: Owners, writer: &Writer<'_>, now: Timestamp) {
    let managed = match owners {
        Owners::Applied(managed) => managed,
        Owners::Changed => managed_fields::update(
            &resource.field_types,
            ManagedFields::default(),
            &json!({}),
            object,
            writer,
            &written_by_the_server(object),
            &objects::time_text(now),
        ),
    };
    put(object, managed.into_value());
}

/// What the server adds to a new object on its own account.
fn written_by_the_server(object: &Value) -> FieldSet {
    let mark = fermion_api::labels::CREATED_BY;
    let annotations = &object["metadata"]["annotations"];
    match annotations.as_object() {
        Some(all) if all.len() == 1 && all.contains_key(mark) => {
            FieldSet::of_fields(&[&["metadata", "annotations"], &["metadata", "annotations", mark]])
        }
        _ => FieldSet::of_fields(&[&["metadata", "annotations", mark]]),
    }
}

/// Takes what a request says of owners out of it.
pub(crate) fn take_requested(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// Records who changed what between two versions. `requested` is what the request itself said of
/// owners: clients that know of them may set them, for example to give fields away.
pub(crate) fn updated(
    resource: &Resource,
    old: &Value,
    new: &mut Value,
    owners: Owners,
    requested: Option<&Value>,
    writer: &Writer<'_>,
    now: Timestamp,
) {
    let stored = &old["metadata"]["managedFields"];
    put(new, Some(stored.clone()).filter(|value| !value.is_null()));
    let same = objects::same(old, new);
    let requested = requested.filter(|requested| *requested != stored);
    let at = objects::time_text(now);
    let after = match (owners, requested) {
        (Owners::Applied(managed), _) => managed,
        (Owners::Changed, None) => {
            // Where nobody kept owners, they begin with the first apply.
            if !same && !stored.is_null() {
                match managed_fields::update_stored(&resource.field_types, stored, old, new, writer, &at) {
                    Ok(after) => put(new, after),
                    Err(error) => unreadable(&error, old),
                }
            }
            return;
        }
        (Owners::Changed, Some(requested)) => {
            let base = requested_owners(requested, || stored_owners(old));
            if base.is_empty() {
                base
            } else {
                managed_fields::update(&resource.field_types, base, old, new, writer, &FieldSet::default(), &at)
            }
        }
    };
    // When only times would change, nothing does.
    if !(same && after.same_owners(&stored_owners(old))) {
        put(new, after.into_value());
    }
}

fn unreadable(error: &ManagedFieldsError, object: &Value) {
    tracing::warn!(error = error as &dyn std::error::Error, name = objects::text(object, "name"), "stored managedFields are ignored");
}

/// The owners of a stored object. What cannot be read was not written by this server; the
/// object then counts as one whose owners nobody kept.
pub(crate) fn stored_owners(object: &Value) -> ManagedFields {
    ManagedFields::parse(&object["metadata"]["managedFields"]).unwrap_or_else(|error| {
        unreadable(&error, object);
        ManagedFields::default()
    })
}

/// The owners a request asks for: `[{}]` forgets all; what is empty or malformed leaves them as
/// they are, so that clients that know nothing of owners do no harm.
fn requested_owners(requested: &Value, stored: impl FnOnce() -> ManagedFields) -> ManagedFields {
    let forgets = requested.as_array().is_some_and(|entries| matches!(entries.as_slice(), [Value::Object(only)] if only.is_empty()));
    if forgets {
        return ManagedFields::default();
    }
    match ManagedFields::parse(requested) {
        Ok(asked) if !asked.is_empty() => asked,
        _ => stored(),
    }
}

fn put(object: &mut Value, managed: Option<Value>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    match managed {
        Some(managed) => metadata.insert("managedFields".to_owned(), managed),
        None => metadata.remove("managedFields"),
    };
}

/// A refused apply, as kube-apiserver answers it.
pub(crate) fn conflict(conflicts: &Conflicts) -> ApiError {
    let causes: Vec<Value> = conflicts
        .iter()
        .take(crate::error::CAUSES_MAX)
        .map(|conflict| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {}", conflict.manager),
                "field": conflict.path,
            })
        })
        .collect();
    ApiError {
        details: Some(json!({"causes": causes})),
        ..ApiError::new(axum::http::StatusCode::CONFLICT, "Conflict", conflicts.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(query: &str, agent: Option<&str>) -> Result<String> {
        let query = Query::parse(&format!("/x?{query}").parse().expect("a uri")).expect("a query");
        let mut headers = HeaderMap::new();
        if let Some(agent) = agent {
            headers.insert(header::USER_AGENT, agent.parse().expect("a header"));
        }
        FieldManager::parse(&query, &headers).map(|manager| manager.name)
    }

    #[test]
    fn the_manager_is_named_by_the_query_or_the_client() {
        assert_eq!(manager("fieldManager=me", Some("kubectl/v1.33")), Ok("me".to_owned()));
        assert_eq!(manager("", Some("kubectl/v1.33 (linux)")), Ok("kubectl".to_owned()));
        assert_eq!(manager("", Some("curl")), Ok("curl".to_owned()));
        assert_eq!(manager("", None), Ok("unknown".to_owned()));
        assert_eq!(manager("", Some(&"x".repeat(500))).map(|name| name.len()), Ok(MANAGER_LENGTH_MAX));
        assert!(manager(&format!("fieldManager={}", "x".repeat(129)), None).is_err());
        assert!(manager("fieldManager=a%0ab", None).is_err());
    }
}
