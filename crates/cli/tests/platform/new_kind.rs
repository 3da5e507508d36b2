//! The guide for adding a kind: its one file is compiled as it stands, served, and used by the
//! clients that people have.

use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::{IntoResponse as _, Response};
use fermion_api::registry::{Access, Kind};
use fermion_apiserver::{Api, Identity, Keyring, Options, SystemClock};
use fermion_store::Store;

use crate::FERMION;

#[allow(unreachable_pub, reason = "the file is written for a library")]
#[path = "../../../../docs/guides/add-a-kind/dataset.rs"]
mod dataset;

const GUIDE: &str = include_str!("../../../../docs/guides/add-a-kind.md");
const FILE: &str = include_str!("../../../../docs/guides/add-a-kind/dataset.rs");

/// An API server in this process that everyone may use.
struct Server {
    address: std::net::SocketAddr,
    home: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl Server {
    fn start(kinds: Vec<Kind>) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let data = home.path().join("data");
        let address = runtime.block_on(async move {
            let store = Store::open(&data, fermion_store::Options::default()).expect("a store");
            let options = Options { keys: Arc::new(Keyring::ephemeral().expect("a key")), allow_local_webhooks: false, more_kinds: kinds };
            let api = Api::with_options(store, Arc::new(SystemClock), stopping, options).expect("an API");
            api.ensure_namespaces().await.expect("namespaces");
            let client = api.client(Identity::component("test"));
            let router = Router::new().fallback(move |request: Request<Body>| {
                let client = client.clone();
                async move { pass_on(client, request).await }
            });
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("its address");
            tokio::spawn(async move { axum::serve(listener, router).await });
            address
        });
        let server = Self { address, home, _runtime: runtime, _stop: stop };
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "it", "user": {"token": "unused"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": "default"}}],
        });
        std::fs::write(server.home.path().join("kubeconfig"), config.to_string()).expect("a kubeconfig");
        server
    }

    /// What a command prints to both its outputs, and whether it succeeded.
    fn run(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let home = self.home.path();
        let output = Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", home.join("kubeconfig"))
            .env("HOME", home)
            .env("FERMION_HOME", home)
            .env("FERMION_SERVER", format!("http://{}", self.address))
            .env("FERMION_TOKEN", "unused")
            .env("NO_COLOR", "1")
            .output()
            .expect("it starts");
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), printed)
    }

    #[track_caller]
    fn kubectl(&self, arguments: &[&str], succeeds: bool) -> String {
        let program = std::env::var("FERMION_KUBECTL").expect("FERMION_KUBECTL names kubectl: run the tests with `cargo xtask test`");
        let (success, printed) = self.run(&program, arguments);
        assert_eq!(success, succeeds, "kubectl {arguments:?}: {printed}");
        printed
    }
}

/// The largest body that is passed on, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

async fn pass_on(client: kube::Client, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.expect("a small body");
    match client.send(Request::from_parts(head, kube::client::Body::from(body.to_vec()))).await {
        Ok(answer) => answer.map(Body::new).into_response(),
        Err(error) => (axum::http::StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

#[test]
fn the_guide_shows_the_file_that_is_tested() {
    assert!(GUIDE.contains(&format!("```rust\n{FILE}```\n")), "copy docs/guides/add-a-kind/dataset.rs into the guide");
}

#[test]
fn a_kind_of_one_file_is_served_everywhere() {
    let server = Server::start(vec![Kind::of::<dataset::Dataset>(Access::Full)]);
    let resources = server.kubectl(&["api-resources", "--api-group=assets.fermion.dev", "--no-headers"], true);
    assert!(
        resources.lines().any(|line| line.split_whitespace().eq(["datasets", "ds", "assets.fermion.dev/v1alpha1", "true", "Dataset"])),
        "{resources}"
    );
    assert!(server.kubectl(&["explain", "dataset.spec.path"], true).contains("Folder inside the volume; all of it when left out."));
    let write = |name: &str, spec: &str| {
        let file = server.home.path().join(format!("{name}.yaml"));
        let text = format!("apiVersion: assets.fermion.dev/v1alpha1\nkind: Dataset\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        std::fs::write(&file, text).expect("a file");
        file.display().to_string()
    };
    server.kubectl(&["apply", "-f", &write("digits", "{claimName: shared, description: handwritten}")], true);
    let table = server.kubectl(&["get", "ds"], true);
    assert!(table.starts_with("NAME     CLAIM    PATH   AGE\ndigits   shared   /"), "{table}");
    let refused = server.kubectl(&["create", "-f", &write("outside", "{claimName: shared, path: ../x}")], false);
    assert!(refused.contains("spec.path: may not contain `..`"), "{refused}");
    let refused = server.kubectl(&["create", "-f", &write("empty", "{path: /}")], false);
    assert!(refused.contains("spec.claimName: Required value"), "{refused}");
    let refused = server.kubectl(&["patch", "ds", "digits", "--type=merge", "-p", r#"{"spec":{"claimName":"other"}}"#], false);
    assert!(refused.contains("spec.claimName: Invalid value: \"string\": cannot be changed; make another Dataset"), "{refused}");

    let (success, printed) = server.run(FERMION, &["get", "datasets"]);
    assert!(success && printed.contains("digits") && printed.contains("shared"), "{printed}");

    let document = server.kubectl(&["get", "--raw", "/openapi/v3/apis/assets.fermion.dev/v1alpha1"], true);
    assert!(document.contains("dev.fermion.assets.v1alpha1.Dataset") && document.contains("self == oldSelf"), "{}", document.len());
}
