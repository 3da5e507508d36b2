//! Waiting until something is so, by `status.conditions`.

use std::fmt::Debug;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The condition that must become True.
    condition: String,
    /// Conditions after which it will not.
    hopeless: Vec<String>,
}

impl Goal {
    /// That a condition becomes True.
    pub fn condition(condition: impl Into<String>) -> Self {
        Self { condition: condition.into(), hopeless: Vec::new() }
    }

    /// Gives up when another condition becomes True.
    #[must_use]
    pub fn unless(mut self, condition: impl Into<String>) -> Self {
        self.hopeless.push(condition.into());
        self
    }

    /// That a TrainingJob succeeds; gives up when it has failed.
    pub fn of_job() -> Self {
        Self::condition("Complete").unless("Failed")
    }

    /// That a DevEnvironment, InferenceService, Pool or Pod is ready.
    pub fn ready() -> Self {
        Self::condition("Ready")
    }
}

/// Why a wait ended without what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It will not happen.
    #[error("{name} will not become {condition}: {reason}: {message}")]
    Hopeless {
        /// The object.
        name: String,
        /// The condition that was waited for.
        condition: String,
        /// Why not, as a code that stays the same from version to version.
        reason: String,
        /// Why not, for people.
        message: String,
    },
    /// There is no such object, or it was deleted meanwhile.
    #[error("{name} does not exist")]
    Gone {
        /// The object.
        name: String,
    },
    /// It did not happen in time.
    #[error("{name} did not become {condition} within {within:?}: {reason}: {message}")]
    TimedOut {
        /// The object.
        name: String,
        /// The condition that was waited for.
        condition: String,
        /// How long.
        within: Duration,
        /// What the object said last, as a code.
        reason: String,
        /// What it said last, for people.
        message: String,
    },
    /// The server does not let it be watched.
    #[error("cannot watch {name}")]
    Refused {
        /// The object.
        name: String,
        /// What the server said.
        #[source]
        source: Box<watcher::Error>,
    },
}

/// Waits until the object reaches the goal, and answers it as it was then. A server that goes away
/// meanwhile is waited for.
///
/// A condition that was observed of an older generation of the object says nothing of this one.
///
/// ```
/// # fermion_testkit::with_server(async |server| {
/// # let client = fermion_client::Client::from_home(server.home()).await?;
/// use std::time::Duration;
///
/// use fermion_client::{Goal, WaitError, wait};
///
/// let missing = wait(&client.services(), "chat", &Goal::ready(), Duration::from_secs(10)).await;
/// assert!(matches!(missing, Err(WaitError::Gone { .. })));
/// # Ok(()) });
/// ```
///
/// # Errors
/// When it is hopeless, gone, or not so in time. The errors carry the object's own reasons.
pub async fn wait<K>(api: &Api<K>, name: &str, goal: &Goal, within: Duration) -> Result<K, WaitError>
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug + Send + 'static,
{
    let mut said = Said::default();
    match tokio::time::timeout(within, watch(api, name, goal, &mut said)).await {
        Ok(ended) => ended,
        Err(_) => Err(WaitError::TimedOut {
            name: name.to_owned(),
            condition: goal.condition.clone(),
            within,
            reason: said.reason,
            message: said.message,
        }),
    }
}

/// What the object said last.
#[derive(Debug)]
struct Said {
    reason: String,
    message: String,
}

impl Default for Said {
    fn default() -> Self {
        Self { reason: "Unknown".to_owned(), message: "it says nothing of it".to_owned() }
    }
}

async fn watch<K>(api: &Api<K>, name: &str, goal: &Goal, said: &mut Said) -> Result<K, WaitError>
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug + Send + 'static,
{
    let mut versions = std::pin::pin!(watcher::watch_object(api.clone(), name).default_backoff());
    loop {
        match versions.try_next().await {
            Ok(Some(Some(object))) => match judge(&object, goal) {
                Standing::There => return Ok(object),
                Standing::Hopeless(Said { reason, message }) => {
                    return Err(WaitError::Hopeless { name: name.to_owned(), condition: goal.condition.clone(), reason, message });
                }
                Standing::Waiting(newest) => *said = newest,
            },
            Ok(Some(None) | None) => return Err(WaitError::Gone { name: name.to_owned() }),
            Err(error) if is_final(&error) => return Err(WaitError::Refused { name: name.to_owned(), source: Box::new(error) }),
            // The watcher takes up the watch again, after a pause.
            Err(_) => {}
        }
    }
}

/// Whether the server would say the same again.
fn is_final(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) = error else { return false };
    matches!(source, kube::Error::Api(status) if matches!(status.code, 400..=405))
}

/// How an object stands towards a goal.
#[derive(Debug)]
enum Standing {
    There,
    Hopeless(Said),
    Waiting(Said),
}

fn judge<K: Resource + Serialize>(object: &K, goal: &Goal) -> Standing {
    // Every kind keeps its conditions in the same place. What came as JSON can be written as JSON.
    let object_json = serde_json::to_value(object).unwrap_or_default();
    let generation = object.meta().generation;
    let is_current = |condition: &&Value| {
        let observed = condition["observedGeneration"].as_i64();
        observed.zip(generation).is_none_or(|(observed, generation)| observed >= generation)
    };
    let conditions = object_json["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let find = |wanted: &str| conditions.iter().filter(is_current).find(|condition| condition["type"] == wanted);
    let said = |condition: &Value| Said {
        // Pods leave out what other kinds must say.
        reason: condition["reason"].as_str().unwrap_or("Unknown").to_owned(),
        message: condition["message"].as_str().unwrap_or_default().to_owned(),
    };
    let wanted = find(&goal.condition);
    if wanted.is_some_and(|condition| condition["status"] == "True") {
        return Standing::There;
    }
    match goal.hopeless.iter().filter_map(|condition| find(condition)).find(|condition| condition["status"] == "True") {
        Some(hopeless) => Standing::Hopeless(said(hopeless)),
        None => Standing::Waiting(wanted.map(said).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::TrainingJob;
    use serde_json::json;

    fn job(conditions: Value) -> TrainingJob {
        let roles = json!([{"name": "worker", "template": {"spec": {"containers": []}}}]);
        serde_json::from_value(json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a", "generation": 2},
            "spec": {"roles": roles}, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn condition(type_: &str, status: &str, generation: i64) -> Value {
        json!({
            "type": type_, "status": status, "observedGeneration": generation, "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    }

    #[test]
    fn conditions_of_an_older_generation_say_nothing() {
        let goal = Goal::of_job();
        assert!(matches!(judge(&job(json!([condition("Complete", "True", 2)])), &goal), Standing::There));
        assert!(matches!(judge(&job(json!([condition("Complete", "True", 1)])), &goal), Standing::Waiting(_)));
        assert!(matches!(judge(&job(json!([condition("Failed", "True", 1)])), &goal), Standing::Waiting(_)));
        let both = json!([condition("Complete", "False", 2), condition("Failed", "True", 2)]);
        assert!(matches!(judge(&job(both), &goal), Standing::Hopeless(Said { message, .. }) if message == "m"));
    }

    #[test]
    fn what_is_waited_for_tells_its_reason() {
        let Standing::Waiting(said) = judge(&job(json!([condition("Complete", "False", 2)])), &Goal::of_job()) else { panic!("it waits") };
        assert_eq!((said.reason.as_str(), said.message.as_str()), ("R", "m"));
        let Standing::Waiting(said) = judge(&job(json!([])), &Goal::of_job()) else { panic!("it waits") };
        assert_eq!(said.reason, "Unknown");
    }
}
