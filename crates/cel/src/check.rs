//! Types and the largest cost, found in one walk.
//!
//! Costs follow the reference implementation: a step is one, a list 10, a map 30, reading a text
//! a tenth of its characters, a macro its body times the largest size of what it runs over.

mod growth;

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;

use crate::error::CompileError;
use crate::eval::{compile_regex, cost, type_value};
use crate::functions::{self, traversal};
use crate::syntax::{Access, Call, Comprehension, Element, Entry, Expr, Goal, Kind, Literal};
use crate::types::{ListKind, Type, Typed};
use crate::{ERRORS_MAX, Variable};

/// What the walk found.
pub(crate) struct Checked {
    pub(crate) typed: Typed,
    pub(crate) cost: u64,
    /// Of the patterns that stand in the source.
    pub(crate) regexes: HashMap<Box<str>, Regex>,
    /// The variables that are read.
    pub(crate) uses: Vec<Box<str>>,
}

pub(crate) fn check(root: &Expr, variables: &[Variable<'_>]) -> Result<Checked, Vec<CompileError>> {
    let scope = variables.iter().map(|variable| (variable.name.to_owned(), variable.typed.clone())).collect();
    let mut walk = Walk { scope, outermost: variables.len(), errors: Vec::new(), regexes: HashMap::new(), uses: Vec::new() };
    let found = walk.expr(root);
    if walk.errors.is_empty() {
        Ok(Checked { typed: found.typed, cost: found.cost, regexes: walk.regexes, uses: walk.uses })
    } else {
        Err(walk.errors)
    }
}

/// What is known of an expression.
struct Found {
    typed: Typed,
    cost: u64,
}

impl Found {
    fn new(typed: impl Into<Typed>, cost: u64) -> Self {
        Self { typed: typed.into(), cost }
    }
}

struct Walk {
    scope: Vec<(String, Typed)>,
    /// How many of the scope are variables of the caller.
    outermost: usize,
    errors: Vec<CompileError>,
    regexes: HashMap<Box<str>, Regex>,
    uses: Vec<Box<str>>,
}

/// Names in messages are cut to this many characters.
const SHOWN_CHARACTERS_MAX: usize = 100;

fn shown(name: &str) -> String {
    name.chars().take(SHOWN_CHARACTERS_MAX).collect()
}

impl Walk {
    /// Notes a mistake; the value is anything from here on, so that one mistake is told once.
    fn wrong(&mut self, at: usize, message: impl Into<String>) -> Found {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(CompileError::new(at, message));
        }
        Found::new(Type::Dyn, 0)
    }

    fn no_overload(&mut self, at: usize, name: &str, arguments: &str) -> Found {
        self.wrong(at, format!("found no matching overload for '{}' applied to '{arguments}'", shown(name)))
    }

    fn expr(&mut self, expr: &Expr) -> Found {
        let at = expr.at;
        match &expr.kind {
            Kind::Literal(literal) => Found::new(of_literal(literal), 0),
            Kind::Ident(name) => self.ident(at, name),
            Kind::Select { operand, field, access } => self.select(at, operand, field, *access),
            Kind::Index { operand, index, optional } => self.index(at, operand, index, *optional),
            Kind::Call(call) => self.call(at, call),
            Kind::And(left, right) => self.logic(at, "_&&_", left, right),
            Kind::Or(left, right) => self.logic(at, "_||_", left, right),
            Kind::Ternary(parts) => self.ternary(at, parts),
            Kind::Equal { sides, negated } => self.equal(at, sides, *negated),
            Kind::In(sides) => self.is_in(at, sides),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Comprehension(comprehension) => self.comprehension(at, comprehension),
            Kind::Bind { name, value, body } => {
                let value = self.expr(value);
                let body = self.within(vec![(name.to_string(), value.typed)], body);
                Found::new(body.typed, value.cost.saturating_add(body.cost))
            }
            Kind::OptionalMap { operand, name, body, flat } => self.optional_map(at, operand, name, body, *flat),
        }
    }

    fn within(&mut self, names: Vec<(String, Typed)>, body: &Expr) -> Found {
        let before = self.scope.len();
        self.scope.extend(names);
        let found = self.expr(body);
        self.scope.truncate(before);
        found
    }

    fn ident(&mut self, at: usize, name: &str) -> Found {
        if let Some(place) = self.scope.iter().rposition(|(known, _)| known == name) {
            if place < self.outermost && !self.uses.iter().any(|used| **used == *name) {
                self.uses.push(name.into());
            }
            return Found::new(self.scope[place].1.clone(), cost::STEP);
        }
        if type_value(name).is_some() {
            return Found::new(Type::Type, cost::STEP);
        }
        self.wrong(at, format!("undeclared reference to '{}' (in container '')", shown(name)))
    }

    fn select(&mut self, at: usize, operand: &Expr, field: &str, access: Access) -> Found {
        let operand = self.expr(operand);
        let (container, was_optional) = match &operand.typed.ty {
            Type::Optional(inner) => ((**inner).clone(), true),
            _ => (operand.typed.clone(), false),
        };
        let selected = match &container.ty {
            Type::Dyn => Typed::new(Type::Dyn, container.max),
            Type::Object(object) => match object.fields.get(field) {
                Some(found) => found.typed.clone(),
                None => return self.wrong(at, format!("undefined field '{}'", shown(field))),
            },
            Type::Map(_, value) => (**value).clone(),
            other => {
                let message = format!("type '{other}' does not support field selection");
                return self.wrong(at, message);
            }
        };
        let cost = operand.cost.saturating_add(cost::STEP);
        match access {
            Access::Presence => Found::new(Type::Bool, cost),
            Access::Value if !was_optional => Found::new(selected, cost),
            Access::Value | Access::Optional => Found::new(optional(selected), cost),
        }
    }

    fn index(&mut self, at: usize, operand: &Expr, index: &Expr, is_optional: bool) -> Found {
        let (operand, index) = (self.expr(operand), self.expr(index));
        let (container, was_optional) = match &operand.typed.ty {
            Type::Optional(inner) => ((**inner).clone(), true),
            _ => (operand.typed.clone(), false),
        };
        let found = match (&container.ty, &index.typed.ty) {
            (Type::Dyn, _) => Typed::new(Type::Dyn, container.max),
            (Type::List(item, _), Type::Int | Type::Uint | Type::Dyn) => (**item).clone(),
            (Type::Map(key, value), index) if key.ty.fits(index) => (**value).clone(),
            (container, index) => {
                let arguments = format!("({container}, {index})");
                return self.no_overload(at, "_[_]", &arguments);
            }
        };
        // A map that was made is looked through.
        let look = if matches!(container.ty, Type::Map(..) | Type::Dyn) { traversal(container.max) } else { 0 };
        let cost = operand.cost.saturating_add(index.cost).saturating_add(cost::STEP).saturating_add(look);
        Found::new(if is_optional || was_optional { optional(found) } else { found }, cost)
    }

    fn call(&mut self, at: usize, call: &Call) -> Found {
        let mut cost = 0_u64;
        let mut types = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            let found = self.expr(argument);
            cost = cost.saturating_add(found.cost);
            types.push(found.typed);
        }
        if call.candidates.is_empty() && !functions::exists(&call.name) {
            return self.wrong(at, format!("undeclared reference to '{}' (in container '')", shown(&call.name)));
        }
        let fits = |function: &&&'static functions::Function| {
            std::iter::zip(function.arguments, &types).all(|(pattern, typed): (&functions::Pattern, &Typed)| pattern.accepts(&typed.ty))
        };
        let fitting: Vec<&'static functions::Function> = call.candidates.iter().filter(fits).copied().collect();
        let Some(first) = fitting.first() else {
            let names: Vec<String> = types.iter().map(|typed| typed.ty.to_string()).collect();
            let arguments = match names.split_first() {
                Some((target, rest)) if call.is_member => format!("{target}.({})", rest.join(", ")),
                _ => format!("({})", names.join(", ")),
            };
            return self.no_overload(at, &call.name, &arguments);
        };
        let compiling = if self.literal_pattern(call) { 0 } else { types.get(1).map_or(0, |pattern| pattern.max) };
        let sizes: Vec<u64> = types.iter().map(|typed| typed.max).collect();
        let own = fitting.iter().map(|function| (function.cost)(&sizes)).max().unwrap_or(cost::STEP);
        let own = own.saturating_add(growth::growth(&call.name, &types)).saturating_add(compiling.saturating_mul(growth::PATTERN_BYTE));
        let mut typed = (first.result)(&types);
        // With a value of unknown type several may fit, and their results differ.
        if fitting.iter().any(|other| !(other.result)(&types).ty.fits(&typed.ty)) {
            typed = Typed::new(Type::Dyn, typed.max);
        }
        Found::new(typed, cost.saturating_add(own))
    }

    /// A pattern in the source is compiled once, here. Answers whether none is left to be compiled
    /// while the expression runs.
    fn literal_pattern(&mut self, call: &Call) -> bool {
        if !matches!(&*call.name, "matches" | "find" | "findAll") {
            return true;
        }
        let Some(Expr { at, kind: Kind::Literal(Literal::Text(pattern)), .. }) = call.arguments.get(1) else { return false };
        match compile_regex(pattern) {
            Ok(regex) => {
                self.regexes.insert(pattern.clone(), regex);
            }
            Err(error) => {
                self.wrong(*at, format!("invalid {} argument: {error}", call.name));
            }
        }
        true
    }

    fn logic(&mut self, at: usize, name: &str, left: &Expr, right: &Expr) -> Found {
        let (left, right) = (self.expr(left), self.expr(right));
        for side in [&left, &right] {
            if !side.typed.ty.fits(&Type::Bool) {
                let arguments = format!("({}, {})", left.typed.ty, right.typed.ty);
                return self.no_overload(at, name, &arguments);
            }
        }
        Found::new(Type::Bool, left.cost.saturating_add(right.cost).saturating_add(cost::STEP))
    }

    fn ternary(&mut self, at: usize, parts: &[Expr; 3]) -> Found {
        let [condition, then, otherwise] = parts;
        let (condition, then, otherwise) = (self.expr(condition), self.expr(then), self.expr(otherwise));
        let fits = condition.typed.ty.fits(&Type::Bool) && joinable(&then.typed.ty, &otherwise.typed.ty);
        if !fits {
            let arguments = format!("({}, {}, {})", condition.typed.ty, then.typed.ty, otherwise.typed.ty);
            return self.no_overload(at, "_?_:_", &arguments);
        }
        let cost = condition.cost.saturating_add(then.cost.max(otherwise.cost)).saturating_add(cost::STEP);
        Found::new(either(then.typed, otherwise.typed), cost)
    }

    fn equal(&mut self, at: usize, sides: &[Expr; 2], negated: bool) -> Found {
        let (one, two) = (self.expr(&sides[0]), self.expr(&sides[1]));
        if !comparable(&one.typed.ty, &two.typed.ty) {
            let arguments = format!("({}, {})", one.typed.ty, two.typed.ty);
            return self.no_overload(at, if negated { "_!=_" } else { "_==_" }, &arguments);
        }
        let own = weight(&one.typed, 0).min(weight(&two.typed, 0));
        Found::new(Type::Bool, one.cost.saturating_add(two.cost).saturating_add(own))
    }

    fn is_in(&mut self, at: usize, sides: &[Expr; 2]) -> Found {
        let (wanted, container) = (self.expr(&sides[0]), self.expr(&sides[1]));
        let own = match &container.typed.ty {
            Type::List(item, _) if comparable(&wanted.typed.ty, &item.ty) => {
                container.typed.max.saturating_mul(weight(&wanted.typed, 0).min(weight(item, 0)))
            }
            Type::Map(key, _) if key.ty.fits(&wanted.typed.ty) => cost::STEP.saturating_add(traversal(container.typed.max)),
            Type::Dyn => container.typed.max,
            other => {
                let arguments = format!("({}, {other})", wanted.typed.ty);
                return self.no_overload(at, "@in", &arguments);
            }
        };
        Found::new(Type::Bool, wanted.cost.saturating_add(container.cost).saturating_add(own).saturating_add(cost::STEP))
    }

    fn list(&mut self, elements: &[Element]) -> Found {
        let mut item: Option<Typed> = None;
        let mut cost = cost::LIST;
        for element in elements {
            let found = self.expr(&element.value);
            cost = cost.saturating_add(found.cost);
            let typed = match (&found.typed.ty, element.optional) {
                (Type::Optional(inner), true) => (**inner).clone(),
                (Type::Dyn, _) | (_, false) => found.typed,
                (other, true) => {
                    let message = format!("expected type 'optional_type(T)' but found '{other}'");
                    self.wrong(element.value.at, message).typed
                }
            };
            item = Some(match item {
                Some(before) => either(before, typed),
                None => typed,
            });
        }
        let item = item.unwrap_or_else(|| Type::Dyn.into());
        Found::new(Typed::new(Type::list(item), elements.len() as u64), cost)
    }

    fn map(&mut self, entries: &[Entry]) -> Found {
        let mut types: Option<(Typed, Typed)> = None;
        let mut cost = cost::MAP;
        for entry in entries {
            let (key, value) = (self.expr(&entry.key), self.expr(&entry.value));
            cost = cost.saturating_add(key.cost).saturating_add(value.cost).saturating_add(traversal(entries.len() as u64));
            let value = match (&value.typed.ty, entry.optional) {
                (Type::Optional(inner), true) => (**inner).clone(),
                _ => value.typed,
            };
            types = Some(match types {
                Some((keys, values)) => (either(keys, key.typed), either(values, value)),
                None => (key.typed, value),
            });
        }
        let (key, value) = types.unwrap_or_else(|| (Type::Dyn.into(), Type::Dyn.into()));
        Found::new(Typed::new(Type::Map(Arc::new(key), Arc::new(value)), entries.len() as u64), cost)
    }

    fn comprehension(&mut self, at: usize, comprehension: &Comprehension) -> Found {
        let range = self.expr(&comprehension.range);
        let rounds = range.typed.max;
        let (key, value) = match &range.typed.ty {
            Type::List(item, _) => (Type::Int.into(), (**item).clone()),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn => (Type::Dyn.into(), Typed::new(Type::Dyn, rounds)),
            other => {
                let message = format!("expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)");
                return self.wrong(at, message);
            }
        };
        let is_map = matches!(range.typed.ty, Type::Map(..));
        let names = match &comprehension.second {
            Some(second) => vec![(comprehension.name.to_string(), key.clone()), (second.to_string(), value.clone())],
            None => vec![(comprehension.name.to_string(), if is_map { key.clone() } else { value.clone() })],
        };
        let filter = comprehension.filter.as_ref().map(|filter| (filter.at, self.within(names.clone(), filter)));
        let body = self.within(names, &comprehension.body);
        let needs_truth = matches!(comprehension.goal, Goal::All | Goal::Exists | Goal::ExistsOne | Goal::Filter);
        let predicates = filter.iter().map(|(at, found)| (*at, found)).chain(needs_truth.then_some((comprehension.body.at, &body)));
        let wrong: Vec<(usize, String)> = predicates
            .filter(|(_, found)| !found.typed.ty.fits(&Type::Bool))
            .map(|(at, found)| (at, format!("expected type 'bool' but found '{}'", found.typed.ty)))
            .collect();
        for (at, message) in wrong {
            self.wrong(at, message);
        }
        let filter_cost = filter.map_or(0, |(_, found)| found.cost);
        let round = body.cost.saturating_add(filter_cost).saturating_add(cost::ROUND + cost::STEP);
        let cost = range.cost.saturating_add(rounds.saturating_mul(round)).saturating_add(if is_map { rounds } else { 0 });
        let typed = match comprehension.goal {
            Goal::All | Goal::Exists | Goal::ExistsOne => Type::Bool.into(),
            Goal::Filter => Typed::new(Type::list(if is_map { key } else { value }), rounds),
            Goal::List => Typed::new(Type::list(body.typed), rounds),
            Goal::Map => Typed::new(Type::Map(Arc::new(key), Arc::new(body.typed)), rounds),
        };
        Found::new(typed, cost)
    }

    fn optional_map(&mut self, at: usize, operand: &Expr, name: &str, body: &Expr, flat: bool) -> Found {
        let operand = self.expr(operand);
        let inner = match &operand.typed.ty {
            Type::Optional(inner) => (**inner).clone(),
            Type::Dyn => Typed::new(Type::Dyn, operand.typed.max),
            other => {
                let arguments = format!("{other}.({})", shown(name));
                return self.no_overload(at, if flat { "optFlatMap" } else { "optMap" }, &arguments);
            }
        };
        let body = self.within(vec![(name.to_owned(), inner)], body);
        let cost = operand.cost.saturating_add(body.cost).saturating_add(cost::STEP);
        Found::new(if flat { body.typed } else { optional(body.typed) }, cost)
    }
}

