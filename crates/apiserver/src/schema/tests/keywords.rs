use serde_json::{Value, json};

use super::super::{ERRORS_MAX, OBJECT_DEPTH_MAX, SchemaError, Validator};
use super::{check, problems};

/// A validator for objects with one field `f`.
#[track_caller]
fn field(schema: Value) -> Validator {
    Validator::compile(&json!({"type": "object", "properties": {"f": schema}})).unwrap()
}

#[track_caller]
fn check_field(schema: Value, value: Value, expected: &[&str]) {
    check(&field(schema.clone()), &json!({"f": value}), expected);
}

#[test]
fn types_are_told_apart() {
    let values = [
        ("boolean", json!(true)),
        ("integer", json!(1)),
        ("number", json!(1.5)),
        ("string", json!("x")),
        ("array", json!([])),
        ("object", json!({})),
    ];
    for (expected, _) in &values {
        for (found, value) in &values {
            let fits = expected == found || (*expected == "number" && *found == "integer");
            let error = format!("f: {expected}, not {found}");
            let expected_errors: &[&str] = if fits { &[] } else { &[&error] };
            check_field(json!({"type": expected}), value.clone(), expected_errors);
        }
    }
    check_field(json!({"type": ["string", "integer"]}), json!(true), &["f: string or integer, not boolean"]);
    check_field(json!({}), json!([1, {"a": 2}]), &[]);
    check_field(json!(true), json!({"any": "thing"}), &[]);
    check_field(json!(false), json!(1), &["f: Form"]);
    check(&field(json!({})), &json!("x"), &["(root): object, not string"]);
}

#[test]
fn null_is_a_value_only_where_it_may_be() {
    for schema in [
        json!({"type": "string", "nullable": true}),
        json!({"type": ["string", "null"]}),
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        json!({"anyOf": [{"type": "string"}, {"enum": [null], "nullable": true}]}),
    ] {
        let validator = field(schema.clone());
        let mut object = json!({"f": null});
        check(&validator, &object, &[]);
        validator.default(&mut object);
        assert_eq!(object, json!({"f": null}), "{schema}");
    }
    // Elsewhere it stands for "unset": not an error, and dropped with the defaults.
    let validator = Validator::compile(&json!({
        "type": "object",
        "required": ["r"],
        "properties": {"f": {"type": "string"}, "r": {"type": "string"}, "d": {"type": "string", "default": "x"},
                       "l": {"type": "array", "items": {"type": "string"}}},
    }))
    .unwrap();
    let mut object = json!({"f": null, "r": null, "d": null, "l": [null]});
    check(&validator, &object, &["l[0]: string, not null", "r: Required"]);
    validator.default(&mut object);
    assert_eq!(object, json!({"d": "x", "l": [null]}));
}

#[test]
fn objects_have_their_fields() {
    let schema = json!({
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "replicas": {"type": "integer"}},
    });
    check_field(schema.clone(), json!({"name": "x"}), &[]);
    check_field(schema.clone(), json!({}), &["f.name: Required"]);
    check_field(schema.clone(), json!({"name": "x", "replcas": 1}), &["f.replcas: Unknown"]);
    let errors = field(schema).validate(&json!({"f": {"name": "x", "replcas": 1}}));
    assert_eq!(errors[0].to_string(), "unknown field \"f.replcas\": did you mean \"replicas\"?");

    let map = json!({"type": "object", "additionalProperties": {"type": "integer"}});
    check_field(map.clone(), json!({"a": 1, "b.c/d": "x"}), &["f[b.c/d]: integer, not string"]);
    check_field(json!({"type": "object", "additionalProperties": true}), json!({"a": {"b": 1}}), &[]);
    check_field(json!({"type": "object", "additionalProperties": false}), json!({"a": 1}), &["f.a: Unknown"]);
    check_field(
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "integer"}}}),
        json!({"a": "x", "b": 1}),
        &["f.a: integer, not string"],
    );
    check_field(json!({"type": "object"}), json!({"a": 1}), &["f.a: Unknown"]);
    check_field(
        json!({"type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": true}),
        json!({"a": 1, "b": 1, "c": 1}),
        &["f: Count"],
    );
}

