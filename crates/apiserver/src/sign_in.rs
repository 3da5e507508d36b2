//! Signing in and out with a password, and changing one's own: the addresses that take one.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Api;
use crate::error::{ApiError, Result};
use crate::iam;
use crate::identity::authenticator::{bearer, peer};
use crate::identity::session::{Purpose, SESSION_LIFETIME};
use crate::identity::{PASSWORDS, USERS, password};
use crate::objects;
use crate::read::json_response;
use crate::request::body::{parse_json, read};
use crate::write::parse_stored;

/// The longest user name or password taken, in bytes.
const TEXT_BYTES_MAX: usize = password::BYTES_MAX;

impl Api {
    /// Answers an address below `/auth/`.
    pub(crate) async fn sign_in_or_out(self: &Arc<Self>, path: &str, request: Request<Body>) -> Result<Response<Body>> {
        match path {
            "/auth/sign-in" => self.sign_in(request).await,
            "/auth/sign-out" => self.sign_out(request).await,
            "/auth/password" => self.change_password(request).await,
            _ => Err(ApiError::no_route()),
        }
    }

    /// `POST /auth/sign-in {"username", "password"}` gives `{"token", "expiresAt"}`.
    async fn sign_in(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>> {
        let peer = peer(&request);
        let body = posted(request).await?;
        let (name, password) = (field(&body, "username")?, field(&body, "password")?);
        let user = self.check_password(name, password, peer).await?;
        let (token, expires_at) = self.issue_session(name, &user, Purpose::SignIn, SESSION_LIFETIME).await?;
        let status = json!({"lastSignInAt": objects::time_text(self.now()), "lockedUntil": null});
        self.note(USERS, name, &status).await;
        Ok(json_response(StatusCode::OK, &json!({"token": token, "expiresAt": expires_at.to_string()})))
    }

    /// `POST /auth/sign-out` ends the session whose token the request carries.
    async fn sign_out(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>> {
        if request.method() != Method::POST {
            return Err(ApiError::method_not_allowed("send POST"));
        }
        self.authenticate(request.headers()).await?;
        let token = bearer(request.headers()).ok_or_else(ApiError::unauthorized)?;
        self.end_session(token).await?;
        Ok(json_response(StatusCode::OK, &json!({})))
    }

    /// `POST /auth/password {"username", "currentPassword", "password"}` changes one's own. Every
    /// session of the user is over then.
    async fn change_password(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>> {
        let peer = peer(&request);
        let body = posted(request).await?;
        let (name, current, new) = (field(&body, "username")?, field(&body, "currentPassword")?, field(&body, "password")?);
        password::check(name, new)?;
        self.check_password(name, current, peer).await?;
        self.store_password(name, new).await?;
        Ok(json_response(StatusCode::OK, &json!({})))
    }

    /// The User of that name and password. Unknown users take as long as known ones.
    async fn check_password(&self, name: &str, password: &str, peer: Option<IpAddr>) -> Result<Value> {
        let now = self.now();
        if let Some(until) = self.credentials.locked_until(name, peer, now) {
            return Err(locked(until, now));
        }
        let found = self.user(name).await?;
        // A lock outlives the server.
        let noted = found.as_ref().and_then(|(_, user)| user["status"]["lockedUntil"].as_str()?.parse::<Timestamp>().ok());
        if let Some(until) = noted.filter(|until| now < *until) {
            return Err(locked(until, now));
        }
        let stored = self.secret(PASSWORDS, name).await?.map(|stored| parse_stored(&stored)).transpose()?;
        let hash = match (&found, &stored) {
            (Some((_, user)), Some(secret)) if secret["userUid"] == user["metadata"]["uid"] => secret["hash"].as_str(),
            _ => None,
        };
        let hash = hash.unwrap_or(password::UNKNOWN_USER_HASH).to_owned();
        let password = password.to_owned();
        let good = self.hashed(move || password::verify(&password, &hash)).await?;
        let known = found.is_some();
        if let Some((_, user)) = found.filter(|(_, user)| good && iam::is_enabled(user)) {
            self.credentials.succeeded(name);
            return Ok(user);
        }
        if let Some(until) = self.credentials.failed(name, peer, now)
            && known
        {
            tracing::warn!(user = name, "too many failed sign-ins; the name is locked for a while");
            self.note(USERS, name, &json!({"lockedUntil": objects::time_text(until)})).await;
        }
        Err(ApiError { message: "wrong user name or password".to_owned(), ..ApiError::unauthorized() })
    }
}

/// The body of a POST.
async fn posted(request: Request<Body>) -> Result<Value> {
    if request.method() != Method::POST {
        return Err(ApiError::method_not_allowed("send POST with user name and password as JSON"));
    }
    parse_json(&read(request).await?)
}

fn field<'a>(body: &'a Value, name: &str) -> Result<&'a str> {
    body[name]
        .as_str()
        .filter(|text| !text.is_empty() && text.len() <= TEXT_BYTES_MAX)
        .ok_or_else(|| ApiError::bad_request(format!("`{name}` must be a text of 1 to {TEXT_BYTES_MAX} bytes")))
}

fn locked(until: Timestamp, now: Timestamp) -> ApiError {
    let seconds = u32::try_from(until.as_second() - now.as_second() + 1).unwrap_or(1);
    let mut error = ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequests",
        format!("too many failed sign-ins; try again in {seconds} seconds"),
    );
    error.retry_after_s = Some(seconds);
    error
}
