//! Patches: the ways a client may describe a change to an object. Server-side apply, which is no
//! change but a claim to fields, is in [`crate::managed_fields`].
//!
//! Everything here is a function of the stored object and the patch; versions, ownership and
//! validation of the result are the caller's. Read [`apply`] first, then
//! [`strategy`] for the tables of merge keys.

mod json;
mod strategic;
mod strategy;
pub mod yaml;

use serde_json::{Map, Value};

use crate::field_path::FieldPath;

pub use strategy::MergeStrategy;

/// A JSON patch with more operations is refused (Kubernetes' own limit).
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// `copy` operations may duplicate at most this many bytes in one patch; a few dozen of them could
/// otherwise double an object until memory ends.
pub const JSON_PATCH_COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// No patch, and no object a patch makes, may be nested more deeply.
pub const PATCH_DEPTH_MAX: usize = 100;

/// The form of a patch, as its content type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902, `application/json-patch+json`
    Json,
    /// RFC 7386, `application/merge-patch+json`
    Merge,
    /// Lists merged by key, `application/strategic-merge-patch+json`; built-in kinds only
    Strategic,
}

impl PatchKind {
    /// The kind for a `Content-Type` header, parameters ignored; none if it is no patch.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            _ => None,
        }
    }
}

/// Why a patch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch does not have the form its content type promises.
    #[error("the patch is malformed: {detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// A JSON patch of more than [`JSON_PATCH_OPERATIONS_MAX`] operations, or one that copies more
    /// than [`JSON_PATCH_COPIED_BYTES_MAX`] bytes.
    #[error("the patch is too large: {detail}")]
    TooLarge {
        /// The amount and the limit.
        detail: String,
    },
    /// The patch, or the object it makes, is nested more deeply than [`PATCH_DEPTH_MAX`].
    #[error("{path}: nested more than {PATCH_DEPTH_MAX} levels deep")]
    TooDeep {
        /// A JSON pointer or field path to the place.
        path: String,
    },
    /// One operation of a JSON patch cannot be done on this object.
    #[error("operation {index} of the patch ({operation} {path:?}) cannot be applied: {detail}")]
    Operation {
        /// Its place in the patch, from 0.
        index: usize,
        /// `add`, `remove`, `replace`, `move`, `copy` or `test`
        operation: &'static str,
        /// Its JSON pointer.
        path: String,
        /// What is in its way.
        detail: String,
    },
    /// A strategic merge patch for a kind that has no table of merge keys.
    #[error(
        "strategic merge patch is for built-in kinds only; send application/merge-patch+json or \
         application/json-patch+json"
    )]
    StrategicUnsupported,
    /// A strategic merge patch holds a `$` key, or a value of one, that means nothing.
    #[error("{path}: {detail}")]
    Directive {
        /// Where the directive stands.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A list is merged by a key that one of its items does not have.
    #[error("{path}: the list is merged by {key:?}, which this item does not have")]
    MergeKeyMissing {
        /// The item.
        path: String,
        /// The merge key.
        key: &'static str,
    },
    /// The items of a list that is merged are not of one type.
    #[error("{path}: expected {expected}")]
    WrongType {
        /// The field.
        path: String,
        /// What belongs there.
        expected: &'static str,
    },
}

/// How the caller should answer a [`PatchError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchErrorClass {
    /// 400: the patch can be applied to no object.
    BadRequest,
    /// 413
    TooLarge,
    /// 415
    UnsupportedMediaType,
    /// 422: the patch cannot be applied to this object.
    Unprocessable,
}

impl PatchError {
    /// How the caller should answer.
    pub fn class(&self) -> PatchErrorClass {
        match self {
            Self::Malformed { .. } | Self::Directive { .. } | Self::MergeKeyMissing { .. } | Self::WrongType { .. } => {
                PatchErrorClass::BadRequest
            }
            Self::TooLarge { .. } => PatchErrorClass::TooLarge,
            Self::StrategicUnsupported => PatchErrorClass::UnsupportedMediaType,
            Self::TooDeep { .. } | Self::Operation { .. } => PatchErrorClass::Unprocessable,
        }
    }

    fn malformed(detail: impl Into<String>) -> Self {
        Self::Malformed { detail: detail.into() }
    }
}

