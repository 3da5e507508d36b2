//! What people ask of a list beyond what Kubernetes' clients do: `search=TEXT`, `sortBy=PATH` or
//! `sortBy=-PATH`, `offset=NUMBER`, and `count=true`, which makes `remainingItemCount` exact.
//!
//! The store answers all of it where it can. Where it cannot (objects that are served in another
//! form than they are stored in, lists that are not in the store at all, selectors that only this
//! crate understands), the same is answered here, by the same rules: see [`fermion_store::ListQuery`]
//! and [`fermion_store::Order`].

use std::cmp::Ordering;

use fermion_store::{ListQuery, Order, Scope};
use serde_json::Value;

use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::request::Query;

/// The longest text that is searched for, in bytes.
const SEARCH_BYTES_MAX: usize = 1_024;
/// The most names in a path to sort by.
const SORT_NAMES_MAX: usize = 16;

/// What people ask of a list, from its query.
#[derive(Clone, Debug)]
pub(crate) struct PeoplesList {
    pub(crate) search: Option<String>,
    pub(crate) order: Option<Order>,
    pub(crate) offset: usize,
    pub(crate) count: bool,
}

impl PeoplesList {
    pub(crate) fn parse(query: &Query) -> Result<Self> {
        let order = query.get("sortBy").map(order).transpose()?;
        let offset = query.number("offset")?.map_or(0, |offset| usize::try_from(offset).unwrap_or(usize::MAX));
        if query.get("continue").is_some() && (order.is_some() || offset > 0) {
            return Err(ApiError::bad_request("continue: a list with sortBy or offset is paged by offset and resourceVersion"));
        }
        let search = query.get("search").map(str::to_owned);
        if search.as_ref().is_some_and(|text| text.len() > SEARCH_BYTES_MAX || text.contains('\0')) {
            return Err(ApiError::bad_request(format!("search: at most {SEARCH_BYTES_MAX} bytes, without the character NUL")));
        }
        Ok(Self { search, order, offset, count: query.flag("count")? })
    }

    /// Refuses a request that does not know this search: it would be about all objects.
    pub(crate) fn refuse_search(query: &Query, what: &str) -> Result<()> {
        if query.has("search") {
            return Err(ApiError::bad_request(format!("search: {what} cannot be narrowed by a search; use selectors")));
        }
        Ok(())
    }

    /// Whether anything is asked.
    pub(crate) fn is_given(&self) -> bool {
        self.search.is_some() || self.needs_all()
    }

    /// Whether every matching object has to be known before the first can be told.
    pub(crate) fn needs_all(&self) -> bool {
        self.order.is_some() || self.offset > 0 || self.count
    }

    /// The query that the store answers.
    pub(crate) fn query(&self, scope: Scope) -> ListQuery {
        ListQuery {
            search: self.search.clone(),
            order: self.order.clone(),
            offset: self.offset,
            count: self.count,
            ..ListQuery::all(scope)
        }
    }

    /// Whether an object holds the text that is searched for: in any string or number of it, but
    /// who wrote which field, and what a Secret keeps.
    pub(crate) fn finds(&self, resource: &Resource, object: &Value) -> bool {
        let Some(text) = &self.search else { return true };
        let text = text.to_ascii_lowercase();
        let is_secret = resource.is_core("secrets");
        let Value::Object(fields) = object else { return false };
        fields.iter().any(|(name, value)| match (name.as_str(), value) {
            ("data" | "stringData", _) if is_secret => false,
            ("metadata", Value::Object(metadata)) => metadata.iter().any(|(name, value)| match name.as_str() {
                "managedFields" => false,
                "annotations" if is_secret => false,
                _ => holds(value, &text),
            }),
            (_, value) => holds(value, &text),
        })
    }

    /// Puts objects into the order that is asked for; those in no order stay as they are.
    pub(crate) fn sort<T>(&self, objects: &mut [T], value: impl Fn(&T) -> &Value) {
        let Some(order) = &self.order else { return };
        objects.sort_by(|one, other| {
            let (one, other) = (value(one), value(other));
            let compared = compare(at(one, &order.path), at(other, &order.path)).then_with(|| key(one).cmp(&key(other)));
            if order.descending { compared.reverse() } else { compared }
        });
    }
}

