//! The tree of an expression.

use std::sync::Arc;

use crate::functions::Function;

/// A node, with what is needed to bound work on it.
#[derive(Debug)]
pub(crate) struct Expr {
    /// Bytes of the source before it.
    pub(crate) at: usize,
    /// Levels of the tree below and including it.
    pub(crate) depth: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(Box<str>),
    /// `operand.field`, `has(operand.field)`, `operand.?field`
    Select {
        operand: Box<Expr>,
        field: Box<str>,
        access: Access,
    },
    /// `operand[index]`, `operand[?index]`
    Index {
        operand: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    Call(Call),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Ternary(Box<[Expr; 3]>),
    Equal {
        sides: Box<[Expr; 2]>,
        negated: bool,
    },
    In(Box<[Expr; 2]>),
    List(Vec<Element>),
    Map(Vec<Entry>),
    Comprehension(Box<Comprehension>),
    /// `cel.bind(name, value, body)`
    Bind {
        name: Box<str>,
        value: Box<Expr>,
        body: Box<Expr>,
    },
    /// `operand.optMap(name, body)`, and `optFlatMap`
    OptionalMap {
        operand: Box<Expr>,
        name: Box<str>,
        body: Box<Expr>,
        flat: bool,
    },
}

/// How a field is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Value,
    Presence,
    Optional,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Debug)]
pub(crate) struct Call {
    /// As in errors: `size`, `_+_`.
    pub(crate) name: Box<str>,
    pub(crate) is_member: bool,
    /// Of a member, the target first.
    pub(crate) arguments: Vec<Expr>,
    /// What has this name and takes this many arguments.
    pub(crate) candidates: Vec<&'static Function>,
}

#[derive(Debug)]
pub(crate) struct Element {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// A macro that runs over a list or the keys of a map.
#[derive(Debug)]
pub(crate) struct Comprehension {
    pub(crate) goal: Goal,
    pub(crate) range: Expr,
    /// The element of a list, the key of a map; the index of a list if there is a second name.
    pub(crate) name: Box<str>,
    /// The value beside the index or key.
    pub(crate) second: Option<Box<str>>,
    pub(crate) filter: Option<Expr>,
    /// The predicate or the transformed value.
    pub(crate) body: Expr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    All,
    Exists,
    ExistsOne,
    /// Elements for which the body holds.
    Filter,
    /// A list of the body's values.
    List,
    /// A map from the keys to the body's values.
    Map,
}
