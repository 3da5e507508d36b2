//! Who is asking: people by bearer token, the platform's own parts by construction.
//!
//! Passwords are kept as argon2id hashes, tokens as SHA-256 of 256 random bits, both in the
//! store under resources that the API does not serve.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fermion_store::{Commit, Expect, Key, Store, Write};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::clock::Clock;
use crate::error::{About, ApiError, Result};

const USERS: &str = "users.internal.fermion.dev";
pub(crate) const TOKENS: &str = "tokens.internal.fermion.dev";
/// Start of every token, so that leaked ones can be found by scanners.
const TOKEN_PREFIX: &str = "fermion_";
/// How long a token made by signing in is good.
pub(crate) const SESSION_TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Failed sign-ins after which a user name is locked for [`LOCK_TIME`].
pub(crate) const FAILED_SIGN_INS_MAX: u32 = 5;
/// How long a user name stays locked.
pub(crate) const LOCK_TIME: Duration = Duration::from_secs(60);
/// User names whose failures are remembered at the same time.
const FAILURES_REMEMBERED_MAX: usize = 10_000;
/// Tokens remembered as good, so that not every request reads the store.
const TOKENS_CACHED_MAX: usize = 10_000;
/// Sign-ins that may be checked at the same time: each costs memory and CPU on purpose.
const SIGN_INS_AT_ONCE: usize = 2;

/// The group that may do everything.
pub const ADMINISTRATORS: &str = "system:masters";
/// The group of everyone who is signed in.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of the platform's own parts.
pub const COMPONENTS: &str = "system:fermion:components";

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    pub groups: Vec<String>,
}

impl Identity {
    /// One of the platform's own parts, such as `system:fermion:node`.
    pub fn component(name: &str) -> Self {
        Self { name: format!("system:fermion:{name}"), groups: vec![COMPONENTS.to_owned(), AUTHENTICATED.to_owned()] }
    }

    /// As authentication.k8s.io shows a user.
    pub(crate) fn user_info(&self) -> Value {
        json!({"username": self.name, "groups": self.groups})
    }
}

/// The tokens and passwords of this platform.
pub struct Credentials {
    store: Store,
    clock: Arc<dyn Clock>,
    cached: Mutex<HashMap<String, (Identity, Timestamp)>>,
    failures: Mutex<HashMap<String, Failures>>,
    sign_ins: tokio::sync::Semaphore,
}

struct Failures {
    count: u32,
    last_at: Timestamp,
}

