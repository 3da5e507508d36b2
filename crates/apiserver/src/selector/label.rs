//! Label selectors: `app=x,tier in (a,b),!legacy`.

use serde_json::{Map, Value};

use super::{SelectorError, check_length, syntax_error};

const NAME_LENGTH_MAX: usize = 63;
const PREFIX_LENGTH_MAX: usize = 253;

/// What a requirement asks of one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelOperator {
    /// `key = value`, `key == value`
    Equals,
    /// `key != value`; an object without the label matches.
    NotEquals,
    /// `key in (a, b)`
    In,
    /// `key notin (a, b)`; an object without the label matches.
    NotIn,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key > 5`, on integers
    GreaterThan,
    /// `key < 5`, on integers
    LessThan,
}

/// One comma-separated part of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRequirement {
    /// The label's key.
    pub key: String,
    /// What is asked of it.
    pub operator: LabelOperator,
    /// The values compared with: one for the comparisons, one or more for the sets, else none.
    pub values: Vec<String>,
}

impl LabelRequirement {
    /// Whether a label with this value, or its absence, fulfils the requirement.
    pub fn matches(&self, label: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|candidate| candidate == value);
        let compare = |value: &str, accept: fn(i64, i64) -> bool| match (value.parse(), self.values.first().map(|bound| bound.parse())) {
            (Ok(value), Some(Ok(bound))) => accept(value, bound),
            _ => false,
        };
        match (self.operator, label) {
            (LabelOperator::Exists, label) => label.is_some(),
            (LabelOperator::DoesNotExist, label) => label.is_none(),
            (LabelOperator::Equals | LabelOperator::In, Some(value)) => listed(value),
            (LabelOperator::NotEquals | LabelOperator::NotIn, Some(value)) => !listed(value),
            (LabelOperator::NotEquals | LabelOperator::NotIn, None) => true,
            (LabelOperator::GreaterThan, Some(value)) => compare(value, |a, b| a > b),
            (LabelOperator::LessThan, Some(value)) => compare(value, |a, b| a < b),
            (LabelOperator::Equals | LabelOperator::In | LabelOperator::GreaterThan | LabelOperator::LessThan, None) => false,
        }
    }
}

/// A parsed label selector: all of its requirements must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<LabelRequirement>,
}

impl LabelSelector {
    /// Parses the query parameter's form. The empty text selects everything.
    pub fn parse(selector: &str) -> Result<Self, SelectorError> {
        check_length(selector)?;
        let mut parser = Parser { text: selector, at: 0 };
        let requirements = parser.requirements()?;
        Ok(Self { requirements })
    }

    /// The parts, in the order written.
    pub fn requirements(&self) -> &[LabelRequirement] {
        &self.requirements
    }

    /// True when every object is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Matches against `metadata.labels` of a whole object.
    pub fn matches(&self, object: &Value) -> bool {
        if self.is_empty() {
            return true;
        }
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        self.matches_labels(labels)
    }

    /// Matches against a map of labels.
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.requirements.iter().all(|requirement| {
            let label = labels.and_then(|labels| labels.get(&requirement.key)).and_then(Value::as_str);
            requirement.matches(label)
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Equals,
    NotEquals,
    Not,
    Open,
    Close,
    Comma,
    Greater,
    Less,
    End,
}

impl Token<'_> {
    fn describe(&self) -> String {
        match self {
            Token::Word(word) => format!("{word:?}"),
            Token::Equals => "'='".into(),
            Token::NotEquals => "'!='".into(),
            Token::Not => "'!'".into(),
            Token::Open => "'('".into(),
            Token::Close => "')'".into(),
            Token::Comma => "','".into(),
            Token::Greater => "'>'".into(),
            Token::Less => "'<'".into(),
            Token::End => "the end".into(),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next token, the byte offset where it starts and the one after it.
    fn peek(&self) -> (Token<'a>, usize, usize) {
        let rest = &self.text[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        let rest = &self.text[start..];
        let (token, length) = match rest.as_bytes() {
            [] => (Token::End, 0),
            [b'=', b'=', ..] => (Token::Equals, 2),
            [b'=', ..] => (Token::Equals, 1),
            [b'!', b'=', ..] => (Token::NotEquals, 2),
            [b'!', ..] => (Token::Not, 1),
            [b'(', ..] => (Token::Open, 1),
            [b')', ..] => (Token::Close, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'>', ..] => (Token::Greater, 1),
            [b'<', ..] => (Token::Less, 1),
            _ => {
                let length = rest.find(|c: char| c.is_whitespace() || "=!(),<>".contains(c)).unwrap_or(rest.len());
                (Token::Word(&rest[..length]), length)
            }
        };
        (token, start, start + length)
    }

    fn next(&mut self) -> (Token<'a>, usize) {
        let (token, start, end) = self.peek();
        self.at = end;
        (token, start)
    }

    fn error(&self, at: usize, problem: impl Into<String>) -> SelectorError {
        syntax_error(self.text, at, problem)
    }

    fn requirements(&mut self) -> Result<Vec<LabelRequirement>, SelectorError> {
        let mut requirements = Vec::new();
        if self.peek().0 == Token::End {
            return Ok(requirements);
        }
        loop {
            requirements.push(self.requirement()?);
            match self.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => {}
                (token, at) => {
                    let problem = format!("found {}, expected ',' or the end", token.describe());
                    return Err(self.error(at, problem));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<LabelRequirement, SelectorError> {
        let negated = self.peek().0 == Token::Not;
        if negated {
            self.next();
        }
        let key = match self.next() {
            (Token::Word(word), at) => {
                check_key(word).map_err(|problem| self.error(at, problem))?;
                word.to_owned()
            }
            (token, at) => {
                let problem = format!("found {}, expected a label's key", token.describe());
                return Err(self.error(at, problem));
            }
        };
        let requirement = |operator, values| LabelRequirement { key, operator, values };
        if negated {
            return Ok(requirement(LabelOperator::DoesNotExist, Vec::new()));
        }
        match self.peek() {
            (Token::Comma | Token::End, ..) => Ok(requirement(LabelOperator::Exists, Vec::new())),
            (Token::Equals, ..) => {
                self.next();
                Ok(requirement(LabelOperator::Equals, vec![self.exact_value()?]))
            }
            (Token::NotEquals, ..) => {
                self.next();
                Ok(requirement(LabelOperator::NotEquals, vec![self.exact_value()?]))
            }
            (token @ (Token::Greater | Token::Less), ..) => {
                self.next();
                let at = self.peek().1;
                let value = self.exact_value()?;
                if value.parse::<i64>().is_err() {
                    let problem = format!("{value:?} is not an integer; '<' and '>' compare integers");
                    return Err(self.error(at, problem));
                }
                let operator = match token {
                    Token::Greater => LabelOperator::GreaterThan,
                    _ => LabelOperator::LessThan,
                };
                Ok(requirement(operator, vec![value]))
            }
            (Token::Word("in"), ..) => {
                self.next();
                Ok(requirement(LabelOperator::In, self.value_set()?))
            }
            (Token::Word("notin"), ..) => {
                self.next();
                Ok(requirement(LabelOperator::NotIn, self.value_set()?))
            }
            (token, at, _) => {
                let problem = format!("found {}, expected one of =, ==, !=, in, notin, <, >, ',' or the end", token.describe());
                Err(self.error(at, problem))
            }
        }
    }

    /// The value after `=`; `key=` stands for the empty value.
    fn exact_value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            (Token::End | Token::Comma, ..) => Ok(String::new()),
            (Token::Word(word), at, _) => {
                check_value(word).map_err(|problem| self.error(at, problem))?;
                self.next();
                Ok(word.to_owned())
            }
            (token, at, _) => {
                let problem = format!("found {}, expected a value", token.describe());
                Err(self.error(at, problem))
            }
        }
    }

    fn value_set(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            (Token::Open, _) => {}
            (token, at) => {
                let problem = format!("found {}, expected '('", token.describe());
                return Err(self.error(at, problem));
            }
        }
        if let (Token::Close, at, _) = self.peek() {
            return Err(self.error(at, "a set of values can't be empty"));
        }
        let mut values = Vec::new();
        loop {
            // `(a,)` and `(,a)` hold the empty value, as in Kubernetes.
            let value = match self.peek() {
                (Token::Comma | Token::Close, ..) => String::new(),
                _ => self.exact_value()?,
            };
            if !values.contains(&value) {
                values.push(value);
            }
            match self.next() {
                (Token::Comma, _) => {}
                (Token::Close, _) => return Ok(values),
                (token, at) => {
                    let problem = format!("found {}, expected ',' or ')'", token.describe());
                    return Err(self.error(at, problem));
                }
            }
        }
    }
}

fn is_label_text(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(alphanumeric) && text.ends_with(alphanumeric) && text.chars().all(|c| alphanumeric(c) || "-_.".contains(c))
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= PREFIX_LENGTH_MAX
        && text.split('.').all(|part| {
            let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            part.starts_with(lower) && part.ends_with(lower) && part.chars().all(|c| lower(c) || c == '-')
        })
}

fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix
        && !is_dns_subdomain(prefix)
    {
        return Err(format!("{key:?} is not a label's key: the part before '/' must be a DNS name in lower case"));
    }
    if name.len() > NAME_LENGTH_MAX || !is_label_text(name) {
        return Err(format!(
            "{key:?} is not a label's key: a name has at most {NAME_LENGTH_MAX} letters, digits, \
             '-', '_' or '.', and starts and ends with a letter or digit"
        ));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || (value.len() <= NAME_LENGTH_MAX && is_label_text(value)) {
        return Ok(());
    }
    Err(format!(
        "{value:?} is not a label's value: it has at most {NAME_LENGTH_MAX} letters, digits, '-', \
         '_' or '.', and starts and ends with a letter or digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> Value {
        json!({"metadata": {"labels": {
            "app": "web", "tier": "front", "empty": "", "gen": "7", "fermion.dev/pool": "local"
        }}})
    }

    #[test]
    fn every_form_selects_what_it_says() {
        for (selector, expected) in [
            ("", true),
            ("  ", true),
            ("app=web", true),
            ("app==web", true),
            (" app = web ", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("missing!=web", true),
            ("missing=web", false),
            ("empty=", true),
            ("app=", false),
            ("empty=,app=web", true),
            ("app in (web,db)", true),
            ("app in (web)", true),
            ("app in ( db , x )", false),
            ("app in(web)", true),
            ("empty in (,x)", true),
            ("app notin (web,db)", false),
            ("app notin (db)", true),
            ("missing notin (db)", true),
            ("missing in (db)", false),
            ("app", true),
            ("missing", false),
            ("!missing", true),
            ("! missing", true),
            ("!app", false),
            ("app=web,tier=front", true),
            ("app=web,tier=back", false),
            ("app in (web,db),tier notin (back),!missing,gen", true),
            ("fermion.dev/pool=local", true),
            ("gen>6", true),
            ("gen > 7", false),
            ("gen<8", true),
            ("app>1", false),
            ("missing<1", false),
            ("in=x", false),
            ("notin", false),
        ] {
            let parsed = LabelSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches(&object()), expected, "{selector}");
        }
    }

    #[test]
    fn mistakes_are_refused_with_their_position() {
        for (selector, position, expected) in [
            ("app=web,", 8, "expected a label's key"),
            (",app", 0, "expected a label's key"),
            ("=web", 0, "expected a label's key"),
            ("app in web", 7, "expected '('"),
            ("app in (web", 11, "expected ',' or ')'"),
            ("app in ()", 8, "can't be empty"),
            ("app isin (web)", 4, "expected one of"),
            ("app=web tier=front", 8, "expected ',' or the end"),
            ("app=(web)", 4, "expected a value"),
            ("!app=web", 4, "expected ',' or the end"),
            ("app>x", 4, "not an integer"),
            ("app>", 4, "not an integer"),
            ("a_/b=c", 0, "DNS name"),
            ("-a=c", 0, "not a label's key"),
            ("a/b/c=d", 0, "not a label's key"),
            ("a=b c", 4, "expected ',' or the end"),
            ("a=é", 2, "not a label's value"),
            ("b=x,é=1", 4, "not a label's key"),
            ("a=b/c", 2, "not a label's value"),
        ] {
            match LabelSelector::parse(selector) {
                Err(SelectorError::Syntax { position: at, problem, .. }) => {
                    assert_eq!(at, position, "{selector}: {problem}");
                    assert!(problem.contains(expected), "{selector}: {problem}");
                }
                other => panic!("{selector}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_overlong_selector_is_refused() {
        let selector = "a".repeat(super::super::SELECTOR_BYTES_MAX + 1);
        assert!(matches!(LabelSelector::parse(&selector), Err(SelectorError::TooLong { .. })));
    }

    #[test]
    fn an_object_without_labels_matches_only_negative_requirements() {
        let bare = json!({"metadata": {}});
        assert!(LabelSelector::parse("!app").unwrap().matches(&bare));
        assert!(LabelSelector::parse("app!=x").unwrap().matches(&bare));
        assert!(!LabelSelector::parse("app").unwrap().matches(&bare));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _ = LabelSelector::parse(&text);
        }

        #[test]
        fn no_text_of_selector_characters_makes_the_parser_panic(text in "[a-c=!(), inot<>é]{0,30}") {
            let _ = LabelSelector::parse(&text);
        }
    }
}