#[test]
fn texts_and_numbers_have_their_bounds() {
    let text = json!({"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^[a-zé]+$"});
    for (value, expected) in [
        ("ab", &[][..]),
        ("ééé", &[]),
        ("a", &["f: Length"]),
        ("abcd", &["f: Length"]),
        ("AB", &["f: Pattern"]),
        ("ABCD", &["f: Length", "f: Pattern"]),
    ] {
        check_field(text.clone(), json!(value), expected);
    }
    let number = json!({"type": "integer", "format": "int32", "minimum": 1.0, "maximum": 10.0, "multipleOf": 2});
    for (value, expected) in [
        (json!(2), &[][..]),
        (json!(10), &[]),
        (json!(0), &["f: Range"]),
        (json!(12), &["f: Range"]),
        (json!(3), &["f: Range"]),
        (json!(3_000_000_000_i64), &["f: Range"]),
        (json!(2.5), &["f: integer, not number"]),
    ] {
        check_field(number.clone(), value, expected);
    }
    check_field(json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}), json!(0.5), &[]);
    check_field(json!({"type": "number", "exclusiveMinimum": 0}), json!(0), &["f: Range"]);
    check_field(json!({"type": "number", "maximum": 1, "exclusiveMaximum": true}), json!(1), &["f: Range"]);
    check_field(json!({"type": "number", "multipleOf": 0.1}), json!(0.3), &[]);
    check_field(json!({"type": "string", "format": "date-time"}), json!("yesterday"), &["f: Format"]);
    check_field(json!({"type": "string", "format": "whatever"}), json!("yesterday"), &[]);
}

#[test]
fn a_refused_secret_is_not_repeated() {
    let errors = field(json!({"type": "string", "format": "byte"})).validate(&json!({"f": "hunter2!"}));
    assert!(!errors[0].to_string().contains("hunter2"), "{}", errors[0]);
}

#[test]
fn lists_have_their_rules() {
    let list = json!({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2, "uniqueItems": true});
    check_field(list.clone(), json!([1, 2]), &[]);
    check_field(list.clone(), json!([]), &["f: Count"]);
    check_field(list.clone(), json!([1, 2, 3]), &["f: Count"]);
    check_field(list.clone(), json!([1, "x"]), &["f[1]: integer, not string"]);
    check_field(list, json!([1, 1]), &["f[1]: Duplicate"]);
    check_field(
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
               "items": {"type": "object", "additionalProperties": true}}),
        json!([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 1}, {"a": 1, "b": 1}]),
        &["f[3]: Duplicate"],
    );
    check_field(
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
        json!(["a", "b", "a"]),
        &["f[2]: Duplicate"],
    );
}

#[test]
fn enumerations_name_what_they_allow() {
    let schema = json!({"type": "string", "enum": ["A", "B"]});
    check_field(schema.clone(), json!("A"), &[]);
    let errors = field(schema).validate(&json!({"f": "C"}));
    assert_eq!(errors[0].to_string(), "f: Unsupported value: \"C\": supported values: \"A\", \"B\"");
    assert_eq!(errors[0].problem.cause(), "FieldValueNotSupported");
    check_field(json!({"const": 3}), json!(4), &["f: Enum"]);
}

#[test]
fn numbers_or_texts_depend_on_what_they_mean() {
    let any = json!({"x-kubernetes-int-or-string": true});
    check_field(any.clone(), json!(1), &[]);
    check_field(any.clone(), json!("anything at all"), &[]);
    check_field(any.clone(), json!(1.5), &["f: integer or string, not number"]);
    check_field(any.clone(), json!(true), &["f: integer or string, not boolean"]);
    check_field(any, json!(3_000_000_000_i64), &["f: Range"]);
    let port = json!({"x-kubernetes-int-or-string": true, "format": "int-or-string"});
    check_field(port.clone(), json!("http"), &[]);
    check_field(port, json!("Not A Port"), &["f: Format"]);
    for schema in [
        json!({"x-kubernetes-int-or-string": true, "format": "quantity"}),
        json!({"x-kubernetes-int-or-string": true, "description": "Quantity is a fixed-point representation of a number. It"}),
    ] {
        for (value, expected) in [
            (json!("1.5Gi"), &[][..]),
            (json!(2), &[]),
            (json!(0.5), &[]),
            (json!("lots"), &["f: Format"]),
            (json!(["1"]), &["f: integer or string, not array"]),
        ] {
            check_field(schema.clone(), value, expected);
        }
    }
}

#[test]
fn a_quantity_is_stored_as_text() {
    let validator = field(json!({"type": "object", "additionalProperties":
        {"x-kubernetes-int-or-string": true, "format": "quantity"}}));
    let mut object = json!({"f": {"cpu": 2, "memory": "1Gi"}});
    validator.default(&mut object);
    assert_eq!(object, json!({"f": {"cpu": "2", "memory": "1Gi"}}));
}

