//! Events: what happened to an object, as `kubectl describe` shows it.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::json;

use crate::error::chain;

/// The longest message of an event, in characters; the API allows 1024 bytes in newer groups.
const MESSAGE_LENGTH_MAX: usize = 1_000;
/// How much of the object's name an event's name starts with; names end at 253.
const NAME_PREFIX_MAX: usize = 200;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// Something that happened, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub severity: Severity,
    pub reason: &'static str,
    pub message: String,
}

impl Notice {
    pub(crate) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Normal, reason, message: message.into() }
    }

    pub(crate) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, reason, message: message.into() }
    }
}

/// Writes events. The same event about the same object is one Event with a count, and so are many
/// that differ in nothing but their message.
#[derive(Clone)]
pub(crate) struct Recorder {
    client: Client,
    component: &'static str,
    similar: Arc<Mutex<Similar>>,
}

/// How many messages of one reason about one object are told apart within [`SIMILAR_INTERVAL`];
/// what comes beyond is one Event, as in Kubernetes.
const SIMILAR_MAX: usize = 10;
/// How long messages are remembered after the last one of their reason.
const SIMILAR_INTERVAL: Duration = Duration::from_mins(10);
/// Of how many reasons and objects messages are remembered; beyond, all is forgotten.
const SIMILAR_KEPT_MAX: usize = 4_096;
/// How the message of an Event begins that stands for many.
const COMBINED: &str = "(combined from similar events): ";

/// The messages told lately, by object and reason.
#[derive(Default)]
struct Similar {
    told: HashMap<u64, Told>,
}

struct Told {
    messages: HashSet<u64>,
    last_at: Timestamp,
}

impl Similar {
    /// Takes note of an event; answers whether there were so many like it that it is put together
    /// with them.
    fn is_one_of_many(&mut self, object: Option<&str>, notice: &Notice, now: Timestamp) -> bool {
        if self.told.len() >= SIMILAR_KEPT_MAX {
            self.told.clear();
        }
        let told = self.told.entry(hash(&(object, notice.reason))).or_insert_with(|| Told { messages: HashSet::new(), last_at: now });
        if now.duration_since(told.last_at) > SIMILAR_INTERVAL.try_into().unwrap_or_default() {
            told.messages.clear();
        }
        told.last_at = now;
        let message = hash(&notice.message);
        if told.messages.len() >= SIMILAR_MAX && !told.messages.contains(&message) {
            return true;
        }
        told.messages.insert(message);
        false
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Recorder {
    pub(crate) fn new(client: Client, component: &'static str) -> Self {
        Self { client, component, similar: Arc::default() }
    }

    /// Tells what happened to the object. An event that cannot be written is logged: it
    /// informs people, no decision hangs on it.
    pub(crate) async fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, notices: &[Notice]) {
        for notice in notices {
            self.tell_about(object.object_ref(&()), notice).await;
        }
    }

    /// The same, of an object of any kind.
    pub(crate) async fn tell_about(&self, object: ObjectReference, notice: &Notice) {
        let name = object.name.clone();
        if let Err(error) = self.write(object, notice, Timestamp::now()).await {
            tracing::warn!(object = name, reason = notice.reason, error = chain(&error), "cannot write an event");
        }
    }

    async fn write(&self, object: ObjectReference, notice: &Notice, now: Timestamp) -> Result<(), kube::Error> {
        // Events about objects without a namespace live in `default`, as in Kubernetes.
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let combined = {
            let mut similar = self.similar.lock().unwrap_or_else(PoisonError::into_inner);
            similar.is_one_of_many(object.uid.as_deref(), notice, now)
        };
        let event = event(self.component, object, namespace, notice, combined, now);
        let name = event.name_any();
        match api.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            other => return other.map(drop),
        }
        let before = api.get_opt(&name).await?.and_then(|event| event.count).unwrap_or(1);
        let body = json!({"count": before.saturating_add(1), "lastTimestamp": Time(now), "message": event.message});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await.map(drop)
    }
}

fn event(component: &str, object: ObjectReference, namespace: String, notice: &Notice, combined: bool, now: Timestamp) -> Event {
    let (same, message) =
        if combined { (COMBINED, format!("{COMBINED}{}", notice.message)) } else { (notice.message.as_str(), notice.message.clone()) };
    let about: String = object.name.as_deref().unwrap_or_default().chars().take(NAME_PREFIX_MAX).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:016x}", about.trim_end_matches(['.', '-']), hash(&(&object.uid, notice.reason, same)))),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        type_: Some(match notice.severity {
            Severity::Normal => "Normal".to_owned(),
            Severity::Warning => "Warning".to_owned(),
        }),
        reason: Some(notice.reason.to_owned()),
        message: Some(message.chars().take(MESSAGE_LENGTH_MAX).collect()),
        involved_object: object,
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_has_the_same_name() {
        let about = |uid: &str| ObjectReference { name: Some("a".into()), uid: Some(uid.into()), ..ObjectReference::default() };
        let name = |uid: &str, message: &str| {
            let notice = Notice::normal("Started", message);
            event("test", about(uid), "n".into(), &notice, false, Timestamp::UNIX_EPOCH).name_any()
        };
        assert_eq!(name("1", "m"), name("1", "m"));
        assert_ne!(name("1", "m"), name("2", "m"));
        assert_ne!(name("1", "m"), name("1", "other"));
    }

    #[test]
    fn many_events_that_differ_in_their_message_become_one() {
        let mut similar = Similar::default();
        let notice = |n: usize| Notice::warning("Failed", format!("attempt {n} failed"));
        let start = Timestamp::UNIX_EPOCH;
        assert!((0..SIMILAR_MAX).all(|n| !similar.is_one_of_many(Some("u"), &notice(n), start)));
        assert!(similar.is_one_of_many(Some("u"), &notice(99), start));
        assert!(!similar.is_one_of_many(Some("u"), &notice(3), start), "one that was told keeps its own count");
        assert!(!similar.is_one_of_many(Some("other"), &notice(99), start));
        assert!(!similar.is_one_of_many(Some("u"), &Notice::warning("Other", "attempt 99 failed"), start));
        let later = start + SIMILAR_INTERVAL + Duration::from_secs(1);
        assert!(!similar.is_one_of_many(Some("u"), &notice(99), later), "after a while each is told again");

        let object = ObjectReference { name: Some("a".into()), uid: Some("u".into()), ..ObjectReference::default() };
        let combined = |n: usize| event("test", object.clone(), "n".into(), &notice(n), true, start);
        assert_eq!(combined(1).name_any(), combined(2).name_any());
        assert_eq!(combined(2).message.as_deref(), Some("(combined from similar events): attempt 2 failed"));
    }
}
