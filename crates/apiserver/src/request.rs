//! From an HTTP request's path and query to what is asked: verb, resource, object.

pub(crate) mod body;
pub(crate) mod duplicate_fields;

use std::collections::HashMap;

use axum::http::{Method, Request, StatusCode, Uri};
use serde_json::Value;

use crate::catalog::Resource;
use crate::error::{ApiError, Result};

/// The longest path read, in bytes.
pub(crate) const PATH_BYTES_MAX: usize = 4096;
/// The longest query read, in bytes.
pub(crate) const QUERY_BYTES_MAX: usize = 32 * 1024;

/// The most header fields read.
pub(crate) const HEADERS_MAX: usize = 100;
/// The most bytes of all header fields, names and values.
pub(crate) const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Refuses a request whose head is larger than any client's.
pub(crate) fn check_head<B>(request: &Request<B>) -> Result<()> {
    if request.uri().path().len() > PATH_BYTES_MAX {
        return Err(ApiError::bad_request(format!("the path is longer than {PATH_BYTES_MAX} bytes")));
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(ApiError::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "BadRequest",
            format!("{} header fields of {bytes} bytes; at most {HEADERS_MAX} of {HEADER_BYTES_MAX} bytes are read", headers.len()),
        ));
    }
    Ok(())
}

/// A path under `/api/v1` or `/apis/GROUP/VERSION`, taken apart. Nothing in it has been
/// checked against what is served.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// Whether the path asks to watch, `/api/v1/watch/…`: the older way to say `?watch=true`.
    pub(crate) watch: bool,
}

impl Target {
    /// Reads a path; `None` when it is not one of a resource.
    pub(crate) fn parse(path: &str) -> Option<Result<Self>> {
        let rest = path.strip_prefix('/')?;
        let mut parts = rest.split('/');
        let (group, version) = match parts.next()? {
            "api" => (String::new(), parts.next()?.to_owned()),
            "apis" => (parts.next()?.to_owned(), parts.next()?.to_owned()),
            _ => return None,
        };
        let mut raw: Vec<&str> = parts.collect();
        // A slash at the end means the same as none.
        if raw.last() == Some(&"") {
            raw.pop();
        }
        if raw.is_empty() {
            return None;
        }
        Some(Self::parse_parts(group, version, &raw))
    }

    fn parse_parts(group: String, version: String, raw: &[&str]) -> Result<Self> {
        let mut parts = Vec::with_capacity(raw.len());
        for part in raw {
            parts.push(decode(part, false).ok_or_else(ApiError::no_route)?);
        }
        let mut target = Self { group, version, ..Self::default() };
        let named = match parts.as_slice() {
            [watch, rest @ ..] if watch == "watch" && !rest.is_empty() => {
                target.watch = true;
                rest
            }
            all => all,
        };
        let rest = match named {
            [namespaces, name, plural, rest @ ..] if namespaces == "namespaces" && !is_namespace_subresource(plural) => {
                target.namespace = Some(name.clone());
                target.plural.clone_from(plural);
                rest
            }
            [plural, rest @ ..] => {
                target.plural.clone_from(plural);
                rest
            }
            [] => return Err(ApiError::no_route()),
        };
        match rest {
            [] => {}
            [name] => target.name = Some(name.clone()),
            // Of a subresource nothing can be watched.
            [name, subresource] if !target.watch => {
                target.name = Some(name.clone());
                target.subresource = Some(subresource.clone());
            }
            _ => return Err(ApiError::no_route()),
        }
        let parts_named = [target.namespace.as_deref(), target.name.as_deref(), target.subresource.as_deref(), Some(&*target.plural)];
        if parts_named.into_iter().flatten().any(|part| !is_path_segment(part)) {
            return Err(ApiError::no_route());
        }
        Ok(target)
    }
}

/// `/namespaces/NAME/status` is about the namespace; `/namespaces/NAME/pods` is inside it.
fn is_namespace_subresource(word: &str) -> bool {
    matches!(word, "status" | "finalize")
}

/// Whether a decoded name may be used at all: no separator, no `.` or `..`, no control
/// characters. What a kind's names look like is checked when objects are made.
fn is_path_segment(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 253
        && part != "."
        && part != ".."
        && part.chars().all(|c| !c.is_control() && !matches!(c, '/' | '\\' | '%'))
}

/// What is asked of a resource, in the words of authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn of(method: &Method, named: bool, query: &Query) -> Result<Self> {
        Ok(match (method, named) {
            (&Method::GET | &Method::HEAD, true) => {
                if query.flag("watch")? {
                    Self::Watch
                } else {
                    Self::Get
                }
            }
            (&Method::GET | &Method::HEAD, false) => {
                if query.flag("watch")? {
                    Self::Watch
                } else {
                    Self::List
                }
            }
            (&Method::POST, _) => Self::Create,
            (&Method::PUT, true) => Self::Update,
            (&Method::PATCH, true) => Self::Patch,
            (&Method::DELETE, true) => Self::Delete,
            (&Method::DELETE, false) => Self::DeleteCollection,
            _ => return Err(ApiError::method_not_allowed(format!("{method} is not possible at this address"))),
        })
    }

    pub(crate) fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// Query parameters; of a repeated one the first counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    values: HashMap<String, String>,
}

