//! WebSocket sessions of `exec` and `attach`, translated to SPDY streams.
//!
//! On the WebSocket each message begins with a byte that names its channel; on SPDY each channel
//! is a stream of its own.
//!
//! Source: `k8s.io/apimachinery/pkg/util/remotecommand` (the channels),
//! `k8s.io/kubelet/pkg/cri/streaming/remotecommand` (containerd's side).

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::spdy::{self, Encoder, Frame};

/// Sub-protocols, the best first.
pub(crate) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// What containerd is asked to speak; v5 has the same streams there.
const UPSTREAM_PROTOCOL: HeaderValue = HeaderValue::from_static("v4.channel.k8s.io");
/// The largest message taken from a client, in bytes; clients send 32 KiB at a time.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the channel named by the second byte has ended.
const CLOSE: u8 = 255;

/// Which streams the client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Streams {
    /// Each channel with its stream's type, in the order in which streams are opened.
    fn open(self) -> Vec<(u8, &'static str)> {
        let mut channels = vec![(ERROR, "error")];
        for (wanted, channel) in [
            (self.stdin, (STDIN, "stdin")),
            (self.stdout, (STDOUT, "stdout")),
            // A terminal has one output.
            (self.stderr && !self.tty, (STDERR, "stderr")),
            (self.tty, (RESIZE, "resize")),
        ] {
            if wanted {
                channels.push(channel);
            }
        }
        channels
    }
}

/// Serves one session: runs until either side ends it.
pub(crate) async fn serve(socket: WebSocket, url: String, streams: Streams) {
    let (mut to_client, from_client) = socket.split();
    let upstream = match super::connect(&url, &[UPSTREAM_PROTOCOL]).await {
        Ok((_, upstream)) => upstream,
        Err(error) => {
            tracing::warn!(%error, "an exec or attach session cannot be opened");
            let message = format!("{error}");
            // The client may be gone by now; then nobody needs the explanation.
            let _ = to_client.send(channel_message(ERROR, failure(&message).as_bytes())).await;
            let _ = to_client.send(close_normally()).await;
            return;
        }
    };
    let (reader, writer) = tokio::io::split(upstream);
    let channels = Channels::new(streams);
    let (pings, answers) = tokio::sync::mpsc::channel(4);
    // The output decides when the session ends; the input may end long before.
    tokio::select! {
        () = pump_output(reader, &mut to_client, &channels, pings) => {}
        () = pump_input(from_client, writer, &channels, answers) => {}
    }
    // As above: a client that left needs no farewell.
    let _ = to_client.send(close_normally()).await;
}

fn close_normally() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }))
}

fn channel_message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

fn failure(message: &str) -> String {
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "reason": "InternalError", "message": message, "code": 500,
    })
    .to_string()
}

