//! Parts of moments and spans. Moments are read in UTC or at a fixed offset (`+02:00`): names of
//! time zones would make the answer depend on the machine's tables.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::{Function, Outcome, Pattern as P, an_int, member, step};
use crate::error::EvalError;
use crate::value::Value as V;

fn civil(values: &[V<'_>]) -> Result<DateTime, EvalError> {
    let [V::Timestamp(at), zone @ ..] = values else { return Err(EvalError::Overload) };
    let offset = match zone {
        [] => Offset::UTC,
        [V::Text(zone)] => offset(zone.as_str()).ok_or_else(|| {
            EvalError::failed(format!("time zone \"{}\" must be UTC or an offset such as +02:00", zone.as_str().escape_default()))
        })?,
        _ => return Err(EvalError::Overload),
    };
    Ok(at.to_zoned(TimeZone::fixed(offset)).datetime())
}

fn offset(zone: &str) -> Option<Offset> {
    if matches!(zone, "UTC" | "Z" | "") {
        return Some(Offset::UTC);
    }
    let (sign, digits) = match zone.as_bytes().first()? {
        b'-' => (-1, &zone[1..]),
        b'+' => (1, &zone[1..]),
        _ => (1, zone),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..24).contains(&hours) || !(0..60).contains(&minutes) {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

fn part<'a>(values: &[V<'a>], read: impl Fn(DateTime) -> i64) -> Outcome<'a> {
    civil(values).map(|at| V::Int(read(at)))
}

macro_rules! parts {
    ($name:literal, $read:expr) => {
        [
            member($name, &[P::Timestamp], an_int, step, |_, a| part(a, $read)),
            member($name, &[P::Timestamp, P::Text], an_int, step, |_, a| part(a, $read)),
        ]
    };
}

const YEAR: [Function; 2] = parts!("getFullYear", |at| i64::from(at.year()));
const MONTH: [Function; 2] = parts!("getMonth", |at| i64::from(at.month()) - 1);
const DATE: [Function; 2] = parts!("getDate", |at| i64::from(at.day()));
const DAY_OF_MONTH: [Function; 2] = parts!("getDayOfMonth", |at| i64::from(at.day()) - 1);
const DAY_OF_WEEK: [Function; 2] = parts!("getDayOfWeek", |at| i64::from(at.weekday().to_sunday_zero_offset()));
const DAY_OF_YEAR: [Function; 2] = parts!("getDayOfYear", |at| i64::from(at.day_of_year()) - 1);
const HOURS: [Function; 2] = parts!("getHours", |at| i64::from(at.hour()));
const MINUTES: [Function; 2] = parts!("getMinutes", |at| i64::from(at.minute()));
const SECONDS: [Function; 2] = parts!("getSeconds", |at| i64::from(at.second()));
const MILLISECONDS: [Function; 2] = parts!("getMilliseconds", |at| i64::from(at.millisecond()));

fn whole<'a>(values: &[V<'a>], unit_nanos: i64) -> Outcome<'a> {
    match values {
        [V::Duration(nanos)] => Ok(V::Int(nanos / unit_nanos)),
        _ => Err(EvalError::Overload),
    }
}

const SPANS: [Function; 4] = [
    member("getHours", &[P::Duration], an_int, step, |_, a| whole(a, 3_600_000_000_000)),
    member("getMinutes", &[P::Duration], an_int, step, |_, a| whole(a, 60_000_000_000)),
    member("getSeconds", &[P::Duration], an_int, step, |_, a| whole(a, 1_000_000_000)),
    member("getMilliseconds", &[P::Duration], an_int, step, |_, a| whole(a, 1_000_000)),
];

pub(super) static FUNCTIONS: &[&[Function]] =
    &[&YEAR, &MONTH, &DATE, &DAY_OF_MONTH, &DAY_OF_WEEK, &DAY_OF_YEAR, &HOURS, &MINUTES, &SECONDS, &MILLISECONDS, &SPANS];
