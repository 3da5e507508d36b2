//! The keys that belong to the data, and how a server notices that it has others.
//!
//! What Secrets are encrypted with and what signs the tokens of ServiceAccounts is in files, not in the
//! database, so that whoever has the one does not have the other. Servers of one database must have the
//! same. The first start writes the ids of its keys into the database, and later ones compare theirs:
//! a server that made keys of its own, or found those of another platform, ends before it writes
//! anything. Ids are hashes and tell nothing of the keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fermion_store::{Commit, Error, Expect, Key, Store, Write};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::encryption::{KeySource, Keyring, KeyringError, SealedStore};
use crate::identity::TokenSigner;

/// Where the ids are. No address serves it.
const RESOURCE: &str = "keys.internal.fermion.dev";
const NAME: &str = "platform";
/// How often the ids are read again because another server just wrote them.
const ATTEMPTS_MAX: usize = 8;

/// Keys that fit the data.
pub struct PlatformKeys {
    /// Seal and open Secrets.
    pub secrets: Arc<Keyring>,
    /// Signs the tokens of ServiceAccounts.
    pub tokens: TokenSigner,
}

/// Why a server has no keys for its data.
#[derive(Debug, thiserror::Error)]
pub enum PlatformKeysError {
    /// A file is not there, but was when the data was written.
    #[error(
        "{} is missing, and the database was used with key {key} from it: copy the file from the server that has it; \
         if it is lost, --replace-keys goes on without ({loses})",
        file.display()
    )]
    Missing {
        /// The file.
        file: PathBuf,
        /// The id of the key that was in it.
        key: String,
        /// What is lost without it.
        loses: &'static str,
    },
    /// There are keys, but not those of the data.
    #[error(
        "{place} does not hold key {key}, with which the database is used: put that key back, or copy the file from a server of the same \
         database, which must all have the same; --replace-keys takes this one's instead ({loses})"
    )]
    Foreign {
        /// The file or variable.
        place: String,
        /// The id of the key that is wanted.
        key: String,
        /// What is lost without it.
        loses: &'static str,
    },
    /// The keys of Secrets cannot be used.
    #[error(transparent)]
    Secrets(#[from] KeyringError),
    /// The key of tokens cannot be used.
    #[error("the key that signs tokens of ServiceAccounts cannot be used: {0:#}")]
    Tokens(anyhow::Error),
    /// The ids in the database cannot be read or written.
    #[error("the ids of the platform's keys cannot be read or written")]
    Store(#[from] Error),
}

/// What goes with the keys of Secrets.
const LOSES_SECRETS: &str = "which is refused while there are Secrets that need it";
/// What goes with the key of tokens.
const LOSES_TOKENS: &str = "every token of a ServiceAccount ends";

/// The ids as they are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ids {
    /// The key that seals Secrets.
    secrets: String,
    /// The key that signs tokens.
    tokens: String,
}

impl PlatformKeys {
    /// Reads the keys and compares them with those of the data. Those that are missing are made, if the
    /// data knows of none. With `replace` the data is told to belong to these from now on.
    ///
    /// # Errors
    /// When they are not those of the data; nothing was written then.
    pub async fn prepare(store: &Store, secrets: KeySource, token_file: &Path, replace: bool) -> Result<Self, PlatformKeysError> {
        if !replace && let Some((_, known)) = read(store).await? {
            // Before something is made in place of what is missing.
            let missing = |file: &Path, key: &str, loses| {
                let (file, key) = (file.to_owned(), key.to_owned());
                if file.exists() { Ok(()) } else { Err(PlatformKeysError::Missing { file, key, loses }) }
            };
            if let KeySource::File(file) = &secrets {
                missing(file, &known.secrets, LOSES_SECRETS)?;
            }
            missing(token_file, &known.tokens, LOSES_TOKENS)?;
        }
        let secrets = Arc::new(Keyring::prepare(store, secrets).await?);
        let tokens = TokenSigner::open(token_file).map_err(PlatformKeysError::Tokens)?;
        if replace {
            // Only keys that open everything may become those of the data.
            SealedStore::new(store.clone(), secrets.clone()).check_keys().await?;
        }
        let keys = Self { secrets, tokens };
        keys.agree(store, token_file, replace).await?;
        Ok(keys)
    }

