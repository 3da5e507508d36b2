//! The JSONPath of printer columns: `.status.conditions[?(@.type=="Ready")].status`.
//!
//! The forms are those that CustomResourceDefinitions use: fields (`.a`, `['a.b']`, `.a\.b`),
//! places (`[0]`, `[-1]`), all entries (`[*]`, `.*`), and filters with one comparison or none. A
//! path may stand in braces. Anything else is refused when the path is parsed.

use std::fmt;

use serde_json::Value;

/// A longer path is refused.
pub const JSON_PATH_BYTES_MAX: usize = 1024;

/// One lookup yields at most this many values.
const RESULTS_MAX: usize = 1000;

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("JSONPath {path:?}, character {position}: {problem}")]
pub struct JsonPathError {
    /// The whole path.
    pub path: String,
    /// Characters before the mistake.
    pub position: usize,
    /// What is wrong there.
    pub problem: String,
}

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter(Filter),
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    path: JsonPath,
    comparison: Option<(Comparison, Value)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Parses a path, with or without braces around it.
    pub fn parse(path: &str) -> Result<Self, JsonPathError> {
        let error = |position: usize, problem: String| JsonPathError { path: path.to_owned(), position, problem };
        if path.len() > JSON_PATH_BYTES_MAX {
            return Err(error(0, format!("longer than {JSON_PATH_BYTES_MAX} bytes")));
        }
        let mut parser = Parser { text: path.chars().collect(), at: 0 };
        let in_braces = parser.take('{');
        let parsed = parser.path().map_err(|problem| error(parser.at, problem))?;
        if in_braces && !parser.take('}') {
            return Err(error(parser.at, "expected '}'".to_owned()));
        }
        match parser.peek() {
            None => Ok(parsed),
            Some(other) => Err(error(parser.at, format!("unexpected {other:?}"))),
        }
    }

    /// Every value the path leads to, in order; none where a part is missing.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
                next.truncate(RESULTS_MAX);
            }
            found = next;
        }
        found
    }

    /// The first value the path leads to.
    pub fn find_one<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.find(value).into_iter().next()
    }
}

impl Step {
    fn follow<'v>(&self, value: &'v Value, found: &mut Vec<&'v Value>) {
        match (self, value) {
            (Self::Field(name), Value::Object(fields)) => found.extend(fields.get(name)),
            (Self::Index(index), Value::Array(items)) => {
                let place = match usize::try_from(*index) {
                    Ok(place) => Some(place),
                    Err(_) => usize::try_from(index.unsigned_abs()).ok().and_then(|back| items.len().checked_sub(back)),
                };
                found.extend(place.and_then(|place| items.get(place)));
            }
            (Self::All, Value::Array(items)) => found.extend(items),
            (Self::All, Value::Object(fields)) => found.extend(fields.values()),
            (Self::Filter(filter), Value::Array(items)) => found.extend(items.iter().filter(|item| filter.accepts(item))),
            _ => {}
        }
    }
}

impl Filter {
    fn accepts(&self, item: &Value) -> bool {
        let Some(found) = self.path.find_one(item) else { return false };
        let Some((comparison, operand)) = &self.comparison else { return true };
        let order = match (found, operand) {
            (Value::Number(one), Value::Number(two)) => one.as_f64().partial_cmp(&two.as_f64()),
            (Value::String(one), Value::String(two)) => Some(one.cmp(two)),
            _ => None,
        };
        match comparison {
            Comparison::Equal => found == operand || order.is_some_and(std::cmp::Ordering::is_eq),
            Comparison::NotEqual => found != operand && order.is_none_or(std::cmp::Ordering::is_ne),
            Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}

/// A text as a path has it: unlike in JSON, a backslash stands for nothing but the character behind it.
fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::from(quote);
    for c in text.chars() {
        if c == '\\' || c == quote {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push(quote);
    quoted
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Field(name) => write!(f, "[{}]", quoted(name, '\''))?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::All => write!(f, "[*]")?,
                Step::Filter(Filter { path, comparison: None }) => write!(f, "[?(@{path})]")?,
                Step::Filter(Filter { path, comparison: Some((comparison, operand)) }) => {
                    let sign = match comparison {
                        Comparison::Equal => "==",
                        Comparison::NotEqual => "!=",
                        Comparison::Less => "<",
                        Comparison::LessOrEqual => "<=",
                        Comparison::Greater => ">",
                        Comparison::GreaterOrEqual => ">=",
                    };
                    let operand = operand.as_str().map_or_else(|| operand.to_string(), |text| quoted(text, '"'));
                    write!(f, "[?(@{path}{sign}{operand})]")?;
                }
            }
        }
        Ok(())
    }
}

