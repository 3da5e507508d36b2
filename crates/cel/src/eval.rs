//! Running a tree.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

use crate::error::EvalError;
use crate::functions::{Function, Pattern, traversal};
use crate::syntax::{Access, Comprehension, Expr, Goal, Kind, Literal};
use crate::types::ListKind;
use crate::value::{List, Map, Value, same_key};

/// A compiled regular expression may use this many bytes.
const REGEX_BYTES_MAX: usize = 256 * 1024;
/// A pattern may be this long, in bytes: compiling takes time that grows with it.
pub(crate) const PATTERN_BYTES_MAX: usize = 4 * 1024;

/// What steps cost beside their parts, as in the reference implementation.
pub(crate) mod cost {
    pub(crate) const STEP: u64 = 1;
    pub(crate) const LIST: u64 = 10;
    pub(crate) const MAP: u64 = 30;
    /// Each round of a macro, beside its body.
    pub(crate) const ROUND: u64 = 3;
}

/// One evaluation.
pub(crate) struct Run<'a> {
    regexes: &'a HashMap<Box<str>, Regex>,
    scope: Vec<(&'a str, Value<'a>)>,
    left: u64,
}

type Result<T, E = EvalError> = std::result::Result<T, E>;

pub(crate) fn compile_regex(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("longer than {PATTERN_BYTES_MAX} bytes"));
    }
    RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map_err(|error| error.to_string())
}

