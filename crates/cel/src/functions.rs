//! The one table of functions: what they take, give back and cost, and how they run.
//!
//! A cost is a function of the arguments' sizes, so the same line estimates (with the largest
//! sizes that the types allow) and charges (with the real ones).

mod conversions;
mod formats;
mod lists;
mod net;
mod operators;
mod optionals;
mod quantities;
mod text;
mod time;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::error::EvalError;
use crate::eval::Run;
use crate::types::{Type, Typed};
use crate::value::Value;

pub(crate) use conversions::shown;
pub(crate) use operators::order;

pub(crate) type Outcome<'a> = Result<Value<'a>, EvalError>;
type Body = for<'a> fn(&mut Run<'a>, &[Value<'a>]) -> Outcome<'a>;

/// One function for one list of arguments.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) is_member: bool,
    pub(crate) arguments: &'static [Pattern],
    pub(crate) result: fn(&[Typed]) -> Typed,
    pub(crate) cost: fn(&[u64]) -> u64,
    pub(crate) run: Body,
}

const fn global(
    name: &'static str,
    arguments: &'static [Pattern],
    result: fn(&[Typed]) -> Typed,
    cost: fn(&[u64]) -> u64,
    run: Body,
) -> Function {
    Function { name, is_member: false, arguments, result, cost, run }
}

const fn member(
    name: &'static str,
    arguments: &'static [Pattern],
    result: fn(&[Typed]) -> Typed,
    cost: fn(&[u64]) -> u64,
    run: Body,
) -> Function {
    Function { name, is_member: true, arguments, result, cost, run }
}

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    Any,
    Bool,
    Int,
    Uint,
    Double,
    /// Any of the three.
    Number,
    Text,
    Bytes,
    Duration,
    Timestamp,
    List,
    Texts,
    Map,
    Optional,
    Quantity,
    Url,
    Ip,
    Cidr,
    Format,
}

impl Pattern {
    pub(crate) fn accepts(self, ty: &Type) -> bool {
        match (self, ty) {
            (Self::Any, _) | (_, Type::Dyn) => true,
            (Self::Bool, Type::Bool)
            | (Self::Int | Self::Number, Type::Int)
            | (Self::Uint | Self::Number, Type::Uint)
            | (Self::Double | Self::Number, Type::Double)
            | (Self::Text, Type::Text)
            | (Self::Bytes, Type::Bytes)
            | (Self::Duration, Type::Duration)
            | (Self::Timestamp, Type::Timestamp)
            | (Self::List, Type::List(..))
            | (Self::Map, Type::Map(..))
            | (Self::Optional, Type::Optional(_))
            | (Self::Quantity, Type::Quantity)
            | (Self::Url, Type::Url)
            | (Self::Ip, Type::Ip)
            | (Self::Cidr, Type::Cidr)
            | (Self::Format, Type::Format) => true,
            (Self::Texts, Type::List(item, _)) => matches!(item.ty, Type::Text | Type::Dyn),
            _ => false,
        }
    }

    pub(crate) fn matches(self, value: &Value<'_>) -> bool {
        matches!(
            (self, value),
            (Self::Any, _)
                | (Self::Bool, Value::Bool(_))
                | (Self::Int | Self::Number, Value::Int(_))
                | (Self::Uint | Self::Number, Value::Uint(_))
                | (Self::Double | Self::Number, Value::Double(_))
                | (Self::Text, Value::Text(_))
                | (Self::Bytes, Value::Bytes(_))
                | (Self::Duration, Value::Duration(_))
                | (Self::Timestamp, Value::Timestamp(_))
                | (Self::List | Self::Texts, Value::List(_))
                | (Self::Map, Value::Map(_))
                | (Self::Optional, Value::Optional(_))
                | (Self::Quantity, Value::Quantity(_))
                | (Self::Url, Value::Url(_))
                | (Self::Ip, Value::Ip(_))
                | (Self::Cidr, Value::Cidr(..))
                | (Self::Format, Value::Format(_))
        )
    }
}

static BY_NAME: LazyLock<HashMap<&'static str, Vec<&'static Function>>> = LazyLock::new(|| {
    let mut by_name: HashMap<&'static str, Vec<&'static Function>> = HashMap::new();
    let all = [
        operators::FUNCTIONS,
        conversions::FUNCTIONS,
        text::FUNCTIONS,
        lists::FUNCTIONS,
        time::FUNCTIONS,
        quantities::FUNCTIONS,
        net::FUNCTIONS,
        optionals::FUNCTIONS,
        formats::FUNCTIONS,
    ];
    for function in all.into_iter().flatten().copied().flatten() {
        by_name.entry(function.name).or_default().push(function);
    }
    by_name
});

/// What a function with dots in its name may begin with.
pub(crate) fn is_namespace(word: &str) -> bool {
    matches!(word, "cel" | "optional" | "strings" | "sets" | "ip" | "format")
}

pub(crate) fn exists(name: &str) -> bool {
    BY_NAME.contains_key(name)
}

/// The functions of a name, form and number of arguments.
pub(crate) fn candidates(name: &str, is_member: bool, arguments: usize) -> Vec<&'static Function> {
    let found = BY_NAME.get(name).into_iter().flatten();
    found.filter(|function| function.is_member == is_member && function.arguments.len() == arguments).copied().collect()
}

/// Reading a text or list: one for ten characters, as in Kubernetes.
pub(crate) fn traversal(size: u64) -> u64 {
    size.div_ceil(10)
}

/// A step of its own.
fn step(_: &[u64]) -> u64 {
    1
}

/// All texts among the arguments are read.
fn reads_all(sizes: &[u64]) -> u64 {
    sizes.iter().fold(1, |cost: u64, size| cost.saturating_add(traversal(*size)))
}

/// The first is searched for the second.
fn searches(sizes: &[u64]) -> u64 {
    let needle = sizes.get(1).copied().unwrap_or(1);
    traversal(sizes[0]).saturating_mul(traversal(needle).max(1)).saturating_add(1)
}

/// Each item of the first is looked at.
fn per_item(sizes: &[u64]) -> u64 {
    sizes[0].saturating_add(1)
}

/// Each item of the first is compared with each of the second.
fn per_pair(sizes: &[u64]) -> u64 {
    sizes[0].saturating_mul(sizes[1]).saturating_add(1)
}

fn a_bool(_: &[Typed]) -> Typed {
    Type::Bool.into()
}

fn an_int(_: &[Typed]) -> Typed {
    Type::Int.into()
}

fn a_double(_: &[Typed]) -> Typed {
    Type::Double.into()
}

/// A text no longer than the first argument.
fn a_text(arguments: &[Typed]) -> Typed {
    Typed::new(Type::Text, arguments[0].max)
}

/// A text that is never long: a number, an address.
fn a_short_text(_: &[Typed]) -> Typed {
    Typed::new(Type::Text, 64)
}

fn same_as_first(arguments: &[Typed]) -> Typed {
    arguments[0].clone()
}

/// What a list holds.
pub(crate) fn item_of(list: &Typed) -> Typed {
    match &list.ty {
        Type::List(item, _) => (**item).clone(),
        _ => Typed::new(Type::Dyn, list.max),
    }
}
