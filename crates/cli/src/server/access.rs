//! How the machine's owner gets in: the first administrator and a kubeconfig.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fermion_apiserver::Api;
use serde_json::json;

/// How long the token in the kubeconfig is good; a server that starts later makes a new one.
const TOKEN_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes the first administrator when there is none, and `$FERMION_HOME/kubeconfig` when it is
/// missing, names another address, or holds a token that is no longer good.
pub(super) async fn prepare(
    api: &Arc<Api>,
    home: &Path,
    address: SocketAddr,
    authority_pem: &str,
    announce: Option<&Path>,
) -> anyhow::Result<()> {
    if let Some((name, password)) = api.ensure_first_administrator().await? {
        let line = format!("administrator: {name}\npassword: {password}\n");
        match announce {
            Some(file) => write_private(file, &line)?,
            // Once, to the person who starts the server; never to the log.
            None => std::io::stdout().write_all(line.as_bytes()).context("cannot print the administrator's password")?,
        }
    }
    let file = home.join("kubeconfig");
    let server = format!("https://{address}");
    let authority = STANDARD.encode(authority_pem);
    let kept = fs::read_to_string(&file).ok().and_then(|text| serde_yaml::from_str::<serde_json::Value>(&text).ok());
    if let Some(kept) = kept {
        let token = kept["users"][0]["user"]["token"].as_str().unwrap_or_default();
        let cluster = &kept["clusters"][0]["cluster"];
        let same_server = cluster["server"] == server && cluster["certificate-authority-data"] == authority;
        if same_server && api.knows(token).await? {
            return Ok(());
        }
    }
    let (user, token) = api.issue_kubeconfig_token(TOKEN_LIFETIME).await?;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fermion", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "fermion", "context": {"cluster": "fermion", "user": user, "namespace": "default"}}],
        "current-context": "fermion",
    });
    write_private(&file, &serde_yaml::to_string(&config).context("cannot write the kubeconfig")?)
}

/// Writes a file that only its owner may read, whole or not at all.
pub(super) fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = file.with_extension("new");
    let write = || -> std::io::Result<()> {
        // Left over from a start that was cut short.
        if let Err(error) = fs::remove_file(&fresh)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut options = fs::OpenOptions::new();
        let mut opened = options.write(true).create_new(true).mode(0o600).open(&fresh)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        fs::rename(&fresh, file)
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}
