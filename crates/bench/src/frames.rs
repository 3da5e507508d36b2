//! Watches over HTTP/2, many on one connection, with as little as can be between the socket and the
//! clock: what [`crate::event_lines`] is to HTTP/1.1.
//!
//! Requests are written by hand, with header fields that no table knows (RFC 7541 section 6.2.2). Of
//! what comes only the heads of frames are read (RFC 9113 section 4.1), the status, and where lines
//! begin and end. Windows are opened so far at the beginning that they need not be opened again.

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::event_lines::Objects;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
const HEAD_BYTES: usize = 9;
/// The largest frame that a server may send who was not allowed more.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// Bytes that are read at once: a large TLS record or two.
const BUFFER_BYTES: usize = 32 * 1024;
/// What a window may be at most.
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// What it is at the beginning of a connection.
const WINDOW_DEFAULT: u32 = (1 << 16) - 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// `:status: 200` in the static table (RFC 7541 appendix A), as an indexed field.
const STATUS_200: u8 = 0x88;

/// A watch, as it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) authorization: &'a str,
}

/// Asks for a watch as often as it says, on one connection. Calls `begun` when all have begun, and
/// `seen` at the end of every line that comes on any of them. Only returns when one ends, with why.
pub(crate) async fn read<S>(
    mut stream: S,
    request: &Request<'_>,
    watches: usize,
    mut begun: impl FnMut(),
    mut seen: impl FnMut(),
) -> anyhow::Error
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let read = async {
        stream.write_all(&opening(request, watches)?).await.context("cannot send the requests")?;
        stream.flush().await.context("cannot send the requests")?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut held = 0;
        let mut watched = Watched { streams: (0..watches).map(|_| Objects::default()).collect(), begun: 0 };
        let mut told = false;
        loop {
            let count = stream.read(&mut buffer[held..]).await.context("cannot read the answers")?;
            ensure!(count > 0, "the connection was closed");
            held += count;
            let mut replies = Vec::new();
            let taken = watched.take(&buffer[..held], &mut replies, &mut seen)?;
            buffer.copy_within(taken..held, 0);
            held -= taken;
            if !replies.is_empty() {
                stream.write_all(&replies).await.context("cannot answer")?;
                stream.flush().await.context("cannot answer")?;
            }
            if watched.begun == watches && !std::mem::replace(&mut told, true) {
                begun();
            }
        }
    };
    let ended: anyhow::Result<std::convert::Infallible> = read.await;
    match ended {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// What a client says first, and its requests.
fn opening(request: &Request<'_>, watches: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = PREFACE.to_vec();
    let mut settings = Vec::new();
    for (name, value) in [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, WINDOW_MAX)] {
        settings.extend_from_slice(&name.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    frame(&mut bytes, SETTINGS, 0, 0, &settings)?;
    frame(&mut bytes, WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - WINDOW_DEFAULT).to_be_bytes())?;
    let mut head = Vec::new();
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", request.path),
        (":authority", request.authority),
        ("authorization", request.authorization),
        ("accept", "application/json"),
    ] {
        // A field that no table is to know.
        head.push(0x10);
        text(&mut head, name);
        text(&mut head, value);
    }
    for number in 0..watches {
        let stream = u32::try_from(number * 2 + 1).context("too many watches")?;
        frame(&mut bytes, HEADERS, END_STREAM | END_HEADERS, stream, &head)?;
    }
    Ok(bytes)
}

