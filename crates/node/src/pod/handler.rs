//! What probes and lifecycle hooks do: run a command, ask over HTTP or gRPC, open a connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::cri::Cri;
use crate::events::truncate;

/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: usize = 10 << 10;
/// How much of what a check says is repeated in messages, in bytes.
const OUTPUT_BYTES_MAX: usize = 512;

/// A running container and how to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub cri: Cri,
    pub container_id: String,
    pub container: Container,
    /// The address of the pod.
    pub ip: String,
}

/// One thing to do to a container.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handler<'a> {
    Exec(&'a ExecAction),
    HttpGet(&'a HTTPGetAction),
    Tcp(&'a TCPSocketAction),
    Grpc(&'a GRPCAction),
    Sleep(Duration),
}

impl<'a> Handler<'a> {
    pub(crate) fn of_probe(probe: &'a Probe) -> Option<Self> {
        let exec = probe.exec.as_ref().map(Self::Exec);
        let http = probe.http_get.as_ref().map(Self::HttpGet);
        let tcp = probe.tcp_socket.as_ref().map(Self::Tcp);
        exec.or(http).or(tcp).or(probe.grpc.as_ref().map(Self::Grpc))
    }

    pub(crate) fn of_hook(hook: &'a LifecycleHandler) -> Option<Self> {
        let exec = hook.exec.as_ref().map(Self::Exec);
        let http = hook.http_get.as_ref().map(Self::HttpGet);
        let tcp = hook.tcp_socket.as_ref().map(Self::Tcp);
        let sleep = hook.sleep.as_ref().map(|sleep| Self::Sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())));
        exec.or(http).or(tcp).or(sleep)
    }
}

impl Target {
    /// Does it, and says why it did not go well.
    pub(crate) async fn run(&self, handler: Handler<'_>, timeout: Duration) -> Result<(), String> {
        let done = async {
            match handler {
                Handler::Exec(action) => self.exec(action, timeout).await,
                Handler::HttpGet(action) => self.http_get(action).await,
                Handler::Tcp(action) => self.tcp(action).await,
                Handler::Grpc(action) => self.grpc(action).await,
                Handler::Sleep(time) => {
                    tokio::time::sleep(time).await;
                    Ok(())
                }
            }
        };
        // A command is ended by containerd, which needs a moment more.
        let bound = if matches!(handler, Handler::Exec(_)) { timeout + Duration::from_secs(5) } else { timeout };
        match tokio::time::timeout(bound, done).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} s", timeout.as_secs())),
        }
    }

    async fn exec(&self, action: &ExecAction, timeout: Duration) -> Result<(), String> {
        let command = action.command.clone().unwrap_or_default();
        let reply = self.cri.exec_sync(&self.container_id, command, timeout).await.map_err(|error| error.to_string())?;
        if reply.exit_code == 0 {
            return Ok(());
        }
        let said = if reply.stderr.is_empty() { reply.stdout } else { reply.stderr };
        let mut said = String::from_utf8_lossy(&said).trim().to_owned();
        truncate(&mut said, OUTPUT_BYTES_MAX);
        Err(format!("the command exited with {}: {said}", reply.exit_code))
    }

    async fn http_get(&self, action: &HTTPGetAction) -> Result<(), String> {
        let port = self.port(&action.port)?;
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&self.ip);
        let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let stream = connect(host, port).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("http://{host}:{port}{path}: {error}"))?;
        let driver = tokio::spawn(connection);
        let mut request = http::Request::get(path.as_str())
            .header(http::header::HOST, format!("{host}:{port}"))
            .header(http::header::USER_AGENT, "fermion-probe")
            .header(http::header::CONNECTION, "close");
        for header in action.http_headers.iter().flatten() {
            if header.name.eq_ignore_ascii_case("host")
                && let Some(headers) = request.headers_mut()
            {
                headers.remove(http::header::HOST);
            }
            request = request.header(&header.name, &header.value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| format!("{path}: {error}"))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            if status.is_success() || status.is_redirection() {
                return Ok(());
            }
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let mut said = String::from_utf8_lossy(&body).trim().to_owned();
            truncate(&mut said, OUTPUT_BYTES_MAX);
            Err(format!("status {}: {said}", status.as_u16()))
        }
        .await;
        driver.abort();
        answer.map_err(|why: String| format!("http://{host}:{port}{path}: {why}"))
    }

    async fn tcp(&self, action: &TCPSocketAction) -> Result<(), String> {
        let port = self.port(&action.port)?;
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&self.ip);
        connect(host, port).await.map(drop)
    }

    async fn grpc(&self, action: &GRPCAction) -> Result<(), String> {
        let address = format!("http://{}:{}", self.ip, action.port);
        let failed = |error: &dyn std::fmt::Display| format!("grpc health check at {address}: {error}");
        let channel = tonic::transport::Endpoint::from_shared(address.clone())
            .map_err(|error| failed(&error))?
            .connect()
            .await
            .map_err(|error| failed(&error))?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|error| failed(&error))?;
        let request = HealthCheckRequest { service: action.service.clone().unwrap_or_default() };
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let reply = client.unary(tonic::Request::new(request), path, codec).await.map_err(|status| failed(&status.message()))?;
        match reply.into_inner().status {
            SERVING => Ok(()),
            other => Err(failed(&format!("status {other}, not SERVING"))),
        }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let named = self.container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
                named.map(|port| port.container_port).or_else(|| name.parse().ok())
            }
        };
        number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0).ok_or_else(|| match port {
            IntOrString::Int(number) => format!("{number} is not a port"),
            IntOrString::String(name) => format!("the container has no port named {name}"),
        })
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("cannot connect to {host}:{port}: {error}"))
}

/// `SERVING` of the gRPC health checking protocol.
///
/// Source: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}
