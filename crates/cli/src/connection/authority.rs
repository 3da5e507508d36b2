//! Who signs a server's certificate.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::failure::{Failure, Outcome};

/// Certificates that are trusted for one server, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    pem: String,
    /// The same in binary, as TLS takes them.
    certificates: Vec<Vec<u8>>,
}

impl Authority {
    /// Reads PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, String> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(|certificate| certificate.map(|der| der.to_vec()))
            .collect::<Result<Vec<_>, _>>();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(Self { pem: pem.to_owned(), certificates }),
            Ok(_) => Err("it holds no certificate".to_owned()),
            Err(error) => Err(format!("its certificate cannot be read: {error}")),
        }
    }

    /// Reads what a kubeconfig holds.
    pub(crate) fn from_base64(data: &str) -> Result<Self, String> {
        let pem = STANDARD.decode(data).map_err(|error| format!("its certificate-authority-data is not base64: {error}"))?;
        Self::from_pem(&String::from_utf8_lossy(&pem))
    }

    pub(crate) fn from_file(path: &Path) -> Outcome<Self> {
        let broken = |why: String| Failure::new(format!("cannot use the certificate authority in {}", path.display())).why(why);
        let text = std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
        Self::from_pem(&text).map_err(broken)
    }

    pub(crate) fn to_base64(&self) -> String {
        STANDARD.encode(&self.pem)
    }

    pub(crate) fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// One for tests.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(Vec::new()).expect("names");
        Self::from_pem(&params.self_signed(&key).expect("a certificate").pem()).expect("PEM")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_or_refused() {
        let authority = Authority::example();
        assert_eq!(authority.certificates().len(), 1);
        assert_eq!(Authority::from_base64(&authority.to_base64()), Ok(authority));
        assert!(Authority::from_pem("nothing").is_err());
        assert!(Authority::from_base64("***").is_err());
    }
}
