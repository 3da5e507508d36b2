//! Which headers cross the gateway, and how they change.
//!
//! Towards the pod: nothing that authenticates the caller to the platform, nothing that is
//! about the caller's own connection, and no claim about where the request came from but
//! ours. Towards the caller: nothing that would reach beyond the app's own path.

use std::net::IpAddr;

use http::header::{
    ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    REFERER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::address::TICKET_PARAMETER;
use crate::inbound::{Inbound, tokens};

/// Name of the cookie that holds an app session.
pub(crate) const SESSION_COOKIE: &str = "fermion_session";

/// Cookies of these names belong to the platform: no container sees or sets one.
const RESERVED_COOKIE_PREFIXES: [&str; 3] = ["fermion_", "__host-fermion", "__secure-fermion"];

/// Headers about one connection and not about the message (RFC 9110, section 7.6.1), and
/// those older software takes for such.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// What a pod may not tell a browser, since it would apply to every app of the origin.
const ORIGIN_WIDE: [HeaderName; 5] = [
    STRICT_TRANSPORT_SECURITY,
    ALT_SVC,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
    HeaderName::from_static("public-key-pins"),
];

/// Where a request goes, as far as headers are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The part of the path the gateway owns, without the last `/`.
    pub(crate) prefix: String,
    /// Whether the pod sees the prefix too.
    pub(crate) keep_prefix: bool,
    pub(crate) https: bool,
    /// What the pod wants to see instead of the caller's credentials.
    pub(crate) authorization: Option<HeaderValue>,
}

/// The headers a pod gets.
pub(crate) fn towards_pod(caller: &HeaderMap, inbound: &Inbound, route: &Route) -> HeaderMap {
    let mut headers = caller.clone();
    // A length beside a transfer coding is not the message's (RFC 9112, section 6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(&mut headers);
    for name in [AUTHORIZATION, HOST, FORWARDED, EXPECT] {
        headers.remove(name);
    }
    let about_origin = |name: &HeaderName| name.as_str().starts_with("x-forwarded-") || name.as_str() == "x-real-ip";
    for name in headers.keys().filter(|name| about_origin(name)).cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    if headers.get(REFERER).is_some_and(|referer| contains(referer.as_bytes(), TICKET_PARAMETER.as_bytes())) {
        headers.remove(REFERER);
    }
    forward_cookies(&mut headers);
    if let Some(authorization) = &route.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    // The pod sees the host the browser sees: tools compare it with the Origin header.
    if let Ok(host) = HeaderValue::from_str(inbound.host.as_str()) {
        headers.insert(HOST, host.clone());
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if route.https { "https" } else { "http" }));
    if let Ok(prefix) = HeaderValue::from_str(&route.prefix) {
        headers.insert(X_FORWARDED_PREFIX, prefix);
    }
    if let Some(peer) = inbound.peer.and_then(|peer: IpAddr| HeaderValue::from_str(&peer.to_string()).ok()) {
        headers.insert(X_FORWARDED_FOR, peer);
    }
    if inbound.websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    headers
}

/// The headers a caller gets.
pub(crate) fn towards_caller(pod: &HeaderMap, host: &Authority, route: &Route) -> HeaderMap {
    let mut headers = pod.clone();
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(&mut headers);
    for name in ORIGIN_WIDE {
        headers.remove(name);
    }
    let cookies = headers.get_all(SET_COOKIE).iter().filter_map(|cookie| scoped_cookie(cookie, &route.prefix)).collect::<Vec<_>>();
    headers.remove(SET_COOKIE);
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
    if !route.keep_prefix
        && let Some(location) = headers.get(LOCATION).and_then(|location| prefixed_location(location, host, &route.prefix))
    {
        headers.insert(LOCATION, location);
    }
    headers
}

/// The headers of an answer that makes a connection a WebSocket.
pub(crate) fn switching(pod: &HeaderMap, host: &Authority, route: &Route) -> HeaderMap {
    let mut headers = towards_caller(pod, host, route);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers
}

