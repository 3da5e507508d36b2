//! SchedulingReview: what would become of work that is submitted.
//!
//! Whether it is taken, the API knows: it goes through the same admission as a creation that is only
//! tried. What the scheduler would do with it, somebody else tells, whom [`Api::set_foresight`] names.

use std::pin::Pin;
use std::sync::Arc;

use axum::http::StatusCode;
use fermion_api::Invalid;
use fermion_api::compute::SchedulingReviewStatus;
use fermion_api::compute::scheduling_review::Outcome;
use serde_json::Value;

use crate::Api;
use crate::authorize::Attributes;
use crate::catalog::{Catalog, Resource};
use crate::error::{ApiError, Cause, Result};
use crate::identity::Identity;
use crate::write::WriteOptions;

/// Tells what would become of an object.
pub trait Foresight: Send + Sync {
    /// What would become of this object, which was admitted and is not stored.
    ///
    /// # Errors
    /// When that cannot be told now.
    fn foresee(&self, object: Value) -> Foreseen<'_>;
}

/// An answer that is on its way.
pub type Foreseen<'a> = Pin<Box<dyn Future<Output = Result<SchedulingReviewStatus, Unforeseen>> + Send + 'a>>;

/// Why it cannot be told what would become of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unforeseen {
    /// As many questions wait as may; the client asks again.
    #[error("too many questions wait for an answer; ask again in a moment")]
    Busy,
    /// The object asks for more than a question may; the text says of what.
    #[error("{0}")]
    TooLarge(String),
    /// It cannot be told at this moment; the text says why.
    #[error("{0}")]
    NotNow(String),
}

impl Api {
    /// Says who tells what would become of work. The first one is kept.
    pub fn set_foresight(&self, foresight: Box<dyn Foresight>) {
        self.foresight.get_or_init(|| foresight);
    }
}

/// The status of a review.
pub(super) async fn answer(
    api: &Arc<Api>,
    caller: &Identity,
    resource: &Resource,
    namespace: Option<&str>,
    review: &Value,
    options: &WriteOptions,
    warnings: &mut Vec<String>,
) -> Result<Value> {
    let problems = (resource.check)(review, None);
    if !problems.is_empty() {
        let cause = |problem: Invalid| Cause { field: problem.field, reason: "FieldValueInvalid", message: problem.message };
        return Err(ApiError::invalid(resource.about(""), problems.into_iter().map(cause).collect()));
    }
    let object = review["spec"]["object"].clone();
    let asked = kind_of(&api.catalog(), &object).ok_or_else(|| ApiError::internal("a kind that can be asked about is not served"))?;
    // Who may not make it learns nothing of what would become of it.
    api.authorize(caller, &Attributes::creation(&asked, namespace))?;
    let name = object["metadata"]["name"].as_str().map(str::to_owned);
    let tried = WriteOptions { dry_run: true, ..options.without_duplicates() };
    let status = match Box::pin(api.create(caller, &asked, namespace, object, &tried)).await {
        Ok(written) => {
            warnings.extend(written.warnings);
            let admitted = serde_json::from_slice(&written.object.body).map_err(|error| ApiError::internal(error.to_string()))?;
            let foresight = api.foresight.get().ok_or_else(|| ApiError::unavailable("this server has no scheduler that could answer"))?;
            foresight.foresee(admitted).await.map_err(of_unforeseen)?
        }
        Err(error) if is_refusal(&error) => refused(name, error),
        Err(error) => return Err(error),
    };
    serde_json::to_value(status).map_err(|error| ApiError::internal(error.to_string()))
}

fn kind_of(catalog: &Catalog, object: &Value) -> Option<Arc<Resource>> {
    let api_version = object["apiVersion"].as_str()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    catalog.of_group(group, version).find(|resource| object["kind"] == resource.kind.as_str()).cloned()
}

/// Whether an error says something of the object, and not of this moment.
fn is_refusal(error: &ApiError) -> bool {
    error.code.is_client_error() && error.code != StatusCode::TOO_MANY_REQUESTS
}

fn refused(name: Option<String>, error: ApiError) -> SchedulingReviewStatus {
    let ApiError { reason, message, .. } = error;
    SchedulingReviewStatus { outcome: Outcome::Refused, name, queue: None, reason: Some(reason.to_owned()), message, waiting: None }
}

fn of_unforeseen(error: Unforeseen) -> ApiError {
    let message = error.to_string();
    match error {
        Unforeseen::Busy => ApiError { retry_after_s: Some(1), ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message) },
        Unforeseen::TooLarge(_) => ApiError::too_large(message),
        Unforeseen::NotNow(_) => ApiError::unavailable(message),
    }
}
