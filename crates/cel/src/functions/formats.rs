//! Kubernetes' named formats: `format.dns1123Label().validate(name)` is an optional list of what
//! is wrong.

use std::sync::Arc;

use jiff::civil::Date;

use super::{Function, Outcome, Pattern as P, global, member, reads_all, step};
use crate::error::EvalError;
use crate::types::{Type, Typed};
use crate::value::{Url, Value as V};

fn a_format(_: &[Typed]) -> Typed {
    Type::Format.into()
}

fn an_optional_format(_: &[Typed]) -> Typed {
    Type::Optional(Arc::new(Type::Format.into())).into()
}

fn problems(_: &[Typed]) -> Typed {
    /// Enough for every message below.
    const MESSAGE_CHARACTERS_MAX: u64 = 200;
    Type::Optional(Arc::new(Typed::new(Type::texts(MESSAGE_CHARACTERS_MAX), 1))).into()
}

const NAMES: [&str; 12] = [
    "byte",
    "date",
    "datetime",
    "dns1035Label",
    "dns1035LabelPrefix",
    "dns1123Label",
    "dns1123LabelPrefix",
    "dns1123Subdomain",
    "dns1123SubdomainPrefix",
    "labelValue",
    "uri",
    "uuid",
];

const QUALIFIED: &str = "qualifiedName";

fn known(name: &str) -> Option<&'static str> {
    NAMES.iter().chain([&QUALIFIED]).find(|known| **known == name).copied()
}

/// What a format demands, if the text is not of it.
fn problem(format: &str, text: &str) -> Option<&'static str> {
    let good = match format {
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "date" => text.len() == 10 && text.parse::<Date>().is_ok(),
        "datetime" => text.len() >= 20 && text.parse::<jiff::Timestamp>().is_ok(),
        "dns1035Label" => is_label(text, false),
        "dns1035LabelPrefix" => is_label(text.strip_suffix('-').unwrap_or(text), false),
        "dns1123Label" => is_label(text, true),
        "dns1123LabelPrefix" => is_label(text.strip_suffix('-').unwrap_or(text), true),
        "dns1123Subdomain" => is_subdomain(text),
        "dns1123SubdomainPrefix" => is_subdomain(text.strip_suffix(['-', '.']).unwrap_or(text)),
        "labelValue" => text.is_empty() || is_name(text),
        "uri" => Url::parse(text).is_some(),
        "uuid" => {
            text.len() == 36
                && text.bytes().enumerate().all(|(place, byte)| match place {
                    8 | 13 | 18 | 23 => byte == b'-',
                    _ => byte.is_ascii_hexdigit(),
                })
        }
        _ => match text.split_once('/') {
            Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
            None => is_name(text),
        },
    };
    (!good).then_some(match format {
        "byte" => "invalid base64",
        "date" => "invalid date",
        "datetime" => "invalid datetime",
        "dns1035Label" | "dns1035LabelPrefix" => {
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character"
        }
        "dns1123Label" | "dns1123LabelPrefix" => {
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"
        }
        "dns1123Subdomain" | "dns1123SubdomainPrefix" => {
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
        }
        "labelValue" => "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        "uri" => "invalid URI",
        "uuid" => "does not match the UUID regex",
        _ => "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    })
}

fn is_label(text: &str, may_begin_with_digit: bool) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && (may_begin_with_digit || text.starts_with(|c: char| c.is_ascii_lowercase()))
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| is_label(label, true))
}

fn is_name(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn validate<'a>(values: &[V<'a>]) -> Outcome<'a> {
    match values {
        [V::Format(format), V::Text(text)] => Ok(match problem(format, text.as_str()) {
            Some(problem) => V::some(V::list(vec![V::text(problem)])),
            None => V::Optional(None),
        }),
        _ => Err(EvalError::Overload),
    }
}

macro_rules! named {
    ($($function:literal => $name:literal),* $(,)?) => {
        [$(global($function, &[], a_format, step, |_, _| Ok(V::Format($name)))),*]
    };
}

const EACH: [Function; 13] = named! {
    "format.byte" => "byte",
    "format.date" => "date",
    "format.datetime" => "datetime",
    "format.dns1035Label" => "dns1035Label",
    "format.dns1035LabelPrefix" => "dns1035LabelPrefix",
    "format.dns1123Label" => "dns1123Label",
    "format.dns1123LabelPrefix" => "dns1123LabelPrefix",
    "format.dns1123Subdomain" => "dns1123Subdomain",
    "format.dns1123SubdomainPrefix" => "dns1123SubdomainPrefix",
    "format.labelValue" => "labelValue",
    "format.qualifiedName" => "qualifiedName",
    "format.uri" => "uri",
    "format.uuid" => "uuid",
};

const ALL: [Function; 2] = [
    global("format.named", &[P::Text], an_optional_format, reads_all, |_, a| {
        let name = a[0].as_text().ok_or(EvalError::Overload)?;
        Ok(known(name).map_or(V::Optional(None), |name| V::some(V::Format(name))))
    }),
    member("validate", &[P::Format, P::Text], problems, reads_all, |_, a| validate(a)),
];

pub(super) static FUNCTIONS: &[&[Function]] = &[&EACH, &ALL];