/// The values of a cookie; a browser may send several of one name.
pub(crate) fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).filter(move |(found, _)| *found == name).map(|(_, value)| value)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named = tokens(headers, &CONNECTION).filter_map(|name| name.parse::<HeaderName>().ok()).collect::<Vec<_>>();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Rewrites Cookie headers into one without the platform's cookies.
fn forward_cookies(headers: &mut HeaderMap) {
    let mut kept = Vec::new();
    for value in headers.get_all(COOKIE) {
        for pair in value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            if !pair.is_empty() && !is_reserved(pair) {
                if !kept.is_empty() {
                    kept.extend_from_slice(b"; ");
                }
                kept.extend_from_slice(pair);
            }
        }
    }
    headers.remove(COOKIE);
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&kept)
    {
        headers.insert(COOKIE, value);
    }
}

fn is_reserved(pair: &[u8]) -> bool {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    let starts = |prefix: &str| name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes());
    RESERVED_COOKIE_PREFIXES.iter().any(|prefix| starts(prefix))
}

/// A pod's cookie, bound to the pod's own path. `None` drops it.
fn scoped_cookie(cookie: &HeaderValue, prefix: &str) -> Option<HeaderValue> {
    let text = cookie.to_str().ok()?;
    let mut parts = text.split(';');
    let pair = parts.next()?.trim();
    if is_reserved(pair.as_bytes()) {
        return None;
    }
    let mut path = "/";
    let mut scoped = pair.to_owned();
    for attribute in parts.map(str::trim).filter(|attribute| !attribute.is_empty()) {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "path" => path = value.trim(),
            "domain" => {}
            _ => {
                scoped.push_str("; ");
                scoped.push_str(attribute);
            }
        }
    }
    scoped.push_str("; Path=");
    if is_under(path, prefix) {
        scoped.push_str(path);
    } else {
        scoped.push_str(prefix);
        scoped.push_str(if path.starts_with('/') { path } else { "/" });
    }
    HeaderValue::from_str(&scoped).ok()
}

