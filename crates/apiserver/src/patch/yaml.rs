//! Bodies in YAML, of which JSON is a part: every apply, and whatever says so.
//!
//! YAML can say much with few bytes: aliases repeat what was written once. So what a document
//! comes to is counted while it is read, and bounded.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::PATCH_DEPTH_MAX;
use crate::request::duplicate_fields;

/// YAML documents that are longer are refused; JSON may be as long as a request. The reader of
/// YAML takes a microsecond and some hundred bytes for each bracket of a document, before its
/// depth is seen.
pub const YAML_BYTES_MAX: usize = 256 * 1024;

/// What a YAML document may come to when its aliases are followed: bytes of texts and names, and
/// one for each value.
pub const YAML_EXPANDED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is not one YAML document, or comes to more than it may.
    #[error("error decoding YAML: {detail}")]
    Malformed {
        /// Where and what.
        detail: String,
    },
    /// Longer than [`YAML_BYTES_MAX`].
    #[error("YAML of more than {YAML_BYTES_MAX} bytes is not read; send it as JSON")]
    TooLarge,
}

/// Reads one document as the JSON it stands for.
///
/// # Errors
/// When it is none, has a key twice, or is larger or deeper than the bounds here.
pub fn parse(body: &[u8]) -> Result<Value, YamlError> {
    // What clients mostly send. A JSON reader is also the faster one.
    if let Ok((value, twice)) = duplicate_fields::read(body) {
        return match twice.first() {
            None => Ok(value),
            Some(path) => Err(YamlError::Malformed { detail: format!("key {path:?} already set in map") }),
        };
    }
    if body.len() > YAML_BYTES_MAX {
        return Err(YamlError::TooLarge);
    }
    let left = Cell::new(YAML_EXPANDED_BYTES_MAX);
    Node { left: &left, depth: 0 }
        .deserialize(serde_yaml::Deserializer::from_slice(body))
        .map_err(|error| YamlError::Malformed { detail: error.to_string() })
}

/// Reads a value.
#[derive(Clone, Copy)]
struct Node<'b> {
    /// How much the document may still come to.
    left: &'b Cell<usize>,
    depth: usize,
}

impl Node<'_> {
    fn spend<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        match self.left.get().checked_sub(bytes.saturating_add(1)) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom(format!("it comes to more than {YAML_EXPANDED_BYTES_MAX} bytes"))),
        }
    }

    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= PATCH_DEPTH_MAX {
            return Err(E::custom(format!("nested more than {PATCH_DEPTH_MAX} levels deep")));
        }
        Ok(Self { left: self.left, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        let number = serde_json::Number::from_f64(value).ok_or_else(|| E::custom("a number of JSON is finite"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(value.into())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(inner)? {
            let key = match key {
                Value::String(key) => key,
                // Names that YAML takes for something else, such as `80:` or `true:`.
                key @ (Value::Number(_) | Value::Bool(_)) => key.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return Err(A::Error::custom("a name must be a text")),
            };
            let value = entries.next_value_seed(inner)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("key {key:?} already set in map")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_and_json_come_to_the_same() {
        let expected = json!({"a": 1, "b": [true, null, "x", 1.5, -2], "80": {"c": "yes"}});
        for text in [
            "a: 1\nb: [true, null, x, 1.5, -2]\n80: {c: yes}\n",
            "---\na: 1\nb:\n- true\n- ~\n- 'x'\n- 1.5\n- -2\n'80':\n  c: \"yes\"\n",
            "{\"a\": 1, \"b\": [true, null, \"x\", 1.5, -2], \"80\": {\"c\": \"yes\"}}",
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(expected.clone()), "{text}");
        }
        assert_eq!(parse(b"a: &x {b: 1}\nc: *x\n"), Ok(json!({"a": {"b": 1}, "c": {"b": 1}})));
    }

    #[test]
    fn what_is_not_one_document_is_refused() {
        for text in [
            "a: 1\na: 2\n",
            "a: 1\n---\nb: 2\n",
            "[a]: 1\n",
            "a: .inf\n",
            "a: [",
            "a: *x\n",
            "a: !t x\n",
            "\u{0}",
            "a: 'x",
            "{\"a\": 1, \"a\": 2}",
        ] {
            assert!(matches!(parse(text.as_bytes()), Err(YamlError::Malformed { .. })), "{text}");
        }
        assert!(matches!(parse(b"\xff\xfe"), Err(YamlError::Malformed { .. })));
    }

    #[test]
    fn documents_that_grow_are_refused() {
        // A billion from nine lines.
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            writeln!(bomb, "a{level}: &a{level} [{}]", vec![alias; 10].join(", ")).expect("a text takes anything");
        }
        let long = "x".repeat(100_000);
        let copies = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 1000].join(", "));
        let deep = "[".repeat(200) + &"]".repeat(200);
        let deep_block: String = (0..200).map(|level| " ".repeat(level) + "a:\n").collect();
        for text in [&bomb, &copies, &deep, &deep_block] {
            assert!(matches!(parse(text.as_bytes()), Err(YamlError::Malformed { .. })), "{}", &text[..40]);
        }
        let large = format!("a: '{}'\n", "x".repeat(YAML_BYTES_MAX));
        assert_eq!(parse(large.as_bytes()), Err(YamlError::TooLarge));
    }
}
