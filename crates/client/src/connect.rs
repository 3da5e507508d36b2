//! The ways in: the login of a person, a kubeconfig, the service account of a pod.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::Uri;
use kube::Config;
use kube::config::{AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, KubeconfigError, NamedAuthInfo, NamedCluster, NamedContext};

use crate::{Client, NAMESPACE_DEFAULT};

/// Where a login is kept, below [`home`].
pub const LOGIN_FILE: &str = "login.kubeconfig";
/// What a server on this machine writes, below [`home`].
pub const SERVER_FILE: &str = "kubeconfig";

/// Says where Fermion's files are.
const HOME_VARIABLE: &str = "FERMION_HOME";
/// Says which kubeconfig is meant, to this and every other client of Kubernetes' API.
const KUBECONFIG_VARIABLE: &str = "KUBECONFIG";
/// Set in containers whose pod has a service account.
const POD_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";
/// Beside it.
const POD_PORT_VARIABLE: &str = "KUBERNETES_SERVICE_PORT";
const POD_PORT_DEFAULT: &str = "443";
/// What its parts are called in a kubeconfig.
const POD_CONTEXT: &str = "pod";
/// Where token, namespace and certificates of the service account are mounted.
const POD_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody has logged in, and no server runs on this machine.
    #[error("neither {LOGIN_FILE} nor {SERVER_FILE} is in {}: log in with `fermion login SERVER`, or start a server", home.display())]
    NoLogin {
        /// Where they were looked for.
        home: PathBuf,
    },
    /// Neither `FERMION_HOME` nor `HOME` is set.
    #[error("cannot tell where Fermion's files are: set FERMION_HOME")]
    NoHome,
    /// The kubeconfig cannot be used.
    #[error("cannot use {}", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KubeconfigError,
    },
    /// This is no pod, or it has no service account.
    #[error("{POD_VARIABLE} is not set: this program runs in no pod that may use the API")]
    NoPod,
    /// The service account of this pod cannot be used.
    #[error("cannot use {} of this pod's service account", file.display())]
    Pod {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
    /// A token would go over the network in plain text.
    #[error("will not send a token to {server} in plain text: its address must begin with https://")]
    PlainText {
        /// The address.
        server: Uri,
    },
    /// The client cannot be made, for want of trusted certificates or the like.
    #[error("cannot prepare a client for {server}")]
    Client {
        /// The address.
        server: Uri,
        /// What is wrong.
        #[source]
        source: Box<kube::Error>,
    },
}

/// `FERMION_HOME`, else `~/.fermion`: where logins are kept.
pub fn home() -> Option<PathBuf> {
    std::env::var_os(HOME_VARIABLE)
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".fermion")))
}

