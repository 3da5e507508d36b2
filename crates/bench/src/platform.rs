//! The platform, through its whole HTTP path: authentication, authorization, validation, disk.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::Either;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::sightings::{Sightings, Watcher};
use crate::target::{Connection, Entry, Target, Updates, answered, open};
use crate::{event_lines, frames};

/// Bytes of an error's text that are passed on.
const ERROR_BYTES_MAX: usize = 500;

/// Tries to change one object that others change as well.
const UPDATE_TRIES_MAX: usize = 10_000;

/// The media type of answers that hold objects' metadata and nothing else of them.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Protocols, as TLS names them (RFC 7301 section 6, RFC 9113 section 3.1).
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// A platform that listens there, as its administrator.
#[derive(Clone, Debug)]
pub(crate) struct Platform {
    name: &'static str,
    address: SocketAddr,
    authorization: HeaderValue,
    /// Set when it is spoken to over TLS.
    tls: Option<Arc<ClientConfig>>,
}

/// One HTTP/1.1 connection that is kept open.
#[derive(Debug)]
pub(crate) struct Http {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    authorization: HeaderValue,
}

impl Platform {
    /// The platform at an address, with the token of a kubeconfig, over plain HTTP.
    pub(crate) fn new(address: SocketAddr, kubeconfig: &Path) -> anyhow::Result<Self> {
        let config = read_kubeconfig(kubeconfig)?;
        let token = config["users"][0]["user"]["token"].as_str().with_context(|| format!("{} holds no token", kubeconfig.display()))?;
        Self::with_token(address, token)
    }

    /// The same over TLS, as clients of a Kubernetes API server speak to it.
    pub(crate) fn secure(address: SocketAddr, kubeconfig: &Path) -> anyhow::Result<Self> {
        let config = read_kubeconfig(kubeconfig)?;
        let cluster = &config["clusters"][0]["cluster"];
        let authority = match (cluster["certificate-authority-data"].as_str(), cluster["certificate-authority"].as_str()) {
            (Some(encoded), _) => STANDARD.decode(encoded).context("the authority is not base64")?,
            (None, Some(file)) => std::fs::read(file).with_context(|| format!("cannot read {file}"))?,
            (None, None) => bail!("{} holds no authority", kubeconfig.display()),
        };
        Self::new(address, kubeconfig)?.trusting(&authority)
    }

    pub(crate) fn with_token(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}")).context("the token fits no header")?;
        authorization.set_sensitive(true);
        Ok(Self { name: "fermion", address, authorization, tls: None })
    }

    /// The same, called otherwise: another server that speaks the protocol, or another database.
    pub(crate) fn called(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Over TLS, with certificates that these in PEM vouch for.
    pub(crate) fn trusting(mut self, authorities: &[u8]) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            roots.add(certificate.context("an authority is not PEM")?).context("an authority is no certificate")?;
        }
        self.tls = Some(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()));
        Ok(self)
    }

    async fn handshake(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> anyhow::Result<Http> {
        let (sender, connection) = answered("the handshake", hyper::client::conn::http1::handshake(TokioIo::new(io))).await?;
        // An error of the connection is told by the request that meets it.
        tokio::spawn(async move { drop(connection.await) });
        let host = HeaderValue::from_str(&self.address.to_string()).context("an address fits a header")?;
        Ok(Http { sender, host, authorization: self.authorization.clone() })
    }

    /// The body of a watch that tells of objects' metadata alone, from a version on.
    pub(crate) async fn watch_metadata(&self, path: &str) -> anyhow::Result<Streamed> {
        let mut http = self.connect().await?;
        let response = http.send_accepting(Method::GET, path, Bytes::new(), Some(METADATA)).await?;
        ensure!(response.status() == StatusCode::OK, "watching {path}: {}", response.status());
        Ok(Streamed { body: response.into_body(), _http: http })
    }

    /// Lines of a watch from a version on.
    pub(crate) async fn watch_lines(&self, collection: &str, version: &str) -> anyhow::Result<Lines> {
        let mut http = self.connect().await?;
        let path = format!("{collection}?watch=true&resourceVersion={version}");
        let response = http.send(Method::GET, &path, Bytes::new()).await?;
        ensure!(response.status() == StatusCode::OK, "watching {collection}: {}", response.status());
        Ok(Lines { body: response.into_body(), buffer: Vec::new(), _http: http })
    }
}

