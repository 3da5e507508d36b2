//! Which paths a configuration sets, and so which its manager owns.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

use super::element::PathElement;
use super::field_set::FieldSet;
use super::types::{ItemError, Type};

/// At most this many problems of one configuration are told.
const PROBLEMS_MAX: usize = 20;

/// The paths a configuration sets.
///
/// # Errors
/// When items of its lists have no key, or the same; each sentence starts with the path.
pub(super) fn extract(of: Type<'_>, configuration: &Value) -> Result<FieldSet, Vec<String>> {
    let mut extraction = Extraction { path: String::new(), problems: Vec::new() };
    let set = extraction.value(of, configuration);
    if extraction.problems.is_empty() { Ok(set) } else { Err(extraction.problems) }
}

/// The paths an object that is stored has. Items that cannot be told apart are one value.
pub(super) fn extract_stored(of: Type<'_>, object: &Value) -> FieldSet {
    Extraction { path: String::new(), problems: Vec::new() }.value(of, object)
}

struct Extraction {
    path: String,
    problems: Vec<String>,
}

impl Extraction {
    fn value(&mut self, of: Type<'_>, value: &Value) -> FieldSet {
        match value {
            Value::Object(fields) if !of.is_atomic_map() => self.map(of, fields),
            Value::Array(items) if !of.is_atomic_list() => self.list(of, items),
            _ => FieldSet::leaf(),
        }
    }

    fn map(&mut self, of: Type<'_>, fields: &Map<String, Value>) -> FieldSet {
        let mut children = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let mark = self.path.len();
            self.path.push('.');
            self.path.push_str(name);
            let mut set = self.value(of.field(name), value);
            self.path.truncate(mark);
            // A field of an object is owned by its parts. An entry of a map exists because
            // somebody set it, and so does what has no parts.
            let bare = value.is_null() || value.as_object().is_some_and(Map::is_empty);
            if bare || !of.declares(name) {
                set = set.with_itself();
            }
            children.push((PathElement::field(name), set));
        }
        FieldSet::node(false, children)
    }

    fn list(&mut self, of: Type<'_>, items: &[Value]) -> FieldSet {
        let mut found: BTreeMap<PathElement, FieldSet> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let element = match of.element(item) {
                Ok(element) => element,
                Err(error) => {
                    self.problem(&format!("[{index}]"), &sentence(&error));
                    // In a stored object the list is one value then.
                    return FieldSet::leaf();
                }
            };
            let mark = self.path.len();
            self.path.push_str(&element.to_string());
            let set = self.value(of.item(), item).with_itself();
            self.path.truncate(mark);
            match found.entry(element) {
                Entry::Vacant(place) => _ = place.insert(set),
                Entry::Occupied(mut place) => {
                    self.problem("", &format!("duplicate entries for key {}", place.key()));
                    place.insert(FieldSet::leaf());
                }
            }
        }
        FieldSet::node(false, found.into_iter().collect())
    }

    fn problem(&mut self, below: &str, what: &str) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(format!("{}{below}: {what}", self.path));
        }
    }
}

fn sentence(error: &ItemError) -> String {
    match error {
        ItemError::NotAMap => "associative list with keys may not have non-map elements".to_owned(),
        ItemError::NotAValue => "a set holds plain values only".to_owned(),
        ItemError::KeyMissing(name) => {
            format!("associative list with keys has an element that omits key field {name:?} (and doesn't have default value)")
        }
        ItemError::KeyNotAValue(name) => format!("key field {name:?} must be a plain value"),
    }
}