struct Parser {
    text: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(format!("expected {wanted:?}")) }
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn path(&mut self) -> Result<JsonPath, String> {
        self.take('$');
        let mut steps = Vec::new();
        loop {
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    match self.peek() {
                        Some('*') => {
                            self.at += 1;
                            steps.push(Step::All);
                        }
                        Some('.') => return Err("'..' is not supported".to_owned()),
                        Some('[') => {}
                        _ => steps.push(Step::Field(self.name()?)),
                    }
                }
                Some('[') => {
                    self.at += 1;
                    self.skip_spaces();
                    steps.push(self.bracket()?);
                    self.skip_spaces();
                    self.expect(']')?;
                }
                _ => break,
            }
        }
        if steps.is_empty() {
            return Err("expected '.' or '['".to_owned());
        }
        Ok(JsonPath { steps })
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.at += 1;
                    name.push(self.peek().ok_or("expected a character after '\\'")?);
                }
                c if c.is_alphanumeric() || "_-/$".contains(c) => name.push(c),
                _ => break,
            }
            self.at += 1;
        }
        if name.is_empty() { Err("expected a field's name".to_owned()) } else { Ok(name) }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        match self.peek() {
            Some('*') => {
                self.at += 1;
                Ok(Step::All)
            }
            Some(quote @ ('\'' | '"')) => Ok(Step::Field(self.quoted(quote)?)),
            Some('?') => {
                self.at += 1;
                self.expect('(')?;
                let filter = self.filter()?;
                self.expect(')')?;
                Ok(Step::Filter(filter))
            }
            Some(c) if c == '-' || c.is_ascii_digit() => {
                let start = self.at;
                self.at += 1;
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.at += 1;
                }
                let digits: String = self.text[start..self.at].iter().collect();
                digits.parse().map(Step::Index).map_err(|_| format!("{digits} is no place in a list"))
            }
            _ => Err("expected a place, '*', a quoted name or '?('".to_owned()),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        self.expect(quote)?;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(format!("expected {quote:?}")),
                Some(c) if c == quote => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => {
                    self.at += 1;
                    text.push(self.peek().ok_or("expected a character after '\\'")?);
                    self.at += 1;
                }
                Some(c) => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
    }

    fn filter(&mut self) -> Result<Filter, String> {
        self.skip_spaces();
        self.expect('@')?;
        let path = self.path()?;
        self.skip_spaces();
        let comparison = match (self.peek(), self.text.get(self.at + 1)) {
            (Some('='), Some('=')) => Some((Comparison::Equal, 2)),
            (Some('!'), Some('=')) => Some((Comparison::NotEqual, 2)),
            (Some('<'), Some('=')) => Some((Comparison::LessOrEqual, 2)),
            (Some('>'), Some('=')) => Some((Comparison::GreaterOrEqual, 2)),
            (Some('<'), _) => Some((Comparison::Less, 1)),
            (Some('>'), _) => Some((Comparison::Greater, 1)),
            _ => None,
        };
        let Some((comparison, length)) = comparison else {
            return Ok(Filter { path, comparison: None });
        };
        self.at += length;
        self.skip_spaces();
        let operand = if let Some(quote @ ('\'' | '"')) = self.peek() {
            Value::String(self.quoted(quote)?)
        } else {
            let start = self.at;
            while self.peek().is_some_and(|c| c.is_alphanumeric() || "+-.".contains(c)) {
                self.at += 1;
            }
            let literal: String = self.text[start..self.at].iter().collect();
            let is_scalar = |value: &Value| !value.is_array() && !value.is_object();
            serde_json::from_str(&literal).ok().filter(is_scalar).ok_or("expected a quoted text, a number, true, false or null")?
        };
        self.skip_spaces();
        Ok(Filter { path, comparison: Some((comparison, operand)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> Value {
        json!({
            "metadata": {"labels": {"a.b/c": "dotted", "it's": "quoted"}},
            "spec": {"roles": [{"name": "x", "n": 1}, {"name": "y", "n": 2}, {"name": "z"}]},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Complete", "status": "False"}]},
        })
    }

    #[test]
    fn every_form_finds_what_it_says() {
        for (path, expected) in [
            (".status.phase", json!(["Running"])),
            ("{.status.phase}", json!(["Running"])),
            ("$.status.phase", json!(["Running"])),
            ("['status']['phase']", json!(["Running"])),
            (".status['phase']", json!(["Running"])),
            (".status.[\"phase\"]", json!(["Running"])),
            (".metadata.labels.a\\.b/c", json!(["dotted"])),
            (".metadata.labels['a.b/c']", json!(["dotted"])),
            (".metadata.labels['it\\'s']", json!(["quoted"])),
            (".spec.roles[0].name", json!(["x"])),
            (".spec.roles[-1].name", json!(["z"])),
            (".spec.roles[-4].name", json!([])),
            (".spec.roles[9].name", json!([])),
            (".spec.roles[*].name", json!(["x", "y", "z"])),
            (".spec.roles.*.name", json!(["x", "y", "z"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Complete')].status", json!(["False"])),
            (".status.conditions[?( @.type == \"Ready\" )].status", json!(["True"])),
            (".status.conditions[?(@.type!=\"Ready\")].type", json!(["Complete"])),
            (".status.conditions[?(@.type!=\"a\u{1e}\\\"b'\n\")].type", json!(["Ready", "Complete"])),
            (".spec.roles[?(@.n)].name", json!(["x", "y"])),
            (".spec.roles[?(@.n>1)].name", json!(["y"])),
            (".spec.roles[?(@.n<=1.0)].name", json!(["x"])),
            (".spec.roles[?(@.n==1.0)].name", json!(["x"])),
            (".spec.roles[?(@['name']>='y')].name", json!(["y", "z"])),
            (".missing.deeper[0].still", json!([])),
            (".status.phase.deeper", json!([])),
        ] {
            let object = object();
            let parsed = JsonPath::parse(path).unwrap();
            assert_eq!(json!(parsed.find(&object)), expected, "{path}");
            assert_eq!(JsonPath::parse(&parsed.to_string()).unwrap(), parsed, "{path}: {parsed}");
        }
        assert_eq!(JsonPath::parse(".*").unwrap().find(&object()).len(), 3);
    }

    #[test]
    fn mistakes_are_refused_with_their_position() {
        for (path, position, expected) in [
            ("", 0, "expected '.' or '['"),
            ("status", 0, "expected '.' or '['"),
            (".a..b", 3, "'..' is not supported"),
            (".", 1, "field's name"),
            (".a[", 3, "expected a place"),
            (".a[x]", 3, "expected a place"),
            (".a[0", 4, "expected ']'"),
            (".a[-]", 4, "no place"),
            (".a['b]", 6, "expected '\\''"),
            (".a[?(@.b==)]", 10, "quoted text"),
            (".a[?(.b)]", 5, "expected '@'"),
            (".a[?(@.b==1]", 11, "expected ')'"),
            (".a b", 2, "unexpected ' '"),
            ("{.a", 3, "expected '}'"),
        ] {
            let error = JsonPath::parse(path).unwrap_err();
            assert_eq!(error.position, position, "{error}");
            assert!(error.problem.contains(expected), "{error}");
        }
        assert!(JsonPath::parse(&".a".repeat(JSON_PATH_BYTES_MAX)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[\\[\\]{}.a?(@)=<>!'\"0*$\\\\ -]{0,30}") {
            if let Ok(path) = JsonPath::parse(&text) {
                let _ = path.find(&object());
            }
        }
    }
}
