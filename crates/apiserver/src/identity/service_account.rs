//! Tokens of ServiceAccounts: signed JWTs (RFC 7519) in the shape of Kubernetes, ES256. They are
//! not stored; what makes one good besides its signature is that the account, and the object it
//! is bound to, are still there.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fermion_store::Key;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Identity;
use super::authenticator::{Answer, Authenticated};
use crate::Api;
use crate::error::{About, ApiError, Result};
use crate::objects;
use crate::write::parse_stored;

/// Who signs them.
const ISSUER: &str = "fermion";
/// Around a key in a PEM file (RFC 7468).
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// The key that signs the tokens of ServiceAccounts.
pub struct TokenSigner {
    key: EcdsaKeyPair,
    public: Vec<u8>,
    /// Names the key in tokens: the hash of its public half.
    id: String,
    random: SystemRandom,
}

impl TokenSigner {
    /// Reads the key, or makes one that only the file's owner may read.
    ///
    /// # Errors
    /// When the file holds something else or cannot be read or written.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(file)?,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let damaged = || {
            format!(
                "{} holds no P-256 key: put the right file back, or delete it and start with --replace-keys, and every token of a ServiceAccount ends",
                file.display()
            )
        };
        let body: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        Self::from_pkcs8(&STANDARD.decode(body).with_context(damaged)?).with_context(damaged)
    }

    /// Names the key: the hash of its public half.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn create(file: &Path) -> anyhow::Result<String> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let text = format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(document.as_ref()));
        let write = || -> std::io::Result<()> {
            // Whole or not at all, and never over a key that somebody else just made.
            let fresh = file.with_extension("new");
            let _left_over = std::fs::remove_file(&fresh);
            let mut opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            opened.write_all(text.as_bytes())?;
            opened.sync_all()?;
            std::fs::hard_link(&fresh, file)?;
            std::fs::remove_file(&fresh)
        };
        write().with_context(|| format!("cannot write {}", file.display()))?;
        Ok(text)
    }

    fn from_pkcs8(document: &[u8]) -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document, &random)
            .map_err(|error| anyhow::anyhow!("not a PKCS#8 P-256 key: {error}"))?;
        let public = key.public_key().as_ref().to_vec();
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(&public));
        Ok(Self { key, public, id, random })
    }

    /// The token that says `claims`.
    pub(crate) fn sign(&self, claims: &Claims) -> anyhow::Result<String> {
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "kid": self.id, "typ": "JWT"});
        let text = format!("{}.{}", encoded(&header), encoded(&json!(claims)));
        let signature = self.key.sign(&self.random, text.as_bytes()).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// What a token says, if this key signed it and it is good at `now`.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: String,
        }
        let (text, signature) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        // The algorithm is ours to choose, never the token's.
        if header.alg != "ES256" || header.kid != self.id {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public).verify(text.as_bytes(), &signature).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let now = now.as_second();
        (claims.iss == ISSUER && claims.nbf <= now && now < claims.exp).then_some(claims)
    }
}

/// What a token says, as Kubernetes' does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Vec<String>,
    /// Seconds since 1970.
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) about: ClaimedObjects,
}

/// The objects a token depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimedObjects {
    pub(crate) namespace: String,
    pub(crate) serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Reference>,
}

/// One object, and not another of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Claims {
    pub(crate) fn new(audiences: Vec<String>, now: Timestamp, lifetime_s: i64, id: String, about: ClaimedObjects) -> Self {
        let now = now.as_second();
        Self {
            iss: ISSUER.to_owned(),
            sub: super::service_account_name(&about.namespace, &about.serviceaccount.name),
            aud: audiences,
            exp: now.saturating_add(lifetime_s),
            iat: now,
            nbf: now,
            jti: id,
            about,
        }
    }

    /// The objects that must still be there: resource, namespace, which.
    fn dependencies(&self) -> impl Iterator<Item = (&'static str, &str, &Reference)> {
        let about = &self.about;
        let namespace = about.namespace.as_str();
        [
            Some(("serviceaccounts", namespace, &about.serviceaccount)),
            about.pod.as_ref().map(|pod| ("pods", namespace, pod)),
            about.secret.as_ref().map(|secret| ("secrets", namespace, secret)),
            about.node.as_ref().map(|node| ("nodes", "", node)),
        ]
        .into_iter()
        .flatten()
    }

    fn identity(&self) -> Identity {
        let account = &self.about.serviceaccount;
        let mut identity = Identity::service_account(&self.about.namespace, &account.name, &account.uid);
        let mut tell = |what: &str, value: String| {
            identity.extra.insert(format!("authentication.kubernetes.io/{what}"), vec![value]);
        };
        tell("credential-id", format!("JTI={}", self.jti));
        for (kind, object) in [("pod", &self.about.pod), ("node", &self.about.node)] {
            if let Some(object) = object {
                tell(&format!("{kind}-name"), object.name.clone());
                tell(&format!("{kind}-uid"), object.uid.clone());
            }
        }
        identity
    }
}

