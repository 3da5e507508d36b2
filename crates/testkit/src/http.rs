//! Plain HTTP/1.1 over a socket: for requests no well-behaved client would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is something else.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.split("\r\n").filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client that signs its requests with a token and sends them as they are given.
#[derive(Clone, Debug)]
pub struct Http {
    address: SocketAddr,
    token: String,
}

impl Http {
    pub(crate) fn new(address: SocketAddr, token: String) -> Self {
        Self { address, token }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administrator's token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A client without a token.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { address: self.address, token: String::new() }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks before the answer is whole.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
        let mut lines = vec![
            format!("{method} {path} HTTP/1.1"),
            format!("Host: {}", self.address),
            "Connection: close".to_owned(),
            format!("Content-Length: {}", body.len()),
        ];
        if !self.token.is_empty() {
            lines.push(format!("Authorization: Bearer {}", self.token));
        }
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        let mut bytes = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes)
    }

    /// GET of a path.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"").expect("an answer")
    }

    /// POST of JSON.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Answer {
        self.request("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes()).expect("an answer")
    }

    /// Sends bytes as they are and reads the answer until the server closes.
    ///
    /// # Errors
    /// When the connection breaks before an answer came.
    pub fn raw(&self, bytes: &[u8]) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // A server that refuses early may close before it has read everything.
        let sent = stream.write_all(bytes);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            sent?;
            read?;
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "no answer"));
        };
        let headers = String::from_utf8_lossy(&answer[..end]).into_owned();
        let code = headers.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut body = answer[end + 4..].to_vec();
        if headers.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        Ok(Answer { code, headers, body })
    }
}

/// Joins the chunks of RFC 9112 section 7.1; what is cut short ends there.
fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line_end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..line_end])
            .ok()
            .and_then(|text| usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let rest = &bytes[line_end + 2..];
        let taken = size.min(rest.len());
        body.extend_from_slice(&rest[..taken]);
        bytes = rest.get(size + 2..).unwrap_or_default();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(unchunk(b"5\r\nab"), b"ab");
    }
}