impl Credentials {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, cached: Mutex::default(), failures: Mutex::default(), sign_ins: tokio::sync::Semaphore::new(SIGN_INS_AT_ONCE) }
    }

    /// Makes the first administrator if there is no user yet; gives back the password, which
    /// is kept nowhere.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn ensure_first_administrator(&self) -> anyhow::Result<Option<String>> {
        let key = Key::new(USERS, "", "admin");
        if self.store.get(&key).await?.is_some() {
            return Ok(None);
        }
        let password = random_text::<15>()?;
        let object = json!({
            "metadata": {"name": "admin"},
            "groups": [ADMINISTRATORS],
            "passwordHash": hash_password(&password)?,
        });
        self.store.commit(Commit::of(Write::Put { key, expect: Expect::Absent, object })).await?;
        Ok(Some(password))
    }

    /// Makes a token for a user; gives back its text, which is kept nowhere.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn issue_token(&self, user: &Identity, lifetime: Duration) -> anyhow::Result<(String, Timestamp)> {
        let token = format!("{TOKEN_PREFIX}{}", random_text::<32>()?);
        let expires_at = self.clock.now() + lifetime;
        let object = json!({
            "metadata": {"name": fingerprint(&token)},
            "user": user,
            "expiresAt": expires_at.to_string(),
        });
        let key = Key::new(TOKENS, "", fingerprint(&token));
        self.store.commit(Commit::of(Write::Put { key, expect: Expect::Absent, object })).await?;
        Ok((token, expires_at))
    }

    /// Whether a token is good now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn knows(&self, token: &str) -> anyhow::Result<bool> {
        let found = self.authenticate(token).await.map_err(|error| anyhow::anyhow!(error.message))?;
        Ok(found.is_some())
    }

    /// Who a token belongs to; `None` for one that is unknown or over.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Option<Identity>> {
        if !token.starts_with(TOKEN_PREFIX) || token.len() > 256 {
            return Ok(None);
        }
        let now = self.clock.now();
        let fingerprint = fingerprint(token);
        if let Some((identity, expires_at)) = lock(&self.cached).get(&fingerprint) {
            return Ok((now < *expires_at).then(|| identity.clone()));
        }
        let about = About { group: "internal.fermion.dev", plural: "tokens", kind: "Token", name: "" };
        let stored =
            self.store.get(&Key::new(TOKENS, "", fingerprint.as_str())).await.map_err(|error| ApiError::from_store(&error, about))?;
        let Some(stored) = stored else { return Ok(None) };
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Token {
            user: Identity,
            expires_at: Timestamp,
        }
        let Ok(Token { mut user, expires_at }) = serde_json::from_slice(&stored.body) else {
            tracing::error!("a stored token cannot be read; it is refused");
            return Ok(None);
        };
        if now >= expires_at {
            return Ok(None);
        }
        if !user.groups.iter().any(|group| group == AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_owned());
        }
        let mut cached = lock(&self.cached);
        if cached.len() >= TOKENS_CACHED_MAX {
            cached.clear();
        }
        cached.insert(fingerprint, (user.clone(), expires_at));
        Ok(Some(user))
    }

    /// Checks a password and gives out a token. Unknown users take as long as known ones.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Result<(String, Timestamp)> {
        let refused = || ApiError { message: "wrong user name or password".to_owned(), ..ApiError::unauthorized() };
        let now = self.clock.now();
        let locked = lock(&self.failures)
            .get(name)
            .is_some_and(|failures| failures.count >= FAILED_SIGN_INS_MAX && now < failures.last_at + LOCK_TIME);
        if locked {
            let mut error = ApiError::new(
                axum::http::StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                format!("{FAILED_SIGN_INS_MAX} failed sign-ins; try again in {} seconds", LOCK_TIME.as_secs()),
            );
            error.retry_after_s = Some(LOCK_TIME.as_secs() as u32);
            return Err(error);
        }
        let about = About { group: "internal.fermion.dev", plural: "users", kind: "User", name };
        let stored = self.store.get(&Key::new(USERS, "", name)).await.map_err(|error| ApiError::from_store(&error, about))?;
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct User {
            groups: Vec<String>,
            password_hash: String,
        }
        let user: Option<User> = stored.and_then(|stored| serde_json::from_slice(&stored.body).ok());
        let hash = user.as_ref().map_or_else(|| UNKNOWN_USER_HASH.to_owned(), |user| user.password_hash.clone());
        let password = password.to_owned();
        let _permit = self.sign_ins.acquire().await.map_err(|_| ApiError::unavailable("the server is shutting down"))?;
        let good = tokio::task::spawn_blocking(move || verify_password(&password, &hash))
            .await
            .map_err(|_| ApiError::internal("the password could not be checked"))?;
        let Some(user) = user.filter(|_| good) else {
            let mut failures = lock(&self.failures);
            if failures.len() >= FAILURES_REMEMBERED_MAX {
                failures.retain(|_, failures| now < failures.last_at + LOCK_TIME);
            }
            let entry = failures.entry(name.to_owned()).or_insert(Failures { count: 0, last_at: now });
            entry.count += 1;
            entry.last_at = now;
            return Err(refused());
        };
        lock(&self.failures).remove(name);
        let identity = Identity { name: name.to_owned(), groups: user.groups };
        self.issue_token(&identity, SESSION_TOKEN_LIFETIME).await.map_err(|error| {
            tracing::error!(%error, "a token could not be made");
            ApiError::unavailable("signing in does not work now; the server's log says why")
        })
    }
}

/// An argon2id hash of nothing anybody knows, so that unknown names cost as much time.
const UNKNOWN_USER_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The maps stay whole whatever panics beside them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fingerprint(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

fn random_text<const BYTES: usize>() -> anyhow::Result<String> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn hash_password(password: &str) -> anyhow::Result<String> {
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| anyhow::anyhow!("cannot make a salt: {error}"))?;
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_err(|error| anyhow::anyhow!("cannot hash the password: {error}"))?;
    Ok(hash.to_string())
}

fn verify_password(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_checked_against_their_hash() {
        let hash = hash_password("right").expect("a hash");
        assert!(verify_password("right", &hash));
        assert!(!verify_password("wrong", &hash));
        assert!(!verify_password("", UNKNOWN_USER_HASH));
        assert!(PasswordHash::new(UNKNOWN_USER_HASH).is_ok());
    }
}