/// A text as it is, with its length as an integer of a prefix of seven bits (RFC 7541 section 5.1).
fn text(head: &mut Vec<u8>, text: &str) {
    const PREFIX_MAX: usize = 127;
    if text.len() < PREFIX_MAX {
        head.push(text.len() as u8);
    } else {
        head.push(PREFIX_MAX as u8);
        let mut rest = text.len() - PREFIX_MAX;
        while rest >= 128 {
            head.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        head.push(rest as u8);
    }
    head.extend_from_slice(text.as_bytes());
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> anyhow::Result<()> {
    ensure!(payload.len() <= FRAME_BYTES_MAX, "{} bytes are too many for a frame", payload.len());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    Ok(())
}

/// The watches of a connection, in the order of their streams.
struct Watched {
    streams: Vec<Objects>,
    /// How many were answered.
    begun: usize,
}

impl Watched {
    /// Reads the whole frames of what came, and answers how many bytes they are.
    fn take(&mut self, bytes: &[u8], replies: &mut Vec<u8>, seen: &mut impl FnMut()) -> anyhow::Result<usize> {
        let mut taken = 0;
        while let Some((head, rest)) = bytes[taken..].split_first_chunk::<HEAD_BYTES>() {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            ensure!(length <= FRAME_BYTES_MAX, "a frame is longer than was allowed");
            let Some(payload) = rest.get(..length) else { break };
            taken += HEAD_BYTES + length;
            self.frame(kind, flags, u32::from_be_bytes(stream), payload, replies, seen)?;
        }
        Ok(taken)
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        replies: &mut Vec<u8>,
        seen: &mut impl FnMut(),
    ) -> anyhow::Result<()> {
        match kind {
            DATA => {
                ensure!(flags & (END_STREAM | PADDED) == 0, "the server ended a watch, or pads what it sends");
                let objects = (stream as usize).checked_sub(1).and_then(|number| self.streams.get_mut(number / 2));
                objects.context("something came on a stream that nobody opened")?.take(payload, seen)
            }
            HEADERS => {
                // A change of the table's size may stand first (RFC 7541 section 4.2).
                let status = payload.iter().find(|byte| *byte & 0xe0 != 0x20);
                ensure!(flags & (END_STREAM | PADDED) == 0 && status == Some(&STATUS_200), "a watch was refused");
                self.begun += 1;
                Ok(())
            }
            SETTINGS if flags & ACK == 0 => frame(replies, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(replies, PING, ACK, 0, payload),
            RESET => bail!("the server reset a watch: {payload:?}"),
            GO_AWAY => bail!("the server ends the connection: {}", String::from_utf8_lossy(payload.get(8..).unwrap_or_default())),
            SETTINGS | PING | WINDOW_UPDATE | CONTINUATION => Ok(()),
            other => bail!("the server sent a frame of kind {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, SETTINGS, 0, 0, &[]).unwrap();
        for stream in [1, 3] {
            frame(&mut bytes, HEADERS, END_HEADERS, stream, &[0x20, STATUS_200, 0x61]).unwrap();
        }
        // The line of one watch, in two parts, around that of the other one.
        frame(&mut bytes, DATA, 0, 1, b"{\"type\":\"ADDED\",").unwrap();
        frame(&mut bytes, DATA, 0, 3, b"{\"type\":\"ADDED\"}\n").unwrap();
        frame(&mut bytes, DATA, 0, 1, b"}\n").unwrap();
        bytes
    }

    fn watched() -> Watched {
        Watched { streams: vec![Objects::default(), Objects::default()], begun: 0 }
    }

    #[test]
    fn lines_are_counted_however_frames_are_cut() {
        let bytes = answers();
        for size in 1..bytes.len() {
            let (mut watched, mut seen, mut replies, mut held) = (watched(), 0, Vec::new(), Vec::new());
            for part in bytes.chunks(size) {
                held.extend_from_slice(part);
                let taken = watched.take(&held, &mut replies, &mut || seen += 1).unwrap();
                held.drain(..taken);
            }
            assert_eq!((watched.begun, seen, held.len()), (2, 2, 0), "in parts of {size}");
            assert_eq!(replies, [0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn what_is_no_watch_is_refused() {
        for (kind, flags, stream, payload) in [
            (HEADERS, END_HEADERS, 1, &[0x8d][..]),
            (HEADERS, END_HEADERS | END_STREAM, 1, &[STATUS_200]),
            (DATA, END_STREAM, 1, b""),
            (DATA, 0, 5, b"{\"type\":\"ADDED\"}\n"),
            (DATA, 0, 1, b"{\"type\":\"ERROR\"}\n"),
            (RESET, 0, 1, &[0, 0, 0, 2]),
            (GO_AWAY, 0, 0, &[0; 8]),
        ] {
            let mut bytes = Vec::new();
            frame(&mut bytes, kind, flags, stream, payload).unwrap();
            assert!(watched().take(&bytes, &mut Vec::new(), &mut || ()).is_err(), "{kind} {flags} {stream} {payload:?}");
        }
    }

    #[test]
    fn long_texts_carry_their_length() {
        let mut head = Vec::new();
        // 1337 = 127 + 58 + 9 * 128.
        text(&mut head, &"x".repeat(1337));
        assert_eq!(head[..3], [127, 0xba, 0x09]);
        assert_eq!(head.len(), 3 + 1337);
    }
}
