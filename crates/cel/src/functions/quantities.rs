//! Kubernetes' quantities.

use super::{Function, Outcome, Pattern as P, a_bool, a_double, an_int, global, member, reads_all, step};
use crate::error::EvalError;
use crate::types::{Type, Typed};
use crate::value::{Quantity, Value as V};

fn a_quantity(_: &[Typed]) -> Typed {
    Type::Quantity.into()
}

fn pair(values: &[V<'_>]) -> Result<(Quantity, Quantity), EvalError> {
    match values {
        [V::Quantity(a), V::Quantity(b)] => Ok((*a, *b)),
        [V::Quantity(a), V::Int(b)] => Ok((*a, Quantity::of_int(*b))),
        _ => Err(EvalError::Overload),
    }
}

fn one(values: &[V<'_>]) -> Result<Quantity, EvalError> {
    match values {
        [V::Quantity(a)] => Ok(*a),
        _ => Err(EvalError::Overload),
    }
}

fn result(quantity: Option<Quantity>) -> Outcome<'static> {
    quantity.map(V::Quantity).ok_or_else(|| EvalError::failed("quantity overflow"))
}

const ALL: [Function; 12] = [
    global("quantity", &[P::Text], a_quantity, reads_all, |_, a| {
        let text = a[0].as_text().ok_or(EvalError::Overload)?;
        Quantity::parse(text)
            .map(V::Quantity)
            .ok_or_else(|| EvalError::failed("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"))
    }),
    member("sign", &[P::Quantity], an_int, step, |_, a| Ok(V::Int(one(a)?.sign()))),
    member("isInteger", &[P::Quantity], a_bool, step, |_, a| Ok(V::Bool(one(a)?.as_int().is_some()))),
    member("asInteger", &[P::Quantity], an_int, step, |_, a| {
        one(a)?.as_int().map(V::Int).ok_or_else(|| EvalError::failed("cannot convert value to integer"))
    }),
    member("asApproximateFloat", &[P::Quantity], a_double, step, |_, a| Ok(V::Double(one(a)?.as_double()))),
    member("add", &[P::Quantity, P::Quantity], a_quantity, step, |_, a| pair(a).and_then(|(a, b)| result(a.plus(b)))),
    member("add", &[P::Quantity, P::Int], a_quantity, step, |_, a| pair(a).and_then(|(a, b)| result(a.plus(b)))),
    member("sub", &[P::Quantity, P::Quantity], a_quantity, step, |_, a| pair(a).and_then(|(a, b)| result(a.minus(b)))),
    member("sub", &[P::Quantity, P::Int], a_quantity, step, |_, a| pair(a).and_then(|(a, b)| result(a.minus(b)))),
    member("isLessThan", &[P::Quantity, P::Quantity], a_bool, step, |_, a| pair(a).map(|(a, b)| V::Bool(a < b))),
    member("isGreaterThan", &[P::Quantity, P::Quantity], a_bool, step, |_, a| pair(a).map(|(a, b)| V::Bool(a > b))),
    member("compareTo", &[P::Quantity, P::Quantity], an_int, step, |_, a| pair(a).map(|(a, b)| V::Int(a.cmp(&b) as i64))),
];

pub(super) static FUNCTIONS: &[&[Function]] = &[&ALL];
