//! Whether a request that carries only a cookie was made by our own pages.
//!
//! A browser adds the cookie to whatever request any page causes. These rules make such a
//! request count only when the page was ours: `SameSite=Lax` keeps the cookie from most
//! cross-site requests, and what the attribute does not cover (WebSockets in older
//! browsers, sibling ports of the same host) is decided here.

use http::header::ORIGIN;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

/// Why a cookie does not count for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    #[error("a request that changes something or opens a WebSocket needs an Origin header when it is authenticated by cookie")]
    NoOrigin,
    #[error("the request comes from a page of another origin")]
    OtherOrigin,
}

/// Checks a request authenticated by cookie. `host` is the authority it was sent to.
///
/// - A WebSocket handshake, and any method but GET, HEAD and OPTIONS, needs an `Origin`
///   equal to the host.
/// - Where a browser says (`Sec-Fetch-Site`) that another site or origin caused the request,
///   only a top-level navigation by GET passes.
pub(crate) fn check(method: &Method, headers: &HeaderMap, host: &Authority, websocket: bool) -> Result<(), Foreign> {
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !websocket;
    match headers.get(ORIGIN) {
        Some(origin) => {
            let same = origin.to_str().ok().is_some_and(|origin| is_same(origin, host));
            if !same || headers.get_all(ORIGIN).iter().count() > 1 {
                return Err(Foreign::OtherOrigin);
            }
        }
        None if !safe => return Err(Foreign::NoOrigin),
        None => {}
    }
    let fetch = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    let caused_elsewhere = fetch("sec-fetch-site").is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let navigation = *method == Method::GET && fetch("sec-fetch-mode") == Some(b"navigate") && fetch("sec-fetch-dest") == Some(b"document");
    if caused_elsewhere && !navigation {
        return Err(Foreign::OtherOrigin);
    }
    Ok(())
}

/// Whether an Origin is one of the host's. The scheme is not compared: behind a proxy that
/// ends TLS the gateway does not know it, and a port serves one scheme only.
fn is_same(origin: &str, host: &Authority) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (origin.scheme_str(), origin.authority()) else { return false };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    authority.host().eq_ignore_ascii_case(host.host()) && port(authority) == port(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn verdict(method: Method, websocket: bool, headers: &[(&'static str, &'static str)]) -> Result<(), Foreign> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        check(&method, &map, &Authority::from_static("127.0.0.1:8443"), websocket)
    }

    #[test]
    fn an_unsafe_request_needs_our_own_origin() {
        assert_eq!(verdict(Method::POST, false, &[]), Err(Foreign::NoOrigin));
        assert_eq!(verdict(Method::GET, true, &[]), Err(Foreign::NoOrigin));
        assert_eq!(verdict(Method::POST, false, &[("origin", "http://127.0.0.1:8443")]), Ok(()));
        assert_eq!(verdict(Method::GET, true, &[("origin", "https://127.0.0.1:8443")]), Ok(()));
        for foreign in
            ["null", "http://127.0.0.1:9000", "http://evil.example", "http://127.0.0.1", "file://127.0.0.1:8443", "127.0.0.1:8443"]
        {
            assert_eq!(verdict(Method::POST, false, &[("origin", foreign)]), Err(Foreign::OtherOrigin), "{foreign}");
            assert_eq!(verdict(Method::GET, true, &[("origin", foreign)]), Err(Foreign::OtherOrigin), "{foreign}");
        }
        let two = [("origin", "http://127.0.0.1:8443"), ("origin", "http://evil.example")];
        assert_eq!(verdict(Method::POST, false, &two), Err(Foreign::OtherOrigin));
    }

    #[test]
    fn a_link_from_elsewhere_opens_but_an_embedded_request_does_not() {
        assert_eq!(verdict(Method::GET, false, &[]), Ok(()));
        let navigation = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(verdict(Method::GET, false, &navigation), Ok(()));
        let frame = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        assert_eq!(verdict(Method::GET, false, &frame), Err(Foreign::OtherOrigin));
        let image = [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")];
        assert_eq!(verdict(Method::GET, false, &image), Err(Foreign::OtherOrigin));
        assert_eq!(verdict(Method::GET, false, &[("sec-fetch-site", "same-origin")]), Ok(()));
    }
}
