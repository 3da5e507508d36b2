//! A watch over HTTP/1.1 with as little as can be between the socket and the clock.
//!
//! The watchers stand on the same processors as the server they watch. With a full HTTP client and a
//! JSON parser each of them would measure mostly itself, so here the request is written by hand, and
//! of the answer nothing is read but where its lines begin and end.

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What every line begins with that is counted; another line is an error.
const BEGINNING: &[u8] = br#"{"type":"ADDED""#;
/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that are read at once: an event of the load and its framing.
const BUFFER_BYTES: usize = 4 * 1024;
/// Hexadecimal digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 8;

/// Sends a request for a watch, and calls `seen` at the end of every line that comes. Only returns
/// when the watch ends, with why.
pub(crate) async fn read<S>(mut stream: S, request: &[u8], mut begun: impl FnMut(), mut seen: impl FnMut()) -> anyhow::Error
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let read = async {
        stream.write_all(request).await.context("cannot send the request")?;
        stream.flush().await.context("cannot send the request")?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut head = Vec::new();
        let mut lines = Lines::default();
        let rest = loop {
            let count = stream.read(&mut buffer).await.context("cannot read the answer")?;
            ensure!(count > 0, "no answer");
            head.extend_from_slice(&buffer[..count]);
            if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break head.split_off(end + 4);
            }
            ensure!(head.len() <= HEAD_BYTES_MAX, "the answer's head has no end");
        };
        check(&head)?;
        begun();
        lines.take(&rest, &mut seen)?;
        loop {
            let count = stream.read(&mut buffer).await.context("cannot read the answer")?;
            ensure!(count > 0, "the connection was closed");
            lines.take(&buffer[..count], &mut seen)?;
        }
    };
    let ended: anyhow::Result<std::convert::Infallible> = read.await;
    match ended {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Refuses an answer that is not a stream of chunks.
fn check(head: &[u8]) -> anyhow::Result<()> {
    let head = String::from_utf8_lossy(head).to_lowercase();
    ensure!(head.starts_with("http/1.1 200 "), "{}", head.lines().next().unwrap_or_default());
    ensure!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "the answer does not come in chunks");
    Ok(())
}

/// Where in a chunked body (RFC 9112 section 7.1) of lines the reader is.
#[derive(Debug, Default)]
struct Lines {
    chunk: Chunk,
    objects: Objects,
}

/// Where in lines of new objects the reader is.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Bytes of the line's beginning that have come.
    matched: usize,
}

#[derive(Debug)]
enum Chunk {
    /// In the line of its size: the digits so far, and their value.
    Size { digits: usize, value: usize },
    /// In its data: bytes that are left.
    Data(usize),
    /// In the end of line behind the data: bytes that are left.
    End(usize),
}

impl Default for Chunk {
    fn default() -> Self {
        Self::Size { digits: 0, value: 0 }
    }
}

impl Lines {
    fn take(&mut self, mut bytes: &[u8], seen: &mut impl FnMut()) -> anyhow::Result<()> {
        while let Some(&first) = bytes.first() {
            match &mut self.chunk {
                Chunk::Size { digits, value } => {
                    bytes = &bytes[1..];
                    match (char::from(first).to_digit(16), first) {
                        (Some(digit), _) if *digits < SIZE_DIGITS_MAX => {
                            *value = *value * 16 + digit as usize;
                            *digits += 1;
                        }
                        (None, b'\r') => {}
                        (None, b'\n') if *value > 0 => self.chunk = Chunk::Data(*value),
                        (None, b'\n') => bail!("the server ended the watch"),
                        _ => bail!("the answer's chunks are damaged"),
                    }
                }
                Chunk::Data(left) => {
                    let (data, rest) = bytes.split_at(bytes.len().min(*left));
                    *left -= data.len();
                    if *left == 0 {
                        self.chunk = Chunk::End(2);
                    }
                    self.objects.take(data, seen)?;
                    bytes = rest;
                }
                Chunk::End(left) => {
                    bytes = &bytes[1..];
                    *left -= 1;
                    if *left == 0 {
                        self.chunk = Chunk::default();
                    }
                }
            }
        }
        Ok(())
    }
}

impl Objects {
    /// Calls `seen` at the end of every line.
    pub(crate) fn take(&mut self, mut data: &[u8], seen: &mut impl FnMut()) -> anyhow::Result<()> {
        while !data.is_empty() {
            let compared = data.len().min(BEGINNING.len() - self.matched);
            let (beginning, rest) = data.split_at(compared);
            ensure!(beginning == &BEGINNING[self.matched..self.matched + compared], "something else came than a new object");
            self.matched += compared;
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(()) };
            self.matched = 0;
            data = &rest[end + 1..];
            seen();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"f\r\n{\"type\":\"ADDED\"\r\n3\r\n}\n{\r\n10\r\n\"type\":\"ADDED\",\n\r\n";

    #[test]
    fn lines_are_counted_however_they_are_cut() {
        for size in 1..BODY.len() {
            let (mut lines, mut seen) = (Lines::default(), 0);
            for part in BODY.chunks(size) {
                lines.take(part, &mut || seen += 1).unwrap();
            }
            assert_eq!(seen, 2, "in parts of {size}");
        }
    }

    #[test]
    fn what_is_no_new_object_is_refused() {
        for body in [&b"f\r\n{\"type\":\"ERROR\"\r\n"[..], b"0\r\n\r\n", b"x\r\n", b"123456789\r\n"] {
            assert!(Lines::default().take(body, &mut || ()).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn only_a_stream_of_chunks_is_read() {
        check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert!(check(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(check(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").is_err());
    }
}