#[test]
fn combined_schemas_share_the_fields_they_know() {
    // As derived for an enum whose variants have fields of their own.
    let tagged = json!({
        "type": "object",
        "properties": {
            "file": {"type": "object", "required": ["path"], "properties": {"path": {"type": "string"}}},
            "lines": {"type": "object"},
        },
        "oneOf": [{"required": ["file"]}, {"required": ["lines"]}],
    });
    check_field(tagged.clone(), json!({"file": {"path": "/x"}}), &[]);
    check_field(tagged.clone(), json!({"file": {}}), &["f.file.path: Required"]);
    check_field(tagged.clone(), json!({}), &["f: Form"]);
    check_field(tagged.clone(), json!({"file": {"path": "/x"}, "lines": {}}), &["f: Form"]);
    check_field(tagged.clone(), json!({"flie": {}}), &["f.flie: Unknown", "f: Form"]);
    let errors = field(tagged).validate(&json!({"f": {}}));
    assert_eq!(errors[0].to_string(), "f: Required value: set one of file, lines");

    let inside = json!({"oneOf": [
        {"type": "object", "required": ["a"], "additionalProperties": false,
         "properties": {"a": {"type": "object", "properties": {"x": {"type": "integer"}}}}},
        {"type": "object", "required": ["b"], "additionalProperties": false,
         "properties": {"b": {"type": "integer"}}},
    ]});
    check_field(inside.clone(), json!({"a": {"x": 1}}), &[]);
    check_field(inside.clone(), json!({"b": 1}), &[]);
    check_field(inside.clone(), json!({"a": {"y": 1}}), &["f.a.y: Unknown"]);
    check_field(inside.clone(), json!({"a": {"x": "t"}}), &["f.a.x: integer, not string"]);
    check_field(inside.clone(), json!({"b": "t"}), &["f.b: integer, not string"]);
    check_field(inside.clone(), json!("a"), &["f: object, not string"]);
    check_field(inside, json!({"a": {}, "b": 1}), &["f: Form"]);

    let any = json!({"anyOf": [{"type": "integer", "minimum": 5}, {"type": "string", "minLength": 2}]});
    check_field(any.clone(), json!(5), &[]);
    check_field(any.clone(), json!("xx"), &[]);
    check_field(any.clone(), json!(4), &["f: Range"]);
    check_field(any.clone(), json!("x"), &["f: Length"]);
    check_field(any, json!(true), &["f: integer or string, not boolean"]);

    let all = json!({"allOf": [
        {"type": "object", "properties": {"a": {"type": "integer"}}},
        {"type": "object", "properties": {"b": {"type": "integer"}}},
    ]});
    check_field(all.clone(), json!({"a": 1, "b": 2}), &[]);
    check_field(all, json!({"a": "x", "c": 2}), &["f.a: integer, not string", "f.c: Unknown"]);

    check_field(json!({"type": "string", "not": {"enum": ["latest"]}}), json!("latest"), &["f: Form"]);
    check_field(json!({"type": "string", "not": {"enum": ["latest"]}}), json!("1"), &[]);
}

#[test]
fn references_are_followed_and_may_be_recursive() {
    let validator = Validator::compile(&json!({
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/Tree"}, "other": {"$ref": "#/$defs/Tree", "description": "x"}},
        "$defs": {"Tree": {"type": "object", "properties": {
            "value": {"type": "integer"},
            "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
        }}},
    }))
    .unwrap();
    check(&validator, &json!({"tree": {"children": [{"children": [{"value": 1}]}]}}), &[]);
    check(
        &validator,
        &json!({"tree": {"children": [{"children": [{"value": "x", "q": 1}]}]}, "other": {"value": "y"}}),
        &[
            "other.value: integer, not string",
            "tree.children[0].children[0].q: Unknown",
            "tree.children[0].children[0].value: integer, not string",
        ],
    );
}

