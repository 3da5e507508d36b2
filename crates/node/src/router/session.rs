//! `kubectl exec`, `attach`, `cp` and `port-forward`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::RequestPartsExt as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use k8s_openapi::api::core::v1::Pod;

use super::query::Query;
use super::{Refusal, find_container, find_pod};
use crate::cri::v1;
use crate::pod::sandbox::{CONTAINER_NAME, POD_UID};
use crate::shared::Shared;
use crate::streaming::exec::{MESSAGE_BYTES_MAX, PROTOCOLS, Streams};
use crate::streaming::{exec as session, ports, raw, tunnel};

type ContainerPath = Path<(String, String, String)>;

pub(super) async fn exec(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): ContainerPath,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, _) = request.into_parts();
    let query = Query::parse(parts.uri.query());
    let command = query.all("command");
    if command.is_empty() {
        return Err(Refusal::bad_request("give a command to run"));
    }
    let streams = streams(&query)?;
    let container_id = running_container(&shared, &namespace, &pod, &container).await?;
    let request = v1::ExecRequest {
        container_id,
        cmd: command,
        tty: streams.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr && !streams.tty,
    };
    let kind = require_upgrade(&parts)?;
    let url = shared.cri.exec(request).await?.url;
    serve(parts, kind, url, streams).await
}

pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): ContainerPath,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, _) = request.into_parts();
    let mut streams = streams(&Query::parse(parts.uri.query()))?;
    let found = find_pod(&shared, &namespace, &pod)?;
    // Whether it has a terminal is the container's nature, not the client's wish.
    streams.tty = find_container(&found, &container)?.tty.unwrap_or(false);
    let container_id = running_container(&shared, &namespace, &pod, &container).await?;
    let request = v1::AttachRequest {
        container_id,
        tty: streams.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr && !streams.tty,
    };
    let kind = require_upgrade(&parts)?;
    let url = shared.cri.attach(request).await?.url;
    serve(parts, kind, url, streams).await
}

pub(super) async fn port_forward(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut parts, _) = request.into_parts();
    let found = find_pod(&shared, &namespace, &pod)?;
    let kind = require_upgrade(&parts)?;
    let uid = found.metadata.uid.clone().unwrap_or_default();
    let request = v1::ListPodSandboxRequest {
        filter: Some(v1::PodSandboxFilter {
            label_selector: HashMap::from([(POD_UID.to_owned(), uid)]),
            state: Some(v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxReady.into() }),
            ..Default::default()
        }),
    };
    let sandbox = shared.cri.list_pod_sandbox(request).await?.items.into_iter().next();
    let sandbox = sandbox.ok_or_else(|| Refusal::bad_request(format!("pod {pod} is not running")))?;
    let request = v1::PortForwardRequest { pod_sandbox_id: sandbox.id, port: Vec::new() };
    let url = shared.cri.port_forward(request).await?.url;
    match kind {
        Kind::Spdy => raw_copy(parts, &url).await,
        Kind::WebSocket => {
            let upgrade = websocket(&mut parts, &[tunnel::PROTOCOL, ports::PROTOCOL]).await?;
            if upgrade.selected_protocol().is_some_and(|protocol| protocol == tunnel::PROTOCOL) {
                return Ok(upgrade.on_upgrade(move |socket| tunnel::serve(socket, url)));
            }
            let wanted = wanted_ports(&Query::parse(parts.uri.query()))?;
            Ok(upgrade.on_upgrade(move |socket| ports::serve(socket, url, wanted)))
        }
    }
}

/// The ports that a client names: `ports=80&ports=443`, or `ports=80,443`.
fn wanted_ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let given = query.all("ports");
    let mut ports = Vec::new();
    for text in given.iter().flat_map(|list| list.split(',')) {
        let port = text.trim().parse().ok().filter(|port| *port > 0);
        ports.push(port.ok_or_else(|| Refusal::bad_request(format!("ports={text}: must be numbers from 1 to 65535")))?);
    }
    if ports.is_empty() || ports.len() > ports::PORTS_MAX {
        return Err(Refusal::bad_request(format!("name the ports to forward, at most {}: ?ports=80,443", ports::PORTS_MAX)));
    }
    Ok(ports)
}

