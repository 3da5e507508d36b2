//! One step of a path into an object, in the encoding of `FieldsV1`.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

/// One step of a path: a field, an item of a list by its keys, by its value or by its place.
///
/// It is kept as `FieldsV1` writes it, in one canonical form, so that equal steps are equal
/// texts: `f:NAME`, `k:{"KEY":VALUE,…}` with the keys in order, `v:VALUE`, `i:PLACE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathElement(Box<str>);

/// Why a text is no path element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// It starts with a word that means nothing here; such elements are skipped, as in Kubernetes.
    #[error("{text:?} is not a kind of path element; they start with f:, k:, v: or i:")]
    Unknown {
        /// The element.
        text: String,
    },
    /// What follows the first two letters is not what they promise.
    #[error("{text:?} is not a path element: {detail}")]
    Malformed {
        /// The element.
        text: String,
        /// What is wrong with it.
        detail: String,
    },
}

const FIELD: &str = "f:";
const KEY: &str = "k:";
const VALUE: &str = "v:";
const INDEX: &str = "i:";

impl PathElement {
    /// A field of an object, or an entry of a map.
    pub fn field(name: &str) -> Self {
        Self([FIELD, name].concat().into())
    }

    /// The item of a list whose keys have these values.
    pub fn key<'a>(keys: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by_key(|(name, _)| *name);
        let mut text = KEY.to_owned() + "{";
        for (place, (name, value)) in keys.iter().enumerate() {
            if place > 0 {
                text.push(',');
            }
            text.push_str(&Value::from(*name).to_string());
            text.push(':');
            text.push_str(&value.to_string());
        }
        text.push('}');
        Self(text.into())
    }

    /// The item of a set that is this value.
    pub fn value(value: &Value) -> Self {
        Self([VALUE, &value.to_string()].concat().into())
    }

    /// Reads one as `FieldsV1` writes it.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, ElementError> {
        let malformed = |detail: &str| ElementError::Malformed { text: text.to_owned(), detail: detail.to_owned() };
        let Some((prefix, rest)) = text.split_at_checked(2) else {
            return Err(ElementError::Unknown { text: text.to_owned() });
        };
        match prefix {
            FIELD => Ok(Self(text.into())),
            KEY => {
                let keys: Map<String, Value> = serde_json::from_str(rest).map_err(|_| malformed("expected a JSON object"))?;
                if keys.is_empty() {
                    return Err(malformed("expected at least one key"));
                }
                Ok(Self::key(keys.iter().map(|(name, value)| (name.as_str(), value.clone()))))
            }
            VALUE => {
                let value: Value = serde_json::from_str(rest).map_err(|_| malformed("expected JSON"))?;
                Ok(Self::value(&value))
            }
            INDEX => {
                let place: u64 = rest.parse().map_err(|_| malformed("expected a whole number"))?;
                Ok(Self(format!("{INDEX}{place}").into()))
            }
            _ => Err(ElementError::Unknown { text: text.to_owned() }),
        }
    }

    /// As `FieldsV1` writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn into_string(self) -> String {
        self.0.into_string()
    }

    /// The name, if it is a field.
    pub fn field_name(&self) -> Option<&str> {
        self.0.strip_prefix(FIELD)
    }

    /// Where the field of that name stands relative to this element in their order.
    pub(super) fn cmp_field(&self, name: &str) -> Ordering {
        let (prefix, rest) = self.0.as_bytes().split_at(FIELD.len());
        prefix.cmp(FIELD.as_bytes()).then_with(|| rest.cmp(name.as_bytes()))
    }
}

/// As messages write it: `.replicas`, `[name="main"]`, `[="a"]`, `[0]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, rest) = self.0.split_at(FIELD.len());
        match prefix {
            FIELD => write!(f, ".{rest}"),
            KEY => {
                let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                f.write_str("[")?;
                for (place, (name, value)) in keys.iter().enumerate() {
                    let comma = if place > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            VALUE => write!(f, "[={rest}]"),
            _ => write!(f, "[{rest}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_are_read_into_one_form() {
        for (text, canonical, shown) in [
            ("f:replicas", "f:replicas", ".replicas"),
            ("f:nvidia.com/gpu", "f:nvidia.com/gpu", ".nvidia.com/gpu"),
            ("f:", "f:", "."),
            (r#"k:{"name":"main"}"#, r#"k:{"name":"main"}"#, r#"[name="main"]"#),
            (
                r#"k:{ "protocol": "TCP", "containerPort": 80 }"#,
                r#"k:{"containerPort":80,"protocol":"TCP"}"#,
                r#"[containerPort=80,protocol="TCP"]"#,
            ),
            (r#"v:"a b""#, r#"v:"a b""#, r#"[="a b"]"#),
            ("v:1", "v:1", "[=1]"),
            ("i:07", "i:7", "[7]"),
        ] {
            let element = PathElement::parse(text).expect(text);
            assert_eq!((element.as_str(), element.to_string().as_str()), (canonical, shown));
        }
        assert_eq!(PathElement::key([("b", json!(1)), ("a", json!("x"))]).as_str(), r#"k:{"a":"x","b":1}"#);
    }

    #[test]
    fn what_is_no_element_is_refused() {
        for text in ["", "x", "é", "x:1"] {
            assert!(matches!(PathElement::parse(text), Err(ElementError::Unknown { .. })), "{text}");
        }
        for text in ["k:{}", "k:[]", "k:name", "v:", "v:{", "i:", "i:-1", "i:one"] {
            assert!(matches!(PathElement::parse(text), Err(ElementError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn a_name_is_compared_like_its_element() {
        for text in ["f:a", "f:b", "f:", "k:{\"a\":1}", "v:1", "i:0"] {
            let element = PathElement::parse(text).expect(text);
            for name in ["", "a", "ab", "b"] {
                assert_eq!(element.cmp_field(name), element.cmp(&PathElement::field(name)), "{text} and {name}");
            }
        }
    }
}
