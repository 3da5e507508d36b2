//! Files of JSON: a List of Kubernetes, or its items alone. Items are read one at a time.

use std::ops::ControlFlow;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::rows::Unreadable;

/// What is done with an item, by its place in the list from 1.
type OnItem<'f> = &'f mut dyn FnMut(usize, Value) -> ControlFlow<()>;

/// Reads item after item.
pub(super) fn read(bytes: &[u8], on_item: OnItem<'_>) -> Result<(), Unreadable> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    // The parser's own words may quote the file.
    let malformed = |error: serde_json::Error| {
        let what = if error.is_data() { "expected a List with items, or a list of objects" } else { "it is not JSON" };
        Unreadable::Malformed(format!("{what}, at line {}, column {}", error.line(), error.column()))
    };
    parser.deserialize_any(Items(on_item)).map_err(malformed)?;
    parser.end().map_err(malformed)
}

struct Items<'f>(OnItem<'f>);

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a List with items, or a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "items" && !found {
                found = true;
                map.next_value_seed(Items(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(serde::de::Error::missing_field("items")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(item) = items.next_element::<Value>()? {
            number += 1;
            if (self.0)(number, item).is_break() {
                while items.next_element::<IgnoredAny>()?.is_some() {}
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn items(text: &str) -> Result<Vec<(usize, Value)>, String> {
        let mut found = Vec::new();
        read(text.as_bytes(), &mut |number, item| {
            found.push((number, item));
            ControlFlow::Continue(())
        })
        .map(|()| found)
        .map_err(|error| error.to_string())
    }

    #[test]
    fn lists_are_read_with_and_without_what_is_around_them() {
        let expected = Ok(vec![(1, json!({"a": 1})), (2, json!({"b": 2}))]);
        assert_eq!(items(r#"{"kind":"List","items":[{"a":1},{"b":2}],"metadata":{"x":[1]}}"#), expected);
        assert_eq!(items("\u{feff}[{\"a\":1},{\"b\":2}]"), expected);
        assert_eq!(items("[]"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_list_is_refused_without_being_told() {
        for text in ["", "hunter2", "\"hunter2\"", "{}", "{\"items\":\"hunter2\"}", "[{\"a\":hunter2}]", "[] hunter2", &"[".repeat(100_000)]
        {
            let refused = items(text).expect_err("no list");
            assert!(refused.contains("line") && !refused.contains("hunter2"), "{refused}");
        }
    }
}