/// `a.b`, `.a.b`, `-a.b`, `a[b.c/d].e`
fn order(text: &str) -> Result<Order> {
    let wrong = |why: &str| {
        let shown: String = text.escape_default().take(SEARCH_BYTES_MAX).collect();
        ApiError::bad_request(format!(
            "sortBy={shown}: {why}; write it like spec.queue, -metadata.creationTimestamp or metadata.labels[a/b]"
        ))
    };
    let (rest, descending) = text.strip_prefix('-').map_or((text, false), |rest| (rest, true));
    let mut rest = rest.strip_prefix('.').unwrap_or(rest);
    let mut path = Vec::new();
    while !rest.is_empty() {
        let (name, after) = if let Some(inside) = rest.strip_prefix('[') {
            let (name, after) = inside.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?;
            (name, after.strip_prefix('.').unwrap_or(after))
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let after = &rest[end..];
            (&rest[..end], after.strip_prefix('.').unwrap_or(after))
        };
        let odd = |c: char| c.is_control() || matches!(c, '"' | '\\');
        if name.is_empty() || name.contains(odd) {
            return Err(wrong("a name in the path is empty or holds quotes, backslashes or control characters"));
        }
        path.push(name.to_owned());
        rest = after;
    }
    if path.is_empty() || path.len() > SORT_NAMES_MAX {
        return Err(wrong("a path has 1 to 16 names"));
    }
    Ok(Order { path, descending })
}

fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found.to_ascii_lowercase().contains(text),
        Value::Number(found) => found.to_string().to_ascii_lowercase().contains(text),
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(fields) => fields.values().any(|field| holds(field, text)),
        Value::Null | Value::Bool(_) => false,
    }
}

fn at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn key(object: &Value) -> (&str, &str) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    (text("namespace"), text("name"))
}

/// What is missing or no scalar, then numbers, then texts and booleans, byte by byte.
fn compare(one: Option<&Value>, other: Option<&Value>) -> Ordering {
    let rank = |value: Option<&Value>| match value {
        None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => 0,
        Some(Value::Number(_)) => 1,
        Some(Value::String(_) | Value::Bool(_)) => 2,
    };
    fn text(value: Option<&Value>) -> &str {
        match value {
            Some(Value::String(text)) => text,
            Some(Value::Bool(true)) => "true",
            Some(Value::Bool(false)) => "false",
            _ => "",
        }
    }
    let number = |value: Option<&Value>| value.and_then(Value::as_f64).unwrap_or_default();
    rank(one).cmp(&rank(other)).then_with(|| number(one).total_cmp(&number(other))).then_with(|| text(one).cmp(text(other)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_to_sort_by_are_read() {
        for (text, path, descending) in [
            ("spec.queue", vec!["spec", "queue"], false),
            (".spec.queue", vec!["spec", "queue"], false),
            ("-metadata.creationTimestamp", vec!["metadata", "creationTimestamp"], true),
            ("metadata.labels[a.b/c]", vec!["metadata", "labels", "a.b/c"], false),
            ("[a.b].c", vec!["a.b", "c"], false),
        ] {
            let read = order(text).expect(text);
            assert_eq!((read.path, read.descending), (path.into_iter().map(str::to_owned).collect(), descending), "{text}");
        }
        for wrong in ["-", ".", "a..b", "a[b", "a[]", "a.\"b", &"a.".repeat(17)] {
            assert!(order(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn order_is_that_of_the_store() {
        let object = |name: &str, value: Value| json!({"metadata": {"name": name}, "spec": {"x": value}});
        let mut objects = vec![
            object("text", json!("a")),
            object("flag", json!(true)),
            object("ten", json!(10)),
            object("nine", json!(9)),
            object("list", json!([1])),
            object("b-none", json!(null)),
            object("a-none", json!(null)),
        ];
        let names =
            |objects: &[Value]| objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let mut people = PeoplesList { search: None, order: Some(order("spec.x").unwrap()), offset: 0, count: false };
        people.sort(&mut objects, |object| object);
        let ascending = ["a-none", "b-none", "list", "nine", "ten", "text", "flag"];
        assert_eq!(names(&objects), ascending);
        people.order = Some(order("-spec.x").unwrap());
        people.sort(&mut objects, |object| object);
        assert_eq!(names(&objects), ascending.into_iter().rev().collect::<Vec<_>>());
    }
}
