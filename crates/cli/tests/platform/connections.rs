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

/// Many requests at once over one connection, as clients of Kubernetes speak HTTP/2.
mod multiplexed {
    use std::sync::Arc;

    use axum::body::Body;
    use base64::Engine as _;
    use futures::future::{join_all, try_join_all};
    use futures::{StreamExt as _, TryStreamExt as _};
    use hyper::client::conn::http2::{SendRequest, handshake};
    use hyper::{Request, Response, StatusCode};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;

    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    /// Watches on the connection: fewer than it may have, so that there is room for other requests.
    const WATCHES: usize = 90;

    /// A connection to the server's port, for which these protocols are offered.
    async fn open(platform: &Platform, protocols: &[&str]) -> TlsStream<tokio::net::TcpStream> {
        let config = std::fs::read_to_string(platform.kubeconfig()).expect("a kubeconfig");
        let config: serde_json::Value = serde_yaml::from_str(&config).expect("YAML");
        let authority = config["clusters"][0]["cluster"]["certificate-authority-data"].as_str().expect("an authority");
        let authority = base64::engine::general_purpose::STANDARD.decode(authority).expect("base64");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&authority).expect("PEM")).expect("a certificate");
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let address = platform.http().address();
        let stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
        TlsConnector::from(Arc::new(tls)).connect(ServerName::IpAddress(address.ip().into()), stream).await.expect("a handshake")
    }

    struct Client {
        sender: SendRequest<Body>,
        authority: String,
        token: String,
    }

    impl Client {
        async fn connect(platform: &Platform) -> Self {
            let stream = open(platform, &["h2", "http/1.1"]).await;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
            // Errors are told by the requests that meet them.
            tokio::spawn(async move { drop(connection.await) });
            let http = platform.http();
            Self { sender, authority: http.address().to_string(), token: http.token().to_owned() }
        }

        async fn send(&self, method: &str, path: &str, token: &str, body: impl Into<Body>) -> Response<Body> {
            let request = Request::builder()
                .method(method)
                .uri(format!("https://{}{path}", self.authority))
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json")
                .body(body.into())
                .expect("a request");
            let mut sender = self.sender.clone();
            let answer = async {
                sender.ready().await?;
                sender.send_request(request).await
            };
            tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time").expect("an answer").map(Body::new)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_watches_share_a_connection_with_other_requests() {
        let platform = tokio::task::block_in_place(|| Platform::start(FERMION, Node::None));
        let client = Client::connect(&platform).await;
        let list = client.send("GET", &format!("{MAPS}?limit=1"), &client.token, Body::empty()).await;
        let list = axum::body::to_bytes(list.into_body(), usize::MAX).await.expect("a list");
        let list: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
        let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
        let path = format!("{MAPS}?watch=true&resourceVersion={version}");
        let watches = join_all((0..WATCHES).map(|_| client.send("GET", &path, &client.token, Body::empty()))).await;
        assert!(watches.iter().all(|watch| watch.status() == StatusCode::OK));
        // Refused by its head, with a body that nobody reads: no other stream takes notice.
        let refused = client.send("POST", MAPS, "wrong", vec![b' '; LONG]).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        for name in ["one", "two"] {
            let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
            assert_eq!(client.send("POST", MAPS, &client.token, object.to_string()).await.status(), StatusCode::CREATED);
        }
        let seen = try_join_all(watches.into_iter().map(|watch| async {
            let mut text = String::new();
            let mut frames = watch.into_body().into_data_stream().map_err(|error| error.to_string());
            while text.lines().count() < 2 || !text.ends_with('\n') {
                let frame = tokio::time::timeout(PATIENCE, frames.next()).await.map_err(|late| late.to_string())?;
                text += std::str::from_utf8(&frame.ok_or("the watch ended")??).map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(text)
        }))
        .await
        .expect("every watch sees both");
        for text in seen {
            let names: Vec<_> = text
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["object"]["metadata"]["name"].clone())
                .collect();
            assert_eq!(names, ["one", "two"]);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bodies_longer_than_a_window_come_and_go_whole() {
        let platform = tokio::task::block_in_place(|| Platform::start(FERMION, Node::None));
        let client = Client::connect(&platform).await;
        let filler = "x".repeat(900_000);
        let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "long"}, "data": {"filler": filler}});
        assert_eq!(client.send("POST", MAPS, &client.token, object.to_string()).await.status(), StatusCode::CREATED);
        let body = client.send("GET", &format!("{MAPS}/long"), &client.token, Body::empty()).await.into_body();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("the whole body");
        let read: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(read["data"]["filler"].as_str().map(str::len), Some(filler.len()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn clients_that_take_connections_over_get_http1() {
        let platform = tokio::task::block_in_place(|| Platform::start(FERMION, Node::None));
        for (offered, agreed) in [(&["http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None), (&["http/1.1", "h2"], Some(b"h2"))] {
            let stream = open(&platform, offered).await;
            assert_eq!(stream.get_ref().1.alpn_protocol(), agreed, "{offered:?}");
        }
    }
}