impl<'a> Run<'a> {
    pub(crate) fn new(regexes: &'a HashMap<Box<str>, Regex>, variables: &[(&'a str, Value<'a>)], budget: u64) -> Self {
        Self { regexes, scope: variables.to_vec(), left: budget }
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Pays for work before it is done.
    pub(crate) fn spend(&mut self, cost: u64) -> Result<()> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvalError::Budget)
            }
        }
    }

    /// A pattern that stands in the source is compiled with it; others now.
    pub(crate) fn regex(&mut self, pattern: &str) -> Result<Cow<'a, Regex>> {
        if let Some(regex) = self.regexes.get(pattern) {
            return Ok(Cow::Borrowed(regex));
        }
        // Compiling costs far more than reading.
        self.spend((pattern.len() as u64).saturating_mul(10))?;
        compile_regex(pattern).map(Cow::Owned).map_err(|error| EvalError::failed(format!("invalid regular expression: {error}")))
    }

    pub(crate) fn value(&mut self, expr: &'a Expr) -> Result<Value<'a>> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(of_literal(literal)),
            Kind::Ident(name) => {
                self.spend(cost::STEP)?;
                let found = self.scope.iter().rev().find(|(known, _)| *known == &**name);
                match found {
                    Some((_, value)) => Ok(value.clone()),
                    None => type_value(name).ok_or_else(|| EvalError::failed(format!("no such attribute: {name}"))),
                }
            }
            Kind::Select { operand, field, access } => self.select(operand, field, *access),
            Kind::Index { operand, index, optional } => self.index(operand, index, *optional),
            Kind::Call(call) => {
                let mut values = Vec::with_capacity(call.arguments.len());
                for argument in &call.arguments {
                    values.push(self.value(argument)?);
                }
                self.call(&call.candidates, &values)
            }
            Kind::And(left, right) => self.logic(left, right, false),
            Kind::Or(left, right) => self.logic(left, right, true),
            Kind::Ternary(parts) => {
                self.spend(cost::STEP)?;
                let [condition, then, otherwise] = &**parts;
                match self.value(condition)? {
                    Value::Bool(true) => self.value(then),
                    Value::Bool(false) => self.value(otherwise),
                    _ => Err(EvalError::Overload),
                }
            }
            Kind::Equal { sides, negated } => {
                let (one, two) = (self.value(&sides[0])?, self.value(&sides[1])?);
                Ok(Value::Bool(self.equal(&one, &two)? != *negated))
            }
            Kind::In(sides) => self.is_in(sides),
            Kind::List(elements) => {
                self.spend(cost::LIST)?;
                let mut items = Vec::with_capacity(elements.len());
                for element in elements {
                    match (self.value(&element.value)?, element.optional) {
                        (Value::Optional(None), true) => {}
                        (Value::Optional(Some(value)), true) => items.push((*value).clone()),
                        (_, true) => return Err(EvalError::Overload),
                        (value, false) => items.push(value),
                    }
                }
                Ok(Value::list(items))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
            Kind::Bind { name, value, body } => {
                let value = self.value(value)?;
                self.with(&[(name, value)], |run| run.value(body))
            }
            Kind::OptionalMap { operand, name, body, flat } => {
                self.spend(cost::STEP)?;
                match self.value(operand)? {
                    Value::Optional(None) => Ok(Value::Optional(None)),
                    Value::Optional(Some(inner)) => {
                        let value = self.with(&[(name, (*inner).clone())], |run| run.value(body))?;
                        match (flat, value) {
                            (false, value) => Ok(Value::some(value)),
                            (true, value @ Value::Optional(_)) => Ok(value),
                            (true, _) => Err(EvalError::Overload),
                        }
                    }
                    _ => Err(EvalError::Overload),
                }
            }
        }
    }

    fn with<T>(&mut self, names: &[(&'a str, Value<'a>)], run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.scope.len();
        self.scope.extend_from_slice(names);
        let result = run(self);
        self.scope.truncate(before);
        result
    }

    fn call(&mut self, candidates: &[&'static Function], values: &[Value<'a>]) -> Result<Value<'a>> {
        let fits = |function: &&&'static Function| {
            std::iter::zip(function.arguments, values).all(|(pattern, value): (&Pattern, &Value<'_>)| pattern.matches(value))
        };
        let function = candidates.iter().find(fits).ok_or(EvalError::Overload)?;
        let sizes: Vec<u64> = values.iter().map(Value::size).collect();
        self.spend((function.cost)(&sizes))?;
        (function.run)(self, values)
    }

    /// `&&` and `||`: a side that decides makes an error of the other one irrelevant.
    fn logic(&mut self, left: &'a Expr, right: &'a Expr, decisive: bool) -> Result<Value<'a>> {
        self.spend(cost::STEP)?;
        let first = match self.value(left) {
            Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
            Err(EvalError::Budget) => return Err(EvalError::Budget),
            other => other,
        };
        match (first, self.value(right)?) {
            (_, Value::Bool(value)) if value == decisive => Ok(Value::Bool(decisive)),
            (Err(error), _) => Err(error),
            (Ok(Value::Bool(_)), Value::Bool(value)) => Ok(Value::Bool(value)),
            _ => Err(EvalError::Overload),
        }
    }

    fn select(&mut self, operand: &'a Expr, field: &'a str, access: Access) -> Result<Value<'a>> {
        self.spend(cost::STEP)?;
        let operand = self.value(operand)?;
        let (found, was_optional) = match &operand {
            Value::Map(map) => (map.field(field), false),
            Value::Optional(None) => (None, true),
            Value::Optional(Some(inner)) => match &**inner {
                Value::Map(map) => (map.field(field), true),
                _ => return Err(EvalError::Overload),
            },
            _ => return Err(EvalError::Overload),
        };
        match (access, was_optional) {
            (Access::Presence, _) => Ok(Value::Bool(found.is_some())),
            (Access::Optional, _) | (Access::Value, true) => Ok(found.map_or(Value::Optional(None), Value::some)),
            (Access::Value, false) => found.ok_or_else(|| EvalError::failed(format!("no such key: {field}"))),
        }
    }

    fn index(&mut self, operand: &'a Expr, index: &'a Expr, optional: bool) -> Result<Value<'a>> {
        self.spend(cost::STEP)?;
        let (operand, index) = (self.value(operand)?, self.value(index)?);
        let (operand, was_optional) = match operand {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        let found = match (&operand, &index) {
            (Value::List(list), Value::Int(place)) => usize::try_from(*place).ok().and_then(|place| list.get(place)),
            (Value::List(list), Value::Uint(place)) => usize::try_from(*place).ok().and_then(|place| list.get(place)),
            (Value::Map(map), key) => {
                if let Map::Made(entries) = map {
                    self.spend(traversal(entries.len() as u64))?;
                }
                map.get(key)
            }
            _ => return Err(EvalError::Overload),
        };
        if optional || was_optional {
            return Ok(found.map_or(Value::Optional(None), Value::some));
        }
        found.ok_or_else(|| match (&operand, &index) {
            (Value::List(_), Value::Int(place)) => EvalError::failed(format!("index out of bounds: {place}")),
            (_, key) => {
                let key = key.as_text().map_or_else(|| "key".to_owned(), |text| text.chars().take(64).collect());
                EvalError::failed(format!("no such key: {key}"))
            }
        })
    }

    fn is_in(&mut self, sides: &'a [Expr; 2]) -> Result<Value<'a>> {
        self.spend(cost::STEP)?;
        let (wanted, container) = (self.value(&sides[0])?, self.value(&sides[1])?);
        match &container {
            Value::List(list) => self.contains(list, &wanted).map(Value::Bool),
            Value::Map(map) => {
                if let Map::Made(entries) = map {
                    self.spend(traversal(entries.len() as u64))?;
                }
                Ok(Value::Bool(map.get(&wanted).is_some()))
            }
            _ => Err(EvalError::Overload),
        }
    }

    fn map(&mut self, entries: &'a [crate::syntax::Entry]) -> Result<Value<'a>> {
        self.spend(cost::MAP)?;
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = self.value(&entry.key)?;
            if !matches!(key, Value::Text(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_)) {
                return Err(EvalError::failed("unsupported key type"));
            }
            let value = match (self.value(&entry.value)?, entry.optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(value)), true) => (*value).clone(),
                (_, true) => return Err(EvalError::Overload),
                (value, false) => value,
            };
            self.spend(traversal(made.len() as u64))?;
            if made.iter().any(|(known, _)| same_key(known, &key)) {
                return Err(EvalError::failed("Failed with repeated key"));
            }
            made.push((key, value));
        }
        Ok(Value::Map(Map::Made(made.into())))
    }

    fn comprehension(&mut self, comprehension: &'a Comprehension) -> Result<Value<'a>> {
        let mut gathering = Gathering::default();
        match self.value(&comprehension.range)? {
            Value::List(list) => {
                for (place, value) in list.iter().enumerate() {
                    if self.round(comprehension, Value::Int(place as i64), value, &mut gathering)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                // The entries are gathered first, which takes memory for each.
                self.spend(map.len() as u64)?;
                let entries = match comprehension.second {
                    Some(_) => map.entries(),
                    // With one name it is the key that is looked at.
                    None => map.keys().into_iter().map(|key| (key.clone(), key)).collect(),
                };
                for (key, value) in entries {
                    if self.round(comprehension, key, value, &mut gathering)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::Overload),
        }
        gathering.result(comprehension.goal)
    }

    fn round(&mut self, comprehension: &'a Comprehension, key: Value<'a>, value: Value<'a>, gathering: &mut Gathering<'a>) -> Result<bool> {
        self.spend(cost::ROUND)?;
        let before = self.scope.len();
        match &comprehension.second {
            Some(second) => {
                self.scope.push((&*comprehension.name, key.clone()));
                self.scope.push((&**second, value.clone()));
            }
            None => self.scope.push((&*comprehension.name, value.clone())),
        }
        let decided = self.step(comprehension, key, value, gathering);
        self.scope.truncate(before);
        decided
    }

    /// One round; true when the result is known.
    fn step(&mut self, comprehension: &'a Comprehension, key: Value<'a>, value: Value<'a>, gathering: &mut Gathering<'a>) -> Result<bool> {
        if let Some(filter) = &comprehension.filter
            && !truth(self.value(filter)?)?
        {
            return Ok(false);
        }
        let outcome = self.value(&comprehension.body);
        let decisive = match comprehension.goal {
            Goal::All => Some(false),
            Goal::Exists => Some(true),
            _ => None,
        };
        if let Some(decisive) = decisive {
            // As with && and ||, a later round may decide in spite of an error.
            match outcome.and_then(truth) {
                Ok(found) => gathering.decided |= found == decisive,
                Err(EvalError::Budget) => return Err(EvalError::Budget),
                Err(error) => gathering.error = Some(error),
            }
            return Ok(gathering.decided);
        }
        let outcome = outcome?;
        match comprehension.goal {
            Goal::ExistsOne => gathering.count += u64::from(truth(outcome)?),
            Goal::Filter => {
                if truth(outcome)? {
                    self.spend(cost::STEP)?;
                    gathering.items.push(value);
                }
            }
            Goal::List => {
                self.spend(cost::STEP)?;
                gathering.items.push(outcome);
            }
            Goal::Map => {
                self.spend(cost::STEP)?;
                gathering.entries.push((key, outcome));
            }
            Goal::All | Goal::Exists => {}
        }
        Ok(false)
    }

    pub(crate) fn contains(&mut self, list: &List<'a>, wanted: &Value<'a>) -> Result<bool> {
        for item in list.iter() {
            if self.equal(&item, wanted)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether two values are the same. Values of different types are not.
    pub(crate) fn equal(&mut self, one: &Value<'a>, two: &Value<'a>) -> Result<bool> {
        self.spend(cost::STEP)?;
        Ok(match (one, two) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                self.spend(traversal(a.len().min(b.len()) as u64))?;
                a == b
            }
            (Value::Bytes(a), Value::Bytes(b)) => {
                self.spend(traversal(a.len().min(b.len()) as u64))?;
                a == b
            }
            (Value::List(a), Value::List(b)) => self.equal_lists(a, b)?,
            (Value::Map(a), Value::Map(b)) => self.equal_maps(a, b)?,
            (Value::Optional(None), Value::Optional(None)) => true,
            (Value::Optional(Some(a)), Value::Optional(Some(b))) => self.equal(&a.clone(), &b.clone())?,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Url(a), Value::Url(b)) => a == b,
            (Value::Ip(a), Value::Ip(b)) => a == b,
            (Value::Cidr(a, n), Value::Cidr(b, m)) => a == b && n == m,
            (Value::Format(a), Value::Format(b)) => a == b,
            (one, two) => crate::functions::order(one, two).is_some_and(std::cmp::Ordering::is_eq),
        })
    }

    fn equal_lists(&mut self, one: &List<'a>, two: &List<'a>) -> Result<bool> {
        if one.len() != two.len() {
            return Ok(false);
        }
        if *one.kind() == ListKind::Atomic && *two.kind() == ListKind::Atomic {
            for (a, b) in std::iter::zip(one.iter(), two.iter()) {
                if !self.equal(&a, &b)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        // Sets, and lists with keys, whose entries are told apart by the whole entry here: both
        // have no entry twice, so one direction is enough.
        for item in one.iter() {
            if !self.contains(two, &item)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn equal_maps(&mut self, one: &Map<'a>, two: &Map<'a>) -> Result<bool> {
        if one.len() != two.len() {
            return Ok(false);
        }
        for (key, value) in one.entries() {
            if let Map::Made(entries) = two {
                self.spend(traversal(entries.len() as u64))?;
            }
            let found = match (&key, two) {
                // The keys here are properties, not names in expressions.
                (Value::Text(name), Map::Json(..)) => two.entry(name.as_str()),
                _ => two.get(&key),
            };
            match found {
                Some(other) if self.equal(&value, &other)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// `+` of lists: sets get what they do not have; in lists with keys the second wins.
    pub(crate) fn join_lists(&mut self, one: &List<'a>, two: &List<'a>) -> Result<Value<'a>> {
        let mut joined: Vec<Value<'a>> = one.iter().collect();
        match one.kind() {
            ListKind::Atomic => joined.extend(two.iter()),
            ListKind::Set => {
                for item in two.iter() {
                    if !self.contains(one, &item)? {
                        joined.push(item);
                    }
                }
            }
            ListKind::Map(keys) => {
                for item in two.iter() {
                    let mut place = None;
                    for (index, known) in joined.iter().enumerate() {
                        if self.same_keys(known, &item, keys)? {
                            place = Some(index);
                            break;
                        }
                    }
                    match place {
                        Some(place) => joined[place] = item,
                        None => joined.push(item),
                    }
                }
            }
        }
        Ok(Value::list(joined))
    }

    fn same_keys(&mut self, one: &Value<'a>, two: &Value<'a>, keys: &[Box<str>]) -> Result<bool> {
        let (Value::Map(one), Value::Map(two)) = (one, two) else { return Ok(false) };
        for key in keys {
            let same = match (one.entry(key), two.entry(key)) {
                (Some(a), Some(b)) => self.equal(&a, &b)?,
                (None, None) => true,
                _ => false,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A value as `%s` writes it.
    pub(crate) fn shown(&mut self, value: &Value<'a>) -> Result<String> {
        match value {
            Value::List(list) => {
                let mut parts = Vec::with_capacity(list.len());
                for item in list.iter() {
                    parts.push(self.shown(&item)?);
                }
                Ok(format!("[{}]", parts.join(", ")))
            }
            Value::Map(map) => {
                let mut parts = Vec::with_capacity(map.len());
                for (key, value) in map.entries() {
                    parts.push(format!("{}: {}", self.shown(&key)?, self.shown(&value)?));
                }
                Ok(format!("{{{}}}", parts.join(", ")))
            }
            scalar => {
                self.spend(1 + traversal(scalar.size()))?;
                crate::functions::shown(scalar)
            }
        }
    }
}

/// What the rounds of a macro have come to.
#[derive(Default)]
struct Gathering<'a> {
    decided: bool,
    error: Option<EvalError>,
    count: u64,
    items: Vec<Value<'a>>,
    entries: Vec<(Value<'a>, Value<'a>)>,
}

impl<'a> Gathering<'a> {
    fn result(self, goal: Goal) -> Result<Value<'a>> {
        match goal {
            Goal::All | Goal::Exists => match self.error {
                Some(error) if !self.decided => Err(error),
                _ => Ok(Value::Bool(self.decided == (goal == Goal::Exists))),
            },
            Goal::ExistsOne => Ok(Value::Bool(self.count == 1)),
            Goal::Filter | Goal::List => Ok(Value::list(self.items)),
            Goal::Map => Ok(Value::Map(Map::Made(self.entries.into()))),
        }
    }
}

fn truth(value: Value<'_>) -> Result<bool> {
    match value {
        Value::Bool(value) => Ok(value),
        _ => Err(EvalError::Overload),
    }
}

fn of_literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::Text(value) => Value::text(value),
        Literal::Bytes(value) => Value::Bytes(value.clone()),
    }
}

/// The types that have names of their own: `type(x) == int`.
const TYPE_NAMES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

pub(crate) fn type_value(name: &str) -> Option<Value<'static>> {
    TYPE_NAMES.iter().find(|known| **known == name).map(|name| Value::Type(name))
}
