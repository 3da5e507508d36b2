//! The Common Expression Language as Kubernetes uses it for validation rules: parser, type
//! checker, cost estimate and evaluator, all bounded.
//!
//! The language is that of <https://github.com/google/cel-spec>; the functions are the standard
//! ones and those of <https://kubernetes.io/docs/reference/using-api/cel/>. Expressions come from
//! users, so everything is bounded before it is done: source length, nesting, the number of
//! nodes, and the work of one evaluation, which is counted in the units of Kubernetes (a step is
//! one, ten characters read are one).
//!
//! Start with [`Program`]; `parser.rs` makes the tree, `check.rs` finds its type and the most it
//! can cost, `eval.rs` runs it. `functions.rs` holds the one table of functions that the three
//! read.
//!
//! Invariants
//! - No input makes compilation or evaluation panic, overflow the stack or run without bound.
//! - Evaluation is pure: no clock, no I/O, no state.
//! - An expression that checked without `dyn` in it cannot fail for its types.

mod check;
mod error;
mod eval;
mod functions;
mod lexer;
mod parser;
mod syntax;
mod types;
mod value;

use std::collections::HashMap;

use regex::Regex;

pub use error::{CompileError, CompileErrors, EvalError};
pub use types::{Field, ListKind, Object, Type, Typed, escape_property};
pub use value::Value;

/// The longest source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 32 * 1024;
/// The most levels of a tree. Each takes about a kilobyte of stack when it is evaluated.
pub const DEPTH_MAX: usize = 100;
/// The most nodes of a tree.
pub const NODES_MAX: usize = 10_000;
/// The most errors reported for one source.
pub const ERRORS_MAX: usize = 10;
/// What one evaluation may cost, as in Kubernetes.
pub const COST_PER_EVALUATION_MAX: u64 = 1_000_000;

/// A variable that an expression may use.
#[derive(Debug, Clone)]
pub struct Variable<'n> {
    /// Its name in the source.
    pub name: &'n str,
    /// What is known of its value.
    pub typed: Typed,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    root: syntax::Expr,
    regexes: HashMap<Box<str>, Regex>,
    typed: Typed,
    cost: u64,
    uses: Vec<Box<str>>,
}

impl Program {
    /// Parses and checks a source.
    ///
    /// # Errors
    /// With everything wrong that was found, at most [`ERRORS_MAX`], in the words of the
    /// reference implementation.
    pub fn compile(source: &str, variables: &[Variable<'_>]) -> Result<Self, CompileErrors> {
        let fail = |errors: Vec<CompileError>| CompileErrors::new(source, errors);
        let root = parser::parse(source).map_err(|error| fail(vec![error]))?;
        let checked = check::check(&root, variables).map_err(fail)?;
        Ok(Self { root, regexes: checked.regexes, typed: checked.typed, cost: checked.cost, uses: checked.uses })
    }

    /// The type of the result.
    pub fn result(&self) -> &Typed {
        &self.typed
    }

    /// The most one evaluation can cost, given the sizes that the variables' types allow.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Whether the expression reads a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.uses.iter().any(|used| **used == *variable)
    }

    /// Runs the expression. `budget` is reduced by what it cost; when it would fall below zero,
    /// or one evaluation costs more than [`COST_PER_EVALUATION_MAX`], the run ends with
    /// [`EvalError::Budget`].
    ///
    /// # Errors
    /// When a step fails, as a missing key or a division by zero does.
    pub fn run<'a>(&'a self, variables: &[(&'a str, Value<'a>)], budget: &mut u64) -> Result<Value<'a>, EvalError> {
        let allowed = (*budget).min(COST_PER_EVALUATION_MAX);
        let mut run = eval::Run::new(&self.regexes, variables, allowed);
        let result = run.value(&self.root);
        *budget -= allowed - run.left();
        result
    }
}

#[cfg(test)]
mod tests;
