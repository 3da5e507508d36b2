//! A server of its own for each test, and requests to it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use fermion_apiserver::{Api, ManualClock, TokenSigner};
use fermion_store::{Options, Store};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// When every server here starts.
pub(crate) const START: &str = "2026-01-01T00:00:00Z";

pub(crate) struct Server {
    pub(crate) api: Arc<Api>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    /// Of the first administrator.
    pub(crate) password: String,
    pub(crate) admin: String,
    _stop: tokio::sync::watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.code.is_success(), "{} {}", self.code, self.body);
        self.body
    }

    /// The message of a refusal with that code.
    #[track_caller]
    pub(crate) fn refused(self, code: u16) -> String {
        assert_eq!(self.code.as_u16(), code, "{}", self.body);
        self.body["message"].as_str().expect("a Status").to_owned()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("data"), Options::default()).expect("a store");
        Self::over(store, folder).await
    }

    /// A server over what is in the store.
    pub(crate) async fn over(store: Store, folder: tempfile::TempDir) -> Self {
        let clock = Arc::new(ManualClock::new(START.parse().expect("a time")));
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let api = Api::new(store.clone(), clock.clone(), stopping).expect("an API");
        api.sign_service_account_tokens(TokenSigner::open(&folder.path().join("service-account.key")).expect("a key"));
        api.ensure_namespaces().await.expect("namespaces");
        api.prepare_access().await.expect("roles");
        let (_, password) = api.ensure_first_administrator().await.expect("an administrator").unwrap_or_default();
        let (_, admin) = api.issue_kubeconfig_token(std::time::Duration::from_secs(3600 * 24 * 365)).await.expect("a token");
        Self { api, store, clock, password, admin, _stop: stop, _folder: folder }
    }

    /// Sends a request by somebody; `headers` beside the usual ones.
    pub(crate) async fn send(&self, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            let replaced = if *name == "content-type" { request.headers_mut().and_then(|sent| sent.remove("content-type")) } else { None };
            drop(replaced);
            request = request.header(*name, *value);
        }
        self.answer(request.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).expect("a request")).await
    }

    /// Sends a text that is not JSON.
    pub(crate) async fn send_text(&self, token: &str, method: &str, path: &str, text: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        self.answer(request.body(Body::from(text.to_owned())).expect("a request")).await
    }

    async fn answer(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 4000))));
        let response = self.api.router().oneshot(request).await.expect("an answer");
        let code = response.status();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))) }
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.send(token, "GET", path, &[], None).await
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.send(token, "POST", path, &[], Some(body)).await
    }

    pub(crate) async fn delete(&self, token: &str, path: &str) -> Answer {
        self.send(token, "DELETE", path, &[], None).await
    }

    pub(crate) async fn merge(&self, token: &str, path: &str, patch: &Value) -> Answer {
        self.send(token, "PATCH", path, &[("content-type", "application/merge-patch+json")], Some(patch)).await
    }

    /// Makes a User with a password, who signs in; gives back the token.
    pub(crate) async fn person(&self, name: &str, groups: &[&str]) -> String {
        self.post(&self.admin, USERS, &user(name, groups)).await.ok();
        self.post(&self.admin, &format!("{USERS}/{name}/password"), &json!({"password": password_of(name)})).await.ok();
        self.sign_in(name, &password_of(name)).await.ok()["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Answer {
        self.post("", "/auth/sign-in", &json!({"username": name, "password": password})).await
    }

    /// Binds a ClusterRole in a namespace, or everywhere when that is empty.
    pub(crate) async fn bind(&self, namespace: &str, role: &str, user: &str) {
        let path = if namespace.is_empty() { CLUSTER_ROLE_BINDINGS.to_owned() } else { in_namespace(namespace, "rolebindings") };
        self.post(&self.admin, &path, &binding(namespace, &format!("{role}-{user}"), role, user)).await.ok();
    }
}

pub(crate) const USERS: &str = "/apis/iam.fermion.dev/v1alpha1/users";
pub(crate) const API_KEYS: &str = "/apis/iam.fermion.dev/v1alpha1/apikeys";
pub(crate) const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
pub(crate) const CLUSTER_ROLE_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

/// The address of a kind of rbac.authorization.k8s.io in a namespace.
pub(crate) fn in_namespace(namespace: &str, plural: &str) -> String {
    format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{plural}")
}

pub(crate) fn password_of(name: &str) -> String {
    format!("the password of {name}")
}

pub(crate) fn user(name: &str, groups: &[&str]) -> Value {
    json!({"apiVersion": "iam.fermion.dev/v1alpha1", "kind": "User", "metadata": {"name": name}, "spec": {"groups": groups}})
}

pub(crate) fn binding(namespace: &str, name: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" },
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
    })
}