/// A streamed answer.
pub(crate) struct Streamed {
    body: Incoming,
    /// The connection lasts as long as the answer is read.
    _http: Http,
}

impl Streamed {
    /// What came next; `None` when the answer is over.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.context("the watch broke")?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// The lines of a streamed answer.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    /// The connection lasts as long as the answer is read.
    _http: Http,
}

impl Lines {
    /// The next whole line, with its end; `None` when the answer is over.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.buffer.drain(..=end).collect()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.context("the watch broke")?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

impl Http {
    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<http::Response<Incoming>> {
        self.send_accepting(method, path, body, None).await
    }

    async fn send_accepting(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        accept: Option<&'static str>,
    ) -> anyhow::Result<http::Response<Incoming>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().with_context(|| format!("{path} is no path"))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(accept.map(|accept| (ACCEPT, HeaderValue::from_static(accept))));
        answered("waiting for the connection", self.sender.ready()).await?;
        answered(path, self.sender.send_request(request)).await
    }

    /// Sends a request and reads the whole answer, which must be of the given code.
    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Bytes, wanted: StatusCode) -> anyhow::Result<Bytes> {
        let response = self.send(method, path, body).await?;
        let code = response.status();
        let body = answered(path, response.into_body().collect()).await?.to_bytes();
        if code != wanted {
            bail!("{path}: {code}: {}", String::from_utf8_lossy(&body[..body.len().min(ERROR_BYTES_MAX)]));
        }
        Ok(body)
    }
}

fn read_kubeconfig(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))
}

fn collection(folder: &str) -> String {
    format!("/api/v1/namespaces/{folder}/configmaps")
}

impl Target for Platform {
    type Connection = Http;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn connect(&self) -> anyhow::Result<Http> {
        match self.stream(HTTP1).await? {
            Either::Left(stream) => self.handshake(stream).await,
            Either::Right(stream) => self.handshake(stream).await,
        }
    }

    async fn prepare(&self, folder: &str) -> anyhow::Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": folder}});
        let mut http = self.connect().await?;
        http.call(Method::POST, "/api/v1/namespaces", namespace.to_string().into(), StatusCode::CREATED).await.map(drop)
    }

    async fn watch(&self, folder: &str, watchers: usize, sightings: &Arc<Sightings>) -> anyhow::Result<Vec<Watcher>> {
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\naccept: application/json\r\n\r\n",
            self.watch_path(folder).await?,
            self.address,
            self.authorization()?,
        );
        let mut watches = Vec::with_capacity(watchers);
        for _ in 0..watchers {
            let (stream, request) = (self.stream(HTTP1).await?, request.clone());
            let read = |mut begun: Begun, sightings: Arc<Sightings>| async move {
                let (begun, seen) = (|| begun.tell(), || sightings.saw());
                match stream {
                    Either::Left(stream) => event_lines::read(stream, request.as_bytes(), begun, seen).await,
                    Either::Right(stream) => event_lines::read(stream, request.as_bytes(), begun, seen).await,
                }
            };
            watches.push(begin_watch(1, sightings, read).await?);
        }
        Ok(watches)
    }
}

/// Tells that a watch has begun.
struct Begun(Option<oneshot::Sender<()>>);

impl Begun {
    fn tell(&mut self) {
        // Who waited for it may have given up.
        let _told = self.0.take().map(|begun| begun.send(()));
    }
}

/// Reads so many watches in a task of its own, which have begun when this returns.
async fn begin_watch<F>(
    watches: usize,
    sightings: &Arc<Sightings>,
    read: impl FnOnce(Begun, Arc<Sightings>) -> F,
) -> anyhow::Result<Watcher>
where
    F: Future<Output = anyhow::Error> + Send + 'static,
{
    let (begin, begun) = oneshot::channel();
    let (read, sightings) = (read(Begun(Some(begin)), sightings.clone()), sightings.clone());
    let task = tokio::spawn(async move { sightings.broke(read.await) });
    let watcher = Watcher { task, watches };
    answered("beginning a watch", begun).await?;
    Ok(watcher)
}

