//! Tokens that are looked up: sessions of people and API keys of programs. Both end at once when
//! they, or the User behind them, are taken away.

use std::sync::Arc;
use std::time::Duration;

use fermion_store::{Commit, Expect, Key, Stored, Write};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::authenticator::{Answer, Authenticated};
use super::credentials::{Good, fingerprint, secret};
use super::{ADMINISTRATORS, AUTHENTICATED, Identity, KEY_SECRETS, TOKENS};
use crate::Api;
use crate::error::{About, ApiError, Result};
use crate::iam;
use crate::write::parse_stored;

/// Start of every token, so that leaked ones can be found by scanners.
const TOKEN_PREFIX: &str = "fermion_";
/// Start of the tokens of API keys: `fermion_key_NAME.SECRET`.
const KEY_PREFIX: &str = "fermion_key_";
/// The longest token of these sorts, in bytes: the name of an ApiKey has up to 253.
const LENGTH_MAX: usize = 512;
/// Letters of an API key's secret that its status shows, to tell keys apart.
const SHOWN_OF_SECRET: usize = 4;
/// How long a token made by signing in is good.
pub(crate) const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Somebody signed in.
    SignIn,
    /// The kubeconfig in the server's home.
    Kubeconfig,
}

/// A session as it is stored, under its token's fingerprint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    pub(super) user: String,
    pub(super) user_uid: String,
    pub(super) purpose: Purpose,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl Session {
    /// The object in the store.
    pub(super) fn stored(&self, fingerprint: &str) -> Value {
        let mut object = json!(self);
        object["metadata"] = json!({"name": fingerprint});
        object
    }

    /// Whether the User of that name, as it is stored, still has this session.
    fn is_good(&self, user: &Value, now: Timestamp) -> bool {
        let revoked = self.purpose == Purpose::SignIn && iam::sessions_valid_from(user).is_some_and(|from| self.issued_at < from);
        now < self.expires_at && iam::is_enabled(user) && user["metadata"]["uid"] == *self.user_uid && !revoked
    }
}

