//! The client of containerd: CRI v1 and, for prompt news, containerd's own event stream.
//!
//! Every call has a bound in time and answers an [`Error`] that names the call, so that
//! a pod's status can say what was attempted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// The generated CRI v1 messages and clients.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod containerd_events {
    tonic::include_proto!("containerd.services.events.v1");
}

use containerd_events::events_client::EventsClient;
use v1::image_service_client::ImageServiceClient;
use v1::runtime_service_client::RuntimeServiceClient;

/// How long a call that only reads containerd's memory may take.
pub const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// How long creating or removing something may take; a loaded disk makes this slow.
pub const CHANGE_TIMEOUT: Duration = Duration::from_mins(2);
/// How long pulling one image may take.
pub const PULL_TIMEOUT: Duration = Duration::from_hours(1);
/// How long connecting to containerd's socket may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest reply that is read: lists of a machine full of containers fit easily.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Why a call to containerd had no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers on the socket.
    #[error("containerd does not answer on {}: is it running?", socket.display())]
    Unavailable {
        /// Where it should listen.
        socket: PathBuf,
        /// What the transport said.
        #[source]
        source: Box<tonic::Status>,
    },
    /// It answered that it will not or cannot.
    #[error("{call}: {}", .status.message())]
    Refused {
        /// The CRI call.
        call: &'static str,
        /// containerd's answer; its message is part of this error's text.
        status: Box<tonic::Status>,
    },
    /// No answer in time.
    #[error("{call}: containerd gave no answer within {} s", after.as_secs())]
    TimedOut {
        /// The CRI call.
        call: &'static str,
        /// The bound that was reached.
        after: Duration,
    },
}

impl Error {
    /// Whether containerd said that the thing asked about does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == tonic::Code::NotFound)
    }

    /// Whether containerd itself is away: worth waiting for, nothing is lost.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether the name of the sandbox or container is taken by an earlier attempt.
    pub fn is_name_taken(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.message().contains("is reserved for"))
    }
}

/// What happened to a container's main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskNews {
    /// It ended.
    Exited,
    /// The kernel killed a process of it for want of memory.
    OutOfMemory,
}

/// One message of containerd's event stream.
#[derive(Clone, Debug)]
pub struct TaskEvent {
    /// containerd's id of the container or sandbox.
    pub container_id: String,
    /// What happened.
    pub news: TaskNews,
}

/// A handle to containerd; cheap to clone, connects on first use and again after a loss.
#[derive(Clone, Debug)]
pub struct Cri {
    channel: Channel,
    socket: Arc<PathBuf>,
}

macro_rules! calls {
    ($client:ident: $($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident, $timeout:expr;)*) => {
        impl Cri {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: v1::$request) -> Result<v1::$response, Error> {
                    let mut client = $client::new(self.channel.clone())
                        .max_decoding_message_size(REPLY_BYTES_MAX);
                    // Boxed: the machinery of a call is tens of kilobytes.
                    let reply = Box::pin(client.$name(request));
                    self.bounded(stringify!($name), $timeout, reply).await
                }
            )*
        }
    };
}

calls! { RuntimeServiceClient:
    /// Name and version of the runtime.
    version(VersionRequest) -> VersionResponse, READ_TIMEOUT;
    /// Whether runtime and network are ready.
    status(StatusRequest) -> StatusResponse, READ_TIMEOUT;
    /// Creates and starts a sandbox.
    run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse, CHANGE_TIMEOUT;
    /// Stops a sandbox and gives its address back.
    stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse, CHANGE_TIMEOUT;
    /// Removes a sandbox and its containers.
    remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse, CHANGE_TIMEOUT;
    /// One sandbox with its address.
    pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse, READ_TIMEOUT;
    /// Sandboxes by filter.
    list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse, READ_TIMEOUT;
    /// Creates a container.
    create_container(CreateContainerRequest) -> CreateContainerResponse, CHANGE_TIMEOUT;
    /// Starts a created container.
    start_container(StartContainerRequest) -> StartContainerResponse, CHANGE_TIMEOUT;
    /// Removes a container that does not run.
    remove_container(RemoveContainerRequest) -> RemoveContainerResponse, CHANGE_TIMEOUT;
    /// Containers by filter.
    list_containers(ListContainersRequest) -> ListContainersResponse, READ_TIMEOUT;
    /// One container in detail.
    container_status(ContainerStatusRequest) -> ContainerStatusResponse, READ_TIMEOUT;
    /// Makes containerd write to a new log file after the old one was moved.
    reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse, READ_TIMEOUT;
    /// Prepares `exec` and answers where to stream it.
    exec(ExecRequest) -> ExecResponse, READ_TIMEOUT;
    /// Prepares `attach` and answers where to stream it.
    attach(AttachRequest) -> AttachResponse, READ_TIMEOUT;
    /// Prepares port forwarding and answers where to stream it.
    port_forward(PortForwardRequest) -> PortForwardResponse, READ_TIMEOUT;
    /// CPU, memory and disk use of containers.
    list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse, READ_TIMEOUT;
}

