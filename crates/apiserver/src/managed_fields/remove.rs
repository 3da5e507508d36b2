//! Taking paths out of an object.

use serde_json::{Map, Value};

use super::field_set::FieldSet;
use super::types::Type;

/// The object without what the set names, and without what is below that. Maps and lists that
/// lose their last part go as well.
pub(super) fn remove(of: Type<'_>, object: &Value, paths: &FieldSet) -> Value {
    remaining(of, object, paths).unwrap_or_else(|| Value::Object(Map::new()))
}

fn remaining(of: Type<'_>, value: &Value, paths: &FieldSet) -> Option<Value> {
    match value {
        Value::Object(fields) if !of.is_atomic_map() => {
            let mut left = Map::new();
            for (name, value) in fields {
                let kept = match paths.field(name) {
                    None => Some(value.clone()),
                    Some(set) if set.is_member() => None,
                    Some(set) => remaining(of.field(name), value, set),
                };
                if let Some(kept) = kept {
                    left.insert(name.clone(), kept);
                }
            }
            (!left.is_empty() || fields.is_empty()).then_some(Value::Object(left))
        }
        Value::Array(items) if !of.is_atomic_list() => {
            let Some(elements) = of.elements(items) else { return Some(value.clone()) };
            let mut left = Vec::with_capacity(items.len());
            for (element, item) in elements.iter().zip(items) {
                match paths.child(element) {
                    None => left.push(item.clone()),
                    Some(set) if set.is_member() => {}
                    Some(set) => left.extend(remaining(of.item(), item, set)),
                }
            }
            (!left.is_empty() || items.is_empty()).then_some(Value::Array(left))
        }
        whole => Some(whole.clone()),
    }
}

/// The set with the fields of objects that lead to its paths: who owns a part of an object owns
/// the field that holds it. Entries of maps and items of lists stay as they are.
pub(super) fn with_parents(of: Type<'_>, set: &FieldSet) -> FieldSet {
    let children = set
        .children()
        .map(|(element, child)| {
            let child = with_parents(of.child(element), child);
            let declared = element.field_name().is_some_and(|name| of.declares(name));
            (element.clone(), if declared { child.with_itself() } else { child })
        })
        .collect();
    let node = FieldSet::node(false, children);
    if set.is_member() { node.with_itself() } else { node }
}
