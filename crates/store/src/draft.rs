//! Objects serialised once, by the caller, before their revision is known.

use bytes::Bytes;
use serde_json::{Map, Value};

/// The longest decimal `u64`.
const REVISION_DIGITS_MAX: usize = 20;

/// JSON text of an object with a gap where `metadata.resourceVersion` goes.
///
/// The revision is known only inside the writer, of which there is one; serialising is the bulk of the
/// work of a small write. So callers do it in parallel and the writer only fills the gap.
#[derive(Debug)]
pub(crate) struct Draft {
    text: Vec<u8>,
    gap_at: usize,
}

impl Draft {
    /// Refuses, with the reason, what has no `metadata` object.
    pub(crate) fn new(object: Value) -> Result<Self, &'static str> {
        let Value::Object(mut object) = object else {
            return Err("it is not a JSON object");
        };
        let Some(Value::Object(metadata)) = object.get_mut("metadata") else {
            return Err("it has no metadata object");
        };
        metadata.insert("resourceVersion".to_owned(), Value::Null);

        let mut text = Vec::with_capacity(1024);
        let mut gap_at = 0;
        write_map(&mut text, &object, |text, key, value| match (key, value) {
            ("metadata", Value::Object(metadata)) => {
                write_map(text, metadata, |text, key, value| {
                    if key == "resourceVersion" {
                        text.push(b'"');
                        gap_at = text.len();
                        text.push(b'"');
                    } else {
                        write_value(text, value);
                    }
                });
            }
            _ => write_value(text, value),
        });
        Ok(Self { text, gap_at })
    }

    /// Bytes of the text, within [`REVISION_DIGITS_MAX`].
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The object's text at a revision.
    pub(crate) fn at_revision(&self, revision: u64) -> Bytes {
        let mut text = Vec::with_capacity(self.text.len() + REVISION_DIGITS_MAX);
        let (before, after) = self.text.split_at(self.gap_at);
        text.extend_from_slice(before);
        text.extend_from_slice(revision.to_string().as_bytes());
        text.extend_from_slice(after);
        Bytes::from(text)
    }
}

fn write_map(text: &mut Vec<u8>, map: &Map<String, Value>, mut write: impl FnMut(&mut Vec<u8>, &str, &Value)) {
    text.push(b'{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, key).expect("a string serialises into memory");
        text.push(b':');
        write(text, key, value);
    }
    text.push(b'}');
}

fn write_value(text: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(text, value).expect("a JSON value serialises into memory");
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parsed(object: &Value, revision: u64) -> Value {
        serde_json::from_slice(&Draft::new(object.clone()).unwrap().at_revision(revision)).unwrap()
    }

    #[test]
    fn revision_replaces_whatever_the_caller_put_there() {
        for given in [json!(null), json!("7"), json!({"metadata": {"resourceVersion": 1}})] {
            let object = json!({"metadata": {"name": "a", "resourceVersion": given}, "z": [1]});
            assert_eq!(parsed(&object, u64::MAX), json!({"metadata": {"name": "a", "resourceVersion": u64::MAX.to_string()}, "z": [1]}));
        }
    }

    #[test]
    fn only_the_metadata_of_the_object_itself_is_touched() {
        let inner = json!({"metadata": {"resourceVersion": "x"}, "resourceVersion": "y"});
        let object = json!({"metadata": {}, "spec": {"template": inner}, "resourceVersion": "z"});
        let parsed = parsed(&object, 5);
        assert_eq!(parsed["metadata"], json!({"resourceVersion": "5"}));
        assert_eq!(parsed["spec"]["template"], inner);
        assert_eq!(parsed["resourceVersion"], "z");
    }

    #[test]
    fn what_has_no_metadata_is_refused() {
        for object in [json!([]), json!("a"), json!({}), json!({"metadata": []})] {
            assert!(Draft::new(object).is_err());
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_says_what_the_value_said(spec in any_json(), label in any_json(), revision: u64) {
            let mut object = json!({"metadata": {"label": label}, "spec": spec});
            let parsed = parsed(&object, revision);
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            prop_assert_eq!(parsed, object);
        }
    }
}
