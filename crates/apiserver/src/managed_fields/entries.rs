//! `metadata.managedFields`: who owns which fields of an object.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::compare::Comparison;
use super::field_set::{FieldSet, FieldSetError};

/// At most this many entries of managers that update are kept, as in Kubernetes; the oldest
/// become one.
pub const UPDATE_MANAGERS_MAX: usize = 10;

/// Lists of more entries are not read: each is compared with all others. Kubernetes has no such
/// bound, and no object there has so many appliers.
pub const ENTRIES_MAX: usize = 1_000;

/// The manager under which the oldest entries are put together.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply: it owns what its newest configuration sets.
    Apply,
    /// By create, update and patch: it owns what it changed last.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who writes: what tells one entry from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer<'a> {
    /// The name of the manager.
    pub manager: Cow<'a, str>,
    /// How it writes.
    pub operation: Operation,
    /// Group and version it writes in.
    pub api_version: Cow<'a, str>,
    /// The subresource it writes to, or nothing.
    pub subresource: Cow<'a, str>,
}

/// The fields of one manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub writer: Writer<'static>,
    /// When it took some of them last, as RFC 3339 in UTC.
    pub time: Option<String>,
    /// Which.
    pub fields: FieldSet,
}

impl Writer<'_> {
    /// Whether an entry is this writer's. Appliers are the same whatever version they apply in.
    pub fn owns(&self, entry: &Entry) -> bool {
        let other = &entry.writer;
        self.operation == other.operation
            && self.manager == other.manager
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn to_owned(&self) -> Writer<'static> {
        Writer {
            manager: Cow::Owned(self.manager.as_ref().to_owned()),
            operation: self.operation,
            api_version: Cow::Owned(self.api_version.as_ref().to_owned()),
            subresource: Cow::Owned(self.subresource.as_ref().to_owned()),
        }
    }
}

/// Everything known of who owns what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagedFields {
    pub(super) entries: Vec<Entry>,
}

/// Why a value is no `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedFieldsError {
    /// A part of an entry is missing or has a value it cannot have.
    #[error("managedFields: {field}: {detail}")]
    Malformed {
        /// The field of the entry.
        field: &'static str,
        /// What belongs there.
        detail: &'static str,
    },
    /// The fields of an entry cannot be read.
    #[error("managedFields: fieldsV1 cannot be read")]
    Fields(#[source] FieldSetError),
}

impl ManagedFields {
    /// Reads the value of `metadata.managedFields`; nothing is no entries.
    ///
    /// # Errors
    /// When an entry is not one.
    pub fn parse(value: &Value) -> Result<Self, ManagedFieldsError> {
        let malformed = |field, detail| ManagedFieldsError::Malformed { field, detail };
        let items = match value {
            Value::Null => return Ok(Self::default()),
            Value::Array(items) => items,
            _ => return Err(malformed("managedFields", "expected a list")),
        };
        if items.len() > ENTRIES_MAX {
            return Err(malformed("managedFields", "too many entries"));
        }
        let mut managed = Self { entries: Vec::with_capacity(items.len()) };
        for item in items {
            let text = |field: &str| Cow::Owned(item[field].as_str().unwrap_or_default().to_owned());
            let operation = match item["operation"].as_str() {
                Some("Apply") => Operation::Apply,
                Some("Update") => Operation::Update,
                _ => return Err(malformed("operation", "must be Apply or Update")),
            };
            if item["fieldsType"] != "FieldsV1" {
                return Err(malformed("fieldsType", "must be FieldsV1"));
            }
            let fields = match &item["fieldsV1"] {
                Value::Null => FieldSet::default(),
                fields => FieldSet::parse(fields).map_err(ManagedFieldsError::Fields)?,
            };
            let writer = Writer { manager: text("manager"), operation, api_version: text("apiVersion"), subresource: text("subresource") };
            let time = item["time"].as_str().map(str::to_owned);
            // Two entries of one manager are one.
            match managed.position(&writer) {
                Some(place) => {
                    let entry = &mut managed.entries[place];
                    entry.fields = entry.fields.union(&fields);
                    entry.time = time.max(entry.time.take());
                }
                None => managed.entries.push(Entry { writer, time, fields }),
            }
        }
        Ok(managed)
    }

    /// The value of `metadata.managedFields`, in the order Kubernetes keeps; none if nobody owns
    /// anything.
    pub fn to_value(&self) -> Option<Value> {
        self.clone().into_value()
    }

