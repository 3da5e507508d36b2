//! Whether a webhook is about a request: rules and selectors, as pure functions.

use fermion_api::Invalid;
use serde::Deserialize;
use serde_json::Value;

use crate::admission::{Operation, Request};
use crate::selector::{LabelOperator, LabelRequirement};

/// What a webhook wants to be asked about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    operations: Vec<String>,
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    resources: Vec<String>,
    scope: Option<String>,
}

const ANY: &str = "*";

impl Rule {
    /// Whether it is about a request, were the request's resource of this version.
    pub(super) fn matches(&self, request: &Request<'_>, version: &str) -> bool {
        let resource = request.resource;
        listed(&self.operations, operation(request.operation))
            && listed(&self.api_groups, &resource.group)
            && listed(&self.api_versions, version)
            && self.resources.iter().any(|pattern| matches_resource(pattern, &resource.plural, request.origin.subresource))
            && match self.scope.as_deref() {
                // A namespace is not in a namespace.
                Some("Namespaced") => resource.namespaced,
                Some("Cluster") => !resource.namespaced,
                _ => true,
            }
    }
}

fn listed(list: &[String], value: &str) -> bool {
    list.iter().any(|listed| listed == ANY || listed == value)
}

/// `pods`, `pods/status`, `pods/*`, `*/scale`, `*` (all but subresources), `*/*`.
fn matches_resource(pattern: &str, plural: &str, subresource: &str) -> bool {
    let (wanted, wanted_subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
    (wanted == ANY || wanted == plural) && (wanted_subresource == ANY || wanted_subresource == subresource)
}

pub(super) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// Writes down what is wrong with a rule.
pub(super) fn check(at: &str, rule: &Value, problems: &mut Vec<Invalid>) {
    let mut list = |field: &str, accepts: &dyn Fn(&str) -> bool, what: &str| {
        let items: Vec<&str> = rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let alone = field == "resources" || !items.contains(&ANY) || items.len() == 1;
        if items.is_empty() || !alone || !items.iter().all(|item| accepts(item)) {
            problems.push(Invalid::new(format!("{at}.{field}"), format!("must be {what}")));
        }
    };
    let operations = ["CREATE", "UPDATE", "DELETE", "CONNECT", ANY];
    list("operations", &|item| operations.contains(&item), "CREATE, UPDATE, DELETE, CONNECT, or * alone");
    list("apiGroups", &|_| true, "names of groups (\"\" is the core group), or * alone");
    list("apiVersions", &|item| !item.is_empty(), "versions, or * alone");
    list("resources", &|item| !item.is_empty() && item.split('/').count() <= 2, "such as pods, pods/status, pods/*, */scale, * or */*");
    if !matches!(rule["scope"].as_str(), None | Some("Cluster" | "Namespaced" | ANY)) {
        problems.push(Invalid::new(format!("{at}.scope"), "must be Cluster, Namespaced or *"));
    }
}

/// The requirements of a LabelSelector object; empty selects everything.
pub(super) fn selector(selector: &Value) -> Result<Vec<LabelRequirement>, String> {
    let mut requirements = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        let value = value.as_str().ok_or_else(|| format!("matchLabels.{key}: must be text"))?;
        requirements.push(LabelRequirement { key: key.clone(), operator: LabelOperator::Equals, values: vec![value.to_owned()] });
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<String> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let operator = match (expression["operator"].as_str(), values.is_empty()) {
            (Some("In"), false) => LabelOperator::In,
            (Some("NotIn"), false) => LabelOperator::NotIn,
            (Some("Exists"), true) => LabelOperator::Exists,
            (Some("DoesNotExist"), true) => LabelOperator::DoesNotExist,
            _ => return Err(format!("matchExpressions: {key}: must be In or NotIn with values, or Exists or DoesNotExist without")),
        };
        if key.is_empty() {
            return Err("matchExpressions: key is required".to_owned());
        }
        requirements.push(LabelRequirement { key: key.to_owned(), operator, values });
    }
    Ok(requirements)
}

/// Whether labels fulfil every requirement.
pub(super) fn selects(requirements: &[LabelRequirement], labels: &Value) -> bool {
    requirements.iter().all(|requirement| requirement.matches(labels.get(&requirement.key).and_then(Value::as_str)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_name_resources_and_subresources() {
        for (pattern, plural, subresource, expected) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "status", false),
            ("pods/status", "pods", "status", true),
            ("pods/*", "pods", "", true),
            ("pods/*", "pods", "exec", true),
            ("*", "pods", "", true),
            ("*", "pods", "status", false),
            ("*/*", "pods", "status", true),
            ("*/scale", "trainingjobs", "scale", true),
            ("*/scale", "trainingjobs", "", false),
        ] {
            assert_eq!(matches_resource(pattern, plural, subresource), expected, "{pattern} {plural} {subresource}");
        }
    }

    #[test]
    fn selectors_ask_for_all_of_their_parts() {
        let requirements = selector(&json!({
            "matchLabels": {"tier": "web"},
            "matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["test"]}, {"key": "owner", "operator": "Exists"}],
        }))
        .unwrap();
        assert!(selects(&requirements, &json!({"tier": "web", "owner": "a"})));
        assert!(!selects(&requirements, &json!({"tier": "web", "owner": "a", "env": "test"})));
        assert!(!selects(&requirements, &json!({"tier": "web"})));
        assert!(!selects(&requirements, &Value::Null));
        assert!(selects(&selector(&json!({})).unwrap(), &Value::Null));
    }
}
