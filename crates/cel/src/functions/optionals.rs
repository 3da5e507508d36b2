//! Values that may be missing.

use std::sync::Arc;

use super::{Function, Pattern as P, a_bool, global, member, step};
use crate::error::EvalError;
use crate::types::{Type, Typed};
use crate::value::Value as V;

fn wrapped(arguments: &[Typed]) -> Typed {
    Typed::new(Type::Optional(Arc::new(arguments[0].clone())), arguments[0].max)
}

fn inside(arguments: &[Typed]) -> Typed {
    match &arguments[0].ty {
        Type::Optional(inner) => (**inner).clone(),
        _ => Typed::new(Type::Dyn, arguments[0].max),
    }
}

fn either(arguments: &[Typed]) -> Typed {
    let inner = inside(arguments);
    Typed::new(inner.ty, inner.max.max(arguments[1].max))
}

fn is_zero(value: &V<'_>) -> bool {
    match value {
        V::Null | V::Bool(false) | V::Int(0) | V::Uint(0) | V::Duration(0) | V::Optional(None) => true,
        V::Double(value) => *value == 0.0,
        V::Text(_) | V::Bytes(_) | V::List(_) | V::Map(_) => value.size() == 0,
        _ => false,
    }
}

const ALL: [Function; 7] = [
    global("optional.of", &[P::Any], wrapped, step, |_, a| Ok(V::some(a[0].clone()))),
    global("optional.ofNonZeroValue", &[P::Any], wrapped, step, |_, a| {
        Ok(if is_zero(&a[0]) { V::Optional(None) } else { V::some(a[0].clone()) })
    }),
    global("optional.none", &[], |_| Type::Optional(Arc::new(Type::Dyn.into())).into(), step, |_, _| Ok(V::Optional(None))),
    member("hasValue", &[P::Optional], a_bool, step, |_, a| match a {
        [V::Optional(value)] => Ok(V::Bool(value.is_some())),
        _ => Err(EvalError::Overload),
    }),
    member("value", &[P::Optional], inside, step, |_, a| match a {
        [V::Optional(Some(value))] => Ok((**value).clone()),
        [V::Optional(None)] => Err(EvalError::failed("optional.none() dereference")),
        _ => Err(EvalError::Overload),
    }),
    member("or", &[P::Optional, P::Optional], super::same_as_first, step, |_, a| match a {
        [V::Optional(None), other] => Ok(other.clone()),
        [value, _] => Ok(value.clone()),
        _ => Err(EvalError::Overload),
    }),
    member("orValue", &[P::Optional, P::Any], either, step, |_, a| match a {
        [V::Optional(Some(value)), _] => Ok((**value).clone()),
        [V::Optional(None), other] => Ok(other.clone()),
        _ => Err(EvalError::Overload),
    }),
];

pub(super) static FUNCTIONS: &[&[Function]] = &[&ALL];
