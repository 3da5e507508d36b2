//! When an environment was last used, written to its status.
//!
//! The rule, also in the guide: use is
//! - a message of the caller through a WebSocket (pings and pongs are none);
//! - any request but GET and HEAD;
//! - a GET or HEAD, except in Jupyter, where only one that loads a page counts: JupyterLab
//!   asks for its kernels, sessions, terminals and open folder every few seconds for as long
//!   as a tab is open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fermion_api::ai::dev_environment::{AppKind, DevEnvironment};
use http::Method;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::address::Key;
use crate::problem::Form;

/// An environment's status is written at most this often.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// The longest wait for one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a request shows that a person uses the app.
pub(crate) fn is_use(kind: AppKind, method: &Method, form: Form) -> bool {
    match kind {
        AppKind::Jupyter => !matches!(*method, Method::GET | Method::HEAD) || form == Form::Page,
        AppKind::Web | AppKind::Terminal => true,
    }
}

/// Writes `status.lastActivityAt`.
#[derive(Clone)]
pub(crate) struct Activity {
    client: Client,
    /// When each environment's status was last written, or tried to be. Holds only
    /// environments used within the last interval that exist.
    written_at: Arc<Mutex<HashMap<Key, Instant>>>,
}

impl Activity {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, written_at: Arc::default() }
    }

    /// Notes that an existing environment is used now.
    pub(crate) fn touch(&self, environment: &Key) {
        if self.is_due(environment, Instant::now()) {
            let api = Api::<DevEnvironment>::namespaced(self.client.clone(), &environment.namespace);
            let environment = environment.clone();
            tokio::spawn(async move { write(&api, &environment).await });
        }
    }

    fn is_due(&self, environment: &Key, now: Instant) -> bool {
        let mut written_at = self.written_at.lock().unwrap_or_else(PoisonError::into_inner);
        if written_at.get(environment).is_some_and(|at| now.duration_since(*at) < WRITE_INTERVAL) {
            return false;
        }
        written_at.retain(|_, at| now.duration_since(*at) < WRITE_INTERVAL);
        written_at.insert(environment.clone(), now);
        true
    }
}

/// A write that fails is not tried again: the next use comes, or there is none.
async fn write(api: &Api<DevEnvironment>, environment: &Key) {
    let patch = Patch::Merge(json!({"status": {"lastActivityAt": Time(Timestamp::now())}}));
    let parameters = PatchParams::default();
    let written = tokio::time::timeout(WRITE_TIMEOUT, api.patch_status(&environment.name, &parameters, &patch)).await;
    let error: &dyn std::error::Error = match &written {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error,
        Err(elapsed) => elapsed,
    };
    tracing::warn!(error, %environment, "cannot write when the environment was last used");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tab_left_open_does_in_jupyter_is_not_use() {
        assert!(!is_use(AppKind::Jupyter, &Method::GET, Form::Json));
        assert!(!is_use(AppKind::Jupyter, &Method::HEAD, Form::Json));
        assert!(is_use(AppKind::Jupyter, &Method::GET, Form::Page));
        assert!(is_use(AppKind::Jupyter, &Method::POST, Form::Json));
        assert!(is_use(AppKind::Web, &Method::GET, Form::Json));
    }

    #[tokio::test]
    async fn a_status_is_due_once_in_an_interval() {
        let service = tower::service_fn(async |_: http::Request<kube::client::Body>| {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        let activity = Activity::new(Client::new(service, "default"));
        let (key, other, now) = (Key::new("team", "dev"), Key::new("team", "other"), Instant::now());
        assert!(activity.is_due(&key, now));
        assert!(activity.is_due(&other, now));
        assert!(!activity.is_due(&key, now + WRITE_INTERVAL / 2));
        assert!(activity.is_due(&key, now + WRITE_INTERVAL));
        assert_eq!(activity.written_at.lock().expect("not poisoned").len(), 1);
    }
}
