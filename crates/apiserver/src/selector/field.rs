//! Field selectors: `metadata.name=x,status.phase!=Running`.

use std::borrow::Cow;

use fermion_store::FieldTerm;
use serde_json::Value;

use super::{SelectorError, check_length, syntax_error};

/// Fields by which every kind can be selected.
const COMMON_FIELDS: [&str; 2] = ["metadata.name", "metadata.namespace"];

/// Fields whose name in a selector is not their path in the object, or whose absence stands for a
/// value: (name in the selector, path, value when absent).
const SPECIAL_FIELDS: [(&str, &str, &str); 3] = [
    ("source", "source.component", ""),
    ("spec.hostNetwork", "spec.hostNetwork", "false"),
    ("spec.unschedulable", "spec.unschedulable", "false"),
];

/// The fields, besides name and namespace, by which Kubernetes lets a built-in kind be selected.
/// Unknown kinds have none.
pub fn selectable_fields(group: &str, kind: &str) -> &'static [&'static str] {
    match (group, kind) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("" | "events.k8s.io", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    }
}

/// One comma-separated part of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field's dotted path as written.
    pub field: String,
    /// The value compared with, unescaped.
    pub value: String,
    /// `=` and `==` when true, `!=` when false.
    pub equal: bool,
}

/// A parsed field selector: all of its requirements must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Parses the query parameter's form. The empty text selects everything. Fields must be
    /// `metadata.name`, `metadata.namespace` or one of `allowed` (see [`selectable_fields`]).
    pub fn parse(selector: &str, allowed: &[&str]) -> Result<Self, SelectorError> {
        check_length(selector)?;
        let mut requirements = Vec::new();
        let mut offset = 0;
        for term in split_terms(selector) {
            if !term.is_empty() {
                let requirement = parse_term(term).map_err(|(at, problem)| syntax_error(selector, offset + at, problem))?;
                let field = requirement.field.as_str();
                if !COMMON_FIELDS.contains(&field) && !allowed.contains(&field) {
                    return Err(SelectorError::FieldNotSupported {
                        field: requirement.field,
                        allowed: COMMON_FIELDS.iter().chain(allowed).map(ToString::to_string).collect(),
                    });
                }
                requirements.push(requirement);
            }
            offset += term.len() + 1;
        }
        Ok(Self { requirements })
    }

    /// The parts, in the order written.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// True when every object is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The one value the field must have, if the selector asks for one. A list by
    /// `metadata.name=x` can be answered by a get.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|requirement| requirement.equal && requirement.field == field)
            .map(|requirement| requirement.value.as_str())
    }

    /// The same as the store understands it.
    pub(crate) fn terms(&self) -> Vec<FieldTerm> {
        let term = |requirement: &FieldRequirement| {
            let (path, absent) = path_and_absent(&requirement.field);
            let path = path.split('.').map(str::to_owned).collect();
            FieldTerm { path, equal: requirement.equal, value: requirement.value.clone(), absent: absent.to_owned() }
        };
        self.requirements.iter().map(term).collect()
    }

    /// Matches a whole object. An absent field has the empty value (`false` for booleans).
    pub fn matches(&self, object: &Value) -> bool {
        self.requirements.iter().all(|requirement| (field_value(object, &requirement.field) == requirement.value) == requirement.equal)
    }
}

fn path_and_absent(field: &str) -> (&str, &'static str) {
    SPECIAL_FIELDS.iter().find(|(name, ..)| *name == field).map_or((field, ""), |(_, path, absent)| (path, absent))
}

fn field_value<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let (path, absent) = path_and_absent(field);
    let value = path.split('.').try_fold(object, |value, segment| value.get(segment));
    match value {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Bool(flag)) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => Cow::Owned(absent.to_owned()),
    }
}

