//! JSON patch (RFC 6902), bounded in operations, copied bytes and depth.

use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::{JSON_PATCH_COPIED_BYTES_MAX, JSON_PATCH_OPERATIONS_MAX, PATCH_DEPTH_MAX, PatchError, depth};

pub(super) fn apply(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::malformed("it must be a JSON array of operations"));
    };
    if operations.len() > JSON_PATCH_OPERATIONS_MAX {
        return Err(PatchError::TooLarge {
            detail: format!(
                "the allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, \
                 got {}",
                operations.len()
            ),
        });
    }
    let operations = operations
        .iter()
        .enumerate()
        .map(|(index, operation)| {
            // Why it cannot be read is not repeated: it may quote a value, and values may be secret.
            serde_json::from_value::<PatchOperation>(operation.clone()).map_err(|_| {
                PatchError::malformed(format!(
                    "operation {index}: needs `op` (add, remove, replace, move, copy or test), `path` as a JSON pointer, \
                     and `value` or `from`"
                ))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;

    let mut object = original.clone();
    let mut copied_bytes = 0;
    for (index, operation) in operations.into_iter().enumerate() {
        let (name, path) = describe(&operation);
        let path = path.to_string();
        check_growth(&object, &operation, &path, &mut copied_bytes)?;
        if expects_nothing(&object, &operation) {
            continue;
        }
        json_patch::patch(&mut object, &Patch(vec![operation])).map_err(|error| PatchError::Operation {
            index,
            operation: name,
            path,
            detail: error.kind.to_string(),
        })?;
    }
    if !object.is_object() {
        return Err(PatchError::malformed("it replaces the whole object by something else"));
    }
    Ok(object)
}

/// Whether an operation tests for null where there is nothing. To the RFC that is an error; in
/// Kubernetes it holds, and kube-rs adds the first finalizer of an object only if it does.
fn expects_nothing(object: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let path = test.path.as_str();
    let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    test.value.is_null() && parent.is_some_and(Value::is_object) && object.pointer(path).is_none()
}

fn describe(operation: &PatchOperation) -> (&'static str, &PointerBuf) {
    match operation {
        PatchOperation::Add(add) => ("add", &add.path),
        PatchOperation::Remove(remove) => ("remove", &remove.path),
        PatchOperation::Replace(replace) => ("replace", &replace.path),
        PatchOperation::Move(from_to) => ("move", &from_to.path),
        PatchOperation::Copy(from_to) => ("copy", &from_to.path),
        PatchOperation::Test(test) => ("test", &test.path),
    }
}

/// Refuses an operation after which the object would be too deep, or too much copied. Since each
/// step is checked, the object never becomes deeper than the limit, whatever was done before.
fn check_growth(object: &Value, operation: &PatchOperation, path: &str, copied_bytes: &mut usize) -> Result<(), PatchError> {
    let placed = match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Move(from_to) => object.pointer(from_to.from.as_str()),
        PatchOperation::Copy(from_to) => object.pointer(from_to.from.as_str()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    };
    let Some(placed) = placed else { return Ok(()) };
    let levels_above = path.matches('/').count();
    if levels_above + depth(placed) > PATCH_DEPTH_MAX {
        return Err(PatchError::TooDeep { path: path.to_owned() });
    }
    if let PatchOperation::Copy(_) = operation {
        *copied_bytes += approximate_bytes(placed);
        if *copied_bytes > JSON_PATCH_COPIED_BYTES_MAX {
            return Err(PatchError::TooLarge {
                detail: format!("its copy operations duplicate more than {JSON_PATCH_COPIED_BYTES_MAX} bytes"),
            });
        }
    }
    Ok(())
}

/// About as many bytes as the value has in JSON. The depth of `value` is bounded by the caller.
fn approximate_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| approximate_bytes(item) + 1).sum::<usize>(),
        Value::Object(fields) => 2 + fields.iter().map(|(key, field)| key.len() + 4 + approximate_bytes(field)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MergeStrategy, PatchErrorClass, PatchKind};
    use super::*;
    use serde_json::json;

    fn apply_json(original: &Value, patch: &Value) -> Result<Value, PatchError> {
        super::super::apply(PatchKind::Json, original, patch, &MergeStrategy::UNSUPPORTED)
    }

    #[test]
    fn a_test_for_null_holds_where_there_is_nothing() {
        let original = json!({"metadata": {"name": "a"}});
        let patch = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["x"]},
        ]);
        assert_eq!(apply_json(&original, &patch).unwrap(), json!({"metadata": {"name": "a", "finalizers": ["x"]}}));
        let there = json!({"metadata": {"finalizers": ["y"]}});
        assert!(apply_json(&there, &patch).is_err());
        assert!(apply_json(&original, &json!([{"op": "test", "path": "/spec/a", "value": null}])).is_err());
    }

    #[test]
    fn every_operation_does_what_the_rfc_says() {
        let original = json!({"a": {"b": 1}, "l": [1, 2, 3], "x/y": 1, "m~n": 2});
        for (patch, expected_pointer, expected) in [
            (json!([{"op":"add","path":"/a/c","value":2}]), "/a/c", json!(2)),
            (json!([{"op":"add","path":"/l/-","value":4}]), "/l", json!([1, 2, 3, 4])),
            (json!([{"op":"add","path":"/l/0","value":0}]), "/l", json!([0, 1, 2, 3])),
            (json!([{"op":"remove","path":"/l/1"}]), "/l", json!([1, 3])),
            (json!([{"op":"replace","path":"/a/b","value":{"c":1}}]), "/a", json!({"b":{"c":1}})),
            (json!([{"op":"move","from":"/a/b","path":"/z"}]), "/z", json!(1)),
            (json!([{"op":"copy","from":"/a","path":"/z"}]), "/z", json!({"b": 1})),
            (
                json!([{"op":"test","path":"/x~1y","value":1},
                    {"op":"test","path":"/m~0n","value":2},
                    {"op":"replace","path":"/x~1y","value":3}]),
                "/x~1y",
                json!(3),
            ),
            (json!([]), "/a", json!({"b": 1})),
        ] {
            let result = apply_json(&original, &patch).unwrap();
            assert_eq!(result.pointer(expected_pointer), Some(&expected), "{patch}");
        }
    }

    #[test]
    fn an_operation_that_cannot_be_done_names_itself_and_leaves_422() {
        for (patch, expected) in [
            (json!([{"op":"test","path":"/a","value":2}]), "operation 0 of the patch (test \"/a\")"),
            (json!([{"op":"test","path":"/a","value":1},{"op":"remove","path":"/zz"}]), "operation 1"),
            (json!([{"op":"replace","path":"/b/c","value":1}]), "replace \"/b/c\""),
            (json!([{"op":"add","path":"/a/b/c","value":1}]), "add \"/a/b/c\""),
            (json!([{"op":"copy","from":"/q","path":"/z"}]), "copy \"/z\""),
        ] {
            let error = apply_json(&json!({"a": 1}), &patch).unwrap_err();
            assert_eq!(error.class(), PatchErrorClass::Unprocessable, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_malformed_patch_is_a_bad_request() {
        for patch in [
            json!({}),
            json!([{"op":"frobnicate","path":"/a"}]),
            json!([{"op":"add","path":"a","value":1}]),
            json!([{"op":"add","path":"/a"}]),
            json!([{"path":"/a"}]),
            json!([1]),
            json!([{"op":"replace","path":"","value":[1]}]),
        ] {
            let error = apply_json(&json!({"a": 1}), &patch).unwrap_err();
            assert_eq!(error.class(), PatchErrorClass::BadRequest, "{patch}: {error}");
        }
    }

    #[test]
    fn too_many_operations_are_too_large() {
        let one = json!({"op":"test","path":"/a","value":1});
        let patch = Value::Array(vec![one; JSON_PATCH_OPERATIONS_MAX + 1]);
        let error = apply_json(&json!({"a": 1}), &patch).unwrap_err();
        assert_eq!(error.class(), PatchErrorClass::TooLarge);
    }

    #[test]
    fn doubling_by_copies_ends_early() {
        let doubling = Value::Array((0..64).map(|turn| json!({"op":"copy","from":"/l","path":format!("/l/{turn}")})).collect());
        let flat = Value::Array(
            (0..64)
                .flat_map(|turn| {
                    let (from, to) = (format!("/o/k{turn}"), format!("/o/k{}", turn + 1));
                    [
                        json!({"op":"add","path":to,"value":{}}),
                        json!({"op":"copy","from":from,"path":format!("{to}/a")}),
                        json!({"op":"copy","from":from,"path":format!("{to}/b")}),
                    ]
                })
                .collect(),
        );
        let original = json!({"l": [], "o": {"k0": "x".repeat(1000)}});
        for patch in [doubling, flat] {
            let error = apply_json(&original, &patch).unwrap_err();
            assert!(matches!(error, PatchError::TooLarge { .. } | PatchError::TooDeep { .. }), "{error}");
        }
    }

    #[test]
    fn digging_by_moves_ends_at_the_depth_limit() {
        let patch = Value::Array(
            (0..200)
                .flat_map(|_| {
                    [
                        json!({"op":"copy","from":"/a","path":"/b"}),
                        json!({"op":"replace","path":"/a","value":{}}),
                        json!({"op":"move","from":"/b","path":"/a/b"}),
                    ]
                })
                .collect(),
        );
        let error = apply_json(&json!({"a": {}}), &patch).unwrap_err();
        assert!(matches!(error, PatchError::TooDeep { .. }), "{error}");
    }
}
