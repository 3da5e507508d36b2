//! Keeps [`Rules`] and the cache of tokens like the store, by its watch.
//!
//! A write to anything followed here is answered only after it was taken in, so a binding that
//! was removed allows nothing from the moment its removal was answered. On another server of the
//! same database it is a moment later: as long as the watch takes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use fermion_store::{Event, EventKind, ListQuery, Scope, Stored};
use futures::stream::{SelectAll, Stream, StreamExt as _};
use serde_json::Value;
use tokio::sync::watch;

use super::Rules;
use crate::Api;
use crate::identity::{API_KEYS, TOKENS, USERS};

const ROLES: &str = "roles.rbac.authorization.k8s.io";
pub(super) const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const ROLE_BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";

/// What is held in memory, all of it.
const HELD: [&str; 5] = [ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS, API_KEYS];
/// What the cache of tokens depends on.
const DEPENDED_ON: [&str; 2] = [USERS, TOKENS];

/// Pause before the rules are read anew after the store failed.
const RETRY: Duration = Duration::from_secs(1);
/// The longest a write waits until it was taken in. It takes microseconds, unless the store
/// fails, and then nothing new is answered anyway.
const TAKEN_IN_MAX: Duration = Duration::from_secs(5);

type Changes = SelectAll<Pin<Box<dyn Stream<Item = (&'static str, Result<Arc<Event>, fermion_store::Error>)> + Send>>>;

/// The rules as they are now, and how far they follow the store.
pub(crate) struct Access {
    rules: RwLock<Rules>,
    /// The revision up to which each resource was taken in; empty until the first load.
    taken_in: watch::Sender<HashMap<&'static str, u64>>,
}

impl Access {
    pub(crate) fn new() -> Self {
        Self { rules: RwLock::default(), taken_in: watch::Sender::new(HashMap::new()) }
    }

    /// The rules, for a decision. Held only while deciding: nobody waits with it.
    pub(crate) fn rules(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a write is taken in.
    pub(crate) async fn taken_in(&self, resource: &str, revision: u64) {
        let mut progress = self.taken_in.subscribe();
        // Nothing is known of a resource that is not followed, nor of any before the first load.
        let done = progress.wait_for(|progress| progress.get(resource).is_none_or(|known| *known >= revision));
        if tokio::time::timeout(TAKEN_IN_MAX, done).await.is_err() {
            tracing::error!(
                resource,
                revision,
                "a change of rights or credentials is written but not yet in force; the store does not tell of it"
            );
        }
    }

    /// A channel that tells of progress.
    pub(super) fn progress(&self) -> watch::Receiver<HashMap<&'static str, u64>> {
        self.taken_in.subscribe()
    }
}

impl Api {
    /// Waits until what was written is taken in, where that matters.
    pub(crate) async fn in_force(&self, written: &[Stored]) {
        for stored in written {
            let followed = HELD.iter().chain(&DEPENDED_ON).find(|followed| **followed == &*stored.key.resource);
            if let Some(resource) = followed {
                self.access.taken_in(resource, stored.revision).await;
            }
        }
    }

    /// Reads all rules and starts to follow their changes.
    pub(super) async fn follow_rules(self: &Arc<Self>) -> Result<(), fermion_store::Error> {
        let changes = self.load_rules().await?;
        let api = self.clone();
        tokio::spawn(async move {
            let mut shutdown = api.shutdown.clone();
            tokio::select! {
                () = api.keep_following(changes) => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
        });
        Ok(())
    }

    async fn keep_following(&self, mut changes: Changes) {
        loop {
            match changes.next().await {
                Some((resource, Ok(event))) => {
                    self.take_in(resource, &event);
                    self.access.taken_in.send_modify(|taken_in| {
                        taken_in.insert(resource, event.revision);
                    });
                    continue;
                }
                Some((_, Err(fermion_store::Error::Closed))) | None => return,
                Some((resource, Err(error))) => tracing::warn!(%error, resource, "the rules cannot be followed; reading them anew"),
            }
            changes = loop {
                match self.load_rules().await {
                    Ok(changes) => break changes,
                    Err(fermion_store::Error::Closed) => return,
                    Err(error) => tracing::error!(%error, "the rules cannot be read; those known are kept"),
                }
                tokio::time::sleep(RETRY).await;
            };
        }
    }

    /// Reads everything anew and begins to watch from there.
    async fn load_rules(&self) -> Result<Changes, fermion_store::Error> {
        let mut rules = Rules::default();
        let mut changes = SelectAll::new();
        let mut taken_in = HashMap::new();
        for resource in DEPENDED_ON {
            taken_in.insert(resource, self.store.revision());
        }
        for resource in HELD {
            let page = self.store.list(ListQuery::all(Scope::all(resource))).await?;
            for stored in &page.items {
                put(&mut rules, resource, stored);
            }
            taken_in.insert(resource, page.revision);
        }
        for (resource, since) in &taken_in {
            let (resource, since) = (*resource, *since);
            let events = self.store.watch(Scope::all(resource), since).await?;
            changes.push(Box::pin(events.map(move |event| (resource, event))) as Pin<Box<_>>);
        }
        *self.access.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        self.credentials.forget_all();
        self.access.taken_in.send_replace(taken_in);
        Ok(changes)
    }

    fn take_in(&self, resource: &'static str, event: &Event) {
        let key = &event.object.key;
        match resource {
            USERS => return self.credentials.forget_user(&key.name),
            TOKENS => return self.credentials.forget_token(&key.name),
            _ => {}
        }
        if resource == API_KEYS {
            self.credentials.forget_key(&key.name);
        }
        let mut rules = self.access.rules.write().unwrap_or_else(PoisonError::into_inner);
        if event.kind == EventKind::Deleted {
            match resource {
                ROLES | CLUSTER_ROLES => rules.remove_role(&key.namespace, &key.name),
                API_KEYS => rules.remove_key(&key.name),
                _ => rules.remove_binding(&key.namespace, &key.name),
            }
        } else {
            put(&mut rules, resource, &event.object);
        }
    }
}

fn put(rules: &mut Rules, resource: &str, stored: &Stored) {
    // What cannot be read grants nothing.
    let object = serde_json::from_slice::<Value>(&stored.body).unwrap_or_else(|error| {
        tracing::error!(%error, key = %stored.key, "a stored object cannot be read; it allows nothing");
        Value::Null
    });
    let (namespace, name) = (&stored.key.namespace, &stored.key.name);
    match resource {
        ROLES | CLUSTER_ROLES => rules.put_role(namespace, name, &object),
        API_KEYS => rules.put_key(name, &object),
        _ => rules.put_binding(namespace, name, &object),
    }
}
