//! Signing in with a password: the one address that takes one.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use serde_json::json;

use crate::Api;
use crate::dispatch::{parse_json, read_body};
use crate::error::{ApiError, Result};
use crate::read::json_response;

/// The longest user name or password taken, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

impl Api {
    /// `POST /auth/sign-in {"username", "password"}` gives `{"token", "expiresAt"}`.
    pub(crate) async fn sign_in(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>> {
        if request.method() != Method::POST {
            return Err(ApiError::method_not_allowed("send POST with username and password as JSON"));
        }
        let body = parse_json(&read_body(request).await?)?;
        let field = |name: &str| {
            body[name]
                .as_str()
                .filter(|text| !text.is_empty() && text.len() <= TEXT_BYTES_MAX)
                .ok_or_else(|| ApiError::bad_request(format!("`{name}` must be a text of 1 to {TEXT_BYTES_MAX} bytes")))
        };
        let (token, expires_at) = self.credentials.sign_in(field("username")?, field("password")?).await?;
        Ok(json_response(StatusCode::OK, &json!({"token": token, "expiresAt": expires_at.to_string()})))
    }
}
