//! A webhook as an operator adds one, seen by kubectl.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fermion_testkit::{Node, Platform};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};

use crate::FERMION;

/// Starts an HTTPS server that lets only blue things pass; answers its address and certificate.
fn start_webhook() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters").self_signed(&key).expect("a certificate");
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a usable certificate");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).expect("a connection"), stream);
            let mut request = Vec::new();
            let mut buffer = [0_u8; 8192];
            let review = loop {
                let read = stream.read(&mut buffer).expect("a request");
                request.extend_from_slice(&buffer[..read]);
                let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                // The whole body has come when it is whole JSON.
                if let Ok(review) = serde_json::from_slice::<Value>(&request[end + 4..]) {
                    break review;
                }
            };
            let asked = &review["request"];
            let blue = asked["object"]["data"]["color"] == "blue";
            let response = if blue {
                let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}]);
                json!({"uid": asked["uid"], "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string()),
                    "warnings": ["blue is getting rare"]})
            } else {
                json!({"uid": asked["uid"], "allowed": false, "status": {"code": 403, "message": "only blue is allowed"}})
            };
            let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("an answer");
            stream.conn.send_close_notify();
            stream.flush().expect("an answer");
        }
    });
    (format!("https://{address}/"), STANDARD.encode(certificate.pem()))
}

fn configuration(url: &str, ca_bundle: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {{name: colors}}\nwebhooks:\n\
         - name: colors.example.com\n  clientConfig: {{url: '{url}', caBundle: {ca_bundle}}}\n  \
         rules:\n  - {{apiGroups: [''], apiVersions: [v1], resources: [configmaps], operations: [CREATE]}}\n  \
         sideEffects: None\n  admissionReviewVersions: [v1]\n"
    )
}

#[test]
fn kubectl_shows_what_a_webhook_says_and_changes() {
    let platform = Platform::start_with(FERMION, &["--allow-local-webhooks"]);
    let kubectl = platform.kubectl();
    let (url, ca_bundle) = start_webhook();
    kubectl.run_with(&["apply", "-f", "-"], &configuration(&url, &ca_bundle)).ok();
    let refused = kubectl.run(&["create", "configmap", "red", "--from-literal=color=red"]).refused();
    assert!(refused.contains("admission webhook \"colors.example.com\" denied the request: only blue is allowed"), "{refused}");
    let made = kubectl.run(&["create", "configmap", "blue", "--from-literal=color=blue"]);
    assert!(made.stderr.contains("Warning: blue is getting rare"), "{made:?}");
    made.ok();
    assert_eq!(kubectl.run(&["get", "configmap", "blue", "-o", "jsonpath={.metadata.labels.seen}"]).ok(), "yes");
    let table = kubectl.run(&["get", "mutatingwebhookconfigurations"]).ok();
    assert!(table.contains("WEBHOOKS") && table.lines().any(|line| line.starts_with("colors ")), "{table}");
}

#[test]
fn webhooks_on_this_machine_need_the_operators_leave() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let (url, ca_bundle) = start_webhook();
    kubectl.run_with(&["apply", "-f", "-"], &configuration(&url, &ca_bundle)).ok();
    let refused = kubectl.run(&["create", "configmap", "blue", "--from-literal=color=blue"]).refused();
    assert!(refused.contains("--allow-local-webhooks"), "{refused}");
    kubectl.run(&["delete", "mutatingwebhookconfiguration", "colors"]).ok();
    kubectl.run(&["create", "configmap", "blue", "--from-literal=color=blue"]).ok();
}
