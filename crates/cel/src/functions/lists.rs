//! Lists and maps: sizes, Kubernetes' list functions, sets.

use std::cmp::Ordering;

use super::{Function, Outcome, Pattern as P, a_bool, an_int, global, item_of, member, order, per_item, per_pair, step};
use crate::error::EvalError;
use crate::eval::Run;
use crate::types::{Type, Typed};
use crate::value::{List, Value as V};

fn list<'v, 'a>(values: &'v [V<'a>], index: usize) -> Result<&'v List<'a>, EvalError> {
    match values.get(index) {
        Some(V::List(list)) => Ok(list),
        _ => Err(EvalError::Overload),
    }
}

fn item(arguments: &[Typed]) -> Typed {
    item_of(&arguments[0])
}

fn same(arguments: &[Typed]) -> Typed {
    arguments[0].clone()
}

fn is_sorted(list: &List<'_>) -> Outcome<'static> {
    let mut items = list.iter();
    let Some(mut before) = items.next() else { return Ok(V::Bool(true)) };
    for item in items {
        if order(&before, &item).ok_or(EvalError::Overload)? == Ordering::Greater {
            return Ok(V::Bool(false));
        }
        before = item;
    }
    Ok(V::Bool(true))
}

fn sum<'a>(list: &List<'a>) -> Outcome<'a> {
    let overflow = || EvalError::failed("integer overflow");
    let mut items = list.iter();
    let mut total = items.next().unwrap_or(V::Int(0));
    if !matches!(total, V::Int(_) | V::Uint(_) | V::Double(_) | V::Duration(_)) {
        return Err(EvalError::Overload);
    }
    for item in items {
        total = match (total, item) {
            (V::Int(a), V::Int(b)) => V::Int(a.checked_add(b).ok_or_else(overflow)?),
            (V::Uint(a), V::Uint(b)) => V::Uint(a.checked_add(b).ok_or_else(overflow)?),
            (V::Double(a), V::Double(b)) => V::Double(a + b),
            (V::Duration(a), V::Duration(b)) => V::Duration(a.checked_add(b).ok_or_else(overflow)?),
            _ => return Err(EvalError::Overload),
        };
    }
    Ok(total)
}

fn extreme<'a>(list: &List<'a>, name: &str, wanted: Ordering) -> Outcome<'a> {
    let mut items = list.iter();
    let mut best = items.next().ok_or_else(|| EvalError::failed(format!("{name} called on empty list")))?;
    for item in items {
        if order(&item, &best).ok_or(EvalError::Overload)? == wanted {
            best = item;
        }
    }
    Ok(best)
}

fn place<'a>(run: &mut Run<'a>, list: &List<'a>, wanted: &V<'a>, last: bool) -> Outcome<'a> {
    let mut found = -1;
    for (index, item) in list.iter().enumerate() {
        if run.equal(&item, wanted)? {
            found = index as i64;
            if !last {
                break;
            }
        }
    }
    Ok(V::Int(found))
}

fn contains_all<'a>(run: &mut Run<'a>, list: &List<'a>, wanted: &List<'a>) -> Result<bool, EvalError> {
    for item in wanted.iter() {
        if !run.contains(list, &item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

const ALL: [Function; 14] = [
    global("size", &[P::Map], an_int, step, |_, a| Ok(V::Int(a[0].size() as i64))),
    member("size", &[P::Map], an_int, step, |_, a| Ok(V::Int(a[0].size() as i64))),
    member("isSorted", &[P::List], a_bool, per_item, |_, a| is_sorted(list(a, 0)?)),
    member("sum", &[P::List], item, per_item, |_, a| sum(list(a, 0)?)),
    member("min", &[P::List], item, per_item, |_, a| extreme(list(a, 0)?, "min", Ordering::Less)),
    member("max", &[P::List], item, per_item, |_, a| extreme(list(a, 0)?, "max", Ordering::Greater)),
    member("indexOf", &[P::List, P::Any], an_int, per_item, |run, a| place(run, list(a, 0)?, &a[1], false)),
    member("lastIndexOf", &[P::List, P::Any], an_int, per_item, |run, a| place(run, list(a, 0)?, &a[1], true)),
    member("slice", &[P::List, P::Int, P::Int], same, per_item, |_, a| match a {
        [V::List(list), V::Int(start), V::Int(end)] => {
            let wrong = || EvalError::failed(format!("cannot slice({start}, {end}), list is length {}", list.len()));
            let (start, end) = (usize::try_from(*start).map_err(|_| wrong())?, usize::try_from(*end).map_err(|_| wrong())?);
            if start > end || end > list.len() {
                return Err(wrong());
            }
            Ok(V::list((start..end).filter_map(|index| list.get(index)).collect()))
        }
        _ => Err(EvalError::Overload),
    }),
    member(
        "distinct",
        &[P::List],
        same,
        |s| s[0].saturating_mul(s[0]).saturating_add(1),
        |run, a| {
            let mut kept: Vec<V<'_>> = Vec::new();
            'items: for item in list(a, 0)?.iter() {
                for known in &kept {
                    if run.equal(known, &item)? {
                        continue 'items;
                    }
                }
                kept.push(item);
            }
            Ok(V::list(kept))
        },
    ),
    member("reverse", &[P::List], same, per_item, |_, a| {
        let mut items: Vec<V<'_>> = list(a, 0)?.iter().collect();
        items.reverse();
        Ok(V::list(items))
    }),
    global("sets.contains", &[P::List, P::List], a_bool, per_pair, |run, a| Ok(V::Bool(contains_all(run, list(a, 0)?, list(a, 1)?)?))),
    global("sets.equivalent", &[P::List, P::List], a_bool, per_pair, |run, a| {
        let (one, two) = (list(a, 0)?, list(a, 1)?);
        Ok(V::Bool(contains_all(run, one, two)? && contains_all(run, two, one)?))
    }),
    global("sets.intersects", &[P::List, P::List], a_bool, per_pair, |run, a| {
        let two = list(a, 1)?;
        for item in list(a, 0)?.iter() {
            if run.contains(two, &item)? {
                return Ok(V::Bool(true));
            }
        }
        Ok(V::Bool(false))
    }),
];

/// `flatten` takes one level of lists out of a list.
const FLATTEN: [Function; 1] = [member("flatten", &[P::List], flattened, per_item, |run, a| {
    let mut items = Vec::new();
    for item in list(a, 0)?.iter() {
        match item {
            V::List(inner) => {
                run.spend(inner.len() as u64)?;
                items.extend(inner.iter());
            }
            other => items.push(other),
        }
    }
    Ok(V::list(items))
})];

fn flattened(arguments: &[Typed]) -> Typed {
    let inner = item_of(&arguments[0]);
    let max = arguments[0].max.saturating_mul(inner.max.max(1));
    let item = if let Type::List(..) = inner.ty { item_of(&inner) } else { inner };
    Typed::new(Type::list(item), max)
}

pub(super) static FUNCTIONS: &[&[Function]] = &[&ALL, &FLATTEN];
