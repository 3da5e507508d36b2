//! JSON that tells which of its fields are given twice.
//!
//! To a parser of JSON the last one counts, and the others are gone in silence: half of what
//! somebody wrote. So they are noted while the text is read, in the same pass, and the client is
//! warned or refused as it asks (`fieldValidation`).

use std::cell::RefCell;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// The most fields that are told of one body, as in Kubernetes.
const TOLD_MAX: usize = 100;
/// The longest path that is told, in bytes; what follows is cut off.
const PATH_BYTES_MAX: usize = 256;

/// A value of JSON and the paths of fields that are given more than once in it, such as
/// `spec.containers[0].image`. Of such a field the last value counts.
///
/// # Errors
/// Those of the parser, which bounds the depth.
pub(crate) fn read(text: &[u8]) -> serde_json::Result<(Value, Vec<String>)> {
    let told = RefCell::new(Vec::new());
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = Node { place: Place::Root, told: &told }.deserialize(&mut parser)?;
    parser.end()?;
    Ok((value, told.into_inner()))
}

/// Where a value stands: a path that is written only when it has to be told.
#[derive(Clone, Copy)]
enum Place<'p> {
    Root,
    Field(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Reads a value.
struct Node<'p> {
    place: Place<'p>,
    told: &'p RefCell<Vec<String>>,
}

impl Node<'_> {
    fn tell(&self, name: &str) {
        let mut told = self.told.borrow_mut();
        if told.len() < TOLD_MAX {
            let mut path = Cut(String::new());
            // It fails when the path is as long as it may be.
            let _full = write!(path, "{}", Place::Field(&self.place, name));
            told.push(path.0);
        }
    }
}

/// A text that takes no more than [`PATH_BYTES_MAX`].
struct Cut(String);

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = PATH_BYTES_MAX - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
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
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Node { place: Place::Item(&self.place, list.len()), told: self.told })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Node { place: Place::Field(&self.place, &name), told: self.told })?;
            match fields.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(mut entry) => {
                    self.tell(entry.key());
                    entry.insert(value);
                }
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_are_given_twice_are_told_with_their_path() {
        let text = br#"{"a": 1, "b": [{"c": 1, "d": {"e": 1, "e": 2}, "c": 2}], "a": {"x": null}}"#;
        let (value, told) = read(text).expect("JSON");
        assert_eq!(value, json!({"a": {"x": null}, "b": [{"c": 2, "d": {"e": 2}}]}), "the last one counts");
        assert_eq!(told, ["b[0].d.e", "b[0].c", "a"]);
        // However it is written.
        assert_eq!(read(br#"{"a": 1, "\u0061": 2}"#).expect("JSON").1, ["a"]);
        assert_eq!(read(br#"{"a": {"b": 1}, "b": 1}"#).expect("JSON").1, Vec::<String>::new());
    }

    #[test]
    fn what_is_told_has_bounds() {
        let many = format!("{{{}\"a\":0}}", "\"a\":0,".repeat(1000));
        assert_eq!(read(many.as_bytes()).expect("JSON").1.len(), TOLD_MAX);
        let name = "\u{e4}".repeat(100_000);
        let long = format!("{{\"{name}\":{{\"{name}\":0,\"{name}\":0}}}}");
        let told = read(long.as_bytes()).expect("JSON").1;
        assert_eq!(told.len(), 1);
        assert!(told[0].len() <= PATH_BYTES_MAX && name.starts_with(&told[0]), "{}", told[0]);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,5}", inner, 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_are_those_of_the_parser(value in any_json()) {
            let text = value.to_string();
            let parsed: Value = serde_json::from_str(&text).expect("it was written as JSON");
            prop_assert_eq!(read(text.as_bytes()).expect("it was written as JSON"), (parsed, Vec::new()));
        }

        #[test]
        fn errors_are_those_of_the_parser(text in "[\\[\\]{}\",:a0-9. ]{0,12}") {
            let ours = read(text.as_bytes()).map(|(value, _)| value).map_err(|error| error.to_string());
            let theirs = serde_json::from_str::<Value>(&text).map_err(|error| error.to_string());
            prop_assert_eq!(ours, theirs);
        }
    }
}