/// A redirect of a pod that does not know its prefix. `None` leaves it as it is.
fn prefixed_location(location: &HeaderValue, host: &Authority, prefix: &str) -> Option<HeaderValue> {
    let location = location.to_str().ok()?;
    let own = |rest: &'_ str| -> Option<String> {
        let rest = rest.strip_prefix("//")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        authority.eq_ignore_ascii_case(host.as_str()).then(|| if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
    };
    let path = if location.starts_with('/') && !location.starts_with("//") {
        location.to_owned()
    } else {
        own(location.strip_prefix("http:").or_else(|| location.strip_prefix("https:")).unwrap_or(location))?
    };
    if is_under(&path, prefix) {
        return None;
    }
    HeaderValue::from_str(&format!("{prefix}{path}")).ok()
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn route(keep_prefix: bool) -> Route {
        Route { prefix: "/apps/team/dev/app".to_owned(), keep_prefix, https: false, authorization: None }
    }

    fn inbound(websocket: bool) -> Inbound {
        Inbound { host: Authority::from_static("gateway.example:8443"), peer: Some(IpAddr::from([192, 0, 2, 7])), websocket }
    }

    #[test]
    fn credentials_and_claims_of_origin_stay_behind() {
        let caller = map(&[
            ("authorization", "Bearer secret"),
            ("proxy-authorization", "Basic secret"),
            ("cookie", "a=1; fermion_session=secret; FERMION_console=secret; __Host-fermion=secret; b=2"),
            ("referer", "http://gateway.example/apps/team/dev/app/?fermion_ticket=secret"),
            ("forwarded", "for=secret"),
            ("x-forwarded-for", "secret"),
            ("x-forwarded-user", "secret"),
            ("x-real-ip", "secret"),
            ("host", "gateway.example:8443"),
            ("accept", "text/plain"),
        ]);
        let pod = towards_pod(&caller, &inbound(false), &route(false));
        assert!(!pod.values().any(|value| contains(value.as_bytes(), b"secret")), "{pod:?}");
        assert_eq!(pod[COOKIE], "a=1; b=2");
        assert_eq!(pod["accept"], "text/plain");
        assert_eq!(pod[HOST], "gateway.example:8443");
        assert_eq!(
            (pod["x-forwarded-for"].as_bytes(), pod["x-forwarded-host"].as_bytes()),
            (&b"192.0.2.7"[..], &b"gateway.example:8443"[..])
        );
        assert_eq!((pod["x-forwarded-proto"].as_bytes(), pod["x-forwarded-prefix"].as_bytes()), (&b"http"[..], &b"/apps/team/dev/app"[..]));
    }

    #[test]
    fn several_cookie_headers_are_all_looked_through() {
        let mut caller = HeaderMap::new();
        caller.append(COOKIE, HeaderValue::from_static("fermion_session=secret"));
        caller.append(COOKIE, HeaderValue::from_static("a=1;fermion_session=secret"));
        assert_eq!(towards_pod(&caller, &inbound(false), &route(false))[COOKIE], "a=1");
        assert_eq!(cookies(&caller, SESSION_COOKIE).collect::<Vec<_>>(), ["secret", "secret"]);
    }

    #[test]
    fn headers_about_a_connection_end_with_it() {
        let caller = map(&[
            ("connection", "close, X-Own, x-forwarded-for"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("expect", "100-continue"),
        ]);
        let pod = towards_pod(&caller, &inbound(false), &route(false));
        let mut names = pod.keys().map(HeaderName::as_str).collect::<Vec<_>>();
        names.sort_unstable();
        assert_eq!(names, ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto"]);
        let pod = towards_pod(&caller, &inbound(true), &route(false));
        assert_eq!((pod[CONNECTION].as_bytes(), pod[UPGRADE].as_bytes()), (&b"Upgrade"[..], &b"websocket"[..]));
    }

    #[test]
    fn a_pods_cookies_stay_on_its_own_path() {
        let scoped = |cookie: &'static str| {
            scoped_cookie(&HeaderValue::from_static(cookie), "/apps/team/dev/app").map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(scoped("a=1").as_deref(), Some("a=1; Path=/apps/team/dev/app/"));
        assert_eq!(scoped("a=1; Path=/; Domain=example; HttpOnly").as_deref(), Some("a=1; HttpOnly; Path=/apps/team/dev/app/"));
        assert_eq!(scoped("a=1; path=/sub").as_deref(), Some("a=1; Path=/apps/team/dev/app/sub"));
        assert_eq!(scoped("a=1; Path=/apps/team/dev/app/").as_deref(), Some("a=1; Path=/apps/team/dev/app/"));
        assert_eq!(scoped("a=1; Path=/apps/team/dev/apple").as_deref(), Some("a=1; Path=/apps/team/dev/app/apps/team/dev/apple"));
        assert_eq!(scoped("fermion_session=x; Path=/apps/team/other/app/"), None);
        assert_eq!(scoped(" Fermion_Session = x"), None);
    }

    #[test]
    fn a_pod_cannot_speak_for_the_origin() {
        let pod = map(&[
            ("strict-transport-security", "max-age=1"),
            ("clear-site-data", "\"cookies\""),
            ("service-worker-allowed", "/"),
            ("alt-svc", "h2=\":1\""),
            ("connection", "keep-alive, x-internal"),
            ("x-internal", "1"),
            ("content-type", "text/plain"),
        ]);
        let caller = towards_caller(&pod, &Authority::from_static("gateway.example"), &route(false));
        assert_eq!(caller.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
    }

    #[test]
    fn redirects_of_a_pod_that_does_not_know_its_prefix_get_it() {
        let host = Authority::from_static("gateway.example:8443");
        let moved = |location: &'static str, keep_prefix| {
            let caller = towards_caller(&map(&[("location", location)]), &host, &route(keep_prefix));
            caller[LOCATION].to_str().expect("text").to_owned()
        };
        assert_eq!(moved("/login?next=/", false), "/apps/team/dev/app/login?next=/");
        assert_eq!(moved("/login", true), "/login");
        assert_eq!(moved("/apps/team/dev/app/login", false), "/apps/team/dev/app/login");
        assert_eq!(moved("http://gateway.example:8443/x", false), "/apps/team/dev/app/x");
        assert_eq!(moved("https://gateway.example:8443?x", false), "/apps/team/dev/app/?x");
        assert_eq!(moved("https://elsewhere.example/x", false), "https://elsewhere.example/x");
        assert_eq!(moved("//elsewhere.example/x", false), "//elsewhere.example/x");
        assert_eq!(moved("relative", false), "relative");
    }
}
