//! Patches: whatever is sent, the result is bounded and what the standards say.

use fermion_apiserver::patch::{JSON_PATCH_COPIED_BYTES_MAX, MergeStrategy, PATCH_DEPTH_MAX, PatchKind, apply};
use serde_json::{Map, Value, json};

use crate::input::Input;

/// Names that mean something to one of the patches.
const NAMES: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "labels",
    "name",
    "finalizers",
    "ownerReferences",
    "uid",
    "containers",
    "env",
    "ports",
    "containerPort",
    "protocol",
    "port",
    "volumes",
    "ephemeral",
    "conditions",
    "type",
    "podCIDRs",
    "a",
    "b",
    "",
    "a/b",
    "m~n",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$setElementOrder/finalizers",
    "$deleteFromPrimitiveList/finalizers",
    "delete",
    "replace",
    "merge",
];

/// Kinds with lists that are merged.
const KINDS: &[&str] = &["Pod", "Service", "Node", "ConfigMap"];

/// Operations in one JSON patch.
const OPERATIONS_MAX: usize = 9;

/// A character of a text takes at most so many in JSON.
const ESCAPED_MAX: usize = 6;

pub(crate) fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.below(3) {
        0 => json(&mut input),
        1 => merge(&mut input),
        _ => strategic(&mut input),
    }
}

/// RFC 7386 as its text has it, line by line.
fn rfc_7386(target: Option<Value>, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = match target {
        Some(Value::Object(target)) => target,
        _ => Map::new(),
    };
    for (name, value) in patch {
        let before = target.remove(name);
        if !value.is_null() {
            target.insert(name.clone(), rfc_7386(before, value));
        }
    }
    Value::Object(target)
}

fn merge(input: &mut Input<'_>) {
    let original = Value::Object(input.object(NAMES));
    let patch = Value::Object(input.object(NAMES));
    let about = format!("{original} + {patch}");
    let made = apply(PatchKind::Merge, &original, &patch, &MergeStrategy::UNSUPPORTED).expect(&about);
    assert_eq!(made, rfc_7386(Some(original.clone()), &patch), "{about}");
    assert_eq!(apply(PatchKind::Merge, &made, &patch, &MergeStrategy::UNSUPPORTED), Ok(made.clone()), "twice is once: {about}");
    bounded(&original, &patch, &made, 0);
}

fn strategic(input: &mut Input<'_>) {
    let strategy = MergeStrategy::for_kind("", input.pick(KINDS));
    let original = Value::Object(input.object(NAMES));
    let patch = Value::Object(input.object(NAMES));
    let about = format!("{original} + {patch}");
    let Ok(made) = apply(PatchKind::Strategic, &original, &patch, &strategy) else { return };
    bounded(&original, &patch, &made, 0);
    assert!(!says_more(&original, &made), "a directive was stored: {about}");
    if is_plain(&patch) {
        assert_eq!(made, rfc_7386(Some(original), &patch), "without lists and directives it is a merge patch: {about}");
    }
    let again = apply(PatchKind::Strategic, &made, &patch, &strategy);
    assert_eq!(again, Ok(made), "twice is once: {about}");
}

/// Whether a patch has neither lists nor directives.
fn is_plain(patch: &Value) -> bool {
    match patch {
        Value::Object(fields) => fields.iter().all(|(name, value)| !name.starts_with('$') && is_plain(value)),
        Value::Array(_) => false,
        _ => true,
    }
}

/// Whether there are directives in the object that was made, and none in the one before.
fn says_more(before: &Value, made: &Value) -> bool {
    fn has_directive(value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.iter().any(|(name, value)| name.starts_with('$') || has_directive(value)),
            Value::Array(items) => items.iter().any(has_directive),
            _ => false,
        }
    }
    has_directive(made) && !has_directive(before)
}

