//! The little of SPDY/3.1 that talking to containerd's streaming server takes.
//!
//! Header blocks are zlib streams by the standard. What is sent here is stored, not compressed,
//! which any zlib reads; the peer's header blocks say nothing that is needed and are skipped.
//! containerd's implementation (moby/spdystream) has no flow control, so there is none here.
//!
//! Source: <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Begins a control frame of version 3.
const CONTROL: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FLAG_FIN: u8 = 1;
const HEADER_BYTES: usize = 8;
/// zlib's header for "no compression", once per connection.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];
/// An empty stored block: everything so far can be read.
const ZLIB_SYNC: [u8; 5] = [0, 0, 0, 0xff, 0xff];
/// The largest frame that is accepted, in bytes; the format has room for 16 MiB.
const FRAME_BYTES_MAX: usize = (1 << 24) - 1;

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    /// The peer gave up a stream.
    Reset {
        stream: u32,
    },
    /// To be sent back as it is.
    Ping(u32),
    GoAway,
    /// Something that needs no answer.
    Other,
}

/// Writes frames; remembers whether zlib's header went out.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    begun: bool,
}

impl Encoder {
    /// Opens a stream with the given headers.
    pub(crate) fn open(&mut self, stream: u32, headers: &[(&str, &str)], out: &mut BytesMut) {
        let mut block = BytesMut::new();
        block.put_u32(length32(headers.len()));
        for (name, value) in headers {
            for text in [name, value] {
                block.put_u32(length32(text.len()));
                block.put_slice(text.as_bytes());
            }
        }
        let mut zlib = BytesMut::new();
        if !self.begun {
            zlib.put_slice(&ZLIB_HEADER);
            self.begun = true;
        }
        let length = u16::try_from(block.len()).expect("our own headers are a few dozen bytes");
        zlib.put_u8(0);
        zlib.put_u16_le(length);
        zlib.put_u16_le(!length);
        zlib.put_slice(&block);
        zlib.put_slice(&ZLIB_SYNC);
        out.put_u16(CONTROL);
        out.put_u16(SYN_STREAM);
        out.put_u32(length32(10 + zlib.len()));
        out.put_u32(stream);
        out.put_u32(0);
        out.put_u16(0);
        out.put_slice(&zlib);
    }
}

/// Writes a data frame.
pub(crate) fn data(stream: u32, bytes: &[u8], fin: bool, out: &mut BytesMut) {
    // One frame holds more than any message that is taken; larger ones are split all the same.
    let mut pieces = bytes.chunks(FRAME_BYTES_MAX).peekable();
    if pieces.peek().is_none() {
        data_frame(stream, &[], fin, out);
    }
    while let Some(piece) = pieces.next() {
        data_frame(stream, piece, fin && pieces.peek().is_none(), out);
    }
}

fn data_frame(stream: u32, bytes: &[u8], fin: bool, out: &mut BytesMut) {
    out.put_u32(stream);
    out.put_u32(length32(bytes.len()) | (u32::from(if fin { FLAG_FIN } else { 0 }) << 24));
    out.put_slice(bytes);
}

/// Writes the answer to a ping.
pub(crate) fn ping(id: u32, out: &mut BytesMut) {
    out.put_u16(CONTROL);
    out.put_u16(PING);
    out.put_u32(4);
    out.put_u32(id);
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).expect("bounded by the 24 bits of a frame's length")
}

/// Takes one frame off the buffer; `None` if it is not there in full yet.
pub(crate) fn decode(buffer: &mut BytesMut) -> Option<Frame> {
    let header: [u8; HEADER_BYTES] = buffer.get(..HEADER_BYTES)?.try_into().ok()?;
    let word = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let flags = header[4];
    let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
    if buffer.len() < HEADER_BYTES + length {
        buffer.reserve(HEADER_BYTES + length - buffer.len());
        return None;
    }
    buffer.advance(HEADER_BYTES);
    let mut body = buffer.split_to(length).freeze();
    if word & 0x8000_0000 == 0 {
        return Some(Frame::Data { stream: word, bytes: body, fin: flags & FLAG_FIN != 0 });
    }
    let first = |body: &mut Bytes| (body.len() >= 4).then(|| body.get_u32());
    let frame = match u16::try_from(word & 0xffff).unwrap_or_default() {
        RST_STREAM => first(&mut body).map(|stream| Frame::Reset { stream: stream & 0x7fff_ffff }),
        PING => first(&mut body).map(Frame::Ping),
        GOAWAY => Some(Frame::GoAway),
        _ => None,
    };
    Some(frame.unwrap_or(Frame::Other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_frames_come_back_whole() {
        let mut wire = BytesMut::new();
        data(3, b"hello", false, &mut wire);
        data(3, b"", true, &mut wire);
        ping(2, &mut wire);
        let mut arrived = BytesMut::new();
        let mut frames = Vec::new();
        for byte in wire {
            arrived.put_u8(byte);
            frames.extend(decode(&mut arrived));
        }
        let expected = [
            Frame::Data { stream: 3, bytes: Bytes::from_static(b"hello"), fin: false },
            Frame::Data { stream: 3, bytes: Bytes::new(), fin: true },
            Frame::Ping(2),
        ];
        assert_eq!(frames, expected);
        assert!(arrived.is_empty());
    }

    #[test]
    fn a_stream_is_opened_with_stored_headers() {
        let mut encoder = Encoder::default();
        let mut wire = BytesMut::new();
        encoder.open(1, &[("streamtype", "error")], &mut wire);
        let first = wire.split();
        encoder.open(3, &[("streamtype", "error")], &mut wire);
        // The zlib header comes once.
        assert_eq!(first.len(), wire.len() + ZLIB_HEADER.len());
        assert_eq!(first[..4], [0x80, 0x03, 0, 1]);
        assert_eq!(first[18..20], ZLIB_HEADER);
        let block = 4 + 4 + "streamtype".len() + 4 + "error".len();
        assert_eq!(first[21..23], u16::try_from(block).expect("small").to_le_bytes());
    }

    #[test]
    fn control_frames_are_told_apart() {
        for (bytes, expected) in [
            (&[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1][..], Frame::Reset { stream: 5 }),
            (&[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1], Frame::GoAway),
            (&[0x80, 3, 0, 2, 0, 0, 0, 1, 9], Frame::Other),
            (&[0x80, 3, 0, 3, 0, 0, 0, 1, 9], Frame::Other),
        ] {
            assert_eq!(decode(&mut BytesMut::from(bytes)), Some(expected));
        }
    }
}
