use serde_json::{Value, json};

use crate::schema::{SchemaError, Validator};

fn object_with(spec: &Value) -> Value {
    json!({"apiVersion": "test.fermion.dev/v1", "kind": "Sample", "metadata": {"name": "s"}, "spec": spec})
}

fn validator(spec: &Value) -> Validator {
    Validator::compile(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
}

#[track_caller]
fn broken(validator: &Validator, new: &Value, old: Option<&Value>, expected: &[&str]) {
    let (new, old) = (object_with(new), old.map(object_with));
    assert_eq!(validator.validate(&new), [], "{new}");
    let found: Vec<String> = validator.check_rules(&new, old.as_ref()).iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{new}");
}

#[test]
fn rules_span_fields_and_all_that_are_broken_are_told() {
    let validator = validator(&json!({
        "type": "object",
        "properties": {
            "minReplicas": {"type": "integer"},
            "maxReplicas": {"type": "integer", "x-kubernetes-validations": [
                {"rule": "self <= 100", "messageExpression": "'at most 100, not ' + string(self)"},
            ]},
            "name": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self.startsWith('a')", "message": "must start with a", "reason": "FieldValueForbidden"},
            ]},
        },
        "x-kubernetes-validations": [
            {"rule": "self.minReplicas <= self.maxReplicas", "message": "minReplicas may not exceed maxReplicas", "fieldPath": ".minReplicas"},
            {"rule": "has(self.name)", "reason": "FieldValueRequired", "fieldPath": ".name"},
        ],
    }));
    broken(&validator, &json!({"minReplicas": 1, "maxReplicas": 2, "name": "abc"}), None, &[]);
    broken(
        &validator,
        &json!({"minReplicas": 300, "maxReplicas": 200, "name": "b"}),
        None,
        &[
            "spec.minReplicas: Invalid value: \"object\": minReplicas may not exceed maxReplicas",
            "spec.maxReplicas: Invalid value: \"integer\": at most 100, not 200",
            "spec.name: Forbidden: must start with a",
        ],
    );
    broken(&validator, &json!({"minReplicas": 1, "maxReplicas": 2}), None, &["spec.name: Required value: failed rule: has(self.name)"]);
    broken(
        &validator,
        &json!({"name": "a"}),
        None,
        &["spec.minReplicas: Invalid value: \"object\": no such key: minReplicas evaluating rule: minReplicas may not exceed maxReplicas"],
    );
}

#[test]
fn an_immutable_field_cannot_be_changed() {
    let validator = validator(&json!({
        "type": "object",
        "properties": {
            "claim": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "cannot be changed"}]},
            "size": {"type": "integer", "x-kubernetes-validations": [
                {"rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "optionalOldSelf": true, "message": "cannot shrink"},
                {"rule": "oldSelf.hasValue() || self > 0", "optionalOldSelf": true, "message": "must begin above zero"},
            ]},
        },
    }));
    broken(&validator, &json!({"claim": "a"}), None, &[]);
    broken(&validator, &json!({"claim": "a"}), Some(&json!({"claim": "a"})), &[]);
    broken(&validator, &json!({"claim": "b"}), Some(&json!({"claim": "a"})), &["spec.claim: Invalid value: \"string\": cannot be changed"]);
    // Nothing to compare with: the field is set for the first time.
    broken(&validator, &json!({"claim": "b"}), Some(&json!({})), &[]);
    broken(&validator, &json!({"size": 1}), Some(&json!({"size": 2})), &["spec.size: Invalid value: \"integer\": cannot shrink"]);
    broken(&validator, &json!({"size": 0}), None, &["spec.size: Invalid value: \"integer\": must begin above zero"]);
}

#[test]
fn items_have_an_old_value_where_keys_tell_them_apart() {
    let validator = validator(&json!({
        "type": "object",
        "properties": {"ports": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.port == oldSelf.port", "message": "a port keeps its number"}]},
        }},
    }));
    let old = json!({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]});
    broken(&validator, &json!({"ports": [{"name": "b", "port": 2}, {"name": "c", "port": 9}, {"name": "a", "port": 1}]}), Some(&old), &[]);
    broken(
        &validator,
        &json!({"ports": [{"name": "b", "port": 3}]}),
        Some(&old),
        &["spec.ports[0]: Invalid value: \"object\": a port keeps its number"],
    );
}

#[test]
fn what_was_broken_before_may_stay_as_it_is() {
    let validator = validator(&json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self.size() > 3", "message": "too short"}]},
            "note": {"type": "string"},
        },
    }));
    broken(&validator, &json!({"name": "a", "note": "new"}), Some(&json!({"name": "a"})), &[]);
    broken(&validator, &json!({"name": "b"}), Some(&json!({"name": "a"})), &["spec.name: Invalid value: \"string\": too short"]);
}

#[test]
fn values_have_the_types_of_their_schema() {
    let validator = validator(&json!({
        "type": "object",
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "day": {"type": "string", "format": "date"},
            "wait": {"type": "string", "format": "duration"},
            "data": {"type": "string", "format": "byte"},
            "ratio": {"type": "number"},
            "port": {"x-kubernetes-int-or-string": true},
            "limits": {"type": "object", "additionalProperties": {"type": "string"}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
        "x-kubernetes-validations": [
            {"rule": "self.at > timestamp('2026-01-01T00:00:00Z') && self.day.getFullYear() == 2026"},
            {"rule": "self.wait < duration('2h') && size(self.data) == 5 && self.ratio == 1.0"},
            {"rule": "type(self.port) == int ? self.port > 0 : self.port == 'http'"},
            {"rule": "self.limits.all(k, quantity(self.limits[k]).sign() > 0)"},
            {"rule": "self.set == ['b', 'a'] && self.any.x == 1"},
        ],
    }));
    let spec = json!({
        "at": "2026-06-01T00:00:00Z", "day": "2026-06-01", "wait": "1h30m", "data": "aGVsbG8=", "ratio": 1, "port": 80,
        "limits": {"cpu": "500m", "memory": "1Gi"}, "set": ["a", "b"], "any": {"x": 1},
    });
    broken(&validator, &spec, None, &[]);
    let mut other = spec;
    other["port"] = json!("http");
    broken(&validator, &other, None, &[]);
}

#[test]
fn rules_see_names_of_an_object_and_no_other_metadata() {
    let rule = |rule: &str| Validator::compile(&json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}]}));
    let short = rule("self.metadata.name.size() < 5").unwrap();
    assert_eq!(short.check_rules(&object_with(&json!({})), None), []);
    let mut long = object_with(&json!({}));
    long["metadata"]["name"] = json!("a-long-name");
    assert_eq!(short.check_rules(&long, None).len(), 1);
    let Err(SchemaError::Malformed { detail, .. }) = rule("self.metadata.labels.size() == 0") else { panic!("labels are hidden") };
    assert!(detail.contains("undefined field 'labels'"), "{detail}");
}

#[test]
fn a_costly_object_ends_the_request_and_not_the_server() {
    let validator = validator(&json!({
        "type": "object",
        "properties": {"words": {"type": "array", "items": {"type": "string"}}},
        "x-kubernetes-validations": [{"rule": "self.words.all(a, self.words.all(b, a + b != ''))", "message": "slow"}],
    }));
    let words: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
    broken(
        &validator,
        &json!({"words": words}),
        None,
        &[
            "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: slow",
        ],
    );
}
