//! Events: what happened to an object, as `kubectl describe` shows it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

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

/// Writes events. The same event about the same object is one Event with a count.
#[derive(Clone)]
pub(crate) struct Recorder {
    client: Client,
    component: &'static str,
}

impl Recorder {
    pub(crate) fn new(client: Client, component: &'static str) -> Self {
        Self { client, component }
    }

    /// Tells what happened to the object. An event that cannot be written is logged: it
    /// informs people, no decision hangs on it.
    pub(crate) async fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, notices: &[Notice]) {
        for notice in notices {
            let reference = object.object_ref(&());
            if let Err(error) = self.write(reference, notice, Timestamp::now()).await {
                tracing::warn!(object = object.name_any(), reason = notice.reason, error = chain(&error), "cannot write an event");
            }
        }
    }

    async fn write(&self, object: ObjectReference, notice: &Notice, now: Timestamp) -> Result<(), kube::Error> {
        // Events about objects without a namespace live in `default`, as in Kubernetes.
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let event = event(self.component, object, namespace, notice, now);
        let name = event.name_any();
        match api.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            other => return other.map(drop),
        }
        let before = api.get_opt(&name).await?.and_then(|event| event.count).unwrap_or(1);
        let body = json!({"count": before.saturating_add(1), "lastTimestamp": Time(now)});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await.map(drop)
    }
}

fn event(component: &str, object: ObjectReference, namespace: String, notice: &Notice, now: Timestamp) -> Event {
    let mut hasher = DefaultHasher::new();
    (&object.uid, notice.reason, &notice.message).hash(&mut hasher);
    let about: String = object.name.as_deref().unwrap_or_default().chars().take(NAME_PREFIX_MAX).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:016x}", about.trim_end_matches(['.', '-']), hasher.finish())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        type_: Some(match notice.severity {
            Severity::Normal => "Normal".to_owned(),
            Severity::Warning => "Warning".to_owned(),
        }),
        reason: Some(notice.reason.to_owned()),
        message: Some(notice.message.chars().take(MESSAGE_LENGTH_MAX).collect()),
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
            event("test", about(uid), "n".into(), &notice, Timestamp::UNIX_EPOCH).name_any()
        };
        assert_eq!(name("1", "m"), name("1", "m"));
        assert_ne!(name("1", "m"), name("2", "m"));
        assert_ne!(name("1", "m"), name("1", "other"));
    }
}
