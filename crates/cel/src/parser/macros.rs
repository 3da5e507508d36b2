//! The macros: calls whose arguments are names and unevaluated expressions.

use super::{Parser, Result};
use crate::error::CompileError;
use crate::syntax::{Access, Comprehension, Expr, Goal, Kind};

const MACROS: [&str; 10] =
    ["all", "exists", "exists_one", "existsOne", "filter", "map", "optFlatMap", "optMap", "transformList", "transformMap"];

pub(super) fn is_macro(name: &str) -> bool {
    MACROS.contains(&name)
}

impl Parser {
    /// `has(operand.field)`; its opening bracket was read.
    pub(super) fn has(&mut self, at: usize) -> Result<Expr> {
        let mut arguments = self.arguments()?;
        match (arguments.pop(), arguments.is_empty()) {
            (Some(Expr { at, depth, kind: Kind::Select { operand, field, access: Access::Value } }), true) => {
                Ok(Expr { at, depth, kind: Kind::Select { operand, field, access: Access::Presence } })
            }
            _ => Err(CompileError::new(at, "invalid argument to has() macro")),
        }
    }

    /// `cel.bind(name, value, body)`; its opening bracket was read.
    pub(super) fn bind(&mut self, at: usize) -> Result<Expr> {
        let [name, value, body] = self.macro_arguments(at, "cel.bind")?;
        let name = variable(&name)?;
        let depth = value.depth.max(body.depth);
        self.node(at, depth, Kind::Bind { name, value: Box::new(value), body: Box::new(body) })
    }

    pub(super) fn macro_call(&mut self, at: usize, range: Expr, name: &str) -> Result<Expr> {
        let mut arguments = self.arguments()?;
        let wrong = || CompileError::new(at, format!("wrong number of arguments to {name}()"));
        let depth = arguments.iter().map(|argument| argument.depth).max().unwrap_or(0).max(range.depth);
        if let "optMap" | "optFlatMap" = name {
            let [variable_name, body] = <[Expr; 2]>::try_from(arguments).map_err(|_| wrong())?;
            let flat = name == "optFlatMap";
            let name = variable(&variable_name)?;
            return self.node(at, depth, Kind::OptionalMap { operand: Box::new(range), name, body: Box::new(body), flat });
        }
        let body = arguments.pop().ok_or_else(wrong)?;
        let mut rest = arguments.into_iter();
        let first = variable(&rest.next().ok_or_else(wrong)?)?;
        let rest: Vec<Expr> = rest.collect();
        let (goal, second, filter) = match (name, rest.len()) {
            ("all", 0) => (Goal::All, None, None),
            ("exists", 0) => (Goal::Exists, None, None),
            ("exists_one" | "existsOne", 0) => (Goal::ExistsOne, None, None),
            ("filter", 0) => (Goal::Filter, None, None),
            ("map", 0) => (Goal::List, None, None),
            ("map", 1) => (Goal::List, None, rest.into_iter().next()),
            ("all", 1) => (Goal::All, Some(rest), None),
            ("exists", 1) => (Goal::Exists, Some(rest), None),
            ("exists_one" | "existsOne", 1) => (Goal::ExistsOne, Some(rest), None),
            ("transformList" | "transformMap", 1 | 2) => {
                let goal = if name == "transformList" { Goal::List } else { Goal::Map };
                let mut rest = rest.into_iter();
                let second = rest.next().into_iter().collect();
                (goal, Some(second), rest.next())
            }
            _ => return Err(wrong()),
        };
        let second = match second {
            Some(names) => Some(variable(names.first().ok_or_else(wrong)?)?),
            None => None,
        };
        self.node(at, depth, Kind::Comprehension(Box::new(Comprehension { goal, range, name: first, second, filter, body })))
    }

    fn macro_arguments<const N: usize>(&mut self, at: usize, name: &str) -> Result<[Expr; N]> {
        let arguments = self.arguments()?;
        <[Expr; N]>::try_from(arguments).map_err(|_| CompileError::new(at, format!("wrong number of arguments to {name}()")))
    }
}

/// The name that a macro gives to a value.
fn variable(expression: &Expr) -> Result<Box<str>> {
    match &expression.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(CompileError::new(expression.at, "argument must be a simple name")),
    }
}
