//! A kernel, and the channel to it.

use futures::{SinkExt as _, StreamExt as _};
use http::header::{AUTHORIZATION, HeaderValue};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

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
    socket: WebSocketStream<TcpStream>,
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

    pub(super) async fn connect(&self, session: &Session) -> Outcome<Channel> {
        let failed = |error: Box<dyn std::error::Error>| {
            Failure::new("cannot open a WebSocket to the kernel").because(error).with_exit(Exit::Unreachable)
        };
        let (Some("http"), Some(host)) = (session.server.scheme_str(), session.server.host()) else {
            return Err(Failure::new("cannot open a WebSocket to the kernel").why("this build speaks plain HTTP only"));
        };
        let port = session.server.port_u16().unwrap_or(80);
        let session_id = uuid::Uuid::new_v4().simple().to_string();
        let authority = session.server.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let address = format!("ws://{authority}{}/api/kernels/{}/channels?session_id={session_id}", self.root, self.id);
        let mut request = address.into_client_request().map_err(|error| failed(error.into()))?;
        if let Some(token) = &session.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).map_err(|error| failed(error.into()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let stream =
            TcpStream::connect((host.trim_start_matches('[').trim_end_matches(']'), port)).await.map_err(|error| failed(error.into()))?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.map_err(|error| failed(error.into()))?;
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
