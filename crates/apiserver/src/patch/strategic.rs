//! Kubernetes strategic merge patch: maps are merged, lists by the rules of [`super::strategy`],
//! and `$` keys direct what merging alone cannot say.
//!
//! | directive | in | says |
//! |---|---|---|
//! | `$patch: delete` | item of a keyed list; map | remove the item; empty the map |
//! | `$patch: replace` | item of a keyed list; map | take the patch's list or map, not a merge |
//! | `$patch: merge` | map | merge, which is the default |
//! | `$retainKeys: [k, …]` | map | remove all other keys |
//! | `$deleteFromPrimitiveList/f: [v, …]` | map | remove these values from list `f` |
//! | `$setElementOrder/f: [k, …]` | map | the order of list `f` |
//!
//! The depth of recursion is bounded by the depth of the patch, which the caller has checked.

mod order;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use self::order::{element_key, in_order};
use super::PatchError;
use super::strategy::{FieldRule, ListRule, TypeRules};
use crate::field_path::FieldPath;

const PATCH_DIRECTIVE: &str = "$patch";
const RETAIN_KEYS_DIRECTIVE: &str = "$retainKeys";
const DELETE_FROM_PREFIX: &str = "$deleteFromPrimitiveList/";
const SET_ORDER_PREFIX: &str = "$setElementOrder/";

type Fields = Map<String, Value>;

/// Merges a strategic merge patch into `object`.
pub(super) fn merge(object: &mut Fields, patch: &Fields, rules: &TypeRules) -> Result<(), PatchError> {
    Merge { path: FieldPath::default() }.fields(object, patch, rules)
}

/// What a `$patch` value asks for.
enum Directive {
    Delete,
    Replace,
    Merge,
}

struct Merge {
    path: FieldPath,
}

impl Merge {
    fn directive_error(&self, key: &str, detail: impl Into<String>) -> PatchError {
        PatchError::Directive { path: self.path.with_field(key), detail: detail.into() }
    }

    fn directive(&self, patch: &Fields) -> Result<Option<Directive>, PatchError> {
        match patch.get(PATCH_DIRECTIVE) {
            None => Ok(None),
            Some(Value::String(text)) if text == "delete" => Ok(Some(Directive::Delete)),
            Some(Value::String(text)) if text == "replace" => Ok(Some(Directive::Replace)),
            Some(Value::String(text)) if text == "merge" => Ok(Some(Directive::Merge)),
            Some(_) => Err(self.directive_error(PATCH_DIRECTIVE, "expected \"delete\", \"replace\" or \"merge\"")),
        }
    }

    fn is_directive(&self, key: &str) -> Result<bool, PatchError> {
        if !key.starts_with('$') {
            return Ok(false);
        }
        let known = key == PATCH_DIRECTIVE
            || key == RETAIN_KEYS_DIRECTIVE
            || key.starts_with(DELETE_FROM_PREFIX)
            || key.starts_with(SET_ORDER_PREFIX);
        if known {
            return Ok(true);
        }
        Err(self.directive_error(
            key,
            "unknown directive; known are $patch, $retainKeys, $deleteFromPrimitiveList/FIELD and \
             $setElementOrder/FIELD",
        ))
    }

    fn fields(&mut self, object: &mut Fields, patch: &Fields, rules: &TypeRules) -> Result<(), PatchError> {
        match self.directive(patch)? {
            Some(Directive::Delete) => {
                object.clear();
                return Ok(());
            }
            Some(Directive::Replace) => {
                *object = self.plain_fields(patch)?;
                return Ok(());
            }
            Some(Directive::Merge) | None => {}
        }
        self.retain_keys(object, patch)?;

        for (key, change) in patch {
            if self.is_directive(key)? {
                continue;
            }
            let mark = self.path.push_field(key);
            self.field(object, key, change, rules.field(key))?;
            self.path.truncate(mark);
        }
        self.delete_from_lists(object, patch)?;
        self.set_orders(object, patch, rules)
    }

