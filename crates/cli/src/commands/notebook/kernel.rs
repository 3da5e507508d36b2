//! A kernel, and the channel to it.

use futures::{SinkExt as _, StreamExt as _};
use http::{StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::message::{self, Reply};
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};

/// A running kernel.
pub(super) struct Kernel {
    /// Path of the Jupyter app.
    root: String,
    id: String,
}

/// A WebSocket to a kernel.
pub(super) struct Channel {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    session_id: String,
    message_id: String,
}

impl Kernel {
    pub(super) async fn start(session: &Session, root: &str) -> Outcome<Self> {
        let request = http::Request::post(format!("{root}/api/kernels"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(b"{}".to_vec())
            .map_err(|error| Failure::new("cannot write the request").because(error))?;
        let kernel: Value = session.client.request(request).await.attempt(|| "cannot start a kernel".to_owned())?;
        let id = kernel["id"].as_str().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Err(Failure::new("cannot start a kernel").why("Jupyter's answer names none"));
        }
        Ok(Self { root: root.to_owned(), id: id.to_owned() })
    }

    pub(super) async fn stop(&self, session: &Session) -> Outcome<()> {
        let request = http::Request::delete(format!("{}/api/kernels/{}", self.root, self.id))
            .body(Vec::new())
            .map_err(|error| Failure::new("cannot write the request").because(error))?;
        session.client.request_text(request).await.attempt(|| "cannot stop the kernel".to_owned())?;
        Ok(())
    }

    /// Opens a WebSocket the way every other request goes: same connection, TLS and identity.
    /// Handshake: RFC 6455 section 4.1.
    pub(super) async fn connect(&self, session: &Session) -> Outcome<Channel> {
        let failed = |why: String| Failure::new("cannot open a WebSocket to the kernel").why(why).with_exit(Exit::Unreachable);
        let session_id = uuid::Uuid::new_v4().simple().to_string();
        let key = generate_key();
        let request = http::Request::get(format!("{}/api/kernels/{}/channels?session_id={session_id}", self.root, self.id))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .body(Body::empty())
            .map_err(|error| failed(error.to_string()))?;
        let response = session.client.send(request).await.attempt(|| "cannot open a WebSocket to the kernel".to_owned())?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(failed(format!("the server answered {} instead of opening it", response.status())));
        }
        let accepted =
            response.headers().get(header::SEC_WEBSOCKET_ACCEPT).is_some_and(|value| value == derive_accept_key(key.as_bytes()).as_str());
        if !accepted {
            return Err(failed("the answer to the handshake is not right".to_owned()));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| failed(error.to_string()))?;
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        Ok(Channel { socket, session_id, message_id: uuid::Uuid::new_v4().simple().to_string() })
    }
}

impl Channel {
    pub(super) async fn execute(&mut self, code: &str) -> Outcome<()> {
        let request = message::execute_request(&self.message_id, &self.session_id, code, jiff::Timestamp::now());
        self.socket.send(Message::text(request.to_string())).await.map_err(|error| lost(error.to_string()))
    }

    pub(super) async fn next(&mut self) -> Outcome<Reply> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).map_err(|error| lost(format!("a message is not JSON: {error}")))?;
                    return Ok(message::read(&message, &self.message_id));
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(lost(frame.map_or_else(|| "the kernel closed it".to_owned(), |frame| frame.to_string())));
                }
                // Binary messages carry widgets' data; pings are answered by the library.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error.to_string())),
                None => return Err(lost("it ended".to_owned())),
            }
        }
    }
}

fn lost(why: String) -> Failure {
    Failure::new("lost the connection to the kernel").why(why).hint("the environment may have stopped: `fermion status`")
}
