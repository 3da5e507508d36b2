//! Events: what a person sees at the end of `kubectl describe pod`.
//!
//! Recording never waits and never fails the work it tells of. The same event again raises a
//! count; a pod that makes too many loses the rest, and that is logged.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;

/// Events waiting to be written.
const QUEUE_LENGTH: usize = 1024;
/// Kinds of events remembered for counting.
const REMEMBERED_MAX: usize = 2048;
/// New kinds of events one object may make in [`BUDGET_WINDOW_S`].
const BUDGET: u32 = 40;
const BUDGET_WINDOW_S: i64 = 600;
/// The longest message, in bytes; the API takes 1024.
const MESSAGE_BYTES_MAX: usize = 1000;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

#[derive(Debug)]
struct Note {
    about: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Takes events and writes them in the background.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Note>,
}

impl Recorder {
    /// Starts the writer; it ends with the last recorder.
    pub(crate) fn start(client: Client, node: String) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE_LENGTH);
        tokio::spawn(write(client, node, notes));
        Self { queue }
    }

    /// Records an event.
    pub(crate) fn record(&self, about: ObjectReference, severity: Severity, reason: &'static str, message: String) {
        let note = Note { about, severity, reason, message, at: Timestamp::now() };
        if let Err(mpsc::error::TrySendError::Full(note)) = self.queue.try_send(note) {
            tracing::warn!(reason = note.reason, "an event is dropped: too many wait to be written");
        }
    }
}

/// Same object, reason and message.
type Key = (Option<String>, Option<String>, &'static str, String);

#[derive(Default)]
struct Memory {
    written: HashMap<Key, (String, i32)>,
    order: VecDeque<Key>,
    /// By uid: start of the window and events in it.
    budgets: HashMap<String, (Timestamp, u32)>,
}

impl Memory {
    /// Whether the object may make another kind of event now.
    fn spend(&mut self, uid: &str, now: Timestamp) -> bool {
        if self.budgets.len() > REMEMBERED_MAX {
            self.budgets.clear();
        }
        let budget = self.budgets.entry(uid.to_owned()).or_insert((now, 0));
        if now.duration_since(budget.0).as_secs() >= BUDGET_WINDOW_S {
            *budget = (now, 0);
        }
        budget.1 += 1;
        if budget.1 == BUDGET + 1 {
            tracing::warn!(uid, "the object makes too many events; the rest of the next minutes is dropped");
        }
        budget.1 <= BUDGET
    }

    fn remember(&mut self, key: Key, name: String) {
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.written.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.written.insert(key, (name, 1));
    }
}

async fn write(client: Client, node: String, mut notes: mpsc::Receiver<Note>) {
    let mut memory = Memory::default();
    while let Some(note) = notes.recv().await {
        let reason = note.reason;
        if let Err(error) = write_one(&client, &node, note, &mut memory).await {
            tracing::warn!(reason, %error, "cannot write an event");
        }
    }
}

async fn write_one(client: &Client, node: &str, mut note: Note, memory: &mut Memory) -> Result<(), kube::Error> {
    let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    truncate(&mut note.message, MESSAGE_BYTES_MAX);
    let key: Key = (note.about.uid.clone(), note.about.field_path.clone(), note.reason, note.message.clone());
    if let Some((name, count)) = memory.written.get_mut(&key) {
        *count += 1;
        let patch = serde_json::json!({ "count": count, "lastTimestamp": Time(note.at) });
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // The event was cleaned away meanwhile: it is written anew.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                memory.written.remove(&key);
            }
            other => return other.map(drop),
        }
    }
    if !memory.spend(note.about.uid.as_deref().unwrap_or_default(), note.at) {
        return Ok(());
    }
    let name = format!("{}.{:x}", note.about.name.as_deref().unwrap_or("node"), note.at.as_nanosecond());
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: note.about,
        type_: Some(match note.severity {
            Severity::Normal => "Normal".to_owned(),
            Severity::Warning => "Warning".to_owned(),
        }),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message),
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        count: Some(1),
        source: Some(EventSource { component: Some("fermion-node".to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some("fermion-node".to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    };
    api.create(&PostParams::default(), &event).await?;
    memory.remember(key, name);
    Ok(())
}

/// Cuts a text at a character's boundary.
pub(crate) fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_cannot_flood_the_events() {
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        let mut memory = Memory::default();
        let written = (0..100).filter(|_| memory.spend("a", at(0))).count();
        assert_eq!(written, BUDGET as usize);
        assert!(memory.spend("b", at(0)));
        assert!(memory.spend("a", at(BUDGET_WINDOW_S)));
    }

    #[test]
    fn memory_of_events_is_bounded() {
        let mut memory = Memory::default();
        for number in 0..REMEMBERED_MAX + 10 {
            memory.remember((None, None, "R", number.to_string()), String::new());
        }
        assert_eq!(memory.written.len(), REMEMBERED_MAX);
        assert_eq!(memory.order.len(), REMEMBERED_MAX);
    }
}
