//! Bytes read as decisions.
//!
//! When the bytes are used up, every further decision is the first one: an input of any length
//! means something, and longer ones mean more. Depth and size of what is read are bounded by the
//! length of the input.

use serde_json::{Map, Number, Value};

/// Containers inside of each other in one JSON value.
const LEVELS_MAX: usize = 12;
/// Entries in one of them.
const ENTRIES_MAX: usize = 6;

/// Ends a text among other texts.
const END: u8 = 0;
/// Bytes from here on stand for whole words in a text.
const WORDS_FROM: u8 = 0x80;

/// Texts that are easily taken for something else.
pub const CONFUSING: [&str; 20] =
    ["", "a", "A", "b", "x", "true", "false", "null", "1", "1.0", "1e3", "-5", "[", "{}", "\"a\"", "é", "a\\", "a\0b", "\u{fffd}", "%"];

/// What is left of an input.
#[derive(Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all bytes are used up.
    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.rest {
            [first, rest @ ..] => {
                self.rest = rest;
                *first
            }
            [] => 0,
        }
    }

    /// A number below `count`, which is at most 256.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// Yes once in `count` times; no when the bytes are used up.
    pub fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// The bytes up to the next zero, as a text: ASCII stands for itself, every other byte for a
    /// word of the list. So a fuzzer that knows no grammar writes whole words, and what a person
    /// writes as an example is what it says.
    pub fn text(&mut self, words: &[&str]) -> String {
        let end = self.rest.iter().position(|byte| *byte == END).unwrap_or(self.rest.len());
        let (bytes, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix(&[END]).unwrap_or(rest);
        text(bytes, words)
    }

    /// Any JSON value; its names are of these.
    pub fn json(&mut self, names: &[&str]) -> Value {
        self.value(names, LEVELS_MAX)
    }

    /// A JSON object; its names are of these.
    pub fn object(&mut self, names: &[&str]) -> Map<String, Value> {
        self.fields(names, LEVELS_MAX)
    }

    fn fields(&mut self, names: &[&str], levels: usize) -> Map<String, Value> {
        let count = self.below(ENTRIES_MAX);
        let mut fields = Map::new();
        for _ in 0..count {
            if self.is_over() {
                break;
            }
            fields.insert(self.pick(names).to_owned(), self.value(names, levels.saturating_sub(1)));
        }
        fields
    }

    fn value(&mut self, names: &[&str], levels: usize) -> Value {
        let choices = if levels == 0 { 6 } else { 12 };
        match self.below(choices) {
            0 => Value::Null,
            1 => Value::Bool(self.once_in(2)),
            2 => self.number(),
            3 | 4 => self.pick(&CONFUSING).into(),
            5 => self.pick(names).into(),
            6..9 => Value::Object(self.fields(names, levels)),
            _ => {
                let count = self.below(ENTRIES_MAX);
                let mut items = Vec::new();
                while items.len() < count && !self.is_over() {
                    items.push(self.value(names, levels - 1));
                }
                Value::Array(items)
            }
        }
    }

    /// A number of JSON, the odd ones among them.
    pub fn number(&mut self) -> Value {
        const FLOATS: [f64; 6] = [0.0, -0.0, 1.0, 1.5, 1e300, -1e-7];
        const WHOLE: [i64; 6] = [0, 1, -1, i64::MAX, i64::MIN, 1000];
        match self.below(4) {
            0 => i64::from(self.byte()).into(),
            1 => self.pick(&WHOLE).into(),
            2 => Number::from_f64(self.pick(&FLOATS)).map_or(Value::Null, Value::Number),
            _ => u64::MAX.into(),
        }
    }
}

fn text(bytes: &[u8], words: &[&str]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte.checked_sub(WORDS_FROM) {
            None => text.push(char::from(byte)),
            Some(word) => text.push_str(words[usize::from(word) % words.len()]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_stands_for_itself_and_other_bytes_for_words() {
        let mut input = Input::new(b"a = 1\0\x80.b\x83");
        assert_eq!(input.text(&["self"]), "a = 1");
        assert_eq!(input.text(&["self", "all("]), "self.ball(");
        assert!(input.is_over());
        assert_eq!(input.text(&["self"]), "");
    }

    #[test]
    fn what_is_used_up_decides_nothing_more() {
        let mut input = Input::new(&[]);
        assert!(!input.once_in(2));
        assert_eq!(input.json(&["a"]), Value::Null);
        assert_eq!(Value::Object(input.object(&["a"])), serde_json::json!({}));
    }

    #[test]
    fn every_value_is_as_large_as_its_bytes_allow() {
        for fill in 0..=u8::MAX {
            let bytes = [fill; 300];
            let text = Input::new(&bytes).json(&["name"]).to_string();
            assert!(text.len() < 300 * 20, "{fill}: {text}");
        }
    }
}
