//! Which server a command talks to, and as whom.

mod authority;
mod kubeconfig;
mod token;

use std::path::{Path, PathBuf};

use fermion_client::{LOGIN_FILE, NAMESPACE_DEFAULT, SERVER_FILE};
use http::Uri;
use kube::Client;

use crate::failure::{Exit, Failure, Outcome};

pub(crate) use authority::Authority;
pub(crate) use fermion_client::{is_loopback, travels_safely};
pub(crate) use kubeconfig::Login;
pub(crate) use token::Token;

/// Options of every command that talks to a server.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ConnectionArguments {
    /// Address of the server, such as https://127.0.0.1:6780
    #[arg(long, global = true, env = "FERMION_SERVER", hide_env_values = true, value_name = "URL", help_heading = "Connection")]
    pub(crate) server: Option<String>,
    /// File with the certificates that sign the server's, as PEM
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// File that holds the token (or set FERMION_TOKEN)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) token_file: Option<PathBuf>,
    /// Where the server and logins keep their files [default: ~/.fermion]
    #[arg(long, global = true, env = "FERMION_HOME", hide_env_values = true, value_name = "DIRECTORY", help_heading = "Connection")]
    pub(crate) home: Option<PathBuf>,
    /// Namespace (project) to work in
    #[arg(short, long, global = true, env = "FERMION_NAMESPACE", hide_env_values = true, help_heading = "Connection")]
    pub(crate) namespace: Option<String>,
}

/// A server, an identity and a namespace.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) server: Uri,
    pub(crate) namespace: String,
}

impl ConnectionArguments {
    /// `FERMION_HOME`.
    pub(crate) fn home(&self) -> Outcome<PathBuf> {
        if let Some(home) = &self.home {
            return Ok(home.clone());
        }
        fermion_client::home().ok_or_else(|| {
            Failure::new("cannot tell where Fermion's files are")
                .why("neither FERMION_HOME nor HOME is set")
                .hint("set FERMION_HOME, or give --home")
        })
    }

    /// The file `fermion login` writes.
    pub(crate) fn login_file(&self) -> Outcome<PathBuf> {
        Ok(self.home()?.join(LOGIN_FILE))
    }

    /// The session of these options. Nothing is sent yet.
    pub(crate) fn session(&self) -> Outcome<Session> {
        let login = self.login()?;
        let namespace = login.namespace.unwrap_or_else(|| NAMESPACE_DEFAULT.to_owned());
        Session::new(login.server, login.authority.as_ref(), login.token, namespace)
    }

    /// Server, identity and namespace, from the options and what was kept.
    fn login(&self) -> Outcome<Login> {
        let given = match &self.token_file {
            Some(file) => Some(Token::from_file(file)?),
            None => Token::from_environment()?,
        };
        let kept = self.kept()?;
        let login = match (&self.server, kept) {
            (Some(server), kept) => {
                let server = server_address(server)?;
                // A token goes only to the server it is for.
                match kept.filter(|login| same_server(&login.server, &server)) {
                    Some(login) => Login { server, ..login },
                    None => Login { server, authority: None, token: None, namespace: None },
                }
            }
            (None, Some(login)) => login,
            (None, None) => {
                return Err(Failure::new("no server to talk to")
                    .why(format!("neither {LOGIN_FILE} nor {SERVER_FILE} is in {}", self.home()?.display()))
                    .hint("start one with `cargo xtask up`, log in with `fermion login SERVER`, or give --server")
                    .with_exit(Exit::Unreachable));
            }
        };
        Ok(Login {
            server: login.server,
            authority: self.authority()?.or(login.authority),
            token: given.or(login.token),
            namespace: self.namespace.clone().or(login.namespace),
        })
    }

    /// The authority given as an option.
    fn authority(&self) -> Outcome<Option<Authority>> {
        self.certificate_authority.as_deref().map(Authority::from_file).transpose()
    }

    /// The authority for a server to log in at: as given, else as known from before.
    pub(crate) fn authority_of(&self, server: &Uri) -> Outcome<Option<Authority>> {
        if let Some(given) = self.authority()? {
            return Ok(Some(given));
        }
        let home = self.home()?;
        for file in [LOGIN_FILE, SERVER_FILE] {
            // A login that cannot be read must not keep anybody from logging in anew.
            if let Ok(Some(login)) = Login::read(&home.join(file))
                && same_server(&login.server, server)
            {
                return Ok(login.authority);
            }
        }
        Ok(None)
    }

