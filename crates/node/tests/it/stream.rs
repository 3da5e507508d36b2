//! Streams between a client and a container, through the node's routes on a real connection.

use std::net::SocketAddr;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::bench::{Bench, shell};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Serves the node's routes on a free port.
async fn serve(bench: &Bench) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = bench.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn open(bench: &Bench, path: &str, protocol: &str) -> Socket {
    let address = serve(bench).await;
    let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().expect("a header"));
    let (socket, response) = tokio_tungstenite::connect_async(request).await.expect("an upgrade");
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    socket
}

fn query(command: &[&str], flags: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for word in command {
        query.append_pair("command", word);
    }
    format!("{}&{flags}", query.finish())
}

/// What a session brought: stdout, stderr and the result.
pub(crate) struct Session {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) result: Value,
}

/// Runs a command as `kubectl exec` does, `-i` if there is input.
pub(crate) async fn exec(bench: &Bench, pod: &str, container: &str, command: &[&str], input: Option<&[u8]>) -> Session {
    let flags = if input.is_some() { "stdin=true&stdout=true&stderr=true" } else { "stdout=true&stderr=true" };
    let path = format!("/exec/test/{pod}/{container}?{}", query(command, flags));
    let socket = open(bench, &path, "v5.channel.k8s.io").await;
    let (mut sender, receiver) = socket.split();
    let write = async {
        if let Some(input) = input {
            for piece in input.chunks(32 << 10) {
                let mut message = vec![0];
                message.extend_from_slice(piece);
                sender.send(Message::Binary(message.into())).await.expect("it takes input");
            }
            sender.send(Message::Binary(vec![255, 0].into())).await.expect("it takes the end");
        }
    };
    let (session, ()) = futures::join!(read(receiver), write);
    session
}

async fn read(mut receiver: impl futures::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin) -> Session {
    let mut session = Session { stdout: Vec::new(), stderr: Vec::new(), result: Value::Null };
    while let Some(message) = receiver.next().await {
        let Message::Binary(bytes) = message.expect("a whole session") else { continue };
        let (channel, bytes) = bytes.split_first().expect("a channel");
        match channel {
            1 => session.stdout.extend_from_slice(bytes),
            2 => session.stderr.extend_from_slice(bytes),
            3 => session.result = serde_json::from_slice(bytes).expect("a Status"),
            other => panic!("channel {other}"),
        }
    }
    session
}

async fn sleeper(bench: &Bench) {
    bench.api.create_pod("shell", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [shell("main", "sleep 600")]}}));
    bench.pod_in_phase("shell", "Running").await;
}

