//! Connections to PostgreSQL that are encrypted, and what is not trusted.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use fermion_store::{Class, Error, Expect, Options, Scope, Store};
use fermion_testkit::{Cluster, OwnCluster, create_for_postgres, give_to_postgres};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::scratch::{events, pod, put, write};

/// Somebody who signs certificates.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self { params, key: KeyPair::generate().unwrap() }
    }

    /// Writes down its own certificate.
    fn write(&self, file: &Path) {
        std::fs::write(file, self.params.self_signed(&self.key).unwrap().pem()).unwrap();
    }

    /// Certificate and key of a server that is known under `names`.
    fn sign(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A cluster that speaks TLS, with the certificate of an authority.
struct Encrypted {
    cluster: OwnCluster,
    /// The authority's certificate.
    roots: PathBuf,
    directory: TempDir,
}

impl Encrypted {
    /// One whose certificate is for `names`.
    fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        create_for_postgres(directory.path());
        let authority = Authority::new("the right one");
        let (certificate, key) = authority.sign(names);
        let file = |name: &str| directory.path().join(name);
        std::fs::write(file("server.crt"), certificate).unwrap();
        std::fs::write(file("server.key"), key).unwrap();
        give_to_postgres(&file("server.key"), 0o600);
        authority.write(&file("roots.pem"));
        let (certificate, key) = (file("server.crt"), file("server.key"));
        let settings = format!("ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n", certificate.display(), key.display());
        Self { cluster: OwnCluster::within(directory.path(), &settings), roots: file("roots.pem"), directory }
    }

    fn url(&self, database: &str, parameters: &str) -> String {
        format!("{}?{parameters}", Cluster::tcp_url(database, &[self.cluster.port()]))
    }
}

/// An error with everything below it, as it is logged.
fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

async fn refused(url: &str) -> String {
    let error = Store::connect(url, Options::default()).await.expect_err("it is refused");
    assert_eq!(error.class(), Class::Unavailable, "{error:?}");
    let text = whole(&error);
    assert!(!text.contains("secret") && !format!("{error:?}").contains("not a secret"), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_encrypted_to_a_server_that_is_trusted() {
    let encrypted = Encrypted::new(&["127.0.0.1", "localhost"]);
    let name = encrypted.cluster.database();
    let url = encrypted.url(&name, &format!("sslmode=verify-full&sslrootcert={}", encrypted.roots.display()));
    let store = Store::connect(&url, Options::default()).await.unwrap();
    let mut watch = store.watch(Scope::all("pods"), 0).await.unwrap();
    let stored = write(&store, put(&pod("a"), Expect::Absent, 1)).await.unwrap();
    assert_eq!(events(&mut watch, 1).await[0].revision, stored.revision);
    assert_eq!(store.get(&pod("a")).await.unwrap(), Some(stored));
    let sessions = "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)";
    let counts = encrypted.cluster.psql("postgres", &format!("{sessions} WHERE datname = '{name}'"));
    let (all, secure) = counts.trim().split_once('|').unwrap();
    assert!(all == secure && all.parse::<u32>().unwrap() >= 3, "of {all} sessions {secure} are encrypted");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_not_trusted_are_refused_with_the_reason() {
    let encrypted = Encrypted::new(&["127.0.0.1"]);
    let name = encrypted.cluster.database();
    let foreign = encrypted.directory.path().join("foreign.pem");
    Authority::new("another one").write(&foreign);
    let text = refused(&encrypted.url(&name, &format!("sslmode=verify-full&sslrootcert={}", foreign.display()))).await;
    assert!(text.contains("certificate that is not trusted") && text.contains("sslrootcert"), "{text}");
    // Who is trusted by the machine did not sign it either.
    let text = refused(&encrypted.url(&name, "sslmode=require")).await;
    assert!(text.contains("certificate that is not trusted"), "{text}");

    let elsewhere = Encrypted::new(&["db.example"]);
    let name = elsewhere.cluster.database();
    let text = refused(&elsewhere.url(&name, &format!("sslmode=verify-full&sslrootcert={}", elsewhere.roots.display()))).await;
    assert!(text.contains("must be for the host in the address") && text.contains("db.example"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_encrypted_is_not_sent_to_a_server_that_cannot() {
    let cluster = Cluster::shared();
    let url = format!("{}?sslmode=require", Cluster::tcp_url(&cluster.database(), &[cluster.port()]));
    let text = refused(&url).await;
    assert!(text.contains("TLS"), "{text}");
}