impl Api {
    /// Lets ServiceAccounts have tokens, signed with that key.
    pub fn sign_service_account_tokens(&self, signer: TokenSigner) {
        if self.credentials.signer.set(signer).is_err() {
            tracing::warn!("a key for tokens of ServiceAccounts is set already; it is kept");
        }
    }

    pub(crate) fn signer(&self) -> Result<&TokenSigner> {
        self.credentials.signer.get().ok_or_else(|| ApiError::unavailable("this server has no key to sign tokens of ServiceAccounts"))
    }

    pub(super) async fn judge_service_account(&self, token: &str, audiences: &[String]) -> Result<Answer> {
        let Some(signer) = self.credentials.signer.get() else { return Ok(Answer::NotMine) };
        if token.split('.').count() != 3 {
            return Ok(Answer::NotMine);
        }
        let Some(claims) = signer.verify(token, self.now()) else { return Ok(Answer::NotMine) };
        if !claims.aud.iter().any(|audience| audiences.contains(audience)) {
            return Ok(Answer::Refused);
        }
        for (resource, namespace, wanted) in claims.dependencies() {
            let about = About { group: "", plural: resource, kind: "", name: &wanted.name };
            let found = self.store.get(&Key::new(resource, namespace, wanted.name.as_str())).await;
            let Some(found) = found.map_err(|error| ApiError::from_store(&error, about))? else { return Ok(Answer::Refused) };
            if objects::text(&parse_stored(&found)?, "uid") != wanted.uid {
                return Ok(Answer::Refused);
            }
        }
        Ok(Answer::Known(Authenticated { identity: Arc::new(claims.identity()), audiences: claims.aud }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let about = ClaimedObjects {
            namespace: "lab".to_owned(),
            serviceaccount: Reference { name: "robot".to_owned(), uid: "u1".to_owned() },
            pod: Some(Reference { name: "p".to_owned(), uid: "u2".to_owned() }),
            secret: None,
            node: None,
        };
        Claims::new(vec!["fermion".to_owned()], at(1000), 600, "id".to_owned(), about)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn signer(folder: &tempfile::TempDir, name: &str) -> TokenSigner {
        TokenSigner::open(&folder.path().join(name)).expect("a key")
    }

    #[test]
    fn a_token_is_good_for_its_time_under_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let signer_one = signer(&folder, "one.key");
        let token = signer_one.sign(&claims()).expect("a token");
        assert_eq!(signer_one.verify(&token, at(1000)), Some(claims()));
        assert_eq!(signer_one.verify(&token, at(1599)), Some(claims()));
        assert_eq!(signer_one.verify(&token, at(1600)), None);
        assert_eq!(signer_one.verify(&token, at(999)), None);
        assert_eq!(signer(&folder, "two.key").verify(&token, at(1000)), None);
        assert_eq!(signer(&folder, "one.key").verify(&token, at(1000)), Some(claims()), "the key outlives the server");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join("one.key")).expect("a file").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_token_that_was_touched_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let signer = signer(&folder, "a.key");
        let token = signer.sign(&claims()).expect("a token");
        let parts: Vec<&str> = token.split('.').collect();
        let mut other = claims();
        other.about.serviceaccount.name = "root".to_owned();
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let none = encode(json!({"alg": "none", "kid": signer.id, "typ": "JWT"}));
        let hs256 = encode(json!({"alg": "HS256", "kid": signer.id, "typ": "JWT"}));
        for forged in [
            format!("{}.{}.{}", parts[0], encode(json!(other)), parts[2]),
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{hs256}.{}.{}", parts[1], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{token}A"),
            String::new(),
            "..".to_owned(),
        ] {
            assert_eq!(signer.verify(&forged, at(1000)), None, "{forged}");
        }
    }

    #[test]
    fn a_file_that_is_no_key_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bad.key");
        std::fs::write(&file, "nonsense").expect("a file");
        let error = TokenSigner::open(&file).err().expect("an error").to_string();
        assert!(error.contains("delete it"), "{error}");
    }
}
