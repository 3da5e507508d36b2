//! Where the database is, and how to trust what answers there.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::password;
use super::tls::Tls;
use crate::error::Error;

/// How long one host may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was sent may stay without an acknowledgement before a connection counts as cut.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(15);
/// How long a connection may be silent before the other side is asked whether it is there.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// A parsed address. It shows neither user nor password.
#[derive(Clone)]
pub(crate) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::Address { reason };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(refused("it must be postgres://user:password@host/database".to_owned()));
        }
        let (url, mode) = take_parameter(url, "sslmode");
        let (url, roots) = take_parameter(&url, "sslrootcert");
        // The parser's words name what is wrong, never the value of the password.
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            refused(cause.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_hosts().is_empty() {
            return Err(refused("it names no host".to_owned()));
        }
        let encrypted = match mode.as_deref() {
            Some("disable") => false,
            // What is encrypted is verified: encryption without it keeps out nobody who can answer.
            Some("require" | "verify-ca" | "verify-full") => true,
            None => config.get_hosts().iter().any(|host| !is_here(host)),
            Some(other) => return Err(refused(format!("sslmode={other}: must be disable, require or verify-full"))),
        };
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        let tls = if encrypted { Tls::verifying(roots.as_deref())? } else { Tls::default() };
        if config.get_password().is_none()
            && let Some(password) = password::find(&config)
        {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("fermion");
        }
        // Of several hosts the primary is meant: a standby is behind, and takes no writes.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.keepalives(true).keepalives_idle(SILENT_MAX).tcp_user_timeout(UNACKNOWLEDGED_MAX);
        Ok(Self { config, tls })
    }
}

/// Whether a host is this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

/// Cuts a parameter out of a URL's query.
fn take_parameter(url: &str, name: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut taken = None;
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((key, value)) if key == name => taken = Some(decoded(value)),
            _ => kept.push(pair),
        }
    }
    let url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    (url, taken)
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn encrypted(url: &str) -> bool {
        Address::parse(url).unwrap().config.get_ssl_mode() == SslMode::Require
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted() {
        assert!(!encrypted("postgres://me@localhost/x"));
        assert!(!encrypted("postgres://me@127.0.0.1:5433/x"));
        assert!(!encrypted("postgres://me@%2Frun%2Fpostgresql/x"));
        assert!(encrypted("postgres://me@db.example/x"));
        assert!(encrypted("postgres://me@localhost,db.example/x"));
        assert!(!encrypted("postgres://me@db.example/x?sslmode=disable"));
        assert!(encrypted("postgres://me@localhost/x?sslmode=verify-full"));
    }

    #[test]
    fn mistakes_are_named_without_the_password() {
        for (url, expected) in [
            ("mysql://me:hush@db/x", "must be postgres://"),
            ("postgres://me:hush@db/x?sslmode=sometimes", "sslmode=sometimes"),
            ("postgres://me:hush@db/x?colour=blue", "colour"),
            ("postgres://me:hush@db:port/x", "port"),
            ("postgres://", "no host"),
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn address_does_not_show_its_password() {
        let address = Address::parse("postgres://me:hush@localhost/x").unwrap();
        assert!(!format!("{address:?}").contains("hush"));
    }
}
