//! Between types.

use super::{Function, Outcome, Pattern as P, a_double, a_short_text, a_text, an_int, global, reads_all, same_as_first, step};
use crate::error::EvalError;
use crate::types::{Type, Typed};
use crate::value::{Value as V, parse_duration};

fn a_uint(_: &[Typed]) -> Typed {
    Type::Uint.into()
}

fn range(what: &str) -> EvalError {
    EvalError::failed(format!("{what} overflow"))
}

fn unreadable(what: &str) -> EvalError {
    EvalError::failed(format!("type conversion error from 'string' to '{what}'"))
}

/// Whole part of a fraction, if it fits.
fn whole(value: f64, from: f64, to: f64) -> Option<f64> {
    (value.is_finite() && value > from && value < to).then_some(value.trunc())
}

fn read<'a, T>(values: &[V<'a>], what: &str, parse: impl Fn(&str) -> Option<T>, wrap: impl Fn(T) -> V<'a>) -> Outcome<'a> {
    let text = values[0].as_text().ok_or(EvalError::Overload)?;
    parse(text).map(wrap).ok_or_else(|| unreadable(what))
}

const INT_BOUND: f64 = 9_223_372_036_854_775_808.0;
const UINT_BOUND: f64 = 18_446_744_073_709_551_616.0;

const ALL: [Function; 30] = [
    global("int", &[P::Int], an_int, step, |_, a| Ok(a[0].clone())),
    global("int", &[P::Uint], an_int, step, |_, a| match a {
        [V::Uint(a)] => i64::try_from(*a).map(V::Int).map_err(|_| range("integer")),
        _ => Err(EvalError::Overload),
    }),
    global("int", &[P::Double], an_int, step, |_, a| match a {
        [V::Double(a)] => whole(*a, -INT_BOUND, INT_BOUND).map(|a| V::Int(a as i64)).ok_or_else(|| range("integer")),
        _ => Err(EvalError::Overload),
    }),
    global("int", &[P::Text], an_int, reads_all, |_, a| read(a, "int", |text| text.parse().ok(), V::Int)),
    global("int", &[P::Timestamp], an_int, step, |_, a| match a {
        [V::Timestamp(at)] => Ok(V::Int(at.as_second())),
        _ => Err(EvalError::Overload),
    }),
    global("uint", &[P::Uint], a_uint, step, |_, a| Ok(a[0].clone())),
    global("uint", &[P::Int], a_uint, step, |_, a| match a {
        [V::Int(a)] => u64::try_from(*a).map(V::Uint).map_err(|_| range("unsigned integer")),
        _ => Err(EvalError::Overload),
    }),
    global("uint", &[P::Double], a_uint, step, |_, a| match a {
        [V::Double(a)] => whole(*a, -1.0, UINT_BOUND).map(|a| V::Uint(a as u64)).ok_or_else(|| range("unsigned integer")),
        _ => Err(EvalError::Overload),
    }),
    global("uint", &[P::Text], a_uint, reads_all, |_, a| read(a, "uint", |text| text.parse().ok(), V::Uint)),
    global("double", &[P::Double], a_double, step, |_, a| Ok(a[0].clone())),
    global("double", &[P::Int], a_double, step, |_, a| match a {
        [V::Int(a)] => Ok(V::Double(*a as f64)),
        _ => Err(EvalError::Overload),
    }),
    global("double", &[P::Uint], a_double, step, |_, a| match a {
        [V::Uint(a)] => Ok(V::Double(*a as f64)),
        _ => Err(EvalError::Overload),
    }),
    global("double", &[P::Text], a_double, reads_all, |_, a| read(a, "double", |text| text.parse().ok(), V::Double)),
    global("bool", &[P::Bool], super::a_bool, step, |_, a| Ok(a[0].clone())),
    global("bool", &[P::Text], super::a_bool, reads_all, |_, a| {
        let parse = |text: &str| match text {
            "true" | "True" | "TRUE" | "t" | "1" => Some(true),
            "false" | "False" | "FALSE" | "f" | "0" => Some(false),
            _ => None,
        };
        read(a, "bool", parse, V::Bool)
    }),
    global("string", &[P::Text], a_text, step, |_, a| Ok(a[0].clone())),
    global("string", &[P::Bool], a_short_text, step, |_, a| Ok(V::made(shown(&a[0])?))),
    global("string", &[P::Number], a_short_text, step, |_, a| Ok(V::made(shown(&a[0])?))),
    global("string", &[P::Duration], a_short_text, step, |_, a| Ok(V::made(shown(&a[0])?))),
    global("string", &[P::Timestamp], a_short_text, step, |_, a| Ok(V::made(shown(&a[0])?))),
    global("string", &[P::Ip], a_short_text, step, |_, a| Ok(V::made(shown(&a[0])?))),
    global("string", &[P::Cidr], a_short_text, step, |_, a| Ok(V::made(shown(&a[0])?))),
    global("string", &[P::Bytes], a_text, reads_all, |_, a| match a {
        [V::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(V::made(text)),
            Err(_) => Err(EvalError::failed("invalid UTF-8 in bytes, cannot convert to string")),
        },
        _ => Err(EvalError::Overload),
    }),
    global("bytes", &[P::Bytes], same_as_first, step, |_, a| Ok(a[0].clone())),
    global(
        "bytes",
        &[P::Text],
        |a| Typed::new(Type::Bytes, a[0].max),
        reads_all,
        |_, a| Ok(V::Bytes(a[0].as_text().ok_or(EvalError::Overload)?.as_bytes().into())),
    ),
    global("duration", &[P::Text], |_| Type::Duration.into(), reads_all, |_, a| read(a, "duration", parse_duration, V::Duration)),
    global(
        "timestamp",
        &[P::Text],
        |_| Type::Timestamp.into(),
        reads_all,
        |_, a| read(a, "timestamp", |text| text.parse().ok(), V::Timestamp),
    ),
    global(
        "timestamp",
        &[P::Int],
        |_| Type::Timestamp.into(),
        step,
        |_, a| match a {
            [V::Int(second)] => jiff::Timestamp::from_second(*second).map(V::Timestamp).map_err(|_| range("timestamp")),
            _ => Err(EvalError::Overload),
        },
    ),
    global("dyn", &[P::Any], |a| Typed::new(Type::Dyn, a[0].max), step, |_, a| Ok(a[0].clone())),
    global("type", &[P::Any], |_| Type::Type.into(), step, |_, a| Ok(V::Type(a[0].type_name()))),
];

pub(super) static FUNCTIONS: &[&[Function]] = &[&ALL];

/// A scalar as `string()` writes it.
pub(crate) fn shown(value: &V<'_>) -> Result<String, EvalError> {
    Ok(match value {
        V::Text(text) => text.as_str().to_owned(),
        V::Bool(value) => value.to_string(),
        V::Int(value) => value.to_string(),
        V::Uint(value) => value.to_string(),
        V::Double(value) => value.to_string(),
        V::Timestamp(at) => at.to_string(),
        V::Duration(nanos) => {
            let sign = if *nanos < 0 { "-" } else { "" };
            let (whole, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
            let fraction = format!(".{rest:09}");
            format!("{sign}{whole}{}s", fraction.trim_end_matches('0').trim_end_matches('.'))
        }
        V::Ip(address) => address.to_string(),
        V::Cidr(address, bits) => format!("{address}/{bits}"),
        V::Null => "null".to_owned(),
        V::Type(name) => (*name).to_owned(),
        _ => return Err(EvalError::Overload),
    })
}
