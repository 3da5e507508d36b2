//! Arithmetic, comparison and negation.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{Function, Outcome, Pattern as P, a_bool, a_double, an_int, global, reads_all, step};
use crate::error::EvalError;
use crate::types::{Type, Typed};
use crate::value::Value as V;

fn overflow() -> EvalError {
    EvalError::failed("integer overflow")
}

fn uint_overflow() -> EvalError {
    EvalError::failed("unsigned integer overflow")
}

fn longer(arguments: &[Typed]) -> Typed {
    Typed::new(arguments[0].ty.clone(), arguments[0].max.saturating_add(arguments[1].max))
}

fn joined(arguments: &[Typed]) -> Typed {
    let max = arguments[0].max.saturating_add(arguments[1].max);
    match (&arguments[0].ty, &arguments[1].ty) {
        (Type::List(a, kind), Type::List(b, _)) if a.ty.fits(&b.ty) => {
            let item = Typed::new(a.ty.clone(), a.max.max(b.max));
            Typed::new(Type::List(std::sync::Arc::new(item), kind.clone()), max)
        }
        _ => Typed::new(Type::list(Typed::new(Type::Dyn, max)), max),
    }
}

/// Every entry is copied, and compared where the lists are sets.
fn copies(sizes: &[u64]) -> u64 {
    sizes[0].saturating_add(sizes[1]).saturating_add(1)
}

fn moment(at: Timestamp, nanos: i64, negative: bool) -> Outcome<'static> {
    let span = SignedDuration::from_nanos(nanos);
    let moved = if negative { at.checked_sub(span) } else { at.checked_add(span) };
    moved.map(V::Timestamp).map_err(|_| EvalError::failed("timestamp overflow"))
}

macro_rules! arithmetic {
    ($name:literal, $checked:ident, $sign:tt) => {
        [
            global($name, &[P::Int, P::Int], an_int, step, |_, a| match a {
                [V::Int(a), V::Int(b)] => a.$checked(*b).map(V::Int).ok_or_else(overflow),
                _ => Err(EvalError::Overload),
            }),
            global($name, &[P::Uint, P::Uint], |_| Type::Uint.into(), step, |_, a| match a {
                [V::Uint(a), V::Uint(b)] => a.$checked(*b).map(V::Uint).ok_or_else(uint_overflow),
                _ => Err(EvalError::Overload),
            }),
            global($name, &[P::Double, P::Double], a_double, step, |_, a| match a {
                [V::Double(a), V::Double(b)] => Ok(V::Double(a $sign b)),
                _ => Err(EvalError::Overload),
            }),
        ]
    };
}

macro_rules! comparison {
    ($name:literal, $test:ident) => {{
        const RUN: super::Body = |_, a| match order(&a[0], &a[1]) {
            Some(order) => Ok(V::Bool(order.$test())),
            // Not a number is neither less nor more than anything.
            None if a.iter().all(|value| P::Number.matches(value)) => Ok(V::Bool(false)),
            None => Err(EvalError::Overload),
        };
        [
            global($name, &[P::Number, P::Number], a_bool, step, RUN),
            global($name, &[P::Text, P::Text], a_bool, reads_less, RUN),
            global($name, &[P::Bytes, P::Bytes], a_bool, reads_less, RUN),
            global($name, &[P::Bool, P::Bool], a_bool, step, RUN),
            global($name, &[P::Duration, P::Duration], a_bool, step, RUN),
            global($name, &[P::Timestamp, P::Timestamp], a_bool, step, RUN),
        ]
    }};
}

/// Reading two texts ends with the shorter.
fn reads_less(sizes: &[u64]) -> u64 {
    reads_all(&[sizes[0].min(sizes[1])])
}

const ADD: [Function; 3] = arithmetic!("_+_", checked_add, +);
const SUBTRACT: [Function; 3] = arithmetic!("_-_", checked_sub, -);
const MULTIPLY: [Function; 3] = arithmetic!("_*_", checked_mul, *);
const LESS: [Function; 6] = comparison!("_<_", is_lt);
const LESS_OR_EQUAL: [Function; 6] = comparison!("_<=_", is_le);
const MORE: [Function; 6] = comparison!("_>_", is_gt);
const MORE_OR_EQUAL: [Function; 6] = comparison!("_>=_", is_ge);

