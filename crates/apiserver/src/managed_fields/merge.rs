//! What becomes of an object when a configuration is applied to it.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::element::PathElement;
use super::types::Type;

/// The object with everything the configuration sets. What the configuration says nothing about
/// stays.
pub(super) fn merge(of: Type<'_>, live: &Value, configuration: &Value) -> Value {
    match (live, configuration) {
        (Value::Object(live), Value::Object(set)) if !of.is_atomic_map() => Value::Object(maps(of, live, set)),
        (Value::Array(live), Value::Array(set)) if !of.is_atomic_list() => lists(of, live, set),
        // `null` where the object has parts sets none of them.
        (Value::Object(_), Value::Null) if !of.is_atomic_map() => live.clone(),
        (Value::Array(_), Value::Null) if !of.is_atomic_list() => live.clone(),
        (_, set) => set.clone(),
    }
}

fn maps(of: Type<'_>, live: &Map<String, Value>, set: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = live.clone();
    for (name, value) in set {
        let value = match live.get(name) {
            Some(live) => merge(of.field(name), live, value),
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged
}

/// Items of the configuration keep their order among each other, items that only the object has
/// keep their places before and between them.
fn lists(of: Type<'_>, live: &[Value], set: &[Value]) -> Value {
    let (Some(live_elements), Some(set_elements)) = (of.elements(live), of.elements(set)) else {
        // Items that cannot be told apart: the list is one value.
        return Value::Array(set.to_vec());
    };
    let mut places: HashMap<&PathElement, usize> = HashMap::new();
    for (place, element) in live_elements.iter().enumerate() {
        places.entry(element).or_insert(place);
    }
    let in_set: HashSet<&PathElement> = set_elements.iter().collect();
    let mut merged = Vec::with_capacity(live.len().max(set.len()));
    let mut from_set = set_elements.iter().zip(set).map(|(element, item)| {
        let item = places.get(element).map_or_else(|| item.clone(), |place| merge(of.item(), &live[*place], item));
        (element, item)
    });
    let shared = set_elements.iter().filter(|element| places.contains_key(element));
    let mut shared = shared.peekable();
    for (element, item) in live_elements.iter().zip(live) {
        if !in_set.contains(element) {
            merged.push(item.clone());
        } else if shared.peek().is_some_and(|next| *next == element) {
            shared.next();
            // Up to this item of the configuration, and with it.
            for (set_element, set_item) in from_set.by_ref() {
                merged.push(set_item);
                if set_element == element {
                    break;
                }
            }
        }
    }
    merged.extend(from_set.map(|(_, item)| item));
    Value::Array(merged)
}
