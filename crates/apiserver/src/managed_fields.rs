//! Ownership of fields: `metadata.managedFields` and server-side apply, as pure functions.
//!
//! Every write records who set which fields: a [`FieldSet`] for each manager. With
//! `application/apply-patch+yaml` a manager sends only what it cares for; what it stops sending
//! goes, and what somebody else owns is not changed behind their back.
//!
//! Read [`update`] and [`apply`] first. Sets of paths are in `field_set`, the entries of
//! `managedFields` in `entries`; how a kind's lists and maps are taken apart is [`FieldTypes`],
//! compiled from its schema.
//!
//! Everything here takes hostile input: sets that clients send are bounded by the size of a
//! request, and by [`FIELD_SET_DEPTH_MAX`].

mod compare;
mod conflict;
mod core_types;
mod element;
mod entries;
mod extract;
mod field_set;
mod last_applied;
mod merge;
mod ownership;
mod remove;
mod types;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use compare::Comparison;
pub use conflict::{Conflict, Conflicts};
pub use element::{ElementError, PathElement};
pub use entries::{ENTRIES_MAX, Entry, ManagedFields, ManagedFieldsError, Operation, UPDATE_MANAGERS_MAX, Writer};
pub use field_set::{FIELD_SET_DEPTH_MAX, FieldSet, FieldSetError};
pub use ownership::{ApplyError, apply, update, update_stored};
pub use types::FieldTypes;

/// What differs between two versions of an object.
pub fn compare(types: &FieldTypes, old: &Value, new: &Value) -> Comparison {
    compare::compare(types.root(), old, new)
}

/// The paths that a configuration sets.
///
/// # Errors
/// When items of its lists have no key, or the same; each sentence starts with the path.
pub fn extract(types: &FieldTypes, configuration: &Value) -> Result<FieldSet, Vec<String>> {
    extract::extract(types.root(), configuration)
}

/// The object with everything the configuration sets.
pub fn merge(types: &FieldTypes, live: &Value, configuration: &Value) -> Value {
    merge::merge(types.root(), live, configuration)
}

/// The object without what the set names, and without what is below that.
pub fn remove(types: &FieldTypes, object: &Value, paths: &FieldSet) -> Value {
    remove::remove(types.root(), object, paths)
}

/// The types of a built-in kind, and its schema with what Kubernetes says of its lists and maps.
pub(crate) fn core_kind(group: &str, kind: &str, schema: &mut Value) -> FieldTypes {
    core_types::annotate(kind, schema);
    FieldTypes::compile(schema).with_always_there(core_types::always_there(group, kind))
}

/// The types of one of the platform's own kinds, in whose schema those of Kubernetes are inlined.
pub(crate) fn own_kind(schema: &mut Value) -> FieldTypes {
    core_types::annotate_inlined(schema);
    FieldTypes::compile(schema)
}

/// Keeps kubectl's note of what it applied true in the object that its configuration made.
pub(crate) fn keep_last_applied(object: &mut Value, manager: &str, configuration: &Value) {
    last_applied::keep(object, manager, configuration);
}
