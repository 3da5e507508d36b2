//! One call of a webhook: HTTPS to an address that was looked at first, bounded in time, size and
//! number. Redirects are not followed: they would lead to addresses nobody looked at.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::http::{Request as HttpRequest, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::configuration::Webhook;
use super::review::{self, Review, Verdict};
use super::target::{Target, TargetPolicy};

/// Calls of webhooks that may be under way at once, all together.
const CALLS_MAX: usize = 256;
/// The largest answer read, in bytes: a patch of the largest object, in base64.
const ANSWER_BYTES_MAX: usize = 6 * 1024 * 1024;
/// The largest head of an answer, in bytes.
const ANSWER_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 4;
/// Certificates in one `caBundle`.
const AUTHORITIES_MAX: usize = 100;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("failed to call webhook: Post \"{url}\": {why}")]
    Call { url: String, why: String },
    #[error("received invalid webhook response: {0}")]
    Answer(String),
}

/// Calls webhooks.
pub(super) struct Caller {
    targets: TargetPolicy,
    calls: Semaphore,
}

impl Caller {
    pub(super) fn new(targets: TargetPolicy) -> Self {
        Self { targets, calls: Semaphore::new(CALLS_MAX) }
    }

    /// Asks a webhook. Waiting for room counts towards its time.
    pub(super) async fn ask(&self, webhook: &Webhook, review: &Review<'_>) -> Result<Verdict, Failure> {
        let failed = |why: String| Failure::Call { url: webhook.target.url.clone(), why };
        let uid = uuid::Uuid::new_v4().to_string();
        let body = Bytes::from(review.to_json(&uid).to_string());
        let exchange = async {
            let closed = |_| "the server is shutting down".to_owned();
            let _mine = webhook.calls.acquire().await.map_err(closed)?;
            let _any = self.calls.acquire().await.map_err(closed)?;
            let stream = self.connect(&webhook.target, webhook.tls.clone()).await?;
            send(stream, &webhook.target, body).await
        };
        let answer = match tokio::time::timeout(webhook.timeout, exchange).await {
            Ok(answer) => answer.map_err(failed)?,
            Err(_) => return Err(failed(format!("no answer within {} seconds", webhook.timeout.as_secs()))),
        };
        review::read(&answer, &uid).map_err(Failure::Answer)
    }

    /// Connects to the first address of the host that may be dialled and answers.
    async fn connect(&self, target: &Target, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(target.host.clone()).map_err(|_| "the host is no name and no address".to_owned())?;
        let addresses = tokio::net::lookup_host((target.host.as_str(), target.port))
            .await
            .map_err(|error| format!("the host cannot be resolved: {error}"))?;
        let mut why = "the host has no address".to_owned();
        for address in addresses.take(ADDRESSES_MAX) {
            // The very address that is dialled is looked at: a name may mean another one next time.
            if let Some(refused) = self.targets.refuse(address.ip()) {
                why = format!("{}: {refused}", address.ip());
                continue;
            }
            match dial(address, &name, tls.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => why = format!("{address}: {error}"),
            }
        }
        Err(why)
    }
}

async fn dial(address: SocketAddr, name: &ServerName<'static>, tls: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(tls).connect(name.clone(), stream).await
}

/// Sends a review and reads the whole answer.
async fn send(stream: TlsStream<TcpStream>, target: &Target, body: Bytes) -> Result<Bytes, String> {
    let request = HttpRequest::post(&target.path)
        .header(header::HOST, &target.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "fermion-apiserver")
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(ANSWER_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("the server answered {}", response.status()));
        }
        match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes"))
            }
            Err(_) => Err("the answer ended before it was complete".to_owned()),
        }
    };
    // Both in this task, so that nothing goes on when the time is over.
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // What it had read is still to be taken.
        _ended = &mut connection => exchange.await,
    }
}

/// TLS that trusts the authorities of a bundle (base64 of PEM), or those of the machine.
pub(super) fn trust(bundle: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    static MACHINE: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let Some(bundle) = bundle else {
        if let Some(config) = MACHINE.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        // A machine without authorities trusts no webhook that brings none of its own.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(MACHINE.get_or_init(|| Arc::new(client(roots))).clone());
    };
    let pem = STANDARD.decode(bundle).map_err(|_| "is not base64".to_owned())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem).take(AUTHORITIES_MAX) {
        let certificate = certificate.map_err(|_| "is not PEM".to_owned())?;
        roots.add(certificate).map_err(|_| "holds what is no certificate of an authority".to_owned())?;
    }
    if roots.is_empty() {
        return Err("holds no certificate in PEM".to_owned());
    }
    Ok(Arc::new(client(roots)))
}

fn client(roots: RootCertStore) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}
