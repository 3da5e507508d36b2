//! Kubeconfig files, as far as a server of ours needs them: its address and a token.
//! `kubectl` reads the same files.

use std::path::{Path, PathBuf};

use http::Uri;
use serde::Deserialize;

use super::{Authority, Token, server_address};
use crate::failure::{Failure, Outcome};

/// Name of the cluster, user and context in files we write.
const NAME: &str = "fermion";

/// A server and who one is there.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) server: Uri,
    /// Who signs the server's certificate; the machine's own trust when left out.
    pub(crate) authority: Option<Authority>,
    pub(crate) token: Option<Token>,
    pub(crate) namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    #[serde(default)]
    certificate_authority_data: Option<String>,
    #[serde(default)]
    certificate_authority: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    token_file: Option<String>,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
    #[serde(default)]
    namespace: Option<String>,
}

impl Login {
    /// Reads the current context of a kubeconfig; `None` when there is no such file.
    pub(crate) fn read(path: &Path) -> Outcome<Option<Self>> {
        let broken = |why: String| {
            Failure::new(format!("cannot use {}", path.display()))
                .why(why)
                .hint("`fermion login SERVER` or a restart of the server writes it anew")
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(broken(error.to_string())),
        };
        let file: File = serde_yaml::from_str(&text).map_err(|error| broken(error.to_string()))?;
        let context =
            find(&file.contexts, &file.current_context).ok_or_else(|| broken("its current-context names no context".to_owned()))?;
        let cluster = find(&file.clusters, &context.cluster).ok_or_else(|| broken("its context names no cluster".to_owned()))?;
        let user = find(&file.users, &context.user).ok_or_else(|| broken("its context names no user".to_owned()))?;
        let token = match (&user.token, &user.token_file) {
            (Some(token), _) => Some(Token::new(token).ok_or_else(|| broken("its token is empty or has spaces".to_owned()))?),
            (None, Some(file)) => Some(Token::from_file(Path::new(file))?),
            (None, None) => None,
        };
        let authority = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
            (Some(data), _) => Some(Authority::from_base64(data).map_err(broken)?),
            (None, Some(file)) => Some(Authority::from_file(file)?),
            (None, None) => None,
        };
        Ok(Some(Self { server: server_address(&cluster.server)?, authority, token, namespace: context.namespace.clone() }))
    }

    /// The login as a kubeconfig.
    pub(crate) fn to_yaml(&self) -> Outcome<String> {
        let context = serde_json::json!({"cluster": NAME, "user": NAME, "namespace": self.namespace});
        let cluster = serde_json::json!({
            "server": self.server.to_string().trim_end_matches('/'),
            "certificate-authority-data": self.authority.as_ref().map(Authority::to_base64),
        });
        let file = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NAME, "cluster": without_nulls(cluster)}],
            "users": [{"name": NAME, "user": {"token": self.token.as_ref().map(Token::reveal)}}],
            "contexts": [{"name": NAME, "context": without_nulls(context)}],
            "current-context": NAME,
        });
        serde_yaml::to_string(&file).map_err(|error| Failure::new("cannot write the login as YAML").because(error))
    }
}

fn find<'a, T>(list: &'a [Named<T>], name: &str) -> Option<&'a T> {
    list.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
}

fn without_nulls(mut value: serde_json::Value) -> serde_json::Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("login");
        let login = Login {
            server: "http://127.0.0.1:6780".parse().expect("a URI"),
            authority: Some(Authority::example()),
            token: Token::new("secret"),
            namespace: Some("examples".to_owned()),
        };
        std::fs::write(&path, login.to_yaml().expect("YAML")).expect("written");
        let read = Login::read(&path).expect("readable").expect("there");
        assert_eq!(read.server, login.server);
        assert_eq!(read.authority, login.authority);
        assert_eq!(read.token, login.token);
        assert_eq!(read.namespace, login.namespace);
    }

    #[test]
    fn a_broken_file_says_what_is_wrong_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("login");
        std::fs::write(&path, "current-context: x\ncontexts: []\n").expect("written");
        let failure = Login::read(&path).expect_err("broken");
        assert!(failure.to_string().contains("current-context names no context"), "{failure}");
        assert!(Login::read(&directory.path().join("absent")).expect("fine").is_none());
    }
}
