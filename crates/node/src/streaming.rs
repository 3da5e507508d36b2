//! `exec`, `attach` and `port-forward`: between people's clients and containerd's streaming server.
//!
//! containerd speaks SPDY/3.1 on a random loopback port, one token per call, without
//! authentication; only this process is told the address. Clients speak
//! - WebSocket, sub-protocols `v5.channel.k8s.io` and `v4.channel.k8s.io` ([`exec`]): ended here and
//!   translated, since containerd knows no v5 and v4 cannot tell the end of the input;
//!   For ports, with `v4.channel.k8s.io`, likewise ([`ports`]);
//! - WebSocket carrying SPDY, `SPDY/3.1+portforward.k8s.io` ([`tunnel`]);
//! - SPDY/3.1 itself ([`raw`]): copied byte for byte.

pub(crate) mod exec;
pub(crate) mod ports;
pub(crate) mod raw;
mod spdy;
pub(crate) mod tunnel;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long containerd may take to answer the upgrade.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(15);
/// Where both ends name the sub-protocols of SPDY.
pub(crate) const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// The protocol of containerd's streaming server.
pub(crate) const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");

/// Why containerd's streaming server could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("containerd answered with an address that is none: {0}")]
    Address(String),
    #[error("containerd's streaming server cannot be reached")]
    Connect(#[source] std::io::Error),
    #[error("containerd's streaming server broke off")]
    Http(#[source] hyper::Error),
    #[error("containerd's streaming server refused with status {0}")]
    Refused(StatusCode),
    #[error("containerd's streaming server gave no answer within {} s", UPGRADE_TIMEOUT.as_secs())]
    TimedOut,
}

/// Connects to a streaming URL that containerd gave out and switches to SPDY. `protocols` are the
/// client's wishes, in order. Answers containerd's reply and the switched connection.
async fn connect(url: &str, protocols: &[HeaderValue]) -> Result<(HeaderMap, TokioIo<Upgraded>), Error> {
    match tokio::time::timeout(UPGRADE_TIMEOUT, connect_unbounded(url, protocols)).await {
        Ok(result) => result,
        Err(_) => Err(Error::TimedOut),
    }
}

async fn connect_unbounded(url: &str, protocols: &[HeaderValue]) -> Result<(HeaderMap, TokioIo<Upgraded>), Error> {
    let wrong = || Error::Address(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    let path = uri.path_and_query().ok_or_else(wrong)?.as_str();
    let port = authority.port_u16().ok_or_else(wrong)?;
    let stream = TcpStream::connect((authority.host(), port)).await.map_err(Error::Connect)?;
    // Keystrokes go out at once.
    stream.set_nodelay(true).map_err(Error::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Error::Http)?;
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::post(path)
        .header(HOST, authority.as_str())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, SPDY)
        .body(Empty::<Bytes>::new())
        .map_err(|_| wrong())?;
    for protocol in protocols {
        request.headers_mut().append(STREAM_PROTOCOL, protocol.clone());
    }
    let response: Response<Incoming> = sender.send_request(request).await.map_err(Error::Http)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::Refused(response.status()));
    }
    let headers = response.headers().clone();
    let upgraded = hyper::upgrade::on(response).await.map_err(Error::Http)?;
    Ok((headers, TokioIo::new(upgraded)))
}
