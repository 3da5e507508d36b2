//! Port forwarding over the channels of a WebSocket, as client libraries do it. (`kubectl` sends SPDY
//! through its WebSocket instead: [`super::tunnel`].)
//!
//! Each port has two channels, one for data both ways and one on which the client is told what went
//! wrong. The first message on either names the port. No message says that one side of a connection
//! has ended, so a session lasts until every port is done or the client leaves.
//!
//! Source: `k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go` (the channels), `httpstream.go`
//! beside it (containerd's side).

use std::collections::HashSet;

use axum::extract::ws::{Message, WebSocket};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::spdy::{self, Encoder, Frame};

/// The WebSocket sub-protocol.
pub(crate) const PROTOCOL: &str = "v4.channel.k8s.io";
/// What containerd is asked to speak.
const UPSTREAM_PROTOCOL: HeaderValue = HeaderValue::from_static("portforward.k8s.io");
/// The most ports of one session; a channel's number is a byte, and each port has two.
pub(crate) const PORTS_MAX: usize = 64;
/// How much is read from containerd at once, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Serves one session: copies until either side ends it.
pub(crate) async fn serve(socket: WebSocket, url: String, ports: Vec<u16>) {
    let (mut to_client, from_client) = socket.split();
    match super::connect(&url, &[UPSTREAM_PROTOCOL]).await {
        Ok((_, upstream)) => {
            let (reader, writer) = tokio::io::split(upstream);
            let (pings, answers) = tokio::sync::mpsc::channel(4);
            tokio::select! {
                () = pump_output(reader, &mut to_client, &ports, pings) => {}
                () = pump_input(from_client, writer, &ports, answers) => {}
            }
        }
        // The client sees the end of the session.
        Err(error) => tracing::warn!(%error, "a port-forward session cannot be opened"),
    }
    // A client that left needs no farewell.
    let _ = to_client.send(Message::Close(None)).await;
}

/// The streams of the n-th port on containerd's side, which wants the one for errors first.
fn streams(index: usize) -> (u32, u32) {
    let index = u32::try_from(index).expect("at most PORTS_MAX");
    (4 * index + 1, 4 * index + 3)
}

/// The channel that carries a stream: two for each port, data first.
fn channel_of(stream: u32, ports: &[u16]) -> Option<u8> {
    let index = usize::try_from(stream / 4).ok().filter(|index| *index < ports.len())?;
    let (errors, data) = streams(index);
    let channel = u8::try_from(2 * index).ok()?;
    if stream == data { Some(channel) } else { (stream == errors).then_some(channel + 1) }
}

/// The stream that takes what a client sends on a channel.
fn stream_of(channel: u8, ports: &[u16]) -> Option<u32> {
    let index = usize::from(channel / 2);
    (channel.is_multiple_of(2) && index < ports.len()).then(|| streams(index).1)
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

/// Opens the streams of every port.
fn open(ports: &[u16], out: &mut BytesMut) {
    let mut encoder = Encoder::default();
    for (index, port) in ports.iter().enumerate() {
        let (errors, data) = streams(index);
        let (port, request) = (port.to_string(), index.to_string());
        for (stream, kind) in [(errors, "error"), (data, "data")] {
            encoder.open(stream, &[("streamtype", kind), ("port", &port), ("requestid", &request)], out);
        }
        // Nothing is sent on it.
        spdy::data(errors, &[], true, out);
    }
}

async fn pump_output(
    mut reader: ReadHalf<TokioIo<Upgraded>>,
    client: &mut SplitSink<WebSocket, Message>,
    ports: &[u16],
    pings: tokio::sync::mpsc::Sender<u32>,
) {
    let mut under_way = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (errors, data) = streams(index);
        for stream in [data, errors] {
            under_way.insert(stream);
            let Some(channel) = channel_of(stream, ports) else { continue };
            if client.send(message(channel, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
    }
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = spdy::decode(&mut buffer) {
            match frame {
                Frame::Data { stream, bytes, fin } => {
                    if let Some(channel) = channel_of(stream, ports).filter(|_| !bytes.is_empty())
                        && client.send(message(channel, &bytes)).await.is_err()
                    {
                        return;
                    }
                    if fin {
                        under_way.remove(&stream);
                    }
                }
                Frame::Reset { stream } => {
                    under_way.remove(&stream);
                }
                Frame::Ping(id) => {
                    if pings.send(id).await.is_err() {
                        return;
                    }
                }
                Frame::GoAway | Frame::Other => {}
            }
        }
        if under_way.is_empty() {
            return;
        }
        buffer.reserve(CHUNK_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(read) if read > 0 => {}
            // The end of the connection is the end of the session, whatever the cause.
            Ok(_) | Err(_) => return,
        }
    }
}

async fn pump_input(
    mut client: SplitStream<WebSocket>,
    mut writer: WriteHalf<TokioIo<Upgraded>>,
    ports: &[u16],
    mut pings: tokio::sync::mpsc::Receiver<u32>,
) {
    let mut out = BytesMut::new();
    open(ports, &mut out);
    loop {
        if writer.write_all_buf(&mut out).await.is_err() || writer.flush().await.is_err() {
            // containerd hung up; the output side sees the end.
            return std::future::pending().await;
        }
        tokio::select! {
            message = client.next() => match message {
                Some(Ok(Message::Binary(bytes))) => translate(&bytes, ports, &mut out),
                Some(Ok(Message::Text(text))) => translate(&Bytes::from(text), ports, &mut out),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            Some(id) = pings.recv() => spdy::ping(id, &mut out),
        }
    }
}

fn translate(message: &[u8], ports: &[u16], out: &mut BytesMut) {
    if let Some((&channel, bytes)) = message.split_first()
        && let Some(stream) = stream_of(channel, ports).filter(|_| !bytes.is_empty())
    {
        spdy::data(stream, bytes, false, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_a_channel_for_data_and_one_for_errors() {
        let ports = [80, 443];
        let channels: Vec<_> = (0..10).map(|stream| channel_of(stream, &ports)).collect();
        assert_eq!(channels, [None, Some(1), None, Some(0), None, Some(3), None, Some(2), None, None]);
        let streams: Vec<_> = (0..6).map(|channel| stream_of(channel, &ports)).collect();
        assert_eq!(streams, [Some(3), None, Some(7), None, None, None], "nobody but the container tells errors");
    }

    #[test]
    fn what_a_client_sends_reaches_its_port() {
        let sent = |message: &[u8]| {
            let mut out = BytesMut::new();
            translate(message, &[80, 443], &mut out);
            spdy::decode(&mut out)
        };
        assert_eq!(sent(b"\x02hi"), Some(Frame::Data { stream: 7, bytes: Bytes::from_static(b"hi"), fin: false }));
        for ignored in [&b"\x02"[..], b"\x01x", b"\x04x", b"\xffx", b""] {
            assert_eq!(sent(ignored), None, "{ignored:?}");
        }
    }
}
