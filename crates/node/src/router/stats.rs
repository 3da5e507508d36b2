//! `/stats/summary`: what pods and the machine use now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Refusal;
use crate::shared::Shared;
use crate::stats::{Sampler, Summary};

pub(super) async fn summary(State((shared, sampler)): State<(Arc<Shared>, Arc<Sampler>)>) -> Result<Json<Summary>, Refusal> {
    Ok(Json(sampler.summary(&shared).await?))
}
