//! The web terminal, over the API's exec.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::world::{PATIENCE, World};

const BEARER: (&str, &str) = ("authorization", "Bearer ada-token");

async fn world() -> World {
    let world = World::new().await;
    world.environment("dev", json!([{"name": "shell", "kind": "Terminal"}]), "127.0.0.2").await;
    world
}

/// Reads output until it contains `wanted`.
async fn expect(socket: &mut WebSocketStream<TcpStream>, wanted: &str) {
    let mut output = String::new();
    while !output.contains(wanted) {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("output in time").expect("more output").expect("a message") {
            Message::Binary(bytes) => output.push_str(std::str::from_utf8(&bytes).unwrap()),
            Message::Ping(_) => {}
            other => panic!("{other:?} after {output:?}"),
        }
    }
}

async fn closed(socket: &mut WebSocketStream<TcpStream>) -> CloseFrame {
    loop {
        if let Message::Close(frame) =
            tokio::time::timeout(PATIENCE, socket.next()).await.expect("the end in time").expect("an end").expect("a message")
        {
            return frame.expect("a reason");
        }
    }
}

#[tokio::test]
async fn a_terminal_carries_bytes_size_and_exit_code() {
    let world = world().await;
    let mut socket = world.socket("/apps/team/dev/shell/ws?term=dumb&cols=100&rows=30", &[BEARER]).await.unwrap();
    expect(&mut socket, "[100x30]").await;
    socket.send(Message::binary(&b"echo hi"[..])).await.unwrap();
    expect(&mut socket, "ECHO HI").await;
    socket.send(Message::text(r#"{"resize":{"cols":120,"rows":40}}"#)).await.unwrap();
    expect(&mut socket, "[120x40]").await;
    socket.send(Message::binary(&b"exit\r"[..])).await.unwrap();
    expect(&mut socket, "bye").await;
    let end = closed(&mut socket).await;
    assert_eq!((u16::from(end.code), end.reason.as_str()), (1000, r#"{"exitCode":3}"#));

    let execs = world.api.execs();
    assert_eq!(execs.len(), 1);
    for part in ["container=main", "stdin=true", "stdout=true", "tty=true", "TERM%3Ddumb"] {
        assert!(execs[0].contains(part), "{part} in {}", execs[0]);
    }
    assert_eq!(world.api.patches("dev", 1).await.len(), 1);
}

#[tokio::test]
async fn a_text_that_is_no_order_ends_the_terminal() {
    let world = world().await;
    let mut socket = world.socket("/apps/team/dev/shell/ws", &[BEARER]).await.unwrap();
    expect(&mut socket, "[80x24]").await;
    socket.send(Message::text("ls")).await.unwrap();
    let end = closed(&mut socket).await;
    assert_eq!(u16::from(end.code), 1008);
    assert!(end.reason.contains("error"), "{}", end.reason);
}

#[tokio::test]
async fn a_terminal_is_for_those_who_may() {
    let world = world().await;
    assert_eq!(world.socket("/apps/team/dev/shell/ws", &[]).await.err(), Some(401));
    assert_eq!(world.socket("/apps/team/dev/shell/ws", &[("authorization", "Bearer eve-token")]).await.err(), Some(403));
    assert!(world.api.execs().is_empty());
}

#[tokio::test]
async fn the_page_loads_nothing_else() {
    let world = world().await;
    let reply = world.get("/apps/team/dev/shell/").await;
    assert_eq!(reply.status, 200);
    assert!(reply.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert!(!reply.text().contains("src=") && !reply.text().contains("href="));
    assert_eq!(world.get("/apps/team/dev/shell/ws").await.status, 426);
    assert_eq!(world.get("/apps/team/dev/shell/other").await.status, 404);
}