/// The caller that a User is.
fn identity(name: &str, user: &Value) -> Identity {
    let mut groups: Vec<String> = iam::groups(user).map(str::to_owned).collect();
    groups.push(AUTHENTICATED.to_owned());
    Identity { name: name.to_owned(), uid: user["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), groups, ..Identity::default() }
}

/// Whether a hash is the stored one, in time that does not tell how much of it is.
fn same_hash(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

impl Api {
    pub(super) async fn judge_session(&self, token: &str) -> Result<Answer> {
        if !token.starts_with(TOKEN_PREFIX) {
            return Ok(Answer::NotMine);
        }
        if token.len() > LENGTH_MAX {
            return Ok(Answer::Refused);
        }
        let now = self.now();
        let fingerprint = fingerprint(token);
        if let Some(identity) = self.credentials.cached(&fingerprint, now) {
            return Ok(Answer::Known(Authenticated::here(identity)));
        }
        let moment = self.credentials.moment();
        let Some(stored) = self.secret(TOKENS, &fingerprint).await? else { return Ok(Answer::Refused) };
        let Ok(session) = serde_json::from_slice::<Session>(&stored.body) else {
            tracing::error!("a stored session cannot be read; it is refused");
            return Ok(Answer::Refused);
        };
        let Some((_, user)) = self.user(&session.user).await? else { return Ok(Answer::Refused) };
        if !session.is_good(&user, now) {
            return Ok(Answer::Refused);
        }
        let identity = Arc::new(identity(&session.user, &user));
        let good = Good { identity: identity.clone(), expires_at: session.expires_at, user: session.user, key: None };
        self.credentials.remember(moment, fingerprint, good, now);
        Ok(Answer::Known(Authenticated::here(identity)))
    }

    pub(super) async fn judge_api_key(self: &Arc<Self>, token: &str) -> Result<Answer> {
        let Some((name, _)) = token.strip_prefix(KEY_PREFIX).and_then(|rest| rest.rsplit_once('.')) else {
            return Ok(Answer::NotMine);
        };
        if token.len() > LENGTH_MAX || !crate::names::is_dns_name(name) {
            return Ok(Answer::Refused);
        }
        let now = self.now();
        let fingerprint = fingerprint(token);
        if let Some(identity) = self.credentials.cached(&fingerprint, now) {
            return Ok(Answer::Known(Authenticated::here(identity)));
        }
        let moment = self.credentials.moment();
        let Some(secret) = self.secret(KEY_SECRETS, name).await? else { return Ok(Answer::Refused) };
        let secret = parse_stored(&secret)?;
        if !same_hash(secret["hash"].as_str().unwrap_or_default(), &fingerprint) {
            return Ok(Answer::Refused);
        }
        let Some((stored, key)) = self.api_key(name).await? else { return Ok(Answer::Refused) };
        let owner = key["spec"]["user"].as_str().unwrap_or_default().to_owned();
        let Some((_, user)) = self.user(&owner).await? else { return Ok(Answer::Refused) };
        let expires_at = key["spec"]["expiresAt"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        // A key of an earlier ApiKey or User of the same name is good for nothing.
        let same = secret["keyUid"] == key["metadata"]["uid"] && secret["userUid"] == user["metadata"]["uid"];
        let Some(expires_at) = expires_at.filter(|expires_at| now < *expires_at) else { return Ok(Answer::Refused) };
        if !same || !iam::is_enabled(&user) || key["metadata"]["deletionTimestamp"].is_string() {
            return Ok(Answer::Refused);
        }
        let identity = Arc::new(identity(&owner, &user).by_api_key(name));
        let good = Good { identity: identity.clone(), expires_at, user: owner, key: Some(name.to_owned()) };
        self.credentials.remember(moment, fingerprint, good, now);
        self.note_use(&stored, &key);
        Ok(Answer::Known(Authenticated::here(identity)))
    }

    /// Makes a session for a User that exists; gives back its token, which is kept nowhere.
    pub(crate) async fn issue_session(
        &self,
        name: &str,
        user: &Value,
        purpose: Purpose,
        lifetime: Duration,
    ) -> Result<(String, Timestamp)> {
        let token = format!("{TOKEN_PREFIX}{}", secret().map_err(no_random)?);
        let issued_at = self.now();
        let session = Session {
            user: name.to_owned(),
            user_uid: user["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            purpose,
            issued_at,
            expires_at: issued_at + lifetime,
        };
        let fingerprint = fingerprint(&token);
        let object = session.stored(&fingerprint);
        let write = Write::Put { key: Key::new(TOKENS, "", fingerprint), expect: Expect::Absent, object };
        self.store.commit(Commit::of(write)).await.map_err(|error| ApiError::from_store(&error, SESSION))?;
        Ok((token, session.expires_at))
    }

    /// Ends the session of a token. One that is no session is left alone.
    pub(crate) async fn end_session(&self, token: &str) -> Result<()> {
        let fingerprint = fingerprint(token);
        let write = Write::Delete { key: Key::new(TOKENS, "", fingerprint.as_str()), expect: Expect::Any };
        match self.store.commit(Commit::of(write)).await {
            Ok(gone) => {
                for gone in gone {
                    self.access.taken_in(TOKENS, gone.revision).await;
                }
                Ok(())
            }
            Err(fermion_store::Error::NotFound { .. }) => {
                Err(ApiError::bad_request("this token is not one of a sign-in: delete the ApiKey or ServiceAccount it belongs to"))
            }
            Err(error) => Err(ApiError::from_store(&error, SESSION)),
        }
    }

    /// A record that no address serves.
    pub(crate) async fn secret(&self, resource: &'static str, name: &str) -> Result<Option<Stored>> {
        self.store.get(&Key::new(resource, "", name)).await.map_err(|error| ApiError::from_store(&error, SESSION))
    }
}

/// What errors about these records are about: nothing that could be asked for.
const SESSION: About<'_> = About { group: "internal.fermion.dev", plural: "sessions", kind: "Session", name: "" };

pub(crate) fn no_random(error: anyhow::Error) -> ApiError {
    tracing::error!(%error, "a secret could not be made");
    ApiError::unavailable("credentials cannot be made now; the server's log says why")
}

/// The token of an API key, its hash, and what of it may be shown.
pub(crate) fn new_key_token(name: &str) -> anyhow::Result<(String, String, String)> {
    let secret = secret()?;
    let token = format!("{KEY_PREFIX}{name}.{secret}");
    let shown = format!("{KEY_PREFIX}{name}.{}", secret.get(..SHOWN_OF_SECRET).unwrap_or_default());
    let hash = fingerprint(&token);
    Ok((token, hash, shown))
}

/// Whether a User, as it is stored, may do everything.
pub(super) fn is_administrator(user: &Value) -> bool {
    iam::is_enabled(user) && iam::groups(user).any(|group| group == ADMINISTRATORS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(issued_at: &str) -> Session {
        Session {
            user: "ann".to_owned(),
            user_uid: "u1".to_owned(),
            purpose: Purpose::SignIn,
            issued_at: issued_at.parse().expect("a time"),
            expires_at: "2026-02-01T00:00:00Z".parse().expect("a time"),
        }
    }

    #[test]
    fn a_session_ends_with_its_user_its_time_or_its_revocation() {
        let now = "2026-01-15T00:00:00Z".parse().expect("a time");
        let user = json!({"metadata": {"uid": "u1"}, "spec": {"groups": []}});
        let good = session("2026-01-10T00:00:00Z");
        assert!(good.is_good(&user, now));
        assert!(!good.is_good(&user, "2026-02-01T00:00:00Z".parse().expect("a time")));
        let mut disabled = user.clone();
        disabled["spec"]["disabled"] = true.into();
        assert!(!good.is_good(&disabled, now));
        let mut another = user.clone();
        another["metadata"]["uid"] = "u2".into();
        assert!(!good.is_good(&another, now), "a new user of the same name");
        let mut revoked = user.clone();
        revoked["status"]["sessionsValidFrom"] = "2026-01-11T00:00:00Z".into();
        assert!(!good.is_good(&revoked, now));
        assert!(session("2026-01-12T00:00:00Z").is_good(&revoked, now));
        let kubeconfig = Session { purpose: Purpose::Kubeconfig, ..good };
        assert!(kubeconfig.is_good(&revoked, now), "the machine's owner stays signed in");
    }

    #[test]
    fn the_token_of_a_key_names_it_and_shows_little() {
        let (token, hash, shown) = new_key_token("ci.nightly").expect("a token");
        let (name, _) = token.strip_prefix(KEY_PREFIX).and_then(|rest| rest.rsplit_once('.')).expect("its parts");
        assert_eq!(name, "ci.nightly");
        assert!(token.starts_with(&shown) && shown.len() < token.len() - 30);
        assert!(same_hash(&hash, &fingerprint(&token)));
        assert!(!same_hash(&hash, &fingerprint("other")));
        assert!(!same_hash("", &hash));
    }
}