impl Query {
    pub(crate) fn parse(uri: &Uri) -> Result<Self> {
        let text = uri.query().unwrap_or_default();
        if text.len() > QUERY_BYTES_MAX {
            return Err(ApiError::bad_request(format!("the query is longer than {QUERY_BYTES_MAX} bytes")));
        }
        let mut values = HashMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name, true), decode(value, true)) else {
                return Err(ApiError::bad_request("the query is not valid percent-encoded UTF-8"));
            };
            values.entry(name).or_insert(value);
        }
        Ok(Self { values })
    }

    /// The value, unless it is missing or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether the parameter is there, be it empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The same with another value of one parameter, or without it.
    #[must_use]
    pub(crate) fn with(&self, name: &str, value: Option<String>) -> Self {
        let mut query = self.clone();
        match value {
            Some(value) => query.values.insert(name.to_owned(), value),
            None => query.values.remove(name),
        };
        query
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        match self.values.get(name).map(String::as_str) {
            None | Some("false" | "0" | "False" | "FALSE" | "f" | "F") => Ok(false),
            Some("" | "true" | "1" | "True" | "TRUE" | "t" | "T") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!("{name}={other}: must be true or false"))),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>> {
        self.get(name)
            .map(|value| value.parse().map_err(|_| ApiError::bad_request(format!("{name}={value}: must be a whole number"))))
            .transpose()
    }
}

impl Resource {
    /// The object with the type that its address implies. The typed clients of Python and Node
    /// leave it out of what they send of built-in kinds; objects of a CustomResourceDefinition have
    /// to say what they are, in Kubernetes as here.
    pub(crate) fn named(&self, mut object: Value) -> Value {
        if let Some(fields) = object.as_object_mut().filter(|_| !self.custom) {
            for (field, implied) in [("apiVersion", self.api_version()), ("kind", self.kind.clone())] {
                let given = fields.entry(field).or_insert_with(|| implied.as_str().into());
                if given.is_null() || *given == "" {
                    *given = implied.into();
                }
            }
        }
        object
    }
}

/// Percent-decoding; `None` for broken escapes or text that is not UTF-8.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut input = text.bytes();
    while let Some(byte) = input.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let high = digit(input.next())?;
                let low = digit(input.next())?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target {
        Target::parse(path).expect("a resource").expect("a good one")
    }

    #[test]
    fn paths_are_taken_apart() {
        let pod = target("/api/v1/namespaces/a/pods/b/log");
        assert_eq!((pod.group.as_str(), pod.version.as_str(), pod.plural.as_str()), ("", "v1", "pods"));
        assert_eq!((pod.namespace.as_deref(), pod.name.as_deref(), pod.subresource.as_deref()), (Some("a"), Some("b"), Some("log")));
        let namespace = target("/api/v1/namespaces/a/finalize");
        assert_eq!((namespace.plural.as_str(), namespace.name.as_deref(), namespace.namespace), ("namespaces", Some("a"), None));
        let list = target("/apis/ai.fermion.dev/v1alpha1/trainingjobs");
        assert_eq!((list.group.as_str(), list.plural.as_str(), list.name), ("ai.fermion.dev", "trainingjobs", None));
        assert!(Target::parse("/api/v1").is_none());
        assert!(Target::parse("/api/v1/").is_none());
        assert!(Target::parse("/metrics").is_none());
    }

    #[test]
    fn the_older_way_to_watch_names_what_is_watched() {
        let one = target("/api/v1/watch/namespaces/a/pods/b");
        assert!(one.watch);
        assert_eq!((one.plural.as_str(), one.namespace.as_deref(), one.name.as_deref()), ("pods", Some("a"), Some("b")));
        assert!(!target("/api/v1/namespaces/watch/pods").watch);
        assert!(matches!(Target::parse("/api/v1/watch/namespaces/a/pods/b/exec"), Some(Err(_))));
    }

    #[test]
    fn tricks_in_paths_find_nothing() {
        for path in [
            "/api/v1/namespaces/a/pods/..",
            "/api/v1/namespaces/%2e%2e/pods",
            "/api/v1/namespaces/a%2fb/pods",
            "/api/v1/namespaces/a/pods/b/log/more",
            "/api/v1/namespaces//pods",
            "/api/v1/pods/%00",
            "/api/v1/pods/%zz",
            "/api/v1/pods/%ff",
        ] {
            assert!(matches!(Target::parse(path), Some(Err(_))), "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let uri: Uri = "/x?labelSelector=a%3Db%2Cc&watch=1&limit=5".parse().expect("a uri");
        let query = Query::parse(&uri).expect("fine");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.flag("watch"), Ok(true));
        assert_eq!(query.number("limit"), Ok(Some(5)));
        assert!(Query::parse(&"/x?a=%ff".parse().expect("a uri")).is_err());
    }
}