calls! { ImageServiceClient:
    /// Images that are present.
    list_images(ListImagesRequest) -> ListImagesResponse, READ_TIMEOUT;
    /// One image, or nothing.
    image_status(ImageStatusRequest) -> ImageStatusResponse, READ_TIMEOUT;
    /// Fetches an image from its registry.
    pull_image(PullImageRequest) -> PullImageResponse, PULL_TIMEOUT;
    /// Removes an image.
    remove_image(RemoveImageRequest) -> RemoveImageResponse, CHANGE_TIMEOUT;
    /// What the images take on disk.
    image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse, READ_TIMEOUT;
}

impl Cri {
    /// A client of the containerd that listens on `socket`. Must be called inside a tokio runtime.
    pub fn new(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://containerd").connect_timeout(CONNECT_TIMEOUT).connect_with_connector_lazy(connector);
        Self { channel, socket: Arc::new(socket.to_owned()) }
    }

    /// Where containerd listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    async fn bounded<T>(
        &self,
        call: &'static str,
        after: Duration,
        reply: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(after, reply).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.explain(call, status)),
            Err(_) => Err(Error::TimedOut { call, after }),
        }
    }

    fn explain(&self, call: &'static str, status: tonic::Status) -> Error {
        // A transport error has a source; `Unavailable` from containerd itself does not.
        let lost = std::error::Error::source(&status).is_some();
        if status.code() == tonic::Code::Unavailable || lost {
            Error::Unavailable { socket: self.socket.as_ref().clone(), source: Box::new(status) }
        } else {
            Error::Refused { call, status: Box::new(status) }
        }
    }

    /// Ends a container: its stop signal, then, after `grace`, SIGKILL.
    pub async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<(), Error> {
        let mut client = RuntimeServiceClient::new(self.channel.clone());
        let request =
            v1::StopContainerRequest { container_id: container_id.to_owned(), timeout: i64::try_from(grace.as_secs()).unwrap_or(i64::MAX) };
        self.bounded("stop_container", grace + CHANGE_TIMEOUT, client.stop_container(request)).await.map(drop)
    }

    /// Runs a command in a container and waits for it; containerd ends it after `timeout`.
    pub async fn exec_sync(&self, container_id: &str, command: Vec<String>, timeout: Duration) -> Result<v1::ExecSyncResponse, Error> {
        let mut client = RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(REPLY_BYTES_MAX);
        let request = v1::ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd: command,
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        };
        self.bounded("exec_sync", timeout + READ_TIMEOUT, client.exec_sync(request)).await
    }

    /// Exits and out-of-memory kills of containers as they happen. The stream ends when containerd goes away; what was missed meanwhile must be looked up.
    pub async fn task_events(&self) -> Result<impl Stream<Item = Result<TaskEvent, Error>> + use<>, Error> {
        let mut client = EventsClient::new(self.channel.clone());
        let request = containerd_events::SubscribeRequest {
            filters: ["exit", "oom"].map(|kind| format!("namespace==k8s.io,topic==/tasks/{kind}")).to_vec(),
        };
        let stream = self.bounded("subscribe", READ_TIMEOUT, client.subscribe(request)).await?;
        let this = self.clone();
        Ok(stream.filter_map(move |item| {
            let event = match item {
                Ok(envelope) => read_event(&envelope).map(Ok),
                Err(status) => Some(Err(this.explain("subscribe", status))),
            };
            std::future::ready(event)
        }))
    }
}

fn read_event(envelope: &containerd_events::Envelope) -> Option<TaskEvent> {
    let news = match envelope.topic.as_str() {
        "/tasks/exit" => TaskNews::Exited,
        "/tasks/oom" => TaskNews::OutOfMemory,
        _ => return None,
    };
    let body = envelope.event.as_ref()?;
    let event = containerd_events::TaskEvent::decode(body.value.as_slice()).ok()?;
    // The end of a process that `exec` started is no news of the container.
    if news == TaskNews::Exited && event.id != event.container_id {
        return None;
    }
    Some(TaskEvent { container_id: event.container_id, news })
}