    /// The same, using them up.
    pub fn into_value(mut self) -> Option<Value> {
        if self.entries.is_empty() {
            return None;
        }
        self.entries.sort_by(|one, two| {
            let (a, b) = (&one.writer, &two.writer);
            (a.operation, &one.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
                b.operation,
                &two.time,
                &b.manager,
                &b.api_version,
                &b.subresource,
            ))
        });
        Some(self.entries.into_iter().map(Entry::into_value).collect())
    }

    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in no particular order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether the same managers own the same fields, whenever they came to.
    pub fn same_owners(&self, other: &Self) -> bool {
        let has = |entry: &Entry| other.entries.iter().any(|other| other.writer == entry.writer && other.fields == entry.fields);
        self.entries.len() == other.entries.len() && self.entries.iter().all(has)
    }

    /// What a writer owns.
    pub fn of(&self, writer: &Writer<'_>) -> Option<&FieldSet> {
        self.position(writer).map(|place| &self.entries[place].fields)
    }

    fn position(&self, writer: &Writer<'_>) -> Option<usize> {
        self.entries.iter().position(|entry| writer.owns(entry))
    }

    /// Sets what a writer owns, since when. Nothing is no entry.
    pub(super) fn set(&mut self, writer: &Writer<'_>, fields: FieldSet, time: &str) {
        if let Some(place) = self.position(writer) {
            self.entries.remove(place);
        }
        if !fields.is_empty() {
            self.entries.push(Entry { writer: writer.to_owned(), time: Some(time.to_owned()), fields });
        }
    }

    /// Adds to what a writer owns.
    pub(super) fn add(&mut self, writer: &Writer<'_>, fields: FieldSet, time: &str) {
        let fields = match self.of(writer) {
            Some(before) => before.union(&fields),
            None => fields,
        };
        self.set(writer, fields, time);
    }

    /// Takes paths from everybody but one writer; who is left with nothing has no entry.
    pub(super) fn take(&mut self, paths: &FieldSet, except: Option<&Writer<'_>>) {
        for entry in &mut self.entries {
            let kept = except.is_some_and(|writer| writer.owns(entry));
            if !kept && entry.fields.overlaps(paths) {
                entry.fields = entry.fields.difference(paths);
            }
        }
        self.entries.retain(|entry| !entry.fields.is_empty());
    }

    /// Everything that anybody but one writer owns.
    pub(super) fn everything_of_others(&self, writer: &Writer<'_>) -> FieldSet {
        let others = self.entries.iter().filter(|entry| !writer.owns(entry));
        others.fold(FieldSet::default(), |all, entry| all.union(&entry.fields))
    }

    /// Puts the oldest entries of updates together until there are at most
    /// [`UPDATE_MANAGERS_MAX`], those of each version under one name.
    pub(super) fn cap_update_managers(&mut self) {
        let updates = self.entries.iter().filter(|entry| entry.writer.operation == Operation::Update).count();
        let Some(mut too_many) = updates.checked_sub(UPDATE_MANAGERS_MAX).filter(|count| *count > 0) else { return };
        let (mut oldest, others): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| entry.writer.operation == Operation::Update);
        oldest.sort_by(|one, two| (&one.time, &one.writer.manager).cmp(&(&two.time, &two.writer.manager)));
        let mut kept: Vec<Entry> = Vec::with_capacity(oldest.len());
        for entry in oldest {
            let same_version = kept.iter_mut().find(|other| other.writer.api_version == entry.writer.api_version);
            match same_version {
                Some(bucket) if too_many > 0 => {
                    bucket.writer.manager = Cow::Borrowed(ANCIENT);
                    bucket.writer.subresource = Cow::Borrowed("");
                    bucket.fields = bucket.fields.union(&entry.fields);
                    bucket.time = entry.time;
                    too_many -= 1;
                }
                _ => kept.push(entry),
            }
        }
        self.entries = others;
        self.entries.extend(kept);
    }
}

/// The entries after an update by which nothing changes hands: the writer has an entry, it owns
/// all that it changed, nobody else owns any of it, and nobody owns what is gone. None if it is
/// not so.
///
/// This is what most writes are, such as of a status by its controller. Stored entries are in
/// canonical form, so they need not be read for it.
pub(super) fn renew(stored: &Value, comparison: &Comparison, taken: &FieldSet, writer: &Writer<'_>, now: &str) -> Option<Value> {
    let entries = stored.as_array()?;
    let mut own = None;
    for (place, entry) in entries.iter().enumerate() {
        let fields = &entry["fieldsV1"];
        if comparison.removed.overlaps_value(fields) {
            return None;
        }
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let is_own = text("manager") == writer.manager
            && text("operation") == writer.operation.as_str()
            && text("apiVersion") == writer.api_version
            && text("subresource") == writer.subresource;
        if is_own && taken.is_within_value(fields) {
            own = Some(place);
        } else if comparison.changed.overlaps_value(fields) {
            return None;
        }
    }
    let mut renewed = entries.clone();
    let mut entry = renewed.remove(own?);
    entry["time"] = now.into();
    // By time within those of one operation: it is the newest, unless clocks went back.
    let after = |other: &Value| {
        let order = |entry: &Value| {
            ["operation", "time", "manager", "apiVersion", "subresource"].map(|field| entry[field].as_str().unwrap_or_default().to_owned())
        };
        order(other) > order(&entry)
    };
    let place = renewed.iter().position(after).unwrap_or(renewed.len());
    renewed.insert(place, entry);
    Some(Value::Array(renewed))
}

impl Entry {
    fn into_value(self) -> Value {
        let mut value = json!({
            "manager": self.writer.manager,
            "operation": self.writer.operation.as_str(),
            "apiVersion": self.writer.api_version,
            "fieldsType": "FieldsV1",
        });
        value["fieldsV1"] = self.fields.into_value();
        if let Some(time) = self.time {
            value["time"] = time.into();
        }
        if !self.writer.subresource.is_empty() {
            value["subresource"] = self.writer.subresource.into();
        }
        value
    }
}