fn streams(query: &Query) -> Result<Streams, Refusal> {
    let streams =
        Streams { stdin: query.flag("stdin")?, stdout: query.flag("stdout")?, stderr: query.flag("stderr")?, tty: query.flag("tty")? };
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(Refusal::bad_request("ask for at least one of stdin, stdout and stderr"));
    }
    Ok(streams)
}

/// The id of the container that runs under that name.
async fn running_container(shared: &Shared, namespace: &str, pod: &str, container: &str) -> Result<String, Refusal> {
    let found: Arc<Pod> = find_pod(shared, namespace, pod)?;
    find_container(&found, container)?;
    let request = v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            label_selector: HashMap::from([
                (POD_UID.to_owned(), found.metadata.uid.clone().unwrap_or_default()),
                (CONTAINER_NAME.to_owned(), container.to_owned()),
            ]),
            state: Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() }),
            ..Default::default()
        }),
    };
    let running = shared.cri.list_containers(request).await?.containers;
    let newest = running.into_iter().max_by_key(|container| container.created_at);
    newest.map(|container| container.id).ok_or_else(|| Refusal::bad_request(format!("container {container} in pod {pod} is not running")))
}

/// How the client wants to stream.
#[derive(Clone, Copy)]
enum Kind {
    Spdy,
    WebSocket,
}

fn require_upgrade(parts: &Parts) -> Result<Kind, Refusal> {
    if raw::is_asked(&parts.headers) {
        return Ok(Kind::Spdy);
    }
    let upgrade = parts.headers.get(http::header::UPGRADE).and_then(|value| value.to_str().ok());
    if upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Ok(Kind::WebSocket);
    }
    Err(Refusal::bad_request("this is a stream: ask for an upgrade to websocket or SPDY/3.1"))
}

async fn websocket(parts: &mut Parts, protocols: &[&'static str]) -> Result<WebSocketUpgrade, Refusal> {
    let upgrade: WebSocketUpgrade =
        parts.extract().await.map_err(|rejection| Refusal::bad_request(format!("not a WebSocket request: {rejection}")))?;
    let upgrade = upgrade.protocols(protocols.iter().copied()).max_message_size(MESSAGE_BYTES_MAX);
    if upgrade.selected_protocol().is_none() {
        return Err(Refusal::bad_request(format!("the WebSocket must speak one of {}", protocols.join(", "))));
    }
    Ok(upgrade)
}

async fn serve(mut parts: Parts, kind: Kind, url: String, streams: Streams) -> Result<Response, Refusal> {
    match kind {
        Kind::Spdy => raw_copy(parts, &url).await,
        Kind::WebSocket => {
            let upgrade = websocket(&mut parts, &PROTOCOLS).await?;
            Ok(upgrade.on_upgrade(move |socket| session::serve(socket, url, streams)))
        }
    }
}

async fn raw_copy(mut parts: Parts, url: &str) -> Result<Response, Refusal> {
    let client: OnUpgrade =
        parts.extensions.remove().ok_or_else(|| Refusal::bad_request("the connection cannot be switched to SPDY/3.1"))?;
    raw::serve(&parts.headers, client, url).await.map_err(|error| Refusal::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_in_two_ways() {
        let wanted = |query: &str| wanted_ports(&Query::parse(Some(query))).ok();
        assert_eq!(wanted("ports=80&ports=443"), Some(vec![80, 443]));
        assert_eq!(wanted("ports=80,%20443"), Some(vec![80, 443]));
        let many = format!("ports={}", vec!["1"; ports::PORTS_MAX + 1].join(","));
        for wrong in ["", "ports=", "ports=0", "ports=65536", "ports=http", "ports=-1", &many] {
            assert_eq!(wanted(wrong), None, "{wrong}");
        }
    }
}