    fn field(&mut self, object: &mut Fields, key: &str, change: &Value, rule: FieldRule) -> Result<(), PatchError> {
        match (object.get_mut(key), change) {
            (_, Value::Null) => {
                object.remove(key);
            }
            (present, Value::Object(change)) => {
                let rules = match rule {
                    FieldRule::Struct(rules) => rules,
                    _ => &super::strategy::NO_RULES,
                };
                if let Some(Value::Object(inner)) = present {
                    self.fields(inner, change, rules)?;
                } else {
                    // Even what is new must have the keys by which it will be merged next time.
                    let mut inner = Fields::new();
                    self.fields(&mut inner, change, rules)?;
                    object.insert(key.to_owned(), Value::Object(inner));
                }
            }
            (Some(Value::Array(items)), Value::Array(change)) => match rule {
                FieldRule::ListByKey(list) => self.keyed_list(items, change, list)?,
                FieldRule::Set => self.add_missing(items, change)?,
                FieldRule::Plain | FieldRule::Struct(_) => *items = self.plain_list(change)?,
            },
            (_, Value::Array(change)) => {
                let mut items = Vec::new();
                match rule {
                    FieldRule::ListByKey(list) => self.keyed_list(&mut items, change, list)?,
                    FieldRule::Set => self.add_missing(&mut items, change)?,
                    FieldRule::Plain | FieldRule::Struct(_) => items = self.plain_list(change)?,
                }
                object.insert(key.to_owned(), Value::Array(items));
            }
            (_, change) => {
                let value = self.plain(change)?;
                object.insert(key.to_owned(), value);
            }
        }
        Ok(())
    }

    fn retain_keys(&self, object: &mut Fields, patch: &Fields) -> Result<(), PatchError> {
        let Some(keys) = patch.get(RETAIN_KEYS_DIRECTIVE) else {
            return Ok(());
        };
        let error = |detail| self.directive_error(RETAIN_KEYS_DIRECTIVE, detail);
        let keys: HashSet<&str> = keys
            .as_array()
            .and_then(|keys| keys.iter().map(Value::as_str).collect())
            .ok_or_else(|| error("expected a list of keys".to_owned()))?;
        for (key, change) in patch {
            if !change.is_null() && !key.starts_with('$') && !keys.contains(key.as_str()) {
                return Err(error(format!("the patch sets {key:?}, which the list does not retain")));
            }
        }
        object.retain(|key, _| keys.contains(key.as_str()));
        Ok(())
    }

    fn delete_from_lists(&self, object: &mut Fields, patch: &Fields) -> Result<(), PatchError> {
        for (directive, values) in patch {
            let Some(field) = directive.strip_prefix(DELETE_FROM_PREFIX) else { continue };
            let Value::Array(values) = values else {
                return Err(self.directive_error(directive, "expected a list of values"));
            };
            if values.iter().any(|value| value.is_object() || value.is_array()) {
                return Err(self.directive_error(directive, "it deletes plain values only"));
            }
            if let Some(Value::Array(items)) = object.get_mut(field) {
                let deleted: HashSet<String> = values.iter().map(element_key).collect();
                items.retain(|item| !deleted.contains(&element_key(item)));
            }
        }
        Ok(())
    }

