//! Replacing the key of Secrets: `POST /secrets/rotate-key`, for `fermion secrets rotate-key`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use serde_json::json;

use crate::Api;
use crate::encryption::RotationError;
use crate::error::{ApiError, Result};
use crate::identity::Identity;
use crate::read::json_response;
use crate::request::body::{parse_json, read};

/// Where it is asked for. The body is empty, or says `{"dropOld": true}`.
pub(crate) const PATH: &str = "/secrets/rotate-key";

impl Api {
    pub(crate) async fn rotate_key(self: &Arc<Self>, caller: &Identity, request: Request<Body>) -> Result<Response<Body>> {
        if request.method() != Method::POST {
            return Err(ApiError::method_not_allowed("the key of Secrets is replaced by POST"));
        }
        let body = read(request).await?;
        let drop_old = if body.is_empty() { false } else { parse_json(&body)?["dropOld"] == true };
        let api = self.clone();
        // In a task of its own: it goes on when the caller does not wait for it.
        let rotation = tokio::spawn(async move {
            // Another rotation at the same time would only add one more key.
            let Ok(_alone) = api.rotating.try_lock() else { return None };
            Some(api.store.rotate_key(drop_old).await)
        });
        let rotated = rotation.await.map_err(|_| ApiError::internal("the key could not be replaced; the server's log says why"))?;
        let Some(rotated) = rotated else {
            return Err(ApiError::new(StatusCode::CONFLICT, "Conflict", "the key is being replaced already; wait for that"));
        };
        match rotated {
            Ok(done) => {
                tracing::info!(user = caller.name, rewritten = done.rewritten, keys = ?done.keys, "the key of Secrets was replaced");
                Ok(json_response(StatusCode::OK, &json!({"rewritten": done.rewritten, "keys": done.keys})))
            }
            Err(error @ (RotationError::NotAFile { .. } | RotationError::StillUsed)) => {
                Err(ApiError::new(StatusCode::CONFLICT, "Conflict", error.to_string()))
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the key of Secrets could not be replaced");
                Err(ApiError::unavailable("the key could not be replaced, and nothing is lost: the server's log says why"))
            }
        }
    }
}
