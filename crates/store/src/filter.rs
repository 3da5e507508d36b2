//! What a list asks of objects beside their names: labels and fields.
//!
//! The meaning is that of Kubernetes' label and field selectors. [`Filter::matches`] is that meaning;
//! the databases answer the same from [`crate::sql`].

use std::borrow::Cow;

use serde_json::Value;

use crate::error::Error;

/// Terms in one filter, values in one term, and names in one path: more than a URL carries.
const TERMS_MAX: usize = 1_000;
/// Names in one path.
const PATH_MAX: usize = 16;

/// Conditions on an object; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Conditions on `metadata.labels`.
    pub labels: Vec<LabelTerm>,
    /// Conditions on fields.
    pub fields: Vec<FieldTerm>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelTerm {
    /// The label's key.
    pub key: String,
    /// What it must be.
    pub is: LabelIs,
}

/// What a label must be. A label is what is a string in `metadata.labels`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelIs {
    /// There, with one of these values.
    In(Vec<String>),
    /// Not there, or with none of these values.
    NotIn(Vec<String>),
    /// There.
    Present,
    /// Not there.
    Absent,
}

/// A condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The names that lead to it, from the top of the object.
    pub path: Vec<String>,
    /// Whether it must have the value, or must not.
    pub equal: bool,
    /// The value as text. Numbers and booleans are compared by how JSON writes them.
    pub value: String,
    /// The text that a field which is missing, null, a list or an object counts as.
    pub absent: String,
}

/// The order of a list. What is missing or no scalar comes first, then numbers, then texts and
/// booleans, byte by byte; equals are in the order of their keys. PostgreSQL takes NUL for U+FFFD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The names that lead to the field, from the top of the object.
    pub path: Vec<String>,
    /// The other way round; keys too.
    pub descending: bool,
}

impl Filter {
    /// Whether every object fulfils it.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object fulfils it.
    pub fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|term| term.matches(object)) && self.fields.iter().all(|term| term.matches(object))
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let values = |term: &LabelTerm| match &term.is {
            LabelIs::In(values) | LabelIs::NotIn(values) => values.len(),
            LabelIs::Present | LabelIs::Absent => 1,
        };
        let terms = self.fields.len() + self.labels.iter().map(values).sum::<usize>();
        if terms > TERMS_MAX {
            let reason = format!("it names {terms} values, and {TERMS_MAX} is the most");
            return Err(Error::Invalid { what: "the list's filter".to_owned(), reason });
        }
        for term in &self.labels {
            check_path(std::slice::from_ref(&term.key))?;
        }
        self.fields.iter().try_for_each(|term| check_path(&term.path))
    }
}

/// Refuses names that would have to be written in different ways for different databases. No label's
/// key and no field of a kind needs them.
pub(crate) fn check_path(path: &[String]) -> Result<(), Error> {
    let refused = |reason: &str| Err(Error::Invalid { what: format!("the path {path:?}"), reason: reason.to_owned() });
    if path.is_empty() || path.len() > PATH_MAX {
        return refused("it must have at least one name and at most 16");
    }
    let odd = |c: char| c.is_control() || c == '"' || c == '\\';
    if path.iter().any(|name| name.is_empty() || name.contains(odd)) {
        return refused("a name in it must not be empty and not hold quotes, backslashes or control characters");
    }
    Ok(())
}

impl LabelTerm {
    fn matches(&self, object: &Value) -> bool {
        let label = object.get("metadata").and_then(|metadata| metadata.get("labels")).and_then(|labels| labels.get(&self.key));
        match (&self.is, label.and_then(Value::as_str)) {
            (LabelIs::In(values), Some(label)) => values.iter().any(|value| value == label),
            (LabelIs::NotIn(values), Some(label)) => values.iter().all(|value| value != label),
            (LabelIs::Present, label) => label.is_some(),
            (LabelIs::In(_), None) => false,
            (LabelIs::NotIn(_), None) => true,
            (LabelIs::Absent, label) => label.is_none(),
        }
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let value = self.path.iter().try_fold(object, |value, name| value.get(name));
        let text = match value {
            Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
            Some(Value::Bool(flag)) => Cow::Borrowed(if *flag { "true" } else { "false" }),
            Some(Value::Number(number)) => Cow::Owned(number.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => Cow::Borrowed(self.absent.as_str()),
        };
        (text == self.value) == self.equal
    }
}