const OTHERS: [Function; 18] = [
    global("_+_", &[P::Text, P::Text], longer, reads_all, |_, a| match a {
        [V::Text(a), V::Text(b)] => Ok(V::made([a.as_str(), b.as_str()].concat())),
        _ => Err(EvalError::Overload),
    }),
    global("_+_", &[P::Bytes, P::Bytes], longer, reads_all, |_, a| match a {
        [V::Bytes(a), V::Bytes(b)] => Ok(V::Bytes([&**a, &**b].concat().into())),
        _ => Err(EvalError::Overload),
    }),
    global("_+_", &[P::List, P::List], joined, copies, |run, a| match a {
        [V::List(a), V::List(b)] => run.join_lists(a, b),
        _ => Err(EvalError::Overload),
    }),
    global(
        "_+_",
        &[P::Duration, P::Duration],
        |_| Type::Duration.into(),
        step,
        |_, a| match a {
            [V::Duration(a), V::Duration(b)] => a.checked_add(*b).map(V::Duration).ok_or_else(overflow),
            _ => Err(EvalError::Overload),
        },
    ),
    global(
        "_+_",
        &[P::Timestamp, P::Duration],
        |_| Type::Timestamp.into(),
        step,
        |_, a| match a {
            [V::Timestamp(at), V::Duration(nanos)] => moment(*at, *nanos, false),
            _ => Err(EvalError::Overload),
        },
    ),
    global(
        "_+_",
        &[P::Duration, P::Timestamp],
        |_| Type::Timestamp.into(),
        step,
        |_, a| match a {
            [V::Duration(nanos), V::Timestamp(at)] => moment(*at, *nanos, false),
            _ => Err(EvalError::Overload),
        },
    ),
    global(
        "_-_",
        &[P::Duration, P::Duration],
        |_| Type::Duration.into(),
        step,
        |_, a| match a {
            [V::Duration(a), V::Duration(b)] => a.checked_sub(*b).map(V::Duration).ok_or_else(overflow),
            _ => Err(EvalError::Overload),
        },
    ),
    global(
        "_-_",
        &[P::Timestamp, P::Duration],
        |_| Type::Timestamp.into(),
        step,
        |_, a| match a {
            [V::Timestamp(at), V::Duration(nanos)] => moment(*at, *nanos, true),
            _ => Err(EvalError::Overload),
        },
    ),
    global(
        "_-_",
        &[P::Timestamp, P::Timestamp],
        |_| Type::Duration.into(),
        step,
        |_, a| match a {
            [V::Timestamp(a), V::Timestamp(b)] => {
                i64::try_from(a.as_nanosecond() - b.as_nanosecond()).map(V::Duration).map_err(|_| overflow())
            }
            _ => Err(EvalError::Overload),
        },
    ),
    global("_/_", &[P::Int, P::Int], an_int, step, |_, a| match a {
        [V::Int(_), V::Int(0)] => Err(EvalError::failed("division by zero")),
        [V::Int(a), V::Int(b)] => a.checked_div(*b).map(V::Int).ok_or_else(overflow),
        _ => Err(EvalError::Overload),
    }),
    global(
        "_/_",
        &[P::Uint, P::Uint],
        |_| Type::Uint.into(),
        step,
        |_, a| match a {
            [V::Uint(a), V::Uint(b)] => a.checked_div(*b).map(V::Uint).ok_or_else(|| EvalError::failed("division by zero")),
            _ => Err(EvalError::Overload),
        },
    ),
    global("_/_", &[P::Double, P::Double], a_double, step, |_, a| match a {
        [V::Double(a), V::Double(b)] => Ok(V::Double(a / b)),
        _ => Err(EvalError::Overload),
    }),
    global("_%_", &[P::Int, P::Int], an_int, step, |_, a| match a {
        [V::Int(_), V::Int(0)] => Err(EvalError::failed("modulus by zero")),
        [V::Int(a), V::Int(b)] => a.checked_rem(*b).map(V::Int).ok_or_else(overflow),
        _ => Err(EvalError::Overload),
    }),
    global(
        "_%_",
        &[P::Uint, P::Uint],
        |_| Type::Uint.into(),
        step,
        |_, a| match a {
            [V::Uint(a), V::Uint(b)] => a.checked_rem(*b).map(V::Uint).ok_or_else(|| EvalError::failed("modulus by zero")),
            _ => Err(EvalError::Overload),
        },
    ),
    global("-_", &[P::Int], an_int, step, |_, a| match a {
        [V::Int(a)] => a.checked_neg().map(V::Int).ok_or_else(overflow),
        _ => Err(EvalError::Overload),
    }),
    global("-_", &[P::Double], a_double, step, |_, a| match a {
        [V::Double(a)] => Ok(V::Double(-a)),
        _ => Err(EvalError::Overload),
    }),
    global(
        "-_",
        &[P::Duration],
        |_| Type::Duration.into(),
        step,
        |_, a| match a {
            [V::Duration(a)] => a.checked_neg().map(V::Duration).ok_or_else(overflow),
            _ => Err(EvalError::Overload),
        },
    ),
    global("!_", &[P::Bool], a_bool, step, |_, a| match a {
        [V::Bool(a)] => Ok(V::Bool(!a)),
        _ => Err(EvalError::Overload),
    }),
];

pub(super) static FUNCTIONS: &[&[Function]] = &[&ADD, &SUBTRACT, &MULTIPLY, &LESS, &LESS_OR_EQUAL, &MORE, &MORE_OR_EQUAL, &OTHERS];

/// The order of two values of one sort; `None` if there is none.
pub(crate) fn order(one: &V<'_>, two: &V<'_>) -> Option<Ordering> {
    match (one, two) {
        (V::Int(a), V::Int(b)) => Some(a.cmp(b)),
        (V::Uint(a), V::Uint(b)) => Some(a.cmp(b)),
        (V::Int(a), V::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (V::Uint(a), V::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (V::Double(a), V::Double(b)) => a.partial_cmp(b),
        (V::Double(a), V::Int(b)) => a.partial_cmp(&(*b as f64)),
        (V::Int(a), V::Double(b)) => (*a as f64).partial_cmp(b),
        (V::Double(a), V::Uint(b)) => a.partial_cmp(&(*b as f64)),
        (V::Uint(a), V::Double(b)) => (*a as f64).partial_cmp(b),
        (V::Text(a), V::Text(b)) => Some(a.as_str().cmp(b.as_str())),
        (V::Bytes(a), V::Bytes(b)) => Some(a.cmp(b)),
        (V::Bool(a), V::Bool(b)) => Some(a.cmp(b)),
        (V::Duration(a), V::Duration(b)) => Some(a.cmp(b)),
        (V::Timestamp(a), V::Timestamp(b)) => Some(a.cmp(b)),
        (V::Quantity(a), V::Quantity(b)) => Some(a.cmp(b)),
        _ => None,
    }
}
