//! Replacing the key, and sealing what was stored in plain text.
//!
//! Each step leaves a whole platform behind, whenever it is cut off:
//! 1. the new key is added to the file, first; the old ones stay and go on opening;
//! 2. every Secret is written anew, sealed with the new key. A start of the server does this too, so
//!    what was cut off here is finished then;
//! 3. the log of changes before is cut, since its bodies are sealed with the old keys;
//! 4. the old keys are removed from the file, when that is asked for, after a look that nothing
//!    needs them.

use fermion_store::{Commit, Error, Expect, ListQuery, Scope, Store, Stored, Write};

use super::envelope::{self, EnvelopeError};
use super::keyring::KeyringError;
use super::{SEALED, SealedStore};
use crate::platform_keys;

/// Secrets looked at in one step.
const PAGE: usize = 500;
/// Looks at all Secrets until nothing is left to write anew. Each look after the first only finds
/// what another server wrote meanwhile with an old key.
const LOOKS_MAX: usize = 8;

/// Every Secret as it is stored, a page at a time.
pub(super) struct Secrets<'a> {
    store: &'a Store,
    items: std::vec::IntoIter<Stored>,
    /// Where the next page starts; none for the first one.
    start_after: Option<(String, String)>,
    /// That was the last page.
    ended: bool,
}

impl<'a> Secrets<'a> {
    pub(super) fn of(store: &'a Store) -> Self {
        Self { store, items: Vec::new().into_iter(), start_after: None, ended: false }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Stored>, Error> {
        loop {
            if let Some(stored) = self.items.next() {
                return Ok(Some(stored));
            }
            if self.ended {
                return Ok(None);
            }
            let start_after = self.start_after.take();
            let page = self.store.list(ListQuery { limit: Some(PAGE), start_after, ..ListQuery::all(Scope::all(SEALED)) }).await?;
            self.items = page.items.into_iter();
            self.ended = page.next.is_none();
            self.start_after = page.next;
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Secrets written anew.
    pub rewritten: usize,
    /// Ids of the keys there are now, the one that encrypts first.
    pub keys: Vec<String>,
}

/// Why keys could not be replaced.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The keys come from a variable, which only who starts the server can change.
    #[error(
        "the keys come from {place}, which this server cannot change: put a new key before the others there and restart the server, \
         which then writes every Secret anew; after that the old keys can be left out"
    )]
    NotAFile {
        /// The variable.
        place: String,
    },
    /// Somebody goes on writing with an old key.
    #[error("Secrets are still being written with an old key, by another server: restart that one, then try again; the old keys are kept")]
    StillUsed,
    /// The keys cannot be read or written.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The store failed.
    #[error("the Secrets cannot be written anew; what was not is still readable with the old keys")]
    Store(#[source] Error),
}

impl SealedStore {
    /// Checks that every Secret can be opened.
    pub(crate) async fn check_keys(&self) -> Result<(), KeyringError> {
        let mut secrets = Secrets::of(&self.store);
        while let Some(stored) = secrets.next().await.map_err(KeyringError::Store)? {
            self.keys.open(&stored.key, &stored.body).map_err(|error| self.refused(&stored, &error))?;
        }
        Ok(())
    }

    /// Checks that every Secret can be opened, then writes those anew that are not sealed with the
    /// newest key. When one cannot be opened nothing is changed.
    pub(crate) async fn reseal(&self) -> Result<Resealed, RotationError> {
        self.check_keys().await?;
        let mut rewritten = 0;
        for _ in 0..LOOKS_MAX {
            let found = self.look().await.map_err(RotationError::Store)?;
            rewritten += found;
            if found == 0 {
                if rewritten > 0 {
                    self.store.compact(self.store.revision()).await.map_err(RotationError::Store)?;
                }
                let keys = self.keys.ids();
                platform_keys::note_sealing_key(&self.store, &keys[0]).await.map_err(RotationError::Store)?;
                return Ok(Resealed { rewritten, keys });
            }
        }
        Err(RotationError::StillUsed)
    }

    /// Writes those Secrets anew that are not sealed with the newest key, and counts them.
    async fn look(&self) -> Result<usize, Error> {
        let newest = self.keys.ids().swap_remove(0);
        let mut found = 0;
        let mut secrets = Secrets::of(&self.store);
        while let Some(stored) = secrets.next().await? {
            if envelope::key_of(&stored.body).ok().flatten().as_ref() != Some(&newest) {
                found += 1;
                self.rewrite(&stored).await?;
            }
        }
        Ok(found)
    }

    /// Makes a new key and writes every Secret anew with it. With `drop_old` the keys before are
    /// forgotten afterwards.
    pub(crate) async fn rotate_key(&self, drop_old: bool) -> Result<Resealed, RotationError> {
        if !self.keys.is_file() {
            return Err(RotationError::NotAFile { place: self.keys.place() });
        }
        self.keys.add()?;
        let mut resealed = self.reseal().await?;
        if drop_old {
            // Also when nothing was written now: an attempt before may have been cut off.
            self.store.compact(self.store.revision()).await.map_err(RotationError::Store)?;
            if self.reseal().await?.rewritten > 0 {
                return Err(RotationError::StillUsed);
            }
            self.keys.drop_old()?;
            resealed.keys = self.keys.ids();
        }
        Ok(resealed)
    }

    async fn rewrite(&self, stored: &Stored) -> Result<(), Error> {
        let opened = self.open(stored.clone())?;
        let object = serde_json::from_slice(&opened.body).map_err(|_| self.failed(&stored.key, &EnvelopeError::Damaged))?;
        let write = Write::Put { key: stored.key.clone(), expect: Expect::Revision(stored.revision), object };
        match self.commit(Commit::of(write)).await {
            // Somebody else wrote it meanwhile; the next look sees with which key.
            Ok(_) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn refused(&self, stored: &Stored, error: &EnvelopeError) -> KeyringError {
        let secret = format!("{}/{}", stored.key.namespace, stored.key.name);
        match error {
            EnvelopeError::UnknownKey { key } => KeyringError::Unknown { place: self.keys.place(), key: key.clone(), secret },
            _ => KeyringError::Unreadable { secret, why: error.to_string() },
        }
    }
}