fn optional(inner: Typed) -> Typed {
    let max = inner.max;
    Typed::new(Type::Optional(Arc::new(inner)), max)
}

/// A type for values of one or the other.
fn either(one: Typed, two: Typed) -> Typed {
    let max = one.max.max(two.max);
    let ty = match (one.ty, two.ty) {
        (Type::List(a, kind), Type::List(b, _)) if a.ty.fits(&b.ty) => Type::List(Arc::new(either((*a).clone(), (*b).clone())), kind),
        (one, two) if one.fits(&two) => {
            if two == Type::Dyn {
                Type::Dyn
            } else {
                one
            }
        }
        _ => Type::Dyn,
    };
    Typed::new(ty, max)
}

fn joinable(one: &Type, two: &Type) -> bool {
    one.fits(two) || matches!((one, two), (Type::Null, _) | (_, Type::Null))
}

/// Whether `==` makes sense. Anything may be compared with null: a nullable field can hold it.
fn comparable(one: &Type, two: &Type) -> bool {
    let is_number = |ty: &Type| matches!(ty, Type::Int | Type::Uint | Type::Double);
    joinable(one, two)
        || (is_number(one) && is_number(two))
        || matches!((one, two), (Type::Object(_), Type::Map(..)) | (Type::Map(..), Type::Object(_)))
}