/// The object that `patch` makes of `original`. Nothing is validated but the patch itself: the
/// caller validates the result, and refuses one that changes identity or immutable fields.
///
/// `strategy` is used by [`PatchKind::Strategic`]; get it from [`MergeStrategy::for_kind`].
pub fn apply(kind: PatchKind, original: &Value, patch: &Value, strategy: &MergeStrategy) -> Result<Value, PatchError> {
    check_depth(patch)?;
    if kind == PatchKind::Json {
        return json::apply(original, patch);
    }
    let Value::Object(patch) = patch else {
        return Err(PatchError::malformed("it must be a JSON object"));
    };
    let mut object = match original {
        Value::Object(object) => object.clone(),
        _ => Map::new(),
    };
    match kind {
        PatchKind::Json | PatchKind::Merge => merge(&mut object, patch),
        PatchKind::Strategic => {
            let rules = strategy.rules().ok_or(PatchError::StrategicUnsupported)?;
            strategic::merge(&mut object, patch, rules)?;
        }
    }
    Ok(Value::Object(object))
}

/// RFC 7386. Recursion is bounded by [`check_depth`] on the patch.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, change) in patch {
        match change {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(change) => {
                let place = target.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                if let Value::Object(inner) = place {
                    merge(inner, change);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

/// How deep `value` is nested: 0 for a scalar, 1 for an empty list. Does not recurse.
fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, level)) = open.pop() {
        deepest = deepest.max(level);
        match value {
            Value::Array(items) => {
                deepest = deepest.max(level + 1);
                open.extend(items.iter().map(|item| (item, level + 1)));
            }
            Value::Object(fields) => {
                deepest = deepest.max(level + 1);
                open.extend(fields.values().map(|field| (field, level + 1)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    deepest
}

fn check_depth(patch: &Value) -> Result<(), PatchError> {
    if depth(patch) > PATCH_DEPTH_MAX {
        return Err(PatchError::TooDeep { path: FieldPath::default().to_string() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_patch_follows_the_table_of_rfc_7386() {
        // The appendix's cases that concern objects, and one of nested removal.
        for (original, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
            (json!({"a":"x"}), json!({"a":{"b":1,"c":null}}), json!({"a":{"b":1}})),
        ] {
            let result = apply(PatchKind::Merge, &original, &patch, &MergeStrategy::UNSUPPORTED);
            assert_eq!(result, Ok(expected), "{original} + {patch}");
        }
    }

    #[test]
    fn a_merge_patch_must_be_an_object() {
        for patch in [json!([1]), json!("x"), json!(null), json!(3)] {
            for kind in [PatchKind::Merge, PatchKind::Strategic] {
                let error = apply(kind, &json!({}), &patch, &MergeStrategy::for_kind("", "Pod"));
                assert_eq!(error.unwrap_err().class(), PatchErrorClass::BadRequest);
            }
        }
    }

    #[test]
    fn a_bottomless_patch_is_refused() {
        let mut patch = json!({});
        for _ in 0..PATCH_DEPTH_MAX {
            patch = json!({"a": patch});
        }
        for kind in [PatchKind::Merge, PatchKind::Strategic] {
            let error = apply(kind, &json!({}), &patch, &MergeStrategy::for_kind("", "Pod"));
            assert!(matches!(error, Err(PatchError::TooDeep { .. })));
        }
    }

    #[test]
    fn the_content_type_names_the_kind() {
        for (content_type, kind) in [
            ("application/json-patch+json", Some(PatchKind::Json)),
            ("application/merge-patch+json; charset=utf-8", Some(PatchKind::Merge)),
            ("Application/Strategic-Merge-Patch+JSON", Some(PatchKind::Strategic)),
            ("application/apply-patch+yaml", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(PatchKind::from_content_type(content_type), kind, "{content_type}");
        }
    }

    #[test]
    fn own_kinds_refuse_strategic_patches_as_an_unsupported_media_type() {
        let strategy = MergeStrategy::for_kind("ai.fermion.dev", "TrainingJob");
        let error = apply(PatchKind::Strategic, &json!({}), &json!({}), &strategy).unwrap_err();
        assert_eq!(error.class(), PatchErrorClass::UnsupportedMediaType);
    }
}
