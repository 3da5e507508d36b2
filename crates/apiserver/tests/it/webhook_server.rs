//! A webhook: an HTTPS server on loopback, with a certificate of its own authority.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What the webhook does with a review.
pub(crate) enum Reaction {
    Allow,
    Warn(&'static str),
    Deny(&'static str),
    Patch(Value),
    /// These bytes, as they are.
    Raw(Vec<u8>),
    Code(StatusCode),
    /// To another address.
    Redirect(String),
    /// No answer, ever.
    Hang,
    /// A body of so many bytes.
    Huge(usize),
}

pub(crate) struct WebhookServer {
    pub(crate) url: String,
    pub(crate) ca_bundle: String,
    /// The requests of reviews that came, in order.
    seen: Arc<Mutex<Vec<Value>>>,
}

impl WebhookServer {
    /// A webhook that reacts to the `request` of a review. It goes away with the test's runtime.
    pub(crate) async fn start(react: impl Fn(&Value) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (acceptor, ca_bundle) = tls();
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (react, kept) = (Arc::new(react), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, react, kept) = (acceptor.clone(), react.clone(), kept.clone());
                tokio::spawn(async move {
                    // A client that does not trust this server ends here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                        let (react, kept) = (react.clone(), kept.clone());
                        async move { Ok::<_, Infallible>(answer(request, &*react, &kept).await) }
                    });
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { url: format!("https://{address}/review"), ca_bundle, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Value> {
        self.seen.lock().expect("no test panics here").clone()
    }

    /// A configuration with this webhook, for ConfigMaps.
    pub(crate) fn configuration(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut webhook = json!({
            "name": format!("{name}.example.com"),
            "clientConfig": {"url": self.url, "caBundle": self.ca_bundle},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        change(&mut webhook);
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": [webhook]})
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    react: &(impl Fn(&Value) -> Reaction + ?Sized),
    seen: &Mutex<Vec<Value>>,
) -> Response<Body> {
    let body = request.into_body().collect().await.expect("a whole review").to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("a review is JSON");
    assert_eq!((&review["apiVersion"], &review["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
    let asked = review["request"].clone();
    let reaction = react(&asked);
    seen.lock().expect("no test panics here").push(asked.clone());
    let mut response = json!({"uid": asked["uid"], "allowed": true});
    match reaction {
        Reaction::Allow => {}
        Reaction::Warn(warning) => response["warnings"] = json!([warning]),
        Reaction::Deny(why) => {
            response["allowed"] = false.into();
            response["status"] = json!({"code": 403, "message": why, "reason": "Forbidden"});
        }
        Reaction::Patch(patch) => {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(patch.to_string()).into();
        }
        Reaction::Raw(bytes) => return Response::new(Body::from(bytes)),
        Reaction::Code(code) => return Response::builder().status(code).body(Body::empty()).expect("a response"),
        Reaction::Redirect(to) => {
            return Response::builder()
                .status(StatusCode::TEMPORARY_REDIRECT)
                .header(header::LOCATION, to)
                .body(Body::empty())
                .expect("a response");
        }
        Reaction::Hang => std::future::pending().await,
        Reaction::Huge(bytes) => return Response::new(Body::from(vec![b' '; bytes])),
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Response::new(Body::from(review.to_string()))
}

/// TLS for 127.0.0.1, and the authority that vouches for it, as a `caBundle`.
fn tls() -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let ca_bundle = STANDARD.encode(authority.clone().self_signed(&authority_key).expect("a certificate").pem());
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .expect("parameters")
        .signed_by(&key, &Issuer::new(authority, authority_key))
        .expect("a certificate");
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a usable certificate");
    (TlsAcceptor::from(Arc::new(config)), ca_bundle)
}