/// How deep [`weight`] looks; what lies deeper counts as one.
const WEIGHT_DEPTH_MAX: usize = 8;

/// The most that comparing a value can cost.
fn weight(typed: &Typed, depth: usize) -> u64 {
    if depth >= WEIGHT_DEPTH_MAX {
        return 1;
    }
    match &typed.ty {
        Type::Text | Type::Bytes | Type::Dyn => 1 + traversal(typed.max),
        Type::List(item, ListKind::Atomic) => typed.max.saturating_mul(weight(item, depth + 1)).saturating_add(1),
        // Without order, each is compared with each.
        Type::List(item, _) => typed.max.saturating_mul(typed.max).saturating_mul(weight(item, depth + 1)).saturating_add(1),
        Type::Map(key, value) => {
            let entry = weight(key, depth + 1).saturating_add(weight(value, depth + 1)).saturating_add(traversal(typed.max));
            typed.max.saturating_mul(entry).saturating_add(1)
        }
        Type::Object(object) => object.fields.values().fold(1, |sum: u64, field| sum.saturating_add(weight(&field.typed, depth + 1))),
        Type::Optional(inner) => weight(inner, depth + 1),
        _ => 1,
    }
}

fn of_literal(literal: &Literal) -> Typed {
    match literal {
        Literal::Null => Type::Null.into(),
        Literal::Bool(_) => Type::Bool.into(),
        Literal::Int(_) => Type::Int.into(),
        Literal::Uint(_) => Type::Uint.into(),
        Literal::Double(_) => Type::Double.into(),
        Literal::Text(text) => Typed::new(Type::Text, text.len() as u64),
        Literal::Bytes(bytes) => Typed::new(Type::Bytes, bytes.len() as u64),
    }
}
