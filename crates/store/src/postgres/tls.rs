//! TLS to the database, with the same library as everywhere in Fermion.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto};

use crate::error::{Cause, Error};

/// How to speak TLS; without a configuration, not at all.
#[derive(Clone, Default)]
pub(super) struct Tls(Option<Arc<ClientConfig>>);

impl Tls {
    /// Verifies the server by the certificates in a file, or by those the machine trusts.
    pub(super) fn verifying(roots_file: Option<&str>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = roots_file {
            let failed = |source: Cause| Error::Address { reason: format!("sslrootcert={path} cannot be read: {source}") };
            for certificate in CertificateDer::pem_file_iter(Path::new(path)).map_err(|e| failed(e.into()))? {
                let added = certificate.map_err(|e| failed(e.into()))?;
                roots.add(added).map_err(|e| failed(e.into()))?;
            }
        } else {
            // One of the machine's own that cannot be read is none of ours to mend.
            let (_added, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            let reason = "there is no certificate to verify the server by: name a file with sslrootcert, \
                          or install ca-certificates"
                .to_owned();
            return Err(Error::Address { reason });
        }
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the versions that are on by default")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Some(Arc::new(config))))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Encrypted<S>;
    type TlsConnect = Connect;
    type Error = Cause;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connect, Cause> {
        Ok(Connect { config: self.0.clone(), domain: domain.to_owned() })
    }
}

/// One handshake to be made.
pub(super) struct Connect {
    config: Option<Arc<ClientConfig>>,
    domain: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connect {
    type Stream = Encrypted<S>;
    type Error = Cause;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted<S>, Cause>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or("TLS was not asked for")?;
            let name = ServerName::try_from(self.domain)?;
            let connected = TlsConnector::from(config).connect(name, stream).await.map_err(Untrusted::recognise)?;
            Ok(Encrypted(Box::new(connected)))
        })
    }
}

/// Whoever answered is not the server that was meant, as far as its certificate tells.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server shows a certificate that is not trusted: sslrootcert names the file of who signed it, and it must be for the host in the address"
)]
struct Untrusted(#[source] rustls::Error);

impl Untrusted {
    /// Tells a certificate that is not trusted from other reasons for which a handshake fails.
    fn recognise(error: io::Error) -> Cause {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(invalid @ rustls::Error::InvalidCertificate(_)) => Self(invalid.clone()).into(),
            _ => error.into(),
        }
    }
}

/// An encrypted connection.
pub(super) struct Encrypted<S>(Box<tokio_rustls::client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}