    fn set_orders(&self, object: &mut Fields, patch: &Fields, rules: &TypeRules) -> Result<(), PatchError> {
        for (directive, order) in patch {
            let Some(field) = directive.strip_prefix(SET_ORDER_PREFIX) else { continue };
            let Value::Array(order) = order else {
                return Err(self.directive_error(directive, "expected a list"));
            };
            let key = match rules.field(field) {
                FieldRule::ListByKey(list) => Some(list.key),
                FieldRule::Set => None,
                FieldRule::Plain | FieldRule::Struct(_) => {
                    let detail = format!("{field:?} is no list that is merged");
                    return Err(self.directive_error(directive, detail));
                }
            };
            let position_key = |item: &Value| match key {
                Some(key) => item.get(key).map(element_key),
                None => Some(element_key(item)),
            };
            let order: Vec<String> = order
                .iter()
                .map(|item| {
                    position_key(item).ok_or_else(|| {
                        let detail = format!("every item must have {:?}", key.unwrap_or_default());
                        self.directive_error(directive, detail)
                    })
                })
                .collect::<Result<_, _>>()?;
            if let Some(Value::Array(patched)) = patch.get(field) {
                let listed: HashSet<&String> = order.iter().collect();
                let missing = patched
                    .iter()
                    .find(|item| item.get(PATCH_DIRECTIVE).is_none() && position_key(item).is_some_and(|key| !listed.contains(&key)));
                if let Some(missing) = missing {
                    let name = position_key(missing).unwrap_or_default();
                    let detail = format!("the order does not list {name}, which the patch sets");
                    return Err(self.directive_error(directive, detail));
                }
            }
            if let Some(Value::Array(items)) = object.get_mut(field) {
                *items = in_order(std::mem::take(items), &order, position_key);
            }
        }
        Ok(())
    }

    fn add_missing(&mut self, items: &mut Vec<Value>, change: &[Value]) -> Result<(), PatchError> {
        let mut present: HashSet<String> = items.iter().map(element_key).collect();
        for (index, value) in change.iter().enumerate() {
            if value.is_object() || value.is_array() || value.is_null() {
                self.path.push_index(index);
                let path = self.path.to_string();
                return Err(PatchError::WrongType { path, expected: "a plain value" });
            }
            if present.insert(element_key(value)) {
                items.push(value.clone());
            }
        }
        Ok(())
    }

    fn keyed_list(&mut self, items: &mut Vec<Value>, change: &[Value], list: &ListRule) -> Result<(), PatchError> {
        let mut replaces = false;
        let mut merged: Vec<(usize, String, &Fields)> = Vec::with_capacity(change.len());
        let mut deleted = Deletions::default();
        for (index, item) in change.iter().enumerate() {
            let mark = self.path.push_index(index);
            let Value::Object(item) = item else {
                let path = self.path.to_string();
                return Err(PatchError::WrongType { path, expected: "an object" });
            };
            match self.directive(item)? {
                Some(Directive::Delete) => {
                    let key = self.require_key(item, list)?;
                    deleted.insert(key, item, list);
                }
                // The marker stands for the list, so it may come without a key and then alone.
                Some(Directive::Replace) => replaces = true,
                Some(Directive::Merge) => {
                    let detail = "items of a list are merged anyway; leave it out";
                    return Err(self.directive_error(PATCH_DIRECTIVE, detail));
                }
                None => {
                    let key = self.require_key(item, list)?;
                    merged.push((index, key, item));
                }
            }
            self.path.truncate(mark);
        }
        if replaces {
            items.clear();
        }
        if !deleted.by_key.is_empty() {
            items.retain(|item| !deleted.mean(item, list));
        }

        let mut places = Places::default();
        for (place, item) in items.iter().enumerate() {
            if let Some(key) = item.get(list.key) {
                places.insert(element_key(key), item, list, place);
            }
        }
        for (index, key, change) in merged {
            let mark = self.path.push_index(index);
            if let Some(Value::Object(item)) = places.find(&key, change, list).and_then(|place| items.get_mut(place)) {
                self.fields(item, change, list.item)?;
            } else {
                let mut item = Fields::new();
                self.fields(&mut item, change, list.item)?;
                let item = Value::Object(item);
                places.insert(key, &item, list, items.len());
                items.push(item);
            }
            self.path.truncate(mark);
        }
        Ok(())
    }

