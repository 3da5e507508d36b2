//! What a request's path names. Everything here is hostile until it has been through this
//! module.

use std::fmt;

use percent_encoding::percent_decode_str;

/// Query parameter that carries a one-time ticket. It is never forwarded.
pub(crate) const TICKET_PARAMETER: &str = "fermion_ticket";

/// The longest namespace or app name: a DNS label.
const LABEL_LENGTH_MAX: usize = 63;
/// The longest object name.
const NAME_LENGTH_MAX: usize = 253;

/// A namespaced object's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// `/apps/NAMESPACE/ENVIRONMENT/APP/`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AppAddress {
    pub(crate) environment: Key,
    pub(crate) app: String,
}

impl AppAddress {
    /// The path all of the app lives under, without the last `/`.
    pub(crate) fn prefix(&self) -> String {
        format!("/apps/{}/{}/{}", self.environment.namespace, self.environment.name, self.app)
    }

    /// The only path its cookie is sent to.
    pub(crate) fn cookie_path(&self) -> String {
        format!("{}/", self.prefix())
    }
}

/// The path all of a service lives under, without the last `/`.
pub(crate) fn service_prefix(service: &Key) -> String {
    format!("/services/{}/{}", service.namespace, service.name)
}

/// Why a path names nothing that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the path must be {0}")]
    Shape(&'static str),
    #[error("{0} is not a name: use lower-case letters, digits and `-`, as in `kubectl get -A`")]
    Name(&'static str),
    #[error("the path holds `.` or `..` segments, which the gateway does not forward")]
    DotSegment,
}

/// A path split at its names. `rest` is what follows the prefix, as it was sent, with its
/// leading `/`; `None` when the path ends at the last name, without a slash.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split<'a, A> {
    pub(crate) address: A,
    pub(crate) rest: Option<&'a str>,
}

const APP_SHAPE: &str = "/apps/NAMESPACE/ENVIRONMENT/APP/…";
const SERVICE_SHAPE: &str = "/services/NAMESPACE/SERVICE/…";

/// Reads the path of a request to an app. Names are compared as they were sent: nothing in
/// them is decoded, so an encoded character simply is not part of a name.
pub(crate) fn app(path: &str) -> Result<Split<'_, AppAddress>, PathError> {
    let after = path.strip_prefix("/apps/").ok_or(PathError::Shape(APP_SHAPE))?;
    let mut parts = after.splitn(4, '/');
    let (Some(namespace), Some(environment), Some(app)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(PathError::Shape(APP_SHAPE));
    };
    check(is_label(namespace), "NAMESPACE")?;
    check(is_name(environment), "ENVIRONMENT")?;
    check(is_label(app), "APP")?;
    let rest = rest(path, parts.next())?;
    Ok(Split { address: AppAddress { environment: Key::new(namespace, environment), app: app.to_owned() }, rest })
}

/// Reads the path of a request to a service.
pub(crate) fn service(path: &str) -> Result<Split<'_, Key>, PathError> {
    let after = path.strip_prefix("/services/").ok_or(PathError::Shape(SERVICE_SHAPE))?;
    let mut parts = after.splitn(3, '/');
    let (Some(namespace), Some(service)) = (parts.next(), parts.next()) else {
        return Err(PathError::Shape(SERVICE_SHAPE));
    };
    check(is_label(namespace), "NAMESPACE")?;
    check(is_name(service), "SERVICE")?;
    let rest = rest(path, parts.next())?;
    Ok(Split { address: Key::new(namespace, service), rest })
}

/// What follows the names, with the slash before it.
fn rest<'a>(path: &'a str, tail: Option<&str>) -> Result<Option<&'a str>, PathError> {
    let Some(tail) = tail else { return Ok(None) };
    if has_dot_segment(tail) {
        return Err(PathError::DotSegment);
    }
    Ok(Some(&path[path.len() - tail.len() - 1..]))
}

fn check(fine: bool, what: &'static str) -> Result<(), PathError> {
    if fine { Ok(()) } else { Err(PathError::Name(what)) }
}

