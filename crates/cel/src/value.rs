//! Values while an expression runs. What comes from an object is borrowed from its JSON and
//! converted where it is looked at, by the type that the schema gave it.

mod quantity;
mod url;

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map as JsonMap, Value as Json};

use crate::types::{ListKind, Object, Type};

pub(crate) use quantity::Quantity;
pub(crate) use url::Url;

/// A value.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number, zero or more.
    Uint(u64),
    /// A binary fraction.
    Double(f64),
    /// Text.
    Text(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A span of time, in nanoseconds.
    Duration(i64),
    /// A moment.
    Timestamp(Timestamp),
    /// A list.
    List(List<'a>),
    /// A map or an object.
    Map(Map<'a>),
    /// A value that may be missing.
    Optional(Option<Arc<Value<'a>>>),
    /// The name of a type.
    Type(&'static str),
    /// An amount.
    Quantity(Quantity),
    /// An address of the web.
    Url(Arc<Url>),
    /// An address of the network.
    Ip(IpAddr),
    /// A range of addresses: its first address and how many bits are the same in all.
    Cidr(IpAddr, u8),
    /// A named format of texts.
    Format(&'static str),
}

/// Text, of the object or made.
#[derive(Debug, Clone)]
pub enum Text<'a> {
    /// From JSON or the source.
    Borrowed(&'a str),
    /// Made by a function.
    Owned(Arc<str>),
}

/// A list, of the object or made.
#[derive(Debug, Clone)]
pub enum List<'a> {
    /// From JSON.
    Json(&'a [Json], &'a Type, &'a ListKind),
    /// Made by a literal or a function.
    Made(Arc<Vec<Value<'a>>>),
}

/// A map, of the object or made.
#[derive(Debug, Clone)]
pub enum Map<'a> {
    /// From JSON.
    Json(&'a JsonMap<String, Json>, Shape<'a>),
    /// Made by a literal or a function.
    Made(Arc<Vec<(Value<'a>, Value<'a>)>>),
}

/// What is known of the entries of a JSON map.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'a> {
    /// Declared fields.
    Object(&'a Object),
    /// All of one type.
    Entries(&'a Type),
}

static DYN: Type = Type::Dyn;
static ATOMIC: ListKind = ListKind::Atomic;

impl<'a> Value<'a> {
    /// The value of JSON that has a type.
    pub fn of(json: &'a Json, ty: &'a Type) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (ty, number.as_i64(), number.as_u64()) {
                (Type::Double, ..) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
                (_, Some(value), _) => Self::Int(value),
                (_, None, Some(value)) => Self::Uint(value),
                // A whole number written with a fraction stays one where the schema says so.
                (Type::Int, ..) => number.as_f64().map_or(Self::Null, |value| Self::Int(value as i64)),
                _ => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => match ty {
                Type::Timestamp => parse_moment(text).map_or_else(|| Self::text(text), Self::Timestamp),
                Type::Duration => parse_duration(text).map_or_else(|| Self::text(text), Self::Duration),
                Type::Bytes => STANDARD.decode(text).map_or_else(|_| Self::text(text), |bytes| Self::Bytes(bytes.into())),
                _ => Self::text(text),
            },
            Json::Array(items) => match ty {
                Type::List(item, kind) => Self::List(List::Json(items, &item.ty, kind)),
                _ => Self::List(List::Json(items, &DYN, &ATOMIC)),
            },
            Json::Object(fields) => match ty {
                Type::Object(object) => Self::Map(Map::Json(fields, Shape::Object(object))),
                Type::Map(_, value) => Self::Map(Map::Json(fields, Shape::Entries(&value.ty))),
                _ => Self::Map(Map::Json(fields, Shape::Entries(&DYN))),
            },
        }
    }

    /// Borrowed text.
    pub fn text(text: &'a str) -> Self {
        Self::Text(Text::Borrowed(text))
    }

    /// Text that was made.
    pub fn made(text: impl Into<Arc<str>>) -> Self {
        Self::Text(Text::Owned(text.into()))
    }

    pub(crate) fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Made(Arc::new(items)))
    }

    pub(crate) fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Bytes of a text, items of a list, entries of a map; one for anything else.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.as_str().len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            _ => 1,
        }
    }

    /// As `type(x)` names it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Format(_) => "kubernetes.NamedFormat",
        }
    }
}

