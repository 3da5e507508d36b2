//! Secrets at rest: what the database keeps of them is encrypted.
//!
//! [`SealedStore`] stands between this crate and the store, with the store's own methods. Bodies of
//! Secrets are sealed on their way in, and opened on their way out, in lists, watches and answers of
//! writes alike. The store knows nothing of it: to it a sealed Secret is an object like any other,
//! with a name, labels and a type, and one field that means nothing.
//!
//! How one body is sealed stands in [`envelope`], where the keys come from in [`keyring`], how they
//! are replaced in [`rotation`].
//!
//! Invariants
//! - No plain body of a Secret reaches the store, so none is in its files: not in the objects, not in
//!   the log of changes, not in what waits to be copied.
//! - A key is written down, and flushed, before anything is sealed with it.
//! - A body opens under the name it was sealed for, and under no other.

mod envelope;
mod keyring;
mod rotation;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use fermion_store::{Commit, Error, Event, EventKind, FactPage, FactQuery, Key, ListQuery, Page, Scope, Store, Stored, Write};
use futures::Stream;

pub use keyring::{KeySource, Keyring, KeyringError};
pub use rotation::{Resealed, RotationError};

/// The resources whose bodies are sealed.
const SEALED: &str = "secrets";

pub(crate) fn is_sealed(resource: &str) -> bool {
    resource == SEALED
}

/// The store, as everything in this crate sees it: Secrets go in and come out in plain text.
#[derive(Clone)]
pub(crate) struct SealedStore {
    store: Store,
    keys: Arc<Keyring>,
}

impl SealedStore {
    pub(crate) fn new(store: Store, keys: Arc<Keyring>) -> Self {
        Self { store, keys }
    }

    pub(crate) async fn commit(&self, mut commit: Commit) -> Result<Vec<Stored>, Error> {
        let sealed = commit.writes.iter().any(|write| is_sealed(&write.key().resource));
        if !sealed {
            return self.store.commit(commit).await;
        }
        for write in &mut commit.writes {
            if let Write::Put { key, object, .. } = write
                && is_sealed(&key.resource)
            {
                *object = self.keys.seal(key, object).map_err(|error| self.failed(key, &error))?;
            }
        }
        self.store.commit(commit).await?.into_iter().map(|stored| self.open(stored)).collect()
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.store.get(key).await?.map(|stored| self.open(stored)).transpose()
    }

    /// The newest version of an object that this server has seen, in plain text; none if the last that
    /// was seen is its end, or nothing lately.
    pub(crate) fn last_seen(&self, key: &Key) -> Result<Option<Stored>, Error> {
        let seen = self.store.last_seen(key).filter(|event| event.kind != EventKind::Deleted);
        seen.map(|event| self.open(Stored::clone(&event.object))).transpose()
    }

    pub(crate) async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        let sealed = is_sealed(&query.scope.resource);
        let mut page = self.store.list(query).await?;
        if sealed {
            page.items = page.items.into_iter().map(|stored| self.open(stored)).collect::<Result<_, _>>()?;
        }
        Ok(page)
    }

    pub(crate) async fn watch(&self, scope: Scope, since: u64) -> Result<Watch, Error> {
        let opener = is_sealed(&scope.resource).then(|| self.clone());
        Ok(Watch { events: self.store.watch(scope, since).await?, opener })
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.store.is_reached()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.store.revision()
    }

    pub(crate) async fn facts(&self, query: FactQuery) -> Result<FactPage, Error> {
        self.store.facts(query).await
    }

    /// The object in plain text, if it was sealed.
    fn open(&self, stored: Stored) -> Result<Stored, Error> {
        if !is_sealed(&stored.key.resource) {
            return Ok(stored);
        }
        let body = self.keys.open(&stored.key, &stored.body).map_err(|error| self.failed(&stored.key, &error))?;
        Ok(Stored { body, ..stored })
    }

    fn open_event(&self, event: &Event) -> Result<Event, Error> {
        let open = |stored: &Arc<Stored>| Ok::<_, Error>(Arc::new(self.open(Stored::clone(stored))?));
        Ok(Event {
            revision: event.revision,
            kind: event.kind,
            object: open(&event.object)?,
            previous: event.previous.as_ref().map(open).transpose()?,
        })
    }

    /// What cannot be opened or sealed, as an error of the store: the keys are a part of what it
    /// needs to be read.
    fn failed(&self, key: &Key, error: &envelope::EnvelopeError) -> Error {
        Error::File {
            attempted: "use the keys of Secrets in",
            path: self.keys.place().into(),
            source: std::io::Error::other(format!("{key}: {error}")),
        }
    }
}

/// Events of a scope, in plain text.
pub(crate) struct Watch {
    events: fermion_store::Watch,
    opener: Option<SealedStore>,
}

impl Watch {
    /// The revision up to which everything has been handed out.
    pub(crate) fn progress(&self) -> u64 {
        self.events.progress()
    }
}

impl Stream for Watch {
    type Item = Result<Arc<Event>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.events).poll_next(context));
        Poll::Ready(match (next, &self.opener) {
            (Some(Ok(event)), Some(opener)) => Some(opener.open_event(&event).map(Arc::new)),
            (next, _) => next,
        })
    }
}
