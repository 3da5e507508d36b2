//! Texts: the standard functions, the string extension, regular expressions.
//!
//! Places in a text count characters, as the language has it.

use super::conversions::shown;
use super::{Function, Outcome, Pattern as P, a_bool, a_text, an_int, global, member, reads_all, searches, step, traversal};
use crate::error::EvalError;
use crate::eval::Run;
use crate::types::{Type, Typed};
use crate::value::{List, Value as V};

fn text<'v>(values: &'v [V<'_>], index: usize) -> Result<&'v str, EvalError> {
    values.get(index).and_then(V::as_text).ok_or(EvalError::Overload)
}

fn int(values: &[V<'_>], index: usize) -> Result<i64, EvalError> {
    match values.get(index) {
        Some(V::Int(value)) => Ok(*value),
        _ => Err(EvalError::Overload),
    }
}

/// Bytes before a character; `None` beyond the end.
fn offset(text: &str, characters: i64) -> Result<usize, EvalError> {
    let wrong = || EvalError::failed(format!("index out of range: {characters}"));
    let wanted = usize::try_from(characters).map_err(|_| wrong())?;
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(wanted).ok_or_else(wrong)
}

fn characters(text: &str) -> V<'static> {
    V::Int(text.chars().count() as i64)
}

fn texts_of_first(arguments: &[Typed]) -> Typed {
    Typed::new(Type::texts(arguments[0].max), arguments[0].max.saturating_add(1))
}

fn replaced(arguments: &[Typed]) -> Typed {
    Typed::new(Type::Text, arguments[0].max.saturating_add(1).saturating_mul(arguments[2].max.max(1)))
}

fn joined(arguments: &[Typed]) -> Typed {
    let separator = arguments.get(1).map_or(0, |separator| separator.max);
    let item = super::item_of(&arguments[0]).max;
    Typed::new(Type::Text, arguments[0].max.saturating_mul(item.saturating_add(separator)))
}

/// A regular expression is run in time linear in the text, times what the pattern costs.
fn matches(sizes: &[u64]) -> u64 {
    traversal(sizes[0]).saturating_add(1).saturating_mul(sizes[1].div_ceil(4).max(1))
}

fn split<'a>(run: &mut Run<'a>, source: &str, separator: &str, limit: i64) -> Outcome<'a> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(V::list(Vec::new()));
    }
    let mut parts = Vec::new();
    if separator.is_empty() {
        // Between all characters, not before the first and after the last.
        let mut rest = source;
        while let Some(c) = rest.chars().next() {
            run.spend(1)?;
            if parts.len() + 1 == limit {
                break;
            }
            let (head, tail) = rest.split_at(c.len_utf8());
            parts.push(V::made(head));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(V::made(rest));
        }
    } else {
        for part in source.splitn(limit, separator) {
            run.spend(1)?;
            parts.push(V::made(part));
        }
    }
    Ok(V::list(parts))
}

fn replace<'a>(run: &mut Run<'a>, source: &str, from: &str, to: &str, limit: i64) -> Outcome<'a> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = source.matches(from).take(limit).count();
    // Paid for before the memory is taken.
    run.spend(traversal((source.len() as u64).saturating_add((count as u64).saturating_mul(to.len() as u64))))?;
    Ok(V::made(source.replacen(from, to, limit)))
}

fn join<'a>(run: &mut Run<'a>, list: &List<'a>, separator: &str) -> Outcome<'a> {
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        let item = item.as_text().map(str::to_owned).ok_or(EvalError::Overload)?;
        run.spend(1 + traversal((item.len() + separator.len()) as u64))?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&item);
    }
    Ok(V::made(joined))
}

fn find_all<'a>(run: &mut Run<'a>, source: &str, pattern: &str, limit: i64) -> Outcome<'a> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let regex = run.regex(pattern)?;
    let mut found = Vec::new();
    for part in regex.find_iter(source).take(limit) {
        run.spend(1 + traversal(part.len() as u64))?;
        found.push(V::made(part.as_str()));
    }
    Ok(V::list(found))
}