impl Text<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl<'a> List<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Json(items, ..) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(items, item, _) => items.get(index).map(|json| Value::of(json, item)),
            Self::Made(items) => items.get(index).cloned(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(crate) fn kind(&self) -> &'a ListKind {
        match self {
            Self::Json(_, _, kind) => kind,
            Self::Made(_) => &ATOMIC,
        }
    }
}

impl<'a> Map<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Json(fields, _) => fields.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// The value at a field's name in expressions, or a map's key.
    pub(crate) fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Self::Json(fields, Shape::Object(object)) => {
                let field = object.fields.get(name)?;
                fields.get(&*field.property).map(|json| Value::of(json, &field.typed.ty))
            }
            Self::Json(fields, Shape::Entries(value)) => fields.get(name).map(|json| Value::of(json, value)),
            Self::Made(entries) => entries.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value.clone()),
        }
    }

    /// The value at a property of JSON.
    pub(crate) fn entry(&self, property: &str) -> Option<Value<'a>> {
        match self {
            Self::Json(fields, Shape::Object(object)) => {
                let field = object.fields.values().find(|field| *field.property == *property)?;
                fields.get(property).map(|json| Value::of(json, &field.typed.ty))
            }
            _ => self.field(property),
        }
    }

    /// The value at any key.
    pub(crate) fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Self::Json(..), Value::Text(text)) => self.field(text.as_str()),
            (Self::Json(..), _) => None,
            (Self::Made(entries), key) => entries.iter().find(|(found, _)| same_key(found, key)).map(|(_, value)| value.clone()),
        }
    }

    /// Keys and values, in the order of the keys in JSON.
    pub(crate) fn entries(&self) -> Vec<(Value<'a>, Value<'a>)> {
        match self {
            Self::Json(fields, shape) => {
                let typed = |name: &str| match shape {
                    Shape::Entries(value) => Some(*value),
                    Shape::Object(object) => object.fields.values().find(|field| *field.property == *name).map(|field| &field.typed.ty),
                };
                fields.iter().filter_map(|(name, json)| Some((Value::text(name), Value::of(json, typed(name)?)))).collect()
            }
            Self::Made(entries) => entries.as_ref().clone(),
        }
    }

    pub(crate) fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json(fields, _) => fields.keys().map(|name| Value::text(name)).collect(),
            Self::Made(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
        }
    }
}

/// Whether two keys of a map are one. Numbers of different types can be.
pub(crate) fn same_key(one: &Value<'_>, two: &Value<'_>) -> bool {
    match (one, two) {
        (Value::Text(a), Value::Text(b)) => a.as_str() == b.as_str(),
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Uint(a), Value::Uint(b)) => a == b,
        (Value::Int(a), Value::Uint(b)) | (Value::Uint(b), Value::Int(a)) => u64::try_from(*a) == Ok(*b),
        _ => false,
    }
}

/// A moment, or the beginning of a day in UTC.
fn parse_moment(text: &str) -> Option<Timestamp> {
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|day| day.timestamp());
    text.parse().ok().or_else(day)
}

/// Nanoseconds of a duration in Go's form: `1h30m`, `-1.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    const UNITS: [(&str, i128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    /// Digits after the point that can matter.
    const FRACTION_DIGITS_MAX: usize = 18;
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > FRACTION_DIGITS_MAX {
            return None;
        }
        let (unit, size) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        total = total.checked_add(whole.checked_mul(*size)? + part * size / 10_i128.pow(fraction.len() as u32))?;
        rest = &tail[unit.len()..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}