/// Which stream carries which channel: the n-th opened has the number 2n + 1.
struct Channels(Vec<(u8, &'static str)>);

impl Channels {
    fn new(streams: Streams) -> Self {
        Self(streams.open())
    }

    fn streams(&self) -> impl Iterator<Item = (u32, u8, &'static str)> + '_ {
        self.0.iter().zip(0_u32..).map(|((channel, kind), index)| (2 * index + 1, *channel, *kind))
    }

    fn stream_of(&self, channel: u8) -> Option<u32> {
        self.streams().find(|(_, known, _)| *known == channel).map(|(stream, ..)| stream)
    }

    fn channel_of(&self, stream: u32) -> Option<u8> {
        self.streams().find(|(known, ..)| *known == stream).map(|(_, channel, _)| channel)
    }
}

async fn pump_output(
    mut reader: ReadHalf<TokioIo<Upgraded>>,
    client: &mut SplitSink<WebSocket, Message>,
    channels: &Channels,
    pings: tokio::sync::mpsc::Sender<u32>,
) {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let mut told_result = false;
    loop {
        while let Some(frame) = spdy::decode(&mut buffer) {
            match frame {
                Frame::Data { stream, bytes, .. } if !bytes.is_empty() => {
                    let Some(channel) = channels.channel_of(stream) else { continue };
                    told_result |= channel == ERROR;
                    if client.send(channel_message(channel, &bytes)).await.is_err() {
                        return;
                    }
                }
                Frame::Ping(id) => {
                    if pings.send(id).await.is_err() {
                        return;
                    }
                }
                Frame::Data { .. } | Frame::Reset { .. } | Frame::GoAway | Frame::Other => {}
            }
        }
        match reader.read_buf(&mut buffer).await {
            Ok(read) if read > 0 => {}
            // The end of the connection is the end of the session, whatever the cause.
            Ok(_) | Err(_) => break,
        }
    }
    if !told_result {
        let message = failure("containerd ended the session without a result");
        // The client may have left; then nobody needs it.
        let _ = client.send(channel_message(ERROR, message.as_bytes())).await;
    }
}

async fn pump_input(
    mut client: SplitStream<WebSocket>,
    mut writer: WriteHalf<TokioIo<Upgraded>>,
    channels: &Channels,
    mut pings: tokio::sync::mpsc::Receiver<u32>,
) {
    let mut out = BytesMut::new();
    let mut encoder = Encoder::default();
    for (stream, _, kind) in channels.streams() {
        encoder.open(stream, &[("streamtype", kind)], &mut out);
    }
    loop {
        if writer.write_all_buf(&mut out).await.is_err() || writer.flush().await.is_err() {
            // containerd hung up; the output side sees the end and says so.
            return std::future::pending().await;
        }
        tokio::select! {
            message = client.next() => match message {
                Some(Ok(Message::Binary(bytes))) => translate(&bytes, channels, &mut out),
                Some(Ok(Message::Text(text))) => translate(&Bytes::from(text), channels, &mut out),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            Some(id) = pings.recv() => spdy::ping(id, &mut out),
        }
    }
}

fn translate(message: &[u8], channels: &Channels, out: &mut BytesMut) {
    let Some((&channel, bytes)) = message.split_first() else { return };
    match channel {
        STDIN | RESIZE if !bytes.is_empty() => {
            if let Some(stream) = channels.stream_of(channel) {
                spdy::data(stream, bytes, false, out);
            }
        }
        CLOSE => {
            let ended = bytes.first().filter(|&&ended| ended == STDIN).and_then(|_| channels.stream_of(STDIN));
            if let Some(stream) = ended {
                spdy::data(stream, &[], true, out);
            }
        }
        // Nothing else goes this way.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_one_output_and_a_size() {
        let plain = Streams { stdin: true, stdout: true, stderr: true, tty: false };
        let kinds = |streams: Streams| -> Vec<&str> { streams.open().into_iter().map(|(_, kind)| kind).collect() };
        assert_eq!(kinds(plain), ["error", "stdin", "stdout", "stderr"]);
        assert_eq!(kinds(Streams { tty: true, ..plain }), ["error", "stdin", "stdout", "resize"]);
    }

    #[test]
    fn only_input_and_size_reach_the_container() {
        let channels = Channels::new(Streams { stdin: true, stdout: true, stderr: false, tty: true });
        let sent = |message: &[u8]| {
            let mut out = BytesMut::new();
            translate(message, &channels, &mut out);
            spdy::decode(&mut out)
        };
        let data = |stream, bytes: &'static [u8], fin| Some(Frame::Data { stream, bytes: Bytes::from_static(bytes), fin });
        assert_eq!(sent(b"\x00hi"), data(3, b"hi", false));
        assert_eq!(sent(b"\x04{}"), data(7, b"{}", false));
        assert_eq!(sent(&[255, 0]), data(3, b"", true));
        for ignored in [&b"\x00"[..], b"\x01out", b"\x03x", &[255, 1], &[255], b"", b"\x09x"] {
            assert_eq!(sent(ignored), None, "{ignored:?}");
        }
    }
}