/// Whether a server is reached without leaving this machine.
pub fn is_loopback(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a token sent there cannot be read on the way.
pub fn travels_safely(server: &Uri) -> bool {
    server.scheme_str() == Some("https") || is_loopback(server)
}

impl Client {
    /// The client of whoever runs the program: in a pod its service account, else the file that
    /// `KUBECONFIG` names, else the login in [`home`]. Nothing is sent yet.
    ///
    /// # Errors
    /// When there is none of them, or the one that is there cannot be used.
    pub async fn connect() -> Result<Self, ConnectError> {
        if std::env::var_os(POD_VARIABLE).is_some() {
            return Self::from_pod().await;
        }
        if let Some(file) = std::env::var_os(KUBECONFIG_VARIABLE).filter(|file| !file.is_empty()) {
            return Self::from_kubeconfig(Path::new(&file), None).await;
        }
        Self::from_home(&home().ok_or(ConnectError::NoHome)?).await
    }

    /// The login in a home: that of `fermion login`, else the administrator's that a server on this
    /// machine wrote.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub async fn from_home(home: &Path) -> Result<Self, ConnectError> {
        let files = [home.join(LOGIN_FILE), home.join(SERVER_FILE)];
        let file = files.iter().find(|file| file.is_file()).ok_or_else(|| ConnectError::NoLogin { home: home.to_owned() })?;
        Self::from_kubeconfig(file, None).await
    }

    /// A context of a kubeconfig; the current one if none is named.
    ///
    /// ```
    /// # fermion_testkit::with_server(async |server| {
    /// # let path = server.home().join("kubeconfig");
    /// use fermion_client::Client;
    ///
    /// let client = Client::from_kubeconfig(&path, Some("fermion")).await?;
    /// assert_eq!(client.namespace(), "default");
    /// assert_eq!(client.kube().apiserver_version().await?.major, "1");
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// When the file cannot be used.
    pub async fn from_kubeconfig(file: &Path, context: Option<&str>) -> Result<Self, ConnectError> {
        let broken = |source| ConnectError::Kubeconfig { file: file.to_owned(), source };
        let kubeconfig = Kubeconfig::read_from(file).map_err(broken)?;
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        Self::of(Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(broken)?)
    }

    /// The service account of the pod that this program runs in. Its token is read again as it is
    /// renewed.
    ///
    /// # Errors
    /// When it has none.
    pub async fn from_pod() -> Result<Self, ConnectError> {
        let host = std::env::var(POD_VARIABLE).map_err(|_| ConnectError::NoPod)?;
        let port = std::env::var(POD_PORT_VARIABLE).unwrap_or_else(|_| POD_PORT_DEFAULT.to_owned());
        Self::of_service_account(&host, &port, Path::new(POD_FOLDER)).await
    }

    /// The service account whose token, namespace and certificates are in a folder.
    async fn of_service_account(host: &str, port: &str, folder: &Path) -> Result<Self, ConnectError> {
        let read = |name: &str| {
            let file = folder.join(name);
            std::fs::read_to_string(&file).map_err(|source| ConnectError::Pod { file, source })
        };
        let namespace = read("namespace")?;
        // Read again for the requests themselves; whoever has none is told now.
        read("token")?;
        // Addresses of version 6 stand in brackets.
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let text = |name: &str| Some(folder.join(name).display().to_string());
        let kubeconfig = Kubeconfig {
            clusters: vec![NamedCluster {
                other: BTreeMap::default(),
                name: POD_CONTEXT.to_owned(),
                cluster: Some(Cluster {
                    server: Some(format!("https://{host}:{port}")),
                    certificate_authority: text("ca.crt"),
                    ..Cluster::default()
                }),
            }],
            auth_infos: vec![NamedAuthInfo {
                other: BTreeMap::default(),
                name: POD_CONTEXT.to_owned(),
                auth_info: Some(AuthInfo { token_file: text("token"), ..AuthInfo::default() }),
            }],
            contexts: vec![NamedContext {
                other: BTreeMap::default(),
                name: POD_CONTEXT.to_owned(),
                context: Some(Context {
                    cluster: POD_CONTEXT.to_owned(),
                    user: Some(POD_CONTEXT.to_owned()),
                    namespace: Some(namespace.trim().to_owned()),
                    ..Context::default()
                }),
            }],
            current_context: Some(POD_CONTEXT.to_owned()),
            ..Kubeconfig::default()
        };
        let broken = |source| ConnectError::Kubeconfig { file: folder.to_owned(), source };
        Self::of(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(broken)?)
    }

    /// Over a configuration of kube-rs.
    ///
    /// # Errors
    /// When a token would travel in plain text, or no client can be made of it.
    pub fn of(config: Config) -> Result<Self, ConnectError> {
        let server = config.cluster_url.clone();
        let has_secret = {
            let auth = &config.auth_info;
            auth.token.is_some() || auth.token_file.is_some() || auth.password.is_some() || auth.exec.is_some()
        };
        if has_secret && !travels_safely(&server) {
            return Err(ConnectError::PlainText { server });
        }
        let namespace = if config.default_namespace.is_empty() { NAMESPACE_DEFAULT.to_owned() } else { config.default_namespace.clone() };
        let kube = kube::Client::try_from(config).map_err(|error| ConnectError::Client { server, source: Box::new(error) })?;
        Ok(Self::new(kube, namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: '{server}'}}}}]\n\
             users: [{{name: a, user: {{token: secret}}}}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n"
        )
    }

    #[tokio::test]
    async fn a_token_does_not_travel_in_plain_text() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(SERVER_FILE), kubeconfig("http://10.1.2.3:6780")).unwrap();
        let error = Client::from_home(home.path()).await.unwrap_err();
        assert!(matches!(error, ConnectError::PlainText { .. }), "{error}");
        assert!(!format!("{error:?}").contains("secret"));
        std::fs::write(home.path().join(SERVER_FILE), kubeconfig("http://127.0.0.1:6780")).unwrap();
        assert_eq!(Client::from_home(home.path()).await.unwrap().namespace(), "default");
    }

    /// A TLS server with a certificate of its own making that answers with the token it was shown.
    async fn tls_server(folder: &Path) -> u16 {
        let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(folder.join("ca.crt"), signed.cert.pem()).unwrap();
        use tokio_rustls::rustls;
        let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = axum::Router::new().fallback(async |headers: http::HeaderMap| {
            let shown = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            axum::Json(serde_json::json!({"major": "1", "minor": "33", "gitVersion": shown, "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}))
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    // A client that does not trust the certificate hangs up.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper_util::service::TowerToHyperService::new(router);
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn a_pod_uses_its_service_account() {
        let folder = tempfile::tempdir().unwrap();
        let port = tls_server(folder.path()).await.to_string();
        let connect = async || Client::of_service_account("127.0.0.1", &port, folder.path()).await;
        for name in ["namespace", "token"] {
            let missing = connect().await.unwrap_err();
            assert!(matches!(&missing, ConnectError::Pod { file, .. } if file.ends_with(name)), "{missing}");
            std::fs::write(folder.path().join(name), if name == "token" { "first-token" } else { "lab\n" }).unwrap();
        }
        let client = connect().await.unwrap();
        assert_eq!(client.namespace(), "lab");
        assert_eq!(client.kube().apiserver_version().await.unwrap().git_version, "Bearer first-token");

        // Another's certificate is not trusted.
        let other = tempfile::tempdir().unwrap();
        tls_server(other.path()).await;
        std::fs::copy(other.path().join("ca.crt"), folder.path().join("ca.crt")).unwrap();
        connect().await.unwrap().kube().apiserver_version().await.unwrap_err();
        let none = tempfile::tempdir().unwrap();
        let error = Client::of_service_account("::1", &port, none.path()).await.unwrap_err();
        assert!(!format!("{error:?}").contains("token"), "{error:?}");
    }

    #[tokio::test]
    async fn a_login_goes_before_the_server_on_this_machine() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(Client::from_home(home.path()).await, Err(ConnectError::NoLogin { .. })));
        std::fs::write(home.path().join(SERVER_FILE), kubeconfig("http://127.0.0.1:1")).unwrap();
        std::fs::write(home.path().join(LOGIN_FILE), "nothing: [").unwrap();
        let error = Client::from_home(home.path()).await.unwrap_err();
        assert!(error.to_string().contains(LOGIN_FILE), "{error}");
    }
}
