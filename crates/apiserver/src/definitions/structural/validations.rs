//! Validation rules: each compiles, and what all can cost is bounded before the first one runs.

use serde_json::Value;

use super::{Problems, Schema, flag, properties};
use crate::error::Cause;
use crate::schema::rules::{compile, cost_of, factor, items_max, properties_max};

/// What all rules of a schema may cost together for one object, as in Kubernetes.
const COST_PER_SCHEMA_MAX: u64 = 100_000_000;
/// The most rules of a schema.
const RULES_MAX: usize = 1_000;

pub(super) fn check(path: &str, schema: &Schema, problems: &mut Problems) {
    let mut walk = Walk { problems, total: 0, rules: 0 };
    walk.schema(path, schema, &Place { times: 1, uncorrelated_within: None, is_object: true });
    let (total, rules) = (walk.total, walk.rules);
    if rules > RULES_MAX {
        problems.forbidden(path, format!("{rules} validation rules are more than {RULES_MAX}"));
    }
    if total > COST_PER_SCHEMA_MAX {
        problems.forbidden(
            path,
            format!(
                "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by {} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
                factor(total, COST_PER_SCHEMA_MAX)
            ),
        );
    }
}

/// How often a subschema can be met in one object.
struct Place {
    times: u64,
    /// The list whose items have no old value.
    uncorrelated_within: Option<String>,
    is_object: bool,
}

struct Walk<'p> {
    problems: &'p mut Problems,
    total: u64,
    rules: usize,
}

impl Walk<'_> {
    fn schema(&mut self, path: &str, schema: &Schema, place: &Place) {
        self.rules += schema.get("x-kubernetes-validations").and_then(Value::as_array).map_or(0, Vec::len);
        if self.rules > RULES_MAX {
            return;
        }
        let is_object = place.is_object || flag(schema, "x-kubernetes-embedded-resource");
        let mistakes = match compile(schema, is_object) {
            Ok(None) => Vec::new(),
            Ok(Some(rules)) => {
                let (cost, mistakes) = cost_of(&rules, place.times, place.uncorrelated_within.as_deref());
                self.total = self.total.saturating_add(cost);
                mistakes
            }
            Err(mistakes) => mistakes,
        };
        let told = mistakes.into_iter().map(|mistake| Cause {
            field: format!("{path}.{}", mistake.path),
            reason: mistake.reason,
            message: mistake.message,
        });
        self.problems.causes.extend(told);
        let below = |times: u64, within: Option<String>| Place { times, uncorrelated_within: within, is_object: false };
        for (name, property) in properties(schema) {
            self.schema(&format!("{path}.properties[{name}]"), property, &below(place.times, place.uncorrelated_within.clone()));
        }
        if let Some(Value::Object(additional)) = schema.get("additionalProperties") {
            let times = place.times.saturating_mul(properties_max(schema));
            self.schema(&format!("{path}.additionalProperties"), additional, &below(times, place.uncorrelated_within.clone()));
        }
        if let Some(Value::Object(items)) = schema.get("items") {
            let times = place.times.saturating_mul(items_max(schema));
            let has_keys = schema.get("x-kubernetes-list-type").is_some_and(|list_type| list_type == "map");
            let within = if has_keys { place.uncorrelated_within.clone() } else { Some(path.to_owned()) };
            self.schema(&format!("{path}.items"), items, &below(times, within));
        }
    }
}
