//! What is left of a connection after an answer that did not wait for the request's body.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use fermion_testkit::{Http, Node, Platform};

use crate::FERMION;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than a server has read when it sees the head of a request.
const LONG: usize = 300_000;

/// A connection that is kept.
struct Connection {
    sending: TcpStream,
    receiving: BufReader<TcpStream>,
}

impl Connection {
    fn open(http: &Http) -> Self {
        let stream = TcpStream::connect(http.address()).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self { sending: stream.try_clone().expect("a second handle"), receiving: BufReader::new(stream) }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.sending.write_all(bytes).expect("the server reads");
    }

    /// Code and head of the next answer, in lower case; its body is read and dropped.
    fn answer(&mut self) -> (u16, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.receiving.read_line(&mut head).expect("an answer");
            assert!(read > 0, "the connection ended after {head:?}");
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        self.receiving.read_exact(&mut body).expect("the whole body");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
        (code, head)
    }

    /// Whether nothing follows.
    fn is_closed(&mut self) -> bool {
        matches!(self.receiving.read(&mut [0]), Ok(0))
    }
}

fn head(method: &str, path: &str, token: &str, length: usize, more: &str) -> Vec<u8> {
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: fermion\r\n{authorization}Content-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
    )
    .into_bytes()
}

#[test]
fn a_connection_goes_on_after_a_refusal() {
    let platform = Platform::start(FERMION, Node::None);
    let http = platform.http();
    let maps = "/api/v1/namespaces/default/configmaps";
    let mut connection = Connection::open(&http);
    for (method, path, token, length, code) in [
        ("POST", maps, "", LONG, 401),
        ("POST", maps, "wrong", LONG, 401),
        ("PUT", maps, http.token(), LONG, 405),
        ("POST", "/api/v1/nothing", http.token(), LONG, 404),
        ("POST", "/apis/example.org/v1/things", http.token(), LONG, 404),
        ("DELETE", "/version", http.token(), LONG, 405),
        // Read up to what is too much.
        ("POST", maps, http.token(), 4 * 1024 * 1024, 413),
    ] {
        connection.send(&head(method, path, token, length, ""));
        connection.send(&vec![b' '; length]);
        let (answered, head) = connection.answer();
        assert_eq!(answered, code, "{method} {path}: {head}");
        assert!(!head.contains("connection: close"), "{method} {path}: {head}");
        connection.send(&head_of_get(http.token()));
        assert_eq!(connection.answer().0, 200, "the request after {method} {path}");
    }
}

fn head_of_get(token: &str) -> Vec<u8> {
    head("GET", "/version", token, 0, "")
}

#[test]
fn a_refusal_that_leaves_a_long_body_says_that_the_connection_ends() {
    let platform = Platform::start(FERMION, Node::None);
    let http = platform.http();
    let maps = "/api/v1/namespaces/default/configmaps";
    for (what, length, more) in [
        ("far too long", 1 << 30, ""),
        ("one that never comes", 1000, ""),
        ("one that waits to be asked for", 1000, "Expect: 100-continue\r\n"),
    ] {
        let mut connection = Connection::open(&http);
        connection.send(&head("POST", maps, "", length, more));
        let (code, head) = connection.answer();
        assert_eq!(code, 401, "{what}: {head}");
        assert!(head.contains("connection: close"), "{what}: {head}");
        assert!(connection.is_closed(), "{what}");
    }
    // Who may write is asked for the body, and nothing ends.
    let body = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"asked"}}"#;
    let mut connection = Connection::open(&http);
    connection.send(&head("POST", maps, http.token(), body.len(), "Expect: 100-continue\r\n"));
    let mut line = String::new();
    while line != "HTTP/1.1 100 Continue\r\n\r\n" {
        assert!(connection.receiving.read_line(&mut line).expect("an answer") > 0, "{line}");
    }
    connection.send(body);
    assert_eq!(connection.answer().0, 201);
    connection.send(&head_of_get(http.token()));
    assert_eq!(connection.answer().0, 200);
}
