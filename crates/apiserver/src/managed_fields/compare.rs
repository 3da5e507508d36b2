//! What differs between two versions of an object, path by path.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::PathElement;
use super::field_set::FieldSet;
use super::types::Type;

/// The paths by which two versions of an object differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Paths that the new version has and the old one has not, or has with another value.
    pub changed: FieldSet,
    /// Paths that only the old version has.
    pub removed: FieldSet,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    fn changed(changed: FieldSet) -> Self {
        Self { changed, removed: FieldSet::default() }
    }

    fn removed(removed: FieldSet) -> Self {
        Self { changed: FieldSet::default(), removed }
    }
}

/// Compares two values of a type.
pub(super) fn compare(of: Type<'_>, old: &Value, new: &Value) -> Comparison {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) if !of.is_atomic_map() => maps(of, old, new),
        (Value::Array(old), Value::Array(new)) if !of.is_atomic_list() => lists(of, old, new),
        (old, new) if same(old, new) => Comparison::default(),
        // Where only one of them is made of parts, the parts come or go as well.
        (old, new) => Comparison { changed: everything(of, new), removed: below(everything(of, old)) },
    }
}

fn maps(of: Type<'_>, old: &Map<String, Value>, new: &Map<String, Value>) -> Comparison {
    let mut changed = Vec::new();
    let mut removed = Vec::new();
    let mut take = |name: &str, difference: Comparison| {
        if !difference.changed.is_empty() {
            changed.push((PathElement::field(name), difference.changed));
        }
        if !difference.removed.is_empty() {
            removed.push((PathElement::field(name), difference.removed));
        }
    };
    for (name, new) in new {
        match old.get(name) {
            // Most of an object stays as it is; finding that out takes no knowledge of types.
            Some(old) if old == new => {}
            Some(old) => take(name, compare(of.field(name), old, new)),
            None => take(name, Comparison::changed(with_existence(of.field(name), new))),
        }
    }
    for (name, old) in old {
        if !new.contains_key(name) {
            take(name, Comparison::removed(with_existence(of.field(name), old)));
        }
    }
    Comparison { changed: FieldSet::node(false, changed), removed: FieldSet::node(false, removed) }
}

fn lists(of: Type<'_>, old: &[Value], new: &[Value]) -> Comparison {
    let (Some(old_elements), Some(new_elements)) = (of.elements(old), of.elements(new)) else {
        // Items that cannot be told apart: the list is one value.
        return Comparison::changed(FieldSet::leaf());
    };
    let mut items: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for (element, item) in old_elements.into_iter().zip(old) {
        items.entry(element).or_default().0.push(item);
    }
    for (element, item) in new_elements.into_iter().zip(new) {
        items.entry(element).or_default().1.push(item);
    }
    let mut changed = Vec::new();
    let mut removed = Vec::new();
    for (element, versions) in items {
        let difference = match (versions.0.as_slice(), versions.1.as_slice()) {
            ([old], [new]) => compare(of.item(), old, new),
            ([], [new]) => Comparison::changed(with_existence(of.item(), new)),
            ([old], []) => Comparison::removed(with_existence(of.item(), old)),
            ([], _) => Comparison::changed(FieldSet::leaf()),
            (_, []) => Comparison::removed(FieldSet::leaf()),
            // Items that share their keys are one value together.
            (old, new) if old == new => Comparison::default(),
            _ => Comparison::changed(FieldSet::leaf()),
        };
        if !difference.changed.is_empty() {
            changed.push((element.clone(), difference.changed));
        }
        if !difference.removed.is_empty() {
            removed.push((element, difference.removed));
        }
    }
    Comparison { changed: FieldSet::node(false, changed), removed: FieldSet::node(false, removed) }
}

/// Every path of a value that comes or goes, the value itself among them unless it is always
/// there.
fn with_existence(of: Type<'_>, value: &Value) -> FieldSet {
    let set = everything(of, value);
    let made_of_parts = set.children().next().is_some();
    if of.is_always_there() && (made_of_parts || is_empty(value)) { below(set) } else { set }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Every path at and below a value.
fn everything(of: Type<'_>, value: &Value) -> FieldSet {
    match value {
        Value::Object(fields) if !of.is_atomic_map() => {
            let children = fields.iter().map(|(name, value)| (PathElement::field(name), with_existence(of.field(name), value))).collect();
            FieldSet::node(true, children)
        }
        Value::Array(items) if !of.is_atomic_list() => match of.elements(items) {
            Some(elements) => {
                let mut found: BTreeMap<PathElement, FieldSet> = BTreeMap::new();
                for (element, item) in elements.into_iter().zip(items) {
                    let set = everything(of.item(), item);
                    // Items that share their keys are one value together.
                    found.entry(element).and_modify(|shared| *shared = FieldSet::leaf()).or_insert(set);
                }
                FieldSet::node(true, found.into_iter().collect())
            }
            None => FieldSet::leaf(),
        },
        _ => FieldSet::leaf(),
    }
}

fn below(set: FieldSet) -> FieldSet {
    FieldSet::node(false, set.into_children())
}

/// Whether two values are equal; numbers are by what they count, not by how they are written.
fn same(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => one == two || (one.is_f64() != two.is_f64() && one.as_f64() == two.as_f64()),
        _ => one == two,
    }
}