impl Platform {
    /// Watchers as [`Target::watch`] makes them, over HTTP/2: so many connections with so many watches
    /// each.
    pub(crate) async fn watch_multiplexed(
        &self,
        folder: &str,
        (connections, watches): (usize, usize),
        sightings: &Arc<Sightings>,
    ) -> anyhow::Result<Vec<Watcher>> {
        let (path, authority, authorization) = (self.watch_path(folder).await?, self.address.to_string(), self.authorization()?.to_owned());
        let mut watchers = Vec::with_capacity(connections);
        for _ in 0..connections {
            let Either::Right(stream) = self.stream(HTTP2).await? else { bail!("{} speaks no TLS, and HTTP/2 only with it", self.name) };
            ensure!(stream.get_ref().1.alpn_protocol() == Some(HTTP2), "{} speaks no HTTP/2", self.name);
            let (path, authority, authorization) = (path.clone(), authority.clone(), authorization.clone());
            let read = |mut begun: Begun, sightings: Arc<Sightings>| async move {
                let request = frames::Request { path: &path, authority: &authority, authorization: &authorization };
                frames::read(stream, &request, watches, || begun.tell(), || sightings.saw()).await
            };
            watchers.push(begin_watch(watches, sightings, read).await?);
        }
        Ok(watchers)
    }

    /// The address of a watch of what is written to the folder from now on.
    async fn watch_path(&self, folder: &str) -> anyhow::Result<String> {
        let mut http = self.connect().await?;
        let list = http.call(Method::GET, &format!("{}?limit=1", collection(folder)), Bytes::new(), StatusCode::OK).await?;
        let list: Value = serde_json::from_slice(&list).context("a list is JSON")?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a list has a version")?;
        Ok(format!("{}?watch=true&resourceVersion={version}", collection(folder)))
    }

    fn authorization(&self) -> anyhow::Result<&str> {
        self.authorization.to_str().context("a token is text")
    }

    /// A connection, encrypted if it has to be; then the protocol is agreed upon as well.
    async fn stream(&self, protocol: &[u8]) -> anyhow::Result<Either<TcpStream, TlsStream<TcpStream>>> {
        let stream = open(self.address).await?;
        let Some(tls) = &self.tls else { return Ok(Either::Left(stream)) };
        let name = ServerName::IpAddress(self.address.ip().into());
        let connector = TlsConnector::from(tls.clone());
        let connect = connector.with_alpn(vec![protocol.to_vec()]).connect(name, stream);
        Ok(Either::Right(answered("the TLS handshake", connect).await?))
    }
}

impl Updates for Http {
    async fn update(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let path = format!("{}/{}", collection(&entry.folder), entry.name);
        for _ in 0..UPDATE_TRIES_MAX {
            let body = self.call(Method::GET, &path, Bytes::new(), StatusCode::OK).await?;
            let mut object: Value = serde_json::from_slice(&body).context("an object is JSON")?;
            let count = object["data"]["count"].as_str().and_then(|count| count.parse().ok()).unwrap_or(0_u64) + 1;
            object["data"]["count"] = count.to_string().into();
            let response = self.send(Method::PUT, &path, object.to_string().into()).await?;
            let code = response.status();
            answered(&path, response.into_body().collect()).await?;
            match code {
                StatusCode::OK => return Ok(()),
                StatusCode::CONFLICT => {}
                _ => bail!("{path}: {code}"),
            }
        }
        bail!("{path}: somebody else was faster {UPDATE_TRIES_MAX} times");
    }
}

impl Connection for Http {
    async fn create(&mut self, entry: &Entry, body: Vec<u8>) -> anyhow::Result<()> {
        self.call(Method::POST, &collection(&entry.folder), body.into(), StatusCode::CREATED).await.map(drop)
    }

    async fn get(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let path = format!("{}/{}", collection(&entry.folder), entry.name);
        self.call(Method::GET, &path, Bytes::new(), StatusCode::OK).await.map(drop)
    }

    async fn list(&mut self, folder: &str, expected: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let body = self.call(Method::GET, &collection(folder), Bytes::new(), StatusCode::OK).await?;
        let taken = begun.elapsed();
        let list: Value = serde_json::from_slice(&body).context("a list is JSON")?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        ensure!(count == expected, "the list holds {count} of {expected} objects");
        Ok(taken)
    }
}