    /// The text of the item's merge key.
    fn require_key(&self, item: &Fields, list: &ListRule) -> Result<String, PatchError> {
        match item.get(list.key) {
            Some(key @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => Ok(element_key(key)),
            _ => Err(PatchError::MergeKeyMissing { path: self.path.to_string(), key: list.key }),
        }
    }

    /// The value as it is stored: without directives, and without nulls, which say "remove".
    fn plain(&mut self, value: &Value) -> Result<Value, PatchError> {
        Ok(match value {
            Value::Object(fields) => Value::Object(self.plain_fields(fields)?),
            Value::Array(items) => Value::Array(self.plain_list(items)?),
            scalar => scalar.clone(),
        })
    }

    fn plain_fields(&mut self, fields: &Fields) -> Result<Fields, PatchError> {
        let mut plain = Fields::new();
        if let Some(Directive::Delete) = self.directive(fields)? {
            return Ok(plain);
        }
        for (key, value) in fields {
            if self.is_directive(key)? || value.is_null() {
                continue;
            }
            let mark = self.path.push_field(key);
            plain.insert(key.clone(), self.plain(value)?);
            self.path.truncate(mark);
        }
        Ok(plain)
    }

    fn plain_list(&mut self, items: &[Value]) -> Result<Vec<Value>, PatchError> {
        let mut plain = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let mark = self.path.push_index(index);
            // Items that are nothing but a directive say something about the list, not in it.
            let only_directive = match item {
                Value::Object(fields) => self.directive(fields)?.is_some(),
                _ => false,
            };
            if !only_directive {
                plain.push(self.plain(item)?);
            }
            self.path.truncate(mark);
        }
        Ok(plain)
    }
}

/// The items of a keyed list that a patch deletes.
#[derive(Default)]
struct Deletions<'p> {
    /// By key, with the tie breakers that they name; None is one that names none and means all.
    by_key: HashMap<String, HashSet<Option<&'p str>>>,
}

impl<'p> Deletions<'p> {
    fn insert(&mut self, key: String, deletion: &'p Fields, list: &ListRule) {
        let tie_breaker = list.tie_breaker.and_then(|(field, _)| deletion.get(field)).and_then(Value::as_str);
        self.by_key.entry(key).or_default().insert(tie_breaker);
    }

    fn mean(&self, item: &Value, list: &ListRule) -> bool {
        let Some(named) = item.get(list.key).and_then(|key| self.by_key.get(&element_key(key))) else { return false };
        let tie_breaker = list.tie_breaker.map(|(field, default)| item.get(field).and_then(Value::as_str).unwrap_or(default));
        named.contains(&None) || named.contains(&tie_breaker)
    }
}

/// Where the items of a keyed list are, so that merging a long list takes linear time.
#[derive(Default)]
struct Places {
    by_key: HashMap<String, PlacesOfKey>,
}

struct PlacesOfKey {
    first: usize,
    /// Filled for lists with a tie breaker only.
    by_tie_breaker: HashMap<String, usize>,
}

impl Places {
    fn insert(&mut self, key: String, item: &Value, list: &ListRule, place: usize) {
        let places = self.by_key.entry(key).or_insert_with(|| PlacesOfKey { first: place, by_tie_breaker: HashMap::new() });
        if let Some((field, default)) = list.tie_breaker {
            let tie_breaker = item.get(field).and_then(Value::as_str).unwrap_or(default);
            places.by_tie_breaker.entry(tie_breaker.to_owned()).or_insert(place);
        }
    }

    /// The item a change is for. When several have its key, the one with the same tie breaker,
    /// and none if the change names a new one.
    fn find(&self, key: &str, change: &Fields, list: &ListRule) -> Option<usize> {
        let places = self.by_key.get(key)?;
        let wanted =
            list.tie_breaker.filter(|_| places.by_tie_breaker.len() > 1).and_then(|(field, _)| change.get(field)).and_then(Value::as_str);
        match wanted {
            Some(wanted) => places.by_tie_breaker.get(wanted).copied(),
            None => Some(places.first),
        }
    }
}

#[cfg(test)]
mod tests;