#[test]
fn schemas_that_would_not_hold_are_refused() {
    for (schema, expected) in [
        (
            json!({"properties": {"a": {"patternProperties": {}}}}),
            "schema #/properties/a: the keyword \"patternProperties\" is not supported",
        ),
        (json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.nothing"}]}), "undefined field 'nothing'"),
        (json!({"type": "strin"}), "is no type"),
        (json!({"pattern": "("}), "pattern"),
        (json!({"pattern": "(a{1000}){1000}"}), "size"),
        (json!({"required": "a"}), "expected a list"),
        (json!({"minLength": -1}), "expected a count"),
        (json!({"multipleOf": 0}), "positive"),
        (json!({"$ref": "#/$defs/Nothing"}), "nothing is at"),
        (json!({"$ref": "http://example.com/schema"}), "inside the document"),
        (json!({"$ref": "#/$defs/A", "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}]}}}), "refers to itself"),
        (
            json!({"$ref": "#/$defs/A", "$defs": {"A": {"allOf": [{"$ref": "#/$defs/B"}]}, "B": {"allOf": [{"$ref": "#/$defs/A"}]}}}),
            "refers to itself",
        ),
        (json!({"properties": {"a": 3}}), "expected an object or a boolean"),
    ] {
        let error = Validator::compile(&schema).unwrap_err().to_string();
        assert!(error.contains(expected), "{schema}: {error}");
    }
    let mut deep = json!({});
    for _ in 0..150 {
        deep = json!({"items": deep});
    }
    assert!(matches!(Validator::compile(&deep), Err(SchemaError::TooLarge { .. })));
}

#[test]
fn hostile_objects_end_with_bounded_errors() {
    let validator = field(json!({"type": "array", "items": {"type": "string"}}));
    let object = json!({"f": vec![1; 10_000]});
    assert_eq!(validator.validate(&object).len(), ERRORS_MAX);

    let validator = Validator::compile(&json!({
        "type": "object", "properties": {"f": {"$ref": "#/$defs/L"}},
        "$defs": {"L": {"type": "array", "items": {"$ref": "#/$defs/L"}}},
    }))
    .unwrap();
    let mut deep = json!([]);
    for _ in 0..(OBJECT_DEPTH_MAX + 20) {
        deep = json!([deep]);
    }
    let mut object = json!({"f": deep});
    assert!(problems(&validator, &object).iter().any(|problem| problem.ends_with(": Depth")));
    validator.default(&mut object);
    validator.prune(&mut object);
}

#[test]
fn every_object_has_a_type_and_metadata() {
    let validator = field(json!({"type": "string"}));
    check(
        &validator,
        &json!({"apiVersion": "a/v1", "kind": "K", "f": "x",
                "metadata": {"name": "n", "labels": {"a": "b"}, "finalizers": ["x"], "creationTimestamp": null,
                             "managedFields": [{"fieldsV1": {"f:metadata": {}}}]}}),
        &[],
    );
    check(
        &validator,
        &json!({"apiVersion": 1, "metadata": {"nmae": "n", "labels": {"a": 1}, "ownerReferences": [{}]}}),
        &[
            "apiVersion: string, not integer",
            "metadata.labels.a: string, not integer",
            "metadata.nmae: Unknown",
            "metadata.ownerReferences[0].apiVersion: Required",
            "metadata.ownerReferences[0].kind: Required",
            "metadata.ownerReferences[0].name: Required",
            "metadata.ownerReferences[0].uid: Required",
        ],
    );
}

#[test]
fn defaults_fill_what_is_unset() {
    let validator = Validator::compile(&json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "properties": {
            "queue": {"type": "string", "default": "default"},
            "policy": {"type": "object", "default": {}, "properties": {"limit": {"type": "integer", "default": 3}}},
            "debug": {"type": "object", "properties": {"command": {"type": "string", "default": "sh"}}},
            "roles": {"type": "array", "items": {"type": "object", "properties": {"replicas": {"type": "integer", "default": 1}}}},
            "maybe": {"type": "string", "nullable": true, "default": "x"},
        },
    }}}))
    .unwrap();
    let mut object = json!({"spec": {"roles": [{}, {"replicas": 2}], "maybe": null}});
    validator.default(&mut object);
    assert_eq!(
        object,
        json!({"spec": {
            "queue": "default",
            "policy": {"limit": 3},
            "roles": [{"replicas": 1}, {"replicas": 2}],
            "maybe": null,
        }})
    );
    let mut without_spec = json!({});
    validator.default(&mut without_spec);
    assert_eq!(without_spec, json!({}));
}

#[test]
fn pruning_removes_exactly_the_unknown_fields() {
    let validator = Validator::compile(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "a": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"y": {}}}},
            "form": {"type": "object", "oneOf": [
                {"properties": {"one": {"type": "object", "properties": {"p": {}}}}, "required": ["one"]},
                {"properties": {"two": {}}, "required": ["two"]},
            ]},
        }},
    }}))
    .unwrap();
    let mut object = json!({
        "kind": "K", "metadata": {"name": "n", "typo": 1},
        "spec": {
            "a": [{"x": 1, "z": 2}, {}], "b": 1, "free": {"q": {"r": 1}},
            "map": {"k": {"y": {"deep": 1}, "w": 1}},
            "form": {"one": {"p": 1, "q": 2}, "three": 3},
        },
        "status": {},
    });
    let mut removed = validator.prune(&mut object);
    removed.sort();
    assert_eq!(removed, ["metadata.typo", "spec.a[0].z", "spec.b", "spec.form.one.q", "spec.form.three", "spec.map.k.w", "status"],);
    assert_eq!(
        object,
        json!({
            "kind": "K", "metadata": {"name": "n"},
            "spec": {
                "a": [{"x": 1}, {}], "free": {"q": {"r": 1}},
                "map": {"k": {"y": {"deep": 1}}}, "form": {"one": {"p": 1}},
            },
        })
    );
    check(&validator, &object, &[]);
}
