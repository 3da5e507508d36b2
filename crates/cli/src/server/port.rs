//! The one port: TLS and, for callers on this machine, plain HTTP, told apart by the first
//! byte. kubectl sends its token over TLS only; a browser on this machine has no reason to
//! trust a certificate of ours.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::server::TlsStream;

/// How long a new connection may take to say what it speaks.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that may be in that state at once.
const HANDSHAKES_MAX: usize = 1024;
/// Connections that wait to be served.
const ACCEPTED_MAX: usize = 128;
/// First byte of a TLS record that holds a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// HTTP/2 as TLS names it (RFC 9113 section 3.1).
const HTTP2: &[u8] = b"h2";

/// Who the server says it is, and how clients can tell.
pub(super) struct Certificate {
    /// The authority that signs the server's certificates, as PEM: goes into kubeconfigs.
    pub(super) authority_pem: String,
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// Finds or makes the home's own authority, and signs a fresh certificate with it.
    pub(super) fn prepare(home: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let folder = home.join("tls");
        let (key_file, certificate_file) = (folder.join("authority.key"), folder.join("authority.crt"));
        let (authority_key, authority_pem) = match (std::fs::read_to_string(&key_file), std::fs::read_to_string(&certificate_file)) {
            (Ok(key), Ok(certificate)) => {
                let key = KeyPair::from_pem(&key)
                    .with_context(|| format!("{} is damaged: delete {} to make a new authority", key_file.display(), folder.display()))?;
                (key, certificate)
            }
            _ => {
                super::create_private_folder(&folder)?;
                let key = KeyPair::generate().context("cannot make a key")?;
                let certificate = authority()?.self_signed(&key).context("cannot make a certificate")?.pem();
                super::access::write_private(&key_file, &key.serialize_pem())?;
                super::access::write_private(&certificate_file, &certificate)?;
                (key, certificate)
            }
        };
        let issuer = Issuer::new(authority()?, authority_key);
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let own = address.ip().to_string();
        if !names.contains(&own) {
            names.push(own);
        }
        let mut params = CertificateParams::new(names).context("cannot name the certificate")?;
        params.distinguished_name.push(DnType::CommonName, "fermion server");
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.signed_by(&key, &issuer).context("cannot sign the certificate")?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("the certificate cannot be used")?;
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(Self { authority_pem, config: Arc::new(config) })
    }
}

/// The authority as it is written into its certificate; the same every time.
fn authority() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("cannot name the authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "fermion authority");
    Ok(params)
}

/// A listener whose connections have been told apart.
pub(super) struct Port {
    accepted: mpsc::Receiver<(Connection, SocketAddr)>,
    address: SocketAddr,
}

impl Port {
    /// Takes connections from now on.
    pub(super) fn open(listener: TcpListener, certificate: &Certificate) -> anyhow::Result<Self> {
        let address = listener.local_addr().context("cannot tell the address listened on")?;
        let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
        let acceptor = TlsAcceptor::from(certificate.config.clone());
        tokio::spawn(accept_all(listener, acceptor, sender));
        Ok(Self { accepted, address })
    }
}

impl axum::serve::Listener for Port {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The accepting task only ends with the runtime.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept_all(listener: TcpListener, acceptor: TlsAcceptor, sender: mpsc::Sender<(Connection, SocketAddr)>) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: others must end first.
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = sender.closed() => return,
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            let _slot = slot;
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, tell_apart(stream, peer, acceptor)).await {
                // Nobody takes it any more when the server stops.
                Ok(Ok(connection)) => drop(sender.send((connection, peer)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection was refused"),
                Err(_) => tracing::debug!(%peer, "a connection said nothing in time"),
            }
        });
    }
}

async fn tell_apart(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor) -> io::Result<Connection> {
    // Small answers must not wait for more data to come.
    stream.set_nodelay(true)?;
    let mut first = [0_u8; 1];
    let seen = stream.peek(&mut first).await?;
    if seen == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first[0] == TLS_HANDSHAKE {
        return Ok(Connection::Tls(Box::new(acceptor.accept(stream).await?)));
    }
    if peer.ip().is_loopback() {
        return Ok(Connection::Plain(stream));
    }
    Err(io::Error::other("plain HTTP from another machine"))
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Whether the client wants HTTP/2. Without TLS nobody is asked, and everybody speaks HTTP/1.1.
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(HTTP2),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
