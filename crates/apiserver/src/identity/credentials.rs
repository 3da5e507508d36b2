//! What the server remembers of tokens and failures. All of it can be lost: the truth is in the
//! store.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::attempts::Attempts;
use super::{Identity, TokenSigner};
use crate::Api;
use crate::error::{ApiError, Result};

/// Tokens remembered as good, so that not every request reads the store.
const TOKENS_CACHED_MAX: usize = 10_000;
/// How long one is remembered. Changes end it at once; this bounds how old `lastUsedAt` gets.
const CACHED_FOR: Duration = Duration::from_secs(300);
/// Passwords that may be hashed at the same time: each costs memory and CPU on purpose.
const HASHES_AT_ONCE: usize = 2;
/// Sign-ins that may wait for that; more are told to come again.
const SIGN_INS_WAITING_MAX: usize = 64;
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;

/// A token that is good, and what would end it.
#[derive(Clone, Debug)]
struct Cached {
    identity: Arc<Identity>,
    until: Timestamp,
    user: String,
    key: Option<String>,
}

#[derive(Debug, Default)]
struct Cache {
    tokens: HashMap<String, Cached>,
    /// Counts what was forgotten: what was read before may be old.
    forgotten: u64,
}

/// The memory of authentication.
pub(crate) struct Credentials {
    cache: Mutex<Cache>,
    attempts: Mutex<Attempts>,
    hashing: Semaphore,
    waiting: Semaphore,
    /// Signs ServiceAccounts' tokens; without one there are none.
    pub(super) signer: OnceLock<TokenSigner>,
}

impl Credentials {
    pub(crate) fn new() -> Self {
        Self {
            cache: Mutex::default(),
            attempts: Mutex::default(),
            hashing: Semaphore::new(HASHES_AT_ONCE),
            waiting: Semaphore::new(SIGN_INS_WAITING_MAX),
            signer: OnceLock::new(),
        }
    }

    /// Whose token it is, if that is remembered.
    pub(super) fn cached(&self, fingerprint: &str, now: Timestamp) -> Option<Arc<Identity>> {
        let cache = lock(&self.cache);
        cache.tokens.get(fingerprint).filter(|cached| now < cached.until).map(|cached| cached.identity.clone())
    }

    /// What to give to [`Self::remember`]: taken before the store is read.
    pub(super) fn moment(&self) -> u64 {
        lock(&self.cache).forgotten
    }

    /// Remembers a token as good, unless something was forgotten since `moment`: then what was
    /// read may be what was revoked.
    pub(super) fn remember(&self, moment: u64, fingerprint: String, good: Good, now: Timestamp) {
        let mut cache = lock(&self.cache);
        if cache.forgotten != moment {
            return;
        }
        if cache.tokens.len() >= TOKENS_CACHED_MAX {
            cache.tokens.clear();
        }
        let until = (now + CACHED_FOR).min(good.expires_at);
        cache.tokens.insert(fingerprint, Cached { identity: good.identity, until, user: good.user, key: good.key });
    }

    pub(crate) fn forget_all(&self) {
        self.forget(|_, _| true);
    }

    pub(crate) fn forget_user(&self, user: &str) {
        self.forget(|_, cached| cached.user == user);
    }

    pub(crate) fn forget_key(&self, key: &str) {
        self.forget(|_, cached| cached.key.as_deref() == Some(key));
    }

    pub(crate) fn forget_token(&self, fingerprint: &str) {
        let mut cache = lock(&self.cache);
        cache.forgotten += 1;
        cache.tokens.remove(fingerprint);
    }

    fn forget(&self, gone: impl Fn(&str, &Cached) -> bool) {
        let mut cache = lock(&self.cache);
        cache.forgotten += 1;
        cache.tokens.retain(|fingerprint, cached| !gone(fingerprint, cached));
    }

    pub(crate) fn locked_until(&self, name: &str, peer: Option<IpAddr>, now: Timestamp) -> Option<Timestamp> {
        lock(&self.attempts).locked_until(name, peer, now)
    }

    pub(crate) fn failed(&self, name: &str, peer: Option<IpAddr>, now: Timestamp) -> Option<Timestamp> {
        lock(&self.attempts).failed(name, peer, now)
    }

    pub(crate) fn succeeded(&self, name: &str) {
        lock(&self.attempts).succeeded(name);
    }
}

impl Api {
    /// Does a hash of a password, as soon as there is room for one.
    pub(crate) async fn hashed<T: Send + 'static>(&self, hash: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = || ApiError {
            retry_after_s: Some(1),
            ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "too many sign-ins at the same time; try again")
        };
        let _waiting = self.credentials.waiting.try_acquire().map_err(|_| busy())?;
        let _turn = self.credentials.hashing.acquire().await.map_err(|_| ApiError::unavailable("the server is shutting down"))?;
        tokio::task::spawn_blocking(hash).await.map_err(|_| ApiError::internal("the password could not be hashed"))
    }
}

/// A token that was found good.
pub(super) struct Good {
    pub(super) identity: Arc<Identity>,
    pub(super) expires_at: Timestamp,
    pub(super) user: String,
    pub(super) key: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps stay whole whatever panics beside them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is stored of a token instead of it. The token is 256 random bits, so nothing slower is
/// needed than a hash.
pub(crate) fn fingerprint(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

/// The random part of a token.
pub(crate) fn secret() -> anyhow::Result<String> {
    random_text::<SECRET_BYTES>()
}

pub(crate) fn random_text<const BYTES: usize>() -> anyhow::Result<String> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(user: &str, key: Option<&str>) -> Good {
        let identity = Arc::new(Identity { name: user.to_owned(), ..Identity::default() });
        Good { identity, expires_at: at(1000), user: user.to_owned(), key: key.map(str::to_owned) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_change_ends_what_depends_on_it() {
        let credentials = Credentials::new();
        let keep = || {
            let moment = credentials.moment();
            credentials.remember(moment, "session".to_owned(), good("ann", None), at(0));
            credentials.remember(moment, "key".to_owned(), good("ann", Some("ci")), at(0));
            credentials.remember(moment, "other".to_owned(), good("bob", None), at(0));
        };
        let left = || ["session", "key", "other"].map(|token| credentials.cached(token, at(1)).is_some());
        keep();
        assert_eq!(left(), [true, true, true]);
        credentials.forget_key("ci");
        assert_eq!(left(), [true, false, true]);
        credentials.forget_token("other");
        assert_eq!(left(), [true, false, false]);
        keep();
        credentials.forget_user("ann");
        assert_eq!(left(), [false, false, true]);
        credentials.forget_all();
        assert_eq!(left(), [false, false, false]);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered() {
        let credentials = Credentials::new();
        let moment = credentials.moment();
        credentials.forget_user("ann");
        credentials.remember(moment, "session".to_owned(), good("ann", None), at(0));
        assert!(credentials.cached("session", at(1)).is_none());
    }

    #[test]
    fn nothing_is_remembered_longer_than_it_is_good() {
        let credentials = Credentials::new();
        let moment = credentials.moment();
        credentials.remember(moment, "a".to_owned(), good("ann", None), at(900));
        assert!(credentials.cached("a", at(999)).is_some());
        assert!(credentials.cached("a", at(1000)).is_none());
        credentials.remember(moment, "b".to_owned(), good("ann", None), at(0));
        assert!(credentials.cached("b", at(301)).is_none());
    }
}
