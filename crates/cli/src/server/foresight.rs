//! Joins who asks what would become of work, the API, to who tells it, the controllers.

use fermion_apiserver::{Foreseen, Foresight, Unforeseen};
use fermion_controllers::{Reviewer, Unanswered};
use serde_json::Value;

/// A reviewer, as the API sees it.
pub(super) struct ByReviewer(pub Reviewer);

impl Foresight for ByReviewer {
    fn foresee(&self, object: Value) -> Foreseen<'_> {
        Box::pin(async move {
            self.0.review(object).await.map_err(|error| match error {
                Unanswered::Busy => Unforeseen::Busy,
                Unanswered::TooLarge { .. } => Unforeseen::TooLarge(error.to_string()),
                Unanswered::NotNow { .. } => Unforeseen::NotNow(error.to_string()),
            })
        })
    }
}