/// The place of a text in another, from or up to a place.
fn place_of(values: &[V<'_>], from: Option<i64>, last: bool) -> Outcome<'static> {
    let (source, wanted) = (text(values, 0)?, text(values, 1)?);
    let found = match (from, last) {
        (None, false) => source.find(wanted),
        (None, true) => source.rfind(wanted),
        (Some(from), false) => {
            let start = offset(source, from)?;
            source[start..].find(wanted).map(|at| at + start)
        }
        (Some(from), true) => {
            let start = offset(source, from)?;
            source.match_indices(wanted).map(|(at, _)| at).take_while(|at| *at <= start).last()
        }
    };
    Ok(found.map_or(V::Int(-1), |at| characters(&source[..at])))
}

/// `"%d of %s".format([1, "x"])`
fn format_text<'a>(run: &mut Run<'a>, pattern: &str, list: &List<'a>) -> Outcome<'a> {
    let mut written = String::new();
    let mut arguments = list.iter();
    let mut rest = pattern;
    while let Some(percent) = rest.find('%') {
        written.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        if let Some(tail) = rest.strip_prefix('%') {
            written.push('%');
            rest = tail;
            continue;
        }
        let digits = rest.strip_prefix('.').map_or(0, |tail| 1 + tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
        let precision: usize = if digits > 1 { rest[1..digits].parse().unwrap_or(6).min(20) } else { 6 };
        let clause = rest[digits..].chars().next().ok_or_else(|| EvalError::failed("could not parse formatting clause"))?;
        rest = &rest[digits + clause.len_utf8()..];
        let value = arguments.next().ok_or_else(|| EvalError::failed("index out of range: fewer arguments than clauses"))?;
        let wrong = || EvalError::failed(format!("clause %{clause} cannot take a {}", value.type_name()));
        let part = match (clause, &value) {
            ('s', value) => run.shown(value)?,
            ('d', V::Int(_) | V::Uint(_)) => shown(&value)?,
            ('f', V::Double(value)) => format!("{value:.precision$}"),
            ('f', V::Int(value)) => format!("{:.precision$}", *value as f64),
            ('e', V::Double(value)) => format!("{value:.precision$e}"),
            ('b', V::Int(value)) => format!("{value:b}"),
            ('b', V::Bool(value)) => u8::from(*value).to_string(),
            ('o', V::Int(value)) => format!("{value:o}"),
            ('x', V::Int(value)) => format!("{value:x}"),
            ('X', V::Int(value)) => format!("{value:X}"),
            _ => return Err(wrong()),
        };
        run.spend(1 + traversal(part.len() as u64))?;
        written.push_str(&part);
    }
    written.push_str(rest);
    Ok(V::made(written))
}

const ALL: [Function; 37] = [
    member("contains", &[P::Text, P::Text], a_bool, searches, |_, a| Ok(V::Bool(text(a, 0)?.contains(text(a, 1)?)))),
    member("startsWith", &[P::Text, P::Text], a_bool, |s| 1 + traversal(s[1]), |_, a| Ok(V::Bool(text(a, 0)?.starts_with(text(a, 1)?)))),
    member("endsWith", &[P::Text, P::Text], a_bool, |s| 1 + traversal(s[1]), |_, a| Ok(V::Bool(text(a, 0)?.ends_with(text(a, 1)?)))),
    member("size", &[P::Text], an_int, reads_all, |_, a| Ok(characters(text(a, 0)?))),
    global("size", &[P::Text], an_int, reads_all, |_, a| Ok(characters(text(a, 0)?))),
    member("size", &[P::Bytes], an_int, step, |_, a| Ok(V::Int(a[0].size() as i64))),
    global("size", &[P::Bytes], an_int, step, |_, a| Ok(V::Int(a[0].size() as i64))),
    member("matches", &[P::Text, P::Text], a_bool, matches, |run, a| Ok(V::Bool(run.regex(text(a, 1)?)?.is_match(text(a, 0)?)))),
    global("matches", &[P::Text, P::Text], a_bool, matches, |run, a| Ok(V::Bool(run.regex(text(a, 1)?)?.is_match(text(a, 0)?)))),
    member("find", &[P::Text, P::Text], a_text, matches, |run, a| {
        let regex = run.regex(text(a, 1)?)?;
        Ok(V::made(regex.find(text(a, 0)?).map_or("", |found| found.as_str())))
    }),
    member("findAll", &[P::Text, P::Text], texts_of_first, matches, |run, a| find_all(run, text(a, 0)?, text(a, 1)?, -1)),
    member("findAll", &[P::Text, P::Text, P::Int], texts_of_first, matches, |run, a| find_all(run, text(a, 0)?, text(a, 1)?, int(a, 2)?)),
    member(
        "charAt",
        &[P::Text, P::Int],
        |_| Typed::new(Type::Text, 4),
        reads_all,
        |_, a| {
            let source = text(a, 0)?;
            let start = offset(source, int(a, 1)?)?;
            Ok(V::made(source[start..].chars().next().map(String::from).unwrap_or_default()))
        },
    ),
    member("indexOf", &[P::Text, P::Text], an_int, searches, |_, a| place_of(a, None, false)),
    member("indexOf", &[P::Text, P::Text, P::Int], an_int, searches, |_, a| place_of(a, Some(int(a, 2)?), false)),
    member("lastIndexOf", &[P::Text, P::Text], an_int, searches, |_, a| place_of(a, None, true)),
    member("lastIndexOf", &[P::Text, P::Text, P::Int], an_int, searches, |_, a| place_of(a, Some(int(a, 2)?), true)),
    member("lowerAscii", &[P::Text], a_text, reads_all, |_, a| Ok(V::made(text(a, 0)?.to_ascii_lowercase()))),
    member("upperAscii", &[P::Text], a_text, reads_all, |_, a| Ok(V::made(text(a, 0)?.to_ascii_uppercase()))),
    member("trim", &[P::Text], a_text, reads_all, |_, a| Ok(V::made(text(a, 0)?.trim()))),
    member("reverse", &[P::Text], a_text, reads_all, |_, a| Ok(V::made(text(a, 0)?.chars().rev().collect::<String>()))),
    member("replace", &[P::Text, P::Text, P::Text], replaced, searches, |run, a| replace(run, text(a, 0)?, text(a, 1)?, text(a, 2)?, -1)),
    member("replace", &[P::Text, P::Text, P::Text, P::Int], replaced, searches, |run, a| {
        replace(run, text(a, 0)?, text(a, 1)?, text(a, 2)?, int(a, 3)?)
    }),
    member("split", &[P::Text, P::Text], texts_of_first, reads_all, |run, a| split(run, text(a, 0)?, text(a, 1)?, -1)),
    member("split", &[P::Text, P::Text, P::Int], texts_of_first, reads_all, |run, a| split(run, text(a, 0)?, text(a, 1)?, int(a, 2)?)),
    member("substring", &[P::Text, P::Int], a_text, reads_all, |_, a| {
        let source = text(a, 0)?;
        Ok(V::made(&source[offset(source, int(a, 1)?)?..]))
    }),
    member("substring", &[P::Text, P::Int, P::Int], a_text, reads_all, |_, a| {
        let source = text(a, 0)?;
        let (start, end) = (int(a, 1)?, int(a, 2)?);
        if start > end {
            return Err(EvalError::failed(format!("invalid substring range. start: {start}, end: {end}")));
        }
        Ok(V::made(&source[offset(source, start)?..offset(source, end)?]))
    }),
    member("join", &[P::Texts], joined, super::per_item, |run, a| match a {
        [V::List(list)] => join(run, list, ""),
        _ => Err(EvalError::Overload),
    }),
    member("join", &[P::Texts, P::Text], joined, super::per_item, |run, a| match a {
        [V::List(list), V::Text(separator)] => join(run, list, separator.as_str()),
        _ => Err(EvalError::Overload),
    }),
    member(
        "format",
        &[P::Text, P::List],
        |_| Typed::new(Type::Text, 10_000),
        reads_all,
        |run, a| match a {
            [V::Text(pattern), V::List(list)] => format_text(run, pattern.as_str(), list),
            _ => Err(EvalError::Overload),
        },
    ),
    global(
        "strings.quote",
        &[P::Text],
        |a| Typed::new(Type::Text, a[0].max.saturating_mul(2).saturating_add(2)),
        reads_all,
        |_, a| {
            let mut quoted = String::from("\"");
            for c in text(a, 0)?.chars() {
                match c {
                    '"' => quoted.push_str("\\\""),
                    '\\' => quoted.push_str("\\\\"),
                    '\n' => quoted.push_str("\\n"),
                    '\r' => quoted.push_str("\\r"),
                    '\t' => quoted.push_str("\\t"),
                    '\u{7}' => quoted.push_str("\\a"),
                    '\u{8}' => quoted.push_str("\\b"),
                    '\u{b}' => quoted.push_str("\\v"),
                    '\u{c}' => quoted.push_str("\\f"),
                    other => quoted.push(other),
                }
            }
            quoted.push('"');
            Ok(V::made(quoted))
        },
    ),
    global("isURL", &[P::Text], a_bool, reads_all, |_, a| Ok(V::Bool(crate::value::Url::parse(text(a, 0)?).is_some()))),
    global("isQuantity", &[P::Text], a_bool, reads_all, |_, a| Ok(V::Bool(crate::value::Quantity::parse(text(a, 0)?).is_some()))),
    global("isIP", &[P::Text], a_bool, reads_all, |_, a| Ok(V::Bool(super::net::address(text(a, 0)?).is_some()))),
    global("isCIDR", &[P::Text], a_bool, reads_all, |_, a| Ok(V::Bool(super::net::range(text(a, 0)?).is_some()))),
    global("size", &[P::List], an_int, step, |_, a| Ok(V::Int(a[0].size() as i64))),
    member("size", &[P::List], an_int, step, |_, a| Ok(V::Int(a[0].size() as i64))),
];

pub(super) static FUNCTIONS: &[&[Function]] = &[&ALL];
