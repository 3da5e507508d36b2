//! The tokens with which the platform itself signs in to apps.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::address::AppAddress;
use crate::expiring::Expiring;
use crate::problem::Problem;

/// How long a token is used without asking for it again.
const LIFETIME: Duration = Duration::from_secs(30);
/// The most tokens kept.
const TOKENS_MAX: usize = 4096;
/// The longest wait for the API.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads Secret `ENVIRONMENT-apps`, one key per app. A token is kept together with the uid
/// of the pod it is for, so that a restarted environment is asked for anew at once.
pub(crate) struct Secrets {
    client: Client,
    tokens: Mutex<Expiring<(AppAddress, String), HeaderValue>>,
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, tokens: Mutex::new(Expiring::new(TOKENS_MAX, LIFETIME)) }
    }

    /// The header Jupyter expects from whoever knows its token.
    ///
    /// # Errors
    /// 503 while there is no token, or when it cannot be read.
    pub(crate) async fn authorization(&self, app: &AppAddress, pod_uid: &str) -> Result<HeaderValue, Problem> {
        let key = (app.clone(), pod_uid.to_owned());
        if let Some(known) = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key, Instant::now()) {
            return Ok(known.clone());
        }
        let header = self.read(app).await?;
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, header.clone(), Instant::now());
        Ok(header)
    }

    async fn read(&self, app: &AppAddress) -> Result<HeaderValue, Problem> {
        let environment = &app.environment;
        let name = format!("{}-apps", environment.name);
        let unavailable = |message: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "AppTokenMissing", message).retry_after_s(2);
        let api = Api::<Secret>::namespaced(self.client.clone(), &environment.namespace);
        let secret = match tokio::time::timeout(READ_TIMEOUT, api.get_opt(&name)).await {
            Ok(Ok(secret)) => secret,
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, secret = name, %environment, "cannot read an app's token");
                return Err(unavailable(format!("The token of {} cannot be read now. Try again in a moment.", app.app)));
            }
            Err(_) => return Err(unavailable(format!("The token of {} cannot be read in time. Try again in a moment.", app.app))),
        };
        let token = secret.and_then(|secret| secret.data?.remove(&app.app));
        let token = token.ok_or_else(|| unavailable(format!("Secret {name} has no token for {} yet. Try again in a moment.", app.app)))?;
        let mut header = HeaderValue::from_bytes(&[b"token ", token.0.trim_ascii()].concat())
            .map_err(|_| unavailable(format!("Secret {name} holds something for {} that is no token.", app.app)))?;
        header.set_sensitive(true);
        Ok(header)
    }
}