/// Whether any segment is `.` or `..`, also when dots or slashes are percent-encoded, and
/// with the backslash that some servers take for a slash. Browsers and HTTP libraries
/// resolve such segments before they send, so no honest request has one.
fn has_dot_segment(path: &str) -> bool {
    let decoded = percent_decode_str(path).collect::<Vec<u8>>();
    decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| matches!(segment, b"." | b".."))
}

/// RFC 1123 label.
pub(crate) fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_LENGTH_MAX).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Labels joined by dots: the names the API gives objects. `..` is not one, as the label
/// between the dots would be empty.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_LENGTH_MAX && text.split('.').all(is_label)
}

/// The query without the ticket parameter, however its name was written. `None` when
/// nothing is left.
pub(crate) fn query_without_ticket(query: &str) -> Option<String> {
    let kept = query.split('&').filter(|pair| !is_ticket(pair)).collect::<Vec<_>>().join("&");
    (!kept.is_empty()).then_some(kept)
}

/// The ticket in a query.
pub(crate) fn ticket(query: &str) -> Option<&str> {
    query.split('&').find(|pair| is_ticket(pair)).map(|pair| pair.split_once('=').map_or("", |(_, value)| value))
}

fn is_ticket(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    percent_decode_str(name).eq(TICKET_PARAMETER.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_path_splits_into_names_and_rest() {
        let split = app("/apps/team/dev/jupyter/lab/tree/a%2Fb").expect("a path");
        assert_eq!(split.address, AppAddress { environment: Key::new("team", "dev"), app: "jupyter".to_owned() });
        assert_eq!(split.rest, Some("/lab/tree/a%2Fb"));
        assert_eq!(app("/apps/team/dev/jupyter").expect("a path").rest, None);
        assert_eq!(app("/apps/team/dev/jupyter/").expect("a path").rest, Some("/"));
        assert_eq!(app("/apps/team/dev/jupyter//evil.example/").expect("a path").rest, Some("//evil.example/"));
    }

    #[test]
    fn a_service_path_splits_into_names_and_rest() {
        let split = service("/services/team/chat/v1/models").expect("a path");
        assert_eq!((split.address, split.rest), (Key::new("team", "chat"), Some("/v1/models")));
    }

    #[test]
    fn nothing_but_a_plain_name_is_a_name() {
        for path in [
            "/apps/",
            "/apps/a",
            "/apps/a/b",
            "/apps//b/c/",
            "/apps/a//c/",
            "/apps/a/b//",
            "/apps/../b/c/",
            "/apps/%2e%2e/b/c/",
            "/apps/a%2fb/c/d/",
            "/apps/A/b/c/",
            "/apps/a/b..c/d/",
            "/apps/a/.b/c/",
            "/apps/a/b/c.d/",
            "/apps/a/127.0.0.1:80/c@/",
            "/apps/a/-b/c/",
            "/apps/a/b%0d%0a/c/",
        ] {
            assert!(app(path).is_err(), "{path}");
        }
        assert!(app(&format!("/apps/{}/b/c/", "a".repeat(64))).is_err());
    }

    #[test]
    fn dot_segments_are_refused_however_they_are_written() {
        for tail in ["..", "../x", "x/../y", "%2e%2e/x", ".%2E/x", "x%2f..%2fy", "..%5cx", "x/..%2F", "./x", "..\\x"] {
            assert_eq!(app(&format!("/apps/a/b/c/{tail}")), Err(PathError::DotSegment), "{tail}");
        }
        for tail in ["...", "..x", "x..", "a.b/.hidden", "%252e%252e/x"] {
            assert!(app(&format!("/apps/a/b/c/{tail}")).is_ok(), "{tail}");
        }
    }

    #[test]
    fn the_ticket_leaves_the_query() {
        assert_eq!(query_without_ticket("a=1&fermion_ticket=x&b=2").as_deref(), Some("a=1&b=2"));
        assert_eq!(query_without_ticket("fermion%5Fticket=x"), None);
        assert_eq!(query_without_ticket("fermion_ticket"), None);
        assert_eq!(ticket("a=1&fermion_ticket=x%20"), Some("x%20"));
        assert_eq!(ticket("a=fermion_ticket"), None);
    }
}