#[tokio::test]
async fn exec_carries_output_input_and_exit_code() {
    let bench = Bench::start().await;
    sleeper(&bench).await;
    let session = exec(&bench, "shell", "main", &["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], None).await;
    assert_eq!((session.stdout.as_slice(), session.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    assert_eq!(session.result["status"], "Failure");
    assert_eq!(session.result["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
    // 3 MB there and back, and the end of the input is seen.
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
    let session = exec(&bench, "shell", "main", &["cat"], Some(&input)).await;
    assert_eq!(session.result["status"], "Success");
    assert!(session.stdout == input, "{} bytes came back", session.stdout.len());
    let (code, text) = bench.get("/exec/test/shell/main?command=true&stdout=1").await;
    assert!(code == 400 && text.contains("upgrade"), "{text}");
    let (code, text) = bench.get("/exec/test/nobody/main?command=true&stdout=1").await;
    assert!(code == 404 && text.contains("pod test/nobody is not on node local"), "{text}");
    bench.tear_down().await;
}

#[tokio::test]
async fn a_terminal_has_a_size() {
    let bench = Bench::start().await;
    sleeper(&bench).await;
    let script = "until [ \"$(stty size)\" = '33 77' ]; do sleep 0.05; done; echo sized; read line; echo got $line";
    let path = format!("/exec/test/shell/main?{}", query(&["/bin/sh", "-c", script], "stdin=1&stdout=1&tty=1"));
    let mut socket = open(&bench, &path, "v5.channel.k8s.io").await;
    let mut resize = vec![4];
    resize.extend_from_slice(br#"{"Width":77,"Height":33}"#);
    socket.send(Message::Binary(resize.into())).await.expect("it takes a size");
    socket.send(Message::Binary(b"\x00hello\r".to_vec().into())).await.expect("it takes keys");
    let session = read(socket).await;
    let text = String::from_utf8(session.stdout).expect("text");
    assert!(text.contains("sized") && text.contains("got hello"), "{text}");
    bench.tear_down().await;
}

#[tokio::test]
async fn attach_joins_the_main_process() {
    let bench = Bench::start().await;
    let mut main = shell("main", "while read line; do echo \"got $line\"; done");
    main["stdin"] = json!(true);
    bench.api.create_pod("reader", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [main]}}));
    bench.pod_in_phase("reader", "Running").await;
    let mut socket = open(&bench, "/attach/test/reader/main?stdin=1&stdout=1&stderr=1", "v5.channel.k8s.io").await;
    socket.send(Message::Binary(b"\x00hello\n".to_vec().into())).await.expect("it takes input");
    let answer = async {
        loop {
            let message = socket.next().await.expect("the session goes on").expect("a message");
            if let Message::Binary(bytes) = message
                && bytes.first() == Some(&1)
            {
                return String::from_utf8_lossy(&bytes[1..]).into_owned();
            }
        }
    };
    let answer = tokio::time::timeout(crate::sandbox::PATIENCE, answer).await.expect("an answer");
    assert_eq!(answer, "got hello\n");
    bench.tear_down().await;
}

#[tokio::test]
async fn spdy_clients_are_copied_through() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = Bench::start().await;
    sleeper(&bench).await;
    let address = serve(&bench).await;
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = "POST /exec/test/shell/main?command=true&stdout=1 HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\n\
                   Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("upgrade: spdy/3.1") && head.contains("x-stream-protocol-version: v4.channel.k8s.io"), "{head}");
    // A ping is answered by containerd itself.
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    stream.write_all(&ping).await.expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, ping);
    bench.tear_down().await;
}

/// A stream is opened as SPDY does it: headers in a stored zlib block, the zlib header once.
fn syn_stream(stream: u32, first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = u32::try_from(headers.len()).expect("few").to_be_bytes().to_vec();
    for (name, value) in headers {
        for text in [name, value] {
            block.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
            block.extend(text.as_bytes());
        }
    }
    let length = u16::try_from(block.len()).expect("short");
    let mut zlib = if first { vec![0x78, 0x01] } else { Vec::new() };
    zlib.push(0);
    zlib.extend(length.to_le_bytes());
    zlib.extend((!length).to_le_bytes());
    zlib.extend(block);
    zlib.extend([0, 0, 0, 0xff, 0xff]);
    let mut frame = vec![0x80, 3, 0, 1];
    frame.extend(u32::try_from(zlib.len() + 10).expect("short").to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend([0; 6]);
    frame.extend(zlib);
    frame
}

#[tokio::test]
async fn ports_are_forwarded_through_a_websocket() {
    let bench = Bench::start().await;
    let main = shell("main", "while true; do echo \"hello from inside\" | nc -l -p 7777; done");
    bench.api.create_pod("server", json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [main]}}));
    bench.pod_in_phase("server", "Running").await;
    crate::stream::exec(&bench, "server", "main", &["/bin/sh", "-c", "until netstat -ltn | grep -q 7777; do sleep 0.05; done"], None).await;
    let mut socket = open(&bench, "/portForward/test/server", "SPDY/3.1+portforward.k8s.io").await;
    let port = [("port", "7777"), ("requestid", "0")];
    let mut wire = syn_stream(1, true, &[("streamtype", "error"), port[0], port[1]]);
    wire.extend(syn_stream(3, false, &[("streamtype", "data"), port[0], port[1]]));
    socket.send(Message::Binary(wire.into())).await.expect("it takes frames");
    let mut bytes = Vec::new();
    let arrived = async {
        while !bytes.windows(17).any(|window| window == b"hello from inside") {
            let message = socket.next().await.expect("the session goes on").expect("a message");
            bytes.extend_from_slice(&message.into_data());
        }
    };
    tokio::time::timeout(crate::sandbox::PATIENCE, arrived).await.expect("the container's answer arrives");
    bench.tear_down().await;
}