    /// The login of this person, else the one the server on this machine wrote.
    fn kept(&self) -> Outcome<Option<Login>> {
        let home = self.home()?;
        for file in [LOGIN_FILE, SERVER_FILE] {
            if let Some(login) = Login::read(&home.join(file))? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

impl Session {
    pub(crate) fn new(server: Uri, authority: Option<&Authority>, token: Option<Token>, namespace: String) -> Outcome<Self> {
        if token.is_some() && !travels_safely(&server) {
            return Err(Failure::new(format!("will not send a token to {server}"))
                .why("it would travel over the network in plain text")
                .hint("write https:// instead; --certificate-authority names who signs the server's certificate"));
        }
        let mut config = kube::Config::new(server.clone());
        config.default_namespace.clone_from(&namespace);
        // Whoever asks decides what is worth asking again, and for how long.
        config.default_retry = false;
        config.root_cert = authority.map(|authority| authority.certificates().to_vec());
        config.auth_info.token = token.as_ref().map(|token| token.reveal().to_owned().into());
        let client =
            Client::try_from(config).map_err(|error| Failure::of_request(format!("cannot prepare a client for {server}"), error))?;
        Ok(Self { client, server, namespace })
    }
}

/// Reads a server's address; what is left out is filled in.
pub(crate) fn server_address(text: &str) -> Outcome<Uri> {
    let wrong =
        |why: String| Failure::new(format!("`{text}` is not a server's address")).why(why).hint("write it like https://127.0.0.1:6780");
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let uri: Uri = whole.trim_end_matches('/').parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => Ok(uri),
        (Some("http" | "https"), _) => Err(wrong("it must name a host, and no user".to_owned())),
        _ => Err(wrong("it must start with http:// or https://".to_owned())),
    }
}

/// Whether two addresses are the same server.
fn same_server(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    // On this machine, plain HTTP and TLS are answered by the same server at the same port.
    let same_scheme = one.scheme_str() == other.scheme_str() || is_loopback(one);
    same_scheme && one.host() == other.host() && port(one) == port(other)
}

/// Writes a file that only its owner can read, all of it or nothing.
pub(crate) fn write_private(path: &Path, text: &str) -> Outcome<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot write {}", path.display())).because(error).hint("check the directory's owner and free space")
    };
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let mut draft_name = path.as_os_str().to_owned();
    draft_name.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    let draft = PathBuf::from(draft_name);
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    });
    if written.is_err() {
        // The draft may not exist at all; the first error is the one to tell.
        let _ = std::fs::remove_file(&draft);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(home: &Path) -> ConnectionArguments {
        ConnectionArguments { home: Some(home.to_owned()), ..Default::default() }
    }

    fn keep(home: &Path, file: &str, server: &str, token: &str) {
        let login = Login { server: server.parse().expect("a URI"), authority: None, token: Token::new(token), namespace: None };
        write_private(&home.join(file), &login.to_yaml().expect("YAML")).expect("written");
    }

    #[test]
    fn addresses_are_completed_or_refused() {
        assert_eq!(server_address("127.0.0.1:6780").expect("fine"), "https://127.0.0.1:6780/");
        assert_eq!(server_address("https://host/").expect("fine"), "https://host/");
        for wrong in ["ftp://host", "http://user@host", "http://", "no spaces"] {
            assert!(server_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_never_sent_to_another_server() {
        let home = tempfile::tempdir().expect("a directory");
        keep(home.path(), SERVER_FILE, "http://127.0.0.1:6780", "secret");
        let token_for = |server: &str| {
            let mut arguments = arguments(home.path());
            arguments.server = Some(server.to_owned());
            arguments.login().expect("a login").token.map(|token| token.reveal().to_owned())
        };
        assert_eq!(token_for("http://127.0.0.1:6780/"), Some("secret".to_owned()));
        assert_eq!(token_for("http://127.0.0.1:6781"), None);
        assert_eq!(token_for("http://example.org:6780"), None);
    }

    #[tokio::test]
    async fn a_login_goes_before_the_server_on_this_machine() {
        let home = tempfile::tempdir().expect("a directory");
        keep(home.path(), SERVER_FILE, "http://127.0.0.1:6780", "server");
        keep(home.path(), LOGIN_FILE, "http://127.0.0.1:7000", "login");
        let session = arguments(home.path()).session().expect("a session");
        assert_eq!(session.server, "http://127.0.0.1:7000/");
        assert_eq!(session.namespace, "default");
    }

    #[tokio::test]
    async fn tokens_do_not_travel_in_plain_text() {
        let outcome = Session::new("http://10.1.2.3:6780".parse().expect("a URI"), None, Token::new("secret"), "default".to_owned());
        let failure = outcome.err().expect("refused");
        assert!(!failure.to_string().contains("secret"));
        insta::assert_snapshot!(failure);
    }

    #[test]
    fn no_server_says_how_to_get_one() {
        let failure = arguments(Path::new("/nonexistent/home")).session().err().expect("refused");
        assert_eq!(failure.exit(), Exit::Unreachable);
        insta::assert_snapshot!(failure);
    }

    #[test]
    fn private_files_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("deep/login");
        write_private(&path, "one").expect("written");
        write_private(&path, "two").expect("written over");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "two");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(home.path().join("deep")).expect("there").count(), 1);
    }
}
