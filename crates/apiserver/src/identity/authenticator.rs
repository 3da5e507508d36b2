//! The order in which a token is judged. Another source of people (OIDC, LDAP) is one more
//! [`Authenticator`] here, and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, header};

use super::Identity;
use crate::Api;
use crate::error::{ApiError, Result};

/// The audience of this API: who a token must be meant for.
pub(crate) const AUDIENCE: &str = "fermion";
/// The longest token read, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Somebody who can say whose a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authenticator {
    /// Keys of programs, `fermion_key_…`.
    ApiKeys,
    /// Sessions of people, `fermion_…`.
    Sessions,
    /// Signed tokens of ServiceAccounts.
    ServiceAccounts,
}

/// They are asked in this order; the first that knows the sort of token decides.
const ORDER: [Authenticator; 3] = [Authenticator::ApiKeys, Authenticator::Sessions, Authenticator::ServiceAccounts];

/// What an authenticator says of a token.
pub(super) enum Answer {
    /// It is good: who it belongs to, and which of the asked audiences it is meant for.
    Known(Authenticated),
    /// It is of this authenticator's sort and not good.
    Refused,
    /// It is of another sort: the next one is asked.
    NotMine,
}

/// A caller, and who their token is meant for.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    pub(crate) identity: Arc<Identity>,
    pub(crate) audiences: Vec<String>,
}

impl Authenticated {
    /// Somebody whose token is meant for this API only.
    pub(super) fn here(identity: Arc<Identity>) -> Self {
        Self { identity, audiences: vec![AUDIENCE.to_owned()] }
    }
}

impl Api {
    /// Who sent a request: whose token it carries, or whom they may act as.
    pub(crate) async fn authenticate(self: &Arc<Self>, headers: &HeaderMap) -> Result<Arc<Identity>> {
        let token = bearer(headers).ok_or_else(ApiError::unauthorized)?;
        let known = self.judge(token, &[AUDIENCE.to_owned()]).await?;
        known.map(|known| known.identity).ok_or_else(ApiError::unauthorized)
    }

    /// Whose a token is; `None` for one that is unknown, over, or meant for nobody of `audiences`.
    pub(crate) async fn judge(self: &Arc<Self>, token: &str, audiences: &[String]) -> Result<Option<Authenticated>> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        for authenticator in ORDER {
            let answer = match authenticator {
                Authenticator::ApiKeys => self.judge_api_key(token).await?,
                Authenticator::Sessions => self.judge_session(token).await?,
                Authenticator::ServiceAccounts => self.judge_service_account(token, audiences).await?,
            };
            match answer {
                Answer::Known(mut known) => {
                    known.audiences.retain(|audience| audiences.contains(audience));
                    return Ok((!known.audiences.is_empty()).then_some(known));
                }
                Answer::Refused => return Ok(None),
                Answer::NotMine => {}
            }
        }
        Ok(None)
    }

    /// Whether a token is good now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn knows(self: &Arc<Self>, token: &str) -> anyhow::Result<bool> {
        let found = self.judge(token, &[AUDIENCE.to_owned()]).await.map_err(|error| anyhow::anyhow!(error.message))?;
        Ok(found.is_some())
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The address a request came from; none for parts inside the process.
pub(crate) fn peer(request: &Request<Body>) -> Option<std::net::IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip())
}