    /// Compares the keys with those of the data, or writes down that the data belongs to these.
    async fn agree(&self, store: &Store, token_file: &Path, replace: bool) -> Result<(), PlatformKeysError> {
        let own = Ids { secrets: self.secrets.ids().swap_remove(0), tokens: self.tokens.id().to_owned() };
        let mut attempts = 1;
        loop {
            let expect = match read(store).await? {
                None => Expect::Absent,
                Some((revision, known)) if replace && known != own => Expect::Revision(revision),
                Some((_, known)) => return self.check(&known, token_file),
            };
            match write(store, &own, expect).await {
                Ok(()) => return Ok(()),
                // Another server was quicker: it is that one's keys which count.
                Err(Error::AlreadyExists { .. } | Error::Conflict { .. }) if attempts < ATTEMPTS_MAX => attempts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn check(&self, known: &Ids, token_file: &Path) -> Result<(), PlatformKeysError> {
        // Another one may seal from now on: `note_sealing_key` is told when all Secrets are sealed with it.
        if !self.secrets.ids().contains(&known.secrets) {
            return Err(PlatformKeysError::Foreign { place: self.secrets.place(), key: known.secrets.clone(), loses: LOSES_SECRETS });
        }
        if self.tokens.id() != known.tokens {
            let place = token_file.display().to_string();
            return Err(PlatformKeysError::Foreign { place, key: known.tokens.clone(), loses: LOSES_TOKENS });
        }
        Ok(())
    }
}

/// Writes down which key seals Secrets now, if the data knows of keys at all.
pub(crate) async fn note_sealing_key(store: &Store, id: &str) -> Result<(), Error> {
    let mut attempts = 1;
    loop {
        let Some((revision, known)) = read(store).await? else { return Ok(()) };
        if known.secrets == id {
            return Ok(());
        }
        let changed = Ids { secrets: id.to_owned(), ..known };
        match write(store, &changed, Expect::Revision(revision)).await {
            Err(Error::Conflict { .. }) if attempts < ATTEMPTS_MAX => attempts += 1,
            written => return written,
        }
    }
}

fn record() -> Key {
    Key::new(RESOURCE, "", NAME)
}

/// The ids, and the revision they were written at.
async fn read(store: &Store) -> Result<Option<(u64, Ids)>, Error> {
    let Some(stored) = store.get(&record()).await? else { return Ok(None) };
    let ids = serde_json::from_slice(&stored.body).map_err(|source| Error::Corrupt {
        what: "the ids of the platform's keys cannot be read".to_owned(),
        source: Some(source.into()),
    })?;
    Ok(Some((stored.revision, ids)))
}

async fn write(store: &Store, ids: &Ids, expect: Expect) -> Result<(), Error> {
    let object = json!({"metadata": {"name": NAME}, "secrets": ids.secrets, "tokens": ids.tokens});
    store.commit(Commit::of(Write::Put { key: record(), expect, object })).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The home of a server.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        async fn prepare(&self, store: &Store, replace: bool) -> Result<PlatformKeys, PlatformKeysError> {
            PlatformKeys::prepare(store, KeySource::File(self.file("secrets.key")), &self.file("service-account.key"), replace).await
        }

        async fn refused(&self, store: &Store) -> String {
            self.prepare(store, false).await.err().expect("it is refused").to_string()
        }
    }

    fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(folder.path(), fermion_store::Options::default()).expect("a store")
    }

    #[tokio::test]
    async fn a_server_with_keys_of_its_own_is_refused_and_nothing_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder);
        let (first, second) = (Home::new(), Home::new());
        first.prepare(&store, false).await.expect("the first keys are those of the data");
        first.prepare(&store, false).await.expect("they go on being so");
        let before = store.revision();
        let text = second.refused(&store).await;
        assert!(text.contains("secrets.key is missing") && text.contains("copy the file"), "{text}");
        assert!(!second.file("secrets.key").exists(), "nothing is made that would be wrong");
        std::fs::copy(first.file("secrets.key"), second.file("secrets.key")).expect("a copy");
        let text = second.refused(&store).await;
        assert!(text.contains("service-account.key is missing"), "{text}");
        // Another platform's, or made by an older program.
        TokenSigner::open(&second.file("service-account.key")).expect("a key");
        let text = second.refused(&store).await;
        assert!(text.contains("service-account.key does not hold key") && text.contains("ServiceAccount ends"), "{text}");
        assert_eq!(store.revision(), before);
        std::fs::copy(first.file("service-account.key"), second.file("service-account.key")).expect("a copy");
        second.prepare(&store, false).await.expect("all servers have the same keys");
    }

    #[tokio::test]
    async fn keys_are_replaced_when_that_is_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder);
        let (first, second) = (Home::new(), Home::new());
        first.prepare(&store, false).await.expect("keys");
        second.prepare(&store, true).await.expect("they are replaced");
        second.prepare(&store, false).await.expect("and stay");
        let text = first.refused(&store).await;
        assert!(text.contains("secrets.key does not hold key"), "{text}");
    }

    #[tokio::test]
    async fn a_new_sealing_key_is_known_to_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder);
        let home = Home::new();
        let keys = home.prepare(&store, false).await.expect("keys");
        std::fs::copy(home.file("secrets.key"), home.file("old")).expect("a copy");
        keys.secrets.add().expect("a new key");
        home.prepare(&store, false).await.expect("the old one is still there");
        note_sealing_key(&store, &keys.secrets.ids()[0]).await.expect("it is written down");
        keys.secrets.drop_old().expect("the old one goes");
        home.prepare(&store, false).await.expect("the new one is enough");
        std::fs::copy(home.file("old"), home.file("secrets.key")).expect("a copy");
        let text = home.refused(&store).await;
        assert!(text.contains("does not hold key"), "{text}");
    }
}
