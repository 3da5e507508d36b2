//! One value of a table file, and how a field's value is written as one and read from one.
//!
//! What is written is read as the same value again. To that end a text stands as it is unless it
//! could be taken for something else or be changed on its way: then it stands as a JSON string, in
//! quotes. That is so for the empty text (an empty cell means that there is no such field), for texts
//! that begin with a quote or a `#` (which begins a comment), that have blanks around them, or that
//! hold characters which XML or line ends of another system would change.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

use crate::schema::outline::Shape;

/// One value of a table file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Empty,
    Text(String),
    Number(Number),
    Boolean(bool),
}

/// The largest whole number that a spreadsheet, which knows only 64-bit floats, keeps exactly: 2^53.
pub(super) const EXACT_INTEGER_MAX: u64 = 1 << 53;

impl Cell {
    /// A text as it is shown, for columns that are not read again.
    pub(super) fn shown(value: &Value) -> Self {
        match value {
            Value::Null => Self::Empty,
            Value::Bool(flag) => Self::Boolean(*flag),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(text) if text.is_empty() => Self::Empty,
            Value::String(text) => Self::Text(written_text(text)),
            Value::Array(_) | Value::Object(_) => Self::Text(written_json(value)),
        }
    }

    /// How a field of that shape is written. Null is the same as no field.
    pub(super) fn of(shape: Shape, value: &Value) -> Self {
        match (shape, value) {
            (_, Value::Null) => Self::Empty,
            (Shape::Text | Shape::Quantity, Value::String(text)) => Self::Text(written_text(text)),
            // A text that would be read as a number stands in quotes.
            (Shape::IntegerOrText, Value::String(text)) if text.trim().parse::<Number>().is_ok() => Self::Text(written_json(value)),
            (Shape::IntegerOrText, Value::String(text)) => Self::Text(written_text(text)),
            (Shape::TextMap, Value::Object(map)) => Self::Text(pairs(map).unwrap_or_else(|| written_json(value))),
            (_, Value::Bool(flag)) => Self::Boolean(*flag),
            (_, Value::Number(number)) => Self::Number(number.clone()),
            (_, Value::String(_) | Value::Array(_) | Value::Object(_)) => Self::Text(written_json(value)),
        }
    }

    /// The value that a field of that shape has; none if there is no field. An error says what is
    /// expected and never holds what stands in the cell: it may be a secret.
    pub(super) fn read(&self, shape: Shape) -> Result<Option<Value>, String> {
        if *self == Self::Empty {
            return Ok(None);
        }
        let value = match shape {
            Shape::Text | Shape::Quantity => Value::String(self.as_text()),
            Shape::Integer => self.as_integer().ok_or("expected a whole number")?,
            Shape::Number => self.as_number().ok_or("expected a number")?,
            Shape::Boolean => self.as_boolean().ok_or("expected true or false")?,
            Shape::IntegerOrText => self.as_integer().unwrap_or_else(|| Value::String(self.as_text())),
            Shape::TextMap => self.as_map()?,
            Shape::TextList => self.as_list()?,
            Shape::Json => match self {
                Self::Text(text) => parse(text)?,
                Self::Number(number) => Value::Number(number.clone()),
                Self::Boolean(flag) => Value::Bool(*flag),
                Self::Empty => return Ok(None),
            },
        };
        Ok(Some(value))
    }

    /// Whether the row that begins with this cell is a comment.
    pub(super) fn is_comment(&self) -> bool {
        matches!(self, Self::Text(text) if text.starts_with('#'))
    }

    /// What stands in the cell as text.
    pub(super) fn as_text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) if text.starts_with('"') => serde_json::from_str(text).unwrap_or_else(|_| text.clone()),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
        }
    }

    fn as_integer(&self) -> Option<Value> {
        let number = match self {
            Self::Number(number) => number.clone(),
            Self::Text(text) => text.trim().parse().ok()?,
            Self::Empty | Self::Boolean(_) => return None,
        };
        if !number.is_f64() {
            return Some(Value::Number(number));
        }
        // Spreadsheets write whole numbers as floats.
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() <= EXACT_INTEGER_MAX as f64).then(|| Value::from(float as i64))
    }

    fn as_number(&self) -> Option<Value> {
        match self {
            Self::Number(number) => Some(Value::Number(number.clone())),
            Self::Text(text) => text.trim().parse().ok().map(Value::Number),
            Self::Empty | Self::Boolean(_) => None,
        }
    }

    fn as_boolean(&self) -> Option<Value> {
        match self {
            Self::Boolean(flag) => Some(Value::Bool(*flag)),
            Self::Text(text) if text.trim().eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
            Self::Text(text) if text.trim().eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
            Self::Empty | Self::Text(_) | Self::Number(_) => None,
        }
    }

    /// `a=b, c=d`, or JSON.
    fn as_map(&self) -> Result<Value, String> {
        let text = self.as_text();
        if text.trim_start().starts_with('{') {
            return parse(&text);
        }
        let mut map = Map::new();
        for pair in text.split([',', '\n']).map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("expected pairs such as a=b, c=d, or a JSON object")?;
            if map.insert(name.trim().to_owned(), value.trim().into()).is_some() {
                return Err("expected every name once".to_owned());
            }
        }
        Ok(Value::Object(map))
    }

    /// `a, b`, or JSON.
    fn as_list(&self) -> Result<Value, String> {
        let text = self.as_text();
        if text.trim_start().starts_with('[') {
            return parse(&text);
        }
        let items = text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty());
        Ok(Value::Array(items.map(Value::from).collect()))
    }
}

