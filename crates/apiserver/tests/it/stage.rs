//! An API server in a fresh directory, and requests to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use fermion_apiserver::{ADMINISTRATORS, Api, KeySource, Keyring, Options, SystemClock};
use fermion_store::Store;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// How long tokens of tests are good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

pub(crate) struct Stage {
    pub(crate) api: Arc<Api>,
    pub(crate) store: Store,
    pub(crate) directory: Arc<tempfile::TempDir>,
    token: String,
    _stop: tokio::sync::watch::Sender<bool>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the answer is JSON")
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The answer, which must be a success.
    pub(crate) fn ok(self) -> Value {
        assert!(self.code.is_success(), "{self:?}");
        self.json()
    }

    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.headers.get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok()).collect()
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::open(Arc::new(tempfile::tempdir().expect("a directory"))).await.expect("a server")
    }

    /// A server over what a directory holds.
    pub(crate) async fn open(directory: Arc<tempfile::TempDir>) -> anyhow::Result<Self> {
        let store = Store::open(&directory.path().join("data"), fermion_store::Options::default())?;
        let keys = match Keyring::prepare(&store, KeySource::File(key_file(directory.path()))).await {
            Ok(keys) => Arc::new(keys),
            Err(error) => {
                store.close().await;
                return Err(error.into());
            }
        };
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let options = Options { keys, allow_local_webhooks: true, more_kinds: Vec::new() };
        let api = Api::with_options(store.clone(), Arc::new(SystemClock), stopping, options)?;
        if let Err(error) = api.seal_secrets().await {
            store.close().await;
            return Err(error.into());
        }
        api.ensure_namespaces().await?;
        api.prepare_access().await?;
        let token = token(&api, "admin").await;
        Ok(Self { api, store, directory, token, _stop: stop })
    }

    /// Stops the server; the directory stays.
    pub(crate) async fn close(self) -> Arc<tempfile::TempDir> {
        self.store.close().await;
        self.directory
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        key_file(self.directory.path())
    }

    pub(crate) async fn call(&self, method: Method, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        call(&self.api, &self.token, method, path, content_type, body).await
    }

    /// Sends bytes and reads bytes.
    pub(crate) async fn bytes(&self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let response = self.api.router().oneshot(request(&self.token, method, path, content_type, body)).await.expect("an answer");
        let code = response.status();
        (code, response.into_body().collect().await.expect("a whole answer").to_bytes().to_vec())
    }

    /// An answer of which nothing is read yet.
    pub(crate) async fn begin(&self, method: Method, path: &str) -> axum::http::Response<Body> {
        self.api.router().oneshot(request(&self.token, method, path, "", "")).await.expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, "application/json", body.to_string()).await
    }

    pub(crate) async fn merge(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PATCH, path, "application/merge-patch+json", body.to_string()).await
    }

    pub(crate) async fn accepting(&self, path: &str, accept: &str) -> Answer {
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {}", self.token)).header(header::ACCEPT, accept);
        answer(&self.api, request.body(Body::empty()).expect("a request")).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "", "").await
    }
}

pub(crate) fn key_file(directory: &Path) -> PathBuf {
    directory.join("secrets.key")
}

/// A token of an administrator of that name, who is made if need be.
pub(crate) async fn token(api: &Arc<Api>, name: &str) -> String {
    api.ensure_first_administrator().await.expect("an administrator");
    let (first, token) = api.issue_kubeconfig_token(TOKEN_LIFETIME).await.expect("a token");
    if name == first {
        return token;
    }
    let users = "/apis/iam.fermion.dev/v1alpha1/users";
    let user = json!({
        "apiVersion": "iam.fermion.dev/v1alpha1",
        "kind": "User",
        "metadata": {"name": name},
        "spec": {"groups": [ADMINISTRATORS]},
    });
    let post = async |path: &str, body: &Value| call(api, &token, Method::POST, path, "application/json", body.to_string()).await;
    let made = post(users, &user).await;
    assert!(made.code.is_success() || made.code == StatusCode::CONFLICT, "{made:?}");
    let password = format!("the password of {name}");
    post(&format!("{users}/{name}/password"), &json!({"password": password})).await.ok();
    let signed_in = post("/auth/sign-in", &json!({"username": name, "password": password})).await.ok();
    signed_in["token"].as_str().expect("a token").to_owned()
}

fn request(token: &str, method: Method, path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .expect("a request")
}

/// Sends a request and reads the whole answer.
pub(crate) async fn call(api: &Arc<Api>, token: &str, method: Method, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
    answer(api, request(token, method, path, content_type, body)).await
}

/// Sends a request as it is and reads the whole answer.
async fn answer(api: &Arc<Api>, request: Request<Body>) -> Answer {
    let response = api.router().oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a whole answer").to_bytes();
    Answer { code: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
}