fn json(input: &mut Input<'_>) {
    let original = Value::Object(input.object(NAMES));
    add_and_remove(input, &original);
    let count = input.below(OPERATIONS_MAX);
    let operations: Vec<Value> = (0..count).map(|_| operation(input, &original)).collect();
    let patch = Value::Array(operations.clone());
    let Ok(made) = apply(PatchKind::Json, &original, &patch, &MergeStrategy::UNSUPPORTED) else { return };
    bounded(&original, &patch, &made, ESCAPED_MAX * JSON_PATCH_COPIED_BYTES_MAX);
    assert!(made.is_object(), "{original} + {patch}");
    // One by one they come to the same, unless the object is for a moment none.
    let mut steps = original.clone();
    for operation in &operations {
        match apply(PatchKind::Json, &steps, &json!([operation]), &MergeStrategy::UNSUPPORTED) {
            Ok(next) => steps = next,
            Err(error) => {
                assert!(operations.iter().any(|operation| operation["path"] == ""), "{original} + {patch}: {operation}: {error}");
                return;
            }
        }
        if operation["op"] == "test" {
            assert_eq!(apply(PatchKind::Json, &steps, &json!([operation]), &MergeStrategy::UNSUPPORTED), Ok(steps.clone()));
        }
    }
    assert_eq!(made, steps, "{original} + {patch}");
}

/// What is added and then removed was never there.
fn add_and_remove(input: &mut Input<'_>, original: &Value) {
    let mut path = pointer(input, original);
    let value = input.json(NAMES);
    match original.pointer(&path) {
        Some(Value::Object(_)) => path.push_str("/never~1there~0"),
        Some(Value::Array(items)) => path.extend(["/", &input.below(items.len() + 1).to_string()]),
        _ => return,
    }
    let patch = json!([{"op": "add", "path": path, "value": value}, {"op": "remove", "path": path}]);
    let made = apply(PatchKind::Json, original, &patch, &MergeStrategy::UNSUPPORTED);
    assert_eq!(made.as_ref(), Ok(original), "{original} + {patch}");
}

fn operation(input: &mut Input<'_>, original: &Value) -> Value {
    if input.once_in(16) {
        return input.json(&["op", "path", "from", "value", "add", "remove"]);
    }
    let op = input.pick(&["add", "remove", "replace", "move", "copy", "test"]);
    let mut operation = json!({"op": op, "path": pointer(input, original)});
    match op {
        "move" | "copy" => operation["from"] = pointer(input, original).into(),
        "add" | "replace" => operation["value"] = input.json(NAMES),
        "test" => {
            let there = operation["path"].as_str().and_then(|path| original.pointer(path)).cloned();
            operation["value"] = if input.once_in(3) { input.json(NAMES) } else { there.unwrap_or_default() };
        }
        _ => {}
    }
    operation
}

/// A JSON pointer, mostly to something that is there.
fn pointer(input: &mut Input<'_>, root: &Value) -> String {
    let mut path = String::new();
    let mut place = Some(root);
    for _ in 0..input.below(6) {
        let name = match place {
            Some(Value::Object(fields)) if !fields.is_empty() && !input.once_in(4) => {
                fields.keys().nth(input.below(fields.len())).cloned().unwrap_or_default()
            }
            Some(Value::Array(items)) if !items.is_empty() && !input.once_in(4) => input.below(items.len()).to_string(),
            Some(Value::Array(_)) => input.pick(&["-", "0", "7", "00", "+1", "a"]).to_owned(),
            _ => input.pick(NAMES).to_owned(),
        };
        let token = name.replace('~', "~0").replace('/', "~1");
        path.push('/');
        path.push_str(&token);
        place = place.and_then(|value| match value {
            Value::Object(fields) => fields.get(&name),
            Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        });
    }
    path
}

fn bounded(original: &Value, patch: &Value, made: &Value, room: usize) {
    let (before, sent, after) = (original.to_string().len(), patch.to_string().len(), made.to_string().len());
    assert!(after <= before + sent + room, "{before} and {sent} bytes made {after}: {original} + {patch}");
    assert!(depth(made) <= depth(original).max(PATCH_DEPTH_MAX), "{original} + {patch}");
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