fn parse(text: &str) -> Result<Value, String> {
    // The parser's own words may quote the text.
    serde_json::from_str(text).map_err(|error| format!("expected JSON; it breaks off in line {}, column {}", error.line(), error.column()))
}

fn is_changed_on_the_way(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn written_text(text: &str) -> String {
    let plain = !text.is_empty()
        && !text.starts_with(['"', '#'])
        && text.trim().len() == text.len()
        && !text.contains(is_changed_on_the_way)
        // `_x000A_` is how spreadsheets write characters that XML cannot hold.
        && !text.contains("_x");
    if plain { text.to_owned() } else { written_json(&Value::from(text)) }
}

/// JSON in which strings hold nothing that XML or another system's line ends would change.
fn written_json(value: &Value) -> String {
    let json = value.to_string();
    if !json.contains("_x") && !json.contains(is_changed_on_the_way) {
        return json;
    }
    // All of these stand inside of strings, where an escape means the same.
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.replace("_x", "\\u005fx").chars() {
        if is_changed_on_the_way(c) {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// `a=b, c=d`, if that is read as the same map again.
fn pairs(map: &Map<String, Value>) -> Option<String> {
    let is_plain = |text: &str| text.trim().len() == text.len() && !text.contains([',', '\n', '\t', '"']) && written_text(text) == text;
    let mut pairs = Vec::with_capacity(map.len());
    for (name, value) in map {
        let value = value.as_str()?;
        if !is_plain(name) || name.contains('=') || name.starts_with('{') || !(value.is_empty() || is_plain(value)) {
            return None;
        }
        pairs.push(format!("{name}={value}"));
    }
    (!pairs.is_empty()).then(|| pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_write_is_read() {
        let text = |text: &str| Cell::Text(text.to_owned());
        let float = |number: f64| Cell::Number(Number::from_f64(number).unwrap());
        for (cell, shape, value) in [
            (text("night"), Shape::Text, json!("night")),
            (text("\"\""), Shape::Text, json!("")),
            (text("\"half"), Shape::Text, json!("\"half")),
            (float(12.0), Shape::Text, json!("12.0")),
            (Cell::Number(12.into()), Shape::Quantity, json!("12")),
            (float(12.0), Shape::Integer, json!(12)),
            (text(" 12 "), Shape::Integer, json!(12)),
            (text("0.5"), Shape::Number, json!(0.5)),
            (text("TRUE"), Shape::Boolean, json!(true)),
            (Cell::Boolean(false), Shape::Boolean, json!(false)),
            (text("http"), Shape::IntegerOrText, json!("http")),
            (text("80"), Shape::IntegerOrText, json!(80)),
            (text("\"80\""), Shape::IntegerOrText, json!("80")),
            (text("a=b, c = d=e\nf="), Shape::TextMap, json!({"a": "b", "c": "d=e", "f": ""})),
            (text("{\"a\":\"b\"}"), Shape::TextMap, json!({"a": "b"})),
            (text("a, b"), Shape::TextList, json!(["a", "b"])),
            (text("[]"), Shape::TextList, json!([])),
            (text("[{\"a\":1}]"), Shape::Json, json!([{"a": 1}])),
        ] {
            assert_eq!(cell.read(shape), Ok(Some(value)), "{cell:?}");
        }
        assert_eq!(Cell::Empty.read(Shape::Integer), Ok(None));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_being_told() {
        for (shape, secret) in [
            (Shape::Integer, "hunter2"),
            (Shape::Integer, "1.5"),
            (Shape::Number, "hunter2"),
            (Shape::Boolean, "hunter2"),
            (Shape::TextMap, "hunter2"),
            (Shape::TextMap, "hunter2=a,hunter2=b"),
            (Shape::Json, "{hunter2"),
        ] {
            let problem = Cell::Text(secret.to_owned()).read(shape).expect_err(secret);
            assert!(!problem.contains(secret), "{problem}");
            assert!(problem.starts_with("expected"), "{problem}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), any::<String>().prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            value in json(),
            text in prop_oneof![any::<String>(), "[-+=@#'\"_x0-9 \r\n]{0,8}"],
            map in prop::collection::btree_map("[a-z_=,{#\" ]{0,4}", "[a-z_=,{#\" \n]{0,4}", 0..4),
        ) {
            let text = Value::String(text);
            let map = Value::Object(map.into_iter().map(|(name, value)| (name, value.into())).collect());
            let cases = [
                (Shape::Json, &value), (Shape::Json, &text), (Shape::Json, &map),
                (Shape::Text, &text), (Shape::Quantity, &text), (Shape::IntegerOrText, &text), (Shape::TextMap, &map),
            ];
            for (shape, value) in cases {
                let cell = Cell::of(shape, value);
                prop_assert!(cell != Cell::Empty && !cell.is_comment());
                prop_assert_eq!(cell.read(shape), Ok(Some(value.clone())), "{:?} {:?}", shape, cell);
            }
        }
    }
}
