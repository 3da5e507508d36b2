//! How ownership changes when an object is written, and what an apply makes of it.
//!
//! The rules are those of Kubernetes' server-side apply and of structured-merge-diff, on which
//! it stands: <https://kubernetes.io/docs/reference/using-api/server-side-apply/>.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::conflict::Conflicts;
use super::entries::{ManagedFields, ManagedFieldsError, Operation, Writer, renew};
use super::extract::{extract, extract_stored};
use super::field_set::FieldSet;
use super::last_applied;
use super::merge::merge;
use super::remove::{remove, with_parents};
use super::types::FieldTypes;

/// The manager of what was there before fields had owners.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What nobody owns: the object's identity, and what the server alone writes.
static UNOWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "creationTimestamp"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "resourceVersion"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
    ])
});

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Its lists cannot be merged: what is wrong, each with its path.
    #[error("{}", .0.join("; "))]
    Configuration(Vec<String>),
    /// It would change what others own.
    #[error("{0}")]
    Conflicts(Conflicts),
}

/// Who owns what after an object was created, updated or patched.
///
/// The writer takes what it changed from everybody; what is gone belongs to nobody. `ignored` is
/// what the server wrote on its own account.
pub fn update(
    types: &FieldTypes,
    mut managed: ManagedFields,
    old: &Value,
    new: &Value,
    writer: &Writer<'_>,
    ignored: &FieldSet,
    now: &str,
) -> ManagedFields {
    let comparison = compare(types.root(), old, new);
    let taken = comparison.changed.difference(&UNOWNED).difference(ignored);
    hand_over(&mut managed, &comparison, taken, writer, now);
    managed
}

fn hand_over(managed: &mut ManagedFields, comparison: &Comparison, taken: FieldSet, writer: &Writer<'_>, now: &str) {
    managed.take(&comparison.changed, None);
    managed.take(&comparison.removed, None);
    if !taken.is_empty() {
        managed.add(writer, taken, now);
    }
    managed.cap_update_managers();
}

/// The same as [`update`], from and to the value of `metadata.managedFields` as this module
/// wrote it. A write by which nothing changes hands, as most are, takes little time.
///
/// # Errors
/// When the stored value cannot be read.
pub fn update_stored(
    types: &FieldTypes,
    stored: &Value,
    old: &Value,
    new: &Value,
    writer: &Writer<'_>,
    now: &str,
) -> Result<Option<Value>, ManagedFieldsError> {
    let comparison = compare(types.root(), old, new);
    if comparison.is_empty() {
        return Ok(Some(stored.clone()));
    }
    let taken = comparison.changed.difference(&UNOWNED);
    if let Some(renewed) = renew(stored, &comparison, &taken, writer, now) {
        return Ok(Some(renewed));
    }
    let mut managed = ManagedFields::parse(stored)?;
    hand_over(&mut managed, &comparison, taken, writer, now);
    Ok(managed.into_value())
}

/// The object after a configuration was applied to it, and who owns what then.
///
/// `configuration` holds what this address can set and nothing else; `force` takes fields from
/// their owners. A live object without any owners is one of before ownership was kept: what it
/// has belongs to `before-first-apply`. Of an object that is to be made, `live` is `{}`.
///
/// # Errors
/// When the configuration cannot be merged, or would change what others own without `force`.
pub fn apply(
    types: &FieldTypes,
    live: &Value,
    mut managed: ManagedFields,
    configuration: &Value,
    force: bool,
    writer: &Writer<'_>,
    now: &str,
) -> Result<(Value, ManagedFields), ApplyError> {
    if managed.is_empty() {
        let before = Writer {
            manager: Cow::Borrowed(BEFORE_FIRST_APPLY),
            operation: Operation::Update,
            api_version: writer.api_version.clone(),
            subresource: writer.subresource.clone(),
        };
        let nothing = Value::Object(serde_json::Map::new());
        managed = update(types, managed, &nothing, live, &before, &FieldSet::default(), now);
    }
    let root = types.root();
    let set = extract(root, configuration).map_err(ApplyError::Configuration)?;
    let mut object = merge(root, live, configuration);
    if let Some(last) = managed.of(writer)
        && !last.is_within(&set)
    {
        object = without_abandoned(types, &object, &managed, writer, last, &set);
    }
    let comparison = compare(root, live, &object);
    if !force {
        // What `kubectl apply` set without the server's knowledge may be taken over by kubectl.
        let own = if writer.manager == last_applied::MANAGER { last_applied::owned(types, live, &writer.api_version) } else { None };
        let others = managed.entries().iter().filter(|entry| !writer.owns(entry));
        let in_conflict = others.map(|entry| {
            let set = entry.fields.intersection(&comparison.changed);
            (
                &entry.writer,
                match &own {
                    Some(own) => set.difference(own),
                    None => set,
                },
            )
        });
        if let Some(conflicts) = Conflicts::of(in_conflict) {
            return Err(ApplyError::Conflicts(conflicts));
        }
    }
    managed.take(&comparison.changed, Some(writer));
    managed.take(&comparison.removed, Some(writer));
    managed.set(writer, set.difference(&UNOWNED), now);
    Ok((object, managed))
}

/// The object without what the manager applied before, does not apply now, and nobody else owns.
fn without_abandoned(
    types: &FieldTypes,
    merged: &Value,
    managed: &ManagedFields,
    writer: &Writer<'_>,
    last: &FieldSet,
    set: &FieldSet,
) -> Value {
    let root = types.root();
    let parents = |set: &FieldSet| with_parents(root, set);
    let last = parents(last);
    let owned = parents(&managed.everything_of_others(writer).union(set));
    let has = parents(&extract_stored(root, merged));
    // All that was applied before goes, with what hangs on it; then what has an owner comes back;
    // and then what was never this manager's.
    let left = parents(&extract_stored(root, &remove(root, merged, &last)));
    let with_owned = remove(root, merged, &has.difference(&left.union(&owned)));
    let left = parents(&extract_stored(root, &with_owned));
    remove(root, merged, &has.difference(&left).intersection(&last))
}