/// Splits at commas that no backslash escapes.
fn split_terms(selector: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    selector.split(move |c: char| {
        let splits = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
}

fn parse_term(term: &str) -> Result<FieldRequirement, (usize, String)> {
    let Some(at) = term.find(['=', '!']) else {
        let problem = format!("{term:?} has no operator; write field=value or field!=value");
        return Err((term.len(), problem));
    };
    let (field, rest) = term.split_at(at);
    let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else if let Some(value) = rest.strip_prefix("==") {
        (true, value)
    } else if let Some(value) = rest.strip_prefix('=') {
        (true, value)
    } else {
        return Err((at, "found '!', expected '!=', '=' or '=='".to_owned()));
    };
    let field = field.trim();
    if field.is_empty() {
        return Err((0, "expected a field's path before the operator".to_owned()));
    }
    let value_at = term.len() - value.len();
    let value = unescape(value).map_err(|(at, problem)| (value_at + at, problem))?;
    Ok(FieldRequirement { field: field.to_owned(), value, equal })
}

fn unescape(value: &str) -> Result<String, (usize, String)> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                let Some((_, next @ ('\\' | ',' | '='))) = characters.next() else {
                    let problem = r"a backslash must be followed by '\', ',' or '='".to_owned();
                    return Err((at, problem));
                };
                plain.push(next);
            }
            '=' => {
                return Err((at, r"found '=' in a value; write '\=' to mean the character".to_owned()));
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {"nodeName": "local", "hostNetwork": true, "weird": "a,b=c\\d"},
            "status": {"phase": "Running", "count": 3},
            "source": {"component": "kubelet"},
        })
    }

    #[test]
    fn every_form_selects_what_it_says() {
        let allowed = [
            "spec.nodeName",
            "spec.hostNetwork",
            "spec.unschedulable",
            "spec.weird",
            "status.phase",
            "status.count",
            "status.missing",
            "source",
        ];
        for (selector, expected) in [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name==a", true),
            ("metadata.name!=a", false),
            ("metadata.name=b", false),
            ("metadata.name=a,metadata.namespace=n", true),
            ("metadata.name=a,metadata.namespace=m", false),
            ("status.phase!=Succeeded,status.phase!=Failed", true),
            ("spec.nodeName=", false),
            ("status.missing=", true),
            ("status.missing!=x", true),
            ("spec.hostNetwork=true", true),
            ("spec.unschedulable=false", true),
            ("status.count=3", true),
            ("source=kubelet", true),
            (r"spec.weird=a\,b\=c\\d", true),
            ("metadata.name=a,", true),
        ] {
            let parsed = FieldSelector::parse(selector, &allowed).unwrap();
            assert_eq!(parsed.matches(&pod()), expected, "{selector}");
        }
    }

    #[test]
    fn mistakes_are_refused_with_their_position() {
        for (selector, position, expected) in [
            ("metadata.name", 13, "no operator"),
            ("metadata.name=a,foo", 19, "no operator"),
            ("=a", 0, "expected a field's path"),
            ("metadata.name!a", 13, "expected '!='"),
            ("metadata.name=a=b", 15, "found '='"),
            (r"metadata.name=a\b", 15, "backslash"),
            (r"metadata.name=a\", 15, "backslash"),
        ] {
            match FieldSelector::parse(selector, &[]) {
                Err(SelectorError::Syntax { position: at, problem, .. }) => {
                    assert_eq!(at, position, "{selector}: {problem}");
                    assert!(problem.contains(expected), "{selector}: {problem}");
                }
                other => panic!("{selector}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_unlisted_field_is_refused_with_the_list() {
        let error = FieldSelector::parse("spec.replicas=1", &["status.phase"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "field label not supported: spec.replicas; this kind can be selected by \
             metadata.name, metadata.namespace, status.phase"
        );
    }

    #[test]
    fn an_exact_name_can_be_asked_for() {
        let selector = FieldSelector::parse("metadata.name=a,status.phase!=x", &["status.phase"]).unwrap();
        assert_eq!(selector.exact("metadata.name"), Some("a"));
        assert_eq!(selector.exact("status.phase"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a.=!,\\\\é]{0,30}") {
            let _ = FieldSelector::parse(&text, &["a"]);
        }
    }
}
