//! Who asks, and whether they may: TokenReview and SubjectAccessReview, remembered for a
//! few seconds.
//!
//! One permission covers all use of an app or a service: verb `create` on
//! `devenvironments/proxy` or `inferenceservices/proxy` (group `ai.fermion.dev`). It does not
//! follow the HTTP method: a WebSocket is opened by GET, and whoever can GET in a notebook
//! can run anything in it, so a permission to "only get" would be a false promise.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest as _, Sha256};

use crate::address::Key;
use crate::expiring::Expiring;
use crate::problem::Problem;

/// The most answers remembered, of each of the two kinds.
const ANSWERS_MAX: usize = 8192;
/// The longest wait for the API's answer.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer bearer token is refused unread.
const TOKEN_LENGTH_MAX: usize = 16 * 1024;

/// The verb of the one permission.
const VERB: &str = "create";
/// The subresource of the one permission.
const SUBRESOURCE: &str = "proxy";

/// A bearer token. It never shows in logs.
#[derive(Clone)]
pub(crate) struct Token(Arc<str>);

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(…)")
    }
}

impl Token {
    /// The token of an `Authorization: Bearer` header.
    pub(crate) fn bearer(headers: &HeaderMap) -> Option<Self> {
        let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let token = token.trim();
        let fits = !token.is_empty() && token.len() <= TOKEN_LENGTH_MAX;
        (scheme.eq_ignore_ascii_case("bearer") && fits).then(|| Self(token.into()))
    }

    fn digest(&self) -> Digest {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// What a permission is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Plural: `devenvironments` or `inferenceservices`.
    pub(crate) plural: &'static str,
    pub(crate) key: Key,
}

type Digest = [u8; 32];

/// Asks the API. Everything is denied that it did not allow, also when it cannot be asked.
pub(crate) struct Access {
    authentication: Api<TokenReview>,
    authorization: Api<SubjectAccessReview>,
    /// By digest, so that memory holds no token longer than a request does.
    people: Mutex<Expiring<Digest, Option<Arc<UserInfo>>>>,
    permissions: Mutex<Expiring<Digest, Permission>>,
}

#[derive(Clone)]
enum Permission {
    Allowed,
    Denied { why: Option<String> },
}

impl Access {
    /// Answers are used again for `lifetime`.
    pub(crate) fn new(client: Client, lifetime: Duration) -> Self {
        Self {
            authentication: Api::all(client.clone()),
            authorization: Api::all(client),
            people: Mutex::new(Expiring::new(ANSWERS_MAX, lifetime)),
            permissions: Mutex::new(Expiring::new(ANSWERS_MAX, lifetime)),
        }
    }

    /// Whose token it is; `None` when it is nobody's.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub(crate) async fn authenticate(&self, token: &Token) -> Result<Option<Arc<UserInfo>>, Problem> {
        let digest = token.digest();
        if let Some(known) = lock(&self.people).get(&digest, Instant::now()) {
            return Ok(known.clone());
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.0.to_string()), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let status = ask(&self.authentication, &review).await?.status.unwrap_or_default();
        let named = |user: &UserInfo| user.username.as_deref().is_some_and(|name| !name.is_empty());
        let person = status.user.filter(|user| status.authenticated == Some(true) && named(user)).map(Arc::new);
        lock(&self.people).insert(digest, person.clone(), Instant::now());
        Ok(person)
    }

    /// # Errors
    /// 403 when the person may not use the resource; 503 when the API cannot be asked.
    pub(crate) async fn authorise(&self, person: &UserInfo, resource: &Resource) -> Result<(), Problem> {
        let spec = SubjectAccessReviewSpec {
            user: person.username.clone(),
            uid: person.uid.clone(),
            groups: person.groups.clone(),
            extra: person.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("ai.fermion.dev".to_owned()),
                version: Some(fermion_api::VERSION.to_owned()),
                resource: Some(resource.plural.to_owned()),
                subresource: Some(SUBRESOURCE.to_owned()),
                verb: Some(VERB.to_owned()),
                namespace: Some(resource.key.namespace.clone()),
                name: Some(resource.key.name.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        };
        // The spec's JSON is the whole question, so its digest is the key of the answer.
        let question = serde_json::to_vec(&spec).map_err(|error| unavailable(&error))?;
        let digest = Sha256::digest(&question).into();
        let known = lock(&self.permissions).get(&digest, Instant::now()).cloned();
        let permission = if let Some(known) = known {
            known
        } else {
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let status = ask(&self.authorization, &review).await?.status.unwrap_or_default();
            let permission = if status.allowed && status.denied != Some(true) {
                Permission::Allowed
            } else {
                Permission::Denied { why: status.reason.filter(|why| !why.is_empty()) }
            };
            lock(&self.permissions).insert(digest, permission.clone(), Instant::now());
            permission
        };
        match permission {
            Permission::Allowed => Ok(()),
            Permission::Denied { why } => Err(Problem::new(
                http::StatusCode::FORBIDDEN,
                "Forbidden",
                format!(
                    "{} may not use {} {}{}\nAsk whoever runs the project for the verb `{VERB}` on `{}/{SUBRESOURCE}` in ai.fermion.dev.",
                    person.username.as_deref().unwrap_or_default(),
                    resource.plural,
                    resource.key,
                    why.map(|why| format!(": {why}.")).unwrap_or_default(),
                    resource.plural,
                ),
            )),
        }
    }
}

async fn ask<K>(api: &Api<K>, review: &K) -> Result<K, Problem>
where
    K: Clone + fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    match tokio::time::timeout(REVIEW_TIMEOUT, api.create(&PostParams::default(), review)).await {
        Ok(Ok(answered)) => Ok(answered),
        Ok(Err(error)) => Err(unavailable(&error)),
        Err(elapsed) => Err(unavailable(&elapsed)),
    }
}

/// The cause goes to the log and not to a caller nobody knows yet.
fn unavailable(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::warn!(error, "cannot ask the API who is allowed what");
    Problem::new(
        http::StatusCode::SERVICE_UNAVAILABLE,
        "ApiUnavailable",
        "The platform's API does not answer, so nobody can be let in now. Try again in a moment.",
    )
    .retry_after_s(2)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A cache is only ever changed by single calls that leave it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_a_bearer_header_is_a_token() {
        let token = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            Token::bearer(&headers).map(|token| token.0.to_string())
        };
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(token("token abc"), None);
        assert_eq!(token("Bearer "), None);
        assert_eq!(token("Bearer"), None);
    }

    #[test]
    fn a_token_does_not_show_when_printed() {
        assert_eq!(format!("{:?}", Token("secret".into())), "Token(…)");
    }
}
