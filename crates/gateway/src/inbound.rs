//! What every request is checked for before anything else is done with it.

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};

use crate::problem::Problem;

/// The longest path with query.
const URI_LENGTH_MAX: usize = 16 * 1024;
/// The largest sum of all header names and values.
const HEADERS_SIZE_MAX: usize = 64 * 1024;

/// Facts about a request that passed.
#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    /// Where the caller believes it is talking to.
    pub(crate) host: Authority,
    /// The address of the connection's other end, when the server recorded it.
    pub(crate) peer: Option<IpAddr>,
    /// It asks to become a WebSocket.
    pub(crate) websocket: bool,
}

/// # Errors
/// A 4xx for what no honest client sends.
pub(crate) fn inspect(request: &Request<Body>) -> Result<Inbound, Problem> {
    let uri = request.uri();
    if uri.path_and_query().is_some_and(|path| path.as_str().len() > URI_LENGTH_MAX) {
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "UriTooLong", format!("The address is longer than {URI_LENGTH_MAX} bytes.")));
    }
    let headers = request.headers();
    let size = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if size > HEADERS_SIZE_MAX {
        return Err(Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "HeadersTooLarge",
            format!("The headers are larger than {HEADERS_SIZE_MAX} bytes; cookies of this site may have piled up."),
        ));
    }
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", format!("{} is not forwarded.", request.method())));
    }
    let host =
        host(uri.authority(), headers).ok_or_else(|| Problem::bad_request("The request needs one Host header that names a host."))?;
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical());
    Ok(Inbound { host, peer, websocket: is_websocket(request) })
}

/// The authority of an absolute-form target, which goes before the Host header (RFC 9112,
/// section 3.2.2), or of the one Host header.
fn host(target: Option<&Authority>, headers: &HeaderMap) -> Option<Authority> {
    let host = if let Some(target) = target {
        target.clone()
    } else {
        let mut values = headers.get_all(HOST).iter();
        let host = values.next()?.to_str().ok()?.parse::<Authority>().ok()?;
        if values.next().is_some() {
            return None;
        }
        host
    };
    (!host.host().is_empty() && !host.as_str().contains('@')).then_some(host)
}

fn is_websocket(request: &Request<Body>) -> bool {
    let headers = request.headers();
    *request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The comma-separated tokens of all headers of that name.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values.filter_map(|value: &HeaderValue| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(builder: http::request::Builder) -> Request<Body> {
        builder.body(Body::empty()).expect("a request")
    }

    #[test]
    fn exactly_one_host_is_needed() {
        let status =
            |builder| inspect(&request(builder)).map_err(|problem| problem.status.as_u16()).map(|inbound| inbound.host.to_string());
        assert_eq!(status(Request::get("/apps/")), Err(400));
        assert_eq!(status(Request::get("/apps/").header("host", "a").header("host", "b")), Err(400));
        assert_eq!(status(Request::get("/apps/").header("host", "user@a")), Err(400));
        assert_eq!(status(Request::get("/apps/").header("host", "a:1")), Ok("a:1".to_owned()));
        assert_eq!(status(Request::get("http://b:2/apps/").header("host", "a:1")), Ok("b:2".to_owned()));
    }

    #[test]
    fn sizes_are_bounded() {
        let long = format!("/apps/{}", "a".repeat(URI_LENGTH_MAX));
        assert_eq!(inspect(&request(Request::get(long).header("host", "a"))).expect_err("too long").status, StatusCode::URI_TOO_LONG);
        let large = Request::get("/apps/").header("host", "a").header("x", "a".repeat(HEADERS_SIZE_MAX));
        assert_eq!(inspect(&request(large)).expect_err("too large").status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }

    #[test]
    fn only_a_whole_websocket_handshake_is_one() {
        let is = |builder: http::request::Builder| inspect(&request(builder.header("host", "a"))).expect("fine").websocket;
        assert!(is(Request::get("/").header("connection", "keep-alive, Upgrade").header("upgrade", "websocket")));
        assert!(!is(Request::post("/").header("connection", "upgrade").header("upgrade", "websocket")));
        assert!(!is(Request::get("/").header("connection", "upgrade").header("upgrade", "h2c")));
        assert!(!is(Request::get("/").header("upgrade", "websocket")));
    }
}
