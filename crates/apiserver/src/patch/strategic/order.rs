//! The order of a merged list under `$setElementOrder`.

use std::collections::HashMap;

use serde_json::Value;

#[cfg(test)]
thread_local! {
    /// How many keys were read in this thread: most of what merging lists takes.
    pub(super) static KEYS_READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The text by which an element of a list, or its merge key, is told from others.
pub(super) fn element_key(value: &Value) -> String {
    #[cfg(test)]
    KEYS_READ.set(KEYS_READ.get() + 1);
    match value {
        // The common case, without quotes. Numbers cannot be mistaken for it: one list's keys are
        // all of one type.
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Puts `items` into `order`. Items that the order does not name (the server has them, the client
/// does not know them) keep their place relative to the items they stood before, as far as the
/// order allows.
pub(super) fn in_order(items: Vec<Value>, order: &[String], key_of: impl Fn(&Value) -> Option<String>) -> Vec<Value> {
    let rank_of_key: HashMap<&str, usize> = order.iter().enumerate().map(|(rank, key)| (key.as_str(), rank)).collect();
    let mut ordered = Vec::new();
    let mut others = Vec::new();
    for (place, item) in items.into_iter().enumerate() {
        let rank = key_of(&item).and_then(|key| rank_of_key.get(key.as_str()).copied());
        match rank {
            Some(rank) => ordered.push((rank, place, item)),
            None => others.push((place, item)),
        }
    }
    ordered.sort_by_key(|(rank, ..)| *rank);

    let mut result = Vec::with_capacity(ordered.len() + others.len());
    let mut ordered = ordered.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    loop {
        // The first in the server's order goes first; ordered items never pass each other.
        let ordered_is_next = match (ordered.peek(), others.peek()) {
            (Some((_, place, _)), Some((other_place, _))) => place < other_place,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let next = if ordered_is_next { ordered.next().map(|(.., item)| item) } else { others.next().map(|(_, item)| item) };
        match next {
            Some(item) => result.push(item),
            None => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unnamed_items_stay_where_they_stood() {
        for (items, order, expected) in [
            (json!(["a", "b", "c"]), json!(["c", "b", "a"]), json!(["c", "b", "a"])),
            (json!(["a", "x", "b"]), json!(["b", "a"]), json!(["x", "b", "a"])),
            (json!(["x", "a", "b"]), json!(["a", "b"]), json!(["x", "a", "b"])),
            (json!(["a", "b", "x"]), json!(["a", "b"]), json!(["a", "b", "x"])),
            (json!(["a", "b"]), json!(["b", "q"]), json!(["a", "b"])),
            (json!([]), json!(["b"]), json!([])),
        ] {
            let order: Vec<String> = serde_json::from_value(order).unwrap();
            let items: Vec<Value> = serde_json::from_value(items).unwrap();
            let result = in_order(items, &order, |item| Some(element_key(item)));
            assert_eq!(Value::Array(result), expected, "{order:?}");
        }
    }
}
