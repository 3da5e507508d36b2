//! The platform's keys: where they come from, and which one seals.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fermion_store::{Key, Store};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::envelope::{self, EnvelopeError, KEY_BYTES, SealingKey};
use super::rotation::Secrets;

/// Keys in one keyring: the one that seals, and those being replaced.
const KEYS_MAX: usize = 16;
/// The largest file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A file of one key a line, in base64. Made at the first start.
    File(PathBuf),
    /// Keys in base64, commas between them, from a variable of this name.
    Environment {
        /// The variable's name, for messages.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

/// Why there are no keys. Never holds one.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file could not be read or written.
    #[error("cannot {attempted} the keys of Secrets in {}", path.display())]
    File {
        /// What was attempted.
        attempted: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Others than its owner may read the file.
    #[error("{} can be read by others (mode {mode:o}): run chmod 600 on it, and replace its keys if somebody else may have seen them", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds something else than keys.
    #[error("{place}: key {number} is not 32 bytes in base64 (make one with: openssl rand -base64 32)")]
    Malformed {
        /// File or variable.
        place: String,
        /// Which of its keys, from 1.
        number: usize,
    },
    /// It holds none, or too many.
    #[error("{place} holds {count} keys; between 1 and {KEYS_MAX} are accepted")]
    Count {
        /// File or variable.
        place: String,
        /// How many it holds.
        count: usize,
    },
    /// There is no file, but there are Secrets that need one.
    #[error("{} is missing, and Secret {secret} is encrypted with a key that it held: put the file back; nothing was changed", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// One that cannot be read without it.
        secret: String,
    },
    /// A Secret is sealed with a key that is not there.
    #[error("{place} does not hold key {key}, with which Secret {secret} is encrypted: put that key back; nothing was changed")]
    Unknown {
        /// File or variable.
        place: String,
        /// The key's id.
        key: String,
        /// A Secret that needs it.
        secret: String,
    },
    /// A Secret's encrypted text is no more what it was.
    #[error("Secret {secret} cannot be decrypted: {why}; nothing was changed")]
    Unreadable {
        /// Which one.
        secret: String,
        /// What is wrong with it.
        why: String,
    },
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The store could not be read.
    #[error("the Secrets cannot be read")]
    Store(#[source] fermion_store::Error),
}

/// The keys. The first one seals; all of them open.
pub struct Keyring {
    source: Option<KeySource>,
    keys: RwLock<Arc<Vec<Owned>>>,
}

/// A key, and its text for the file.
struct Owned {
    sealing: SealingKey,
    bytes: [u8; KEY_BYTES],
}

impl Owned {
    fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self { sealing: SealingKey::new(id(&bytes), &bytes), bytes }
    }

    fn random() -> Result<Self, KeyringError> {
        let mut bytes = [0_u8; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(KeyringError::Random)?;
        Ok(Self::new(bytes))
    }
}

/// What names a key in logs and envelopes. It tells nothing of the key.
fn id(bytes: &[u8; KEY_BYTES]) -> String {
    let digest = Sha256::new().chain_update("fermion-secret-key-id\0").chain_update(bytes).finalize();
    let start = digest.iter().take(6).fold(0_u64, |start, byte| (start << 8) | u64::from(*byte));
    format!("{start:012x}")
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("place", &self.place()).field("keys", &self.ids()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads the keys of a platform whose objects are in `store`. A missing file is made, unless
    /// there are Secrets that were sealed with what it held.
    pub async fn prepare(store: &Store, source: KeySource) -> Result<Self, KeyringError> {
        let keys = match &source {
            KeySource::Environment { name, value } => parse(name, value.split(','))?,
            KeySource::File(path) => match read_file(path)? {
                Some(text) => parse_file(path, &text)?,
                None => {
                    if let Some(secret) = any_sealed(store).await? {
                        return Err(KeyringError::Missing { path: path.clone(), secret });
                    }
                    let keys = vec![Owned::random()?];
                    write_file(path, &keys)?;
                    keys
                }
            },
        };
        Ok(Self { source: Some(source), keys: RwLock::new(Arc::new(keys)) })
    }

    /// A key that is kept nowhere: for a store that does not outlive the process.
    pub fn ephemeral() -> Result<Self, KeyringError> {
        Ok(Self { source: None, keys: RwLock::new(Arc::new(vec![Owned::random()?])) })
    }

    /// The file or variable that holds the keys, for messages.
    pub(crate) fn place(&self) -> String {
        match &self.source {
            None => "memory".to_owned(),
            Some(KeySource::File(path)) => path.display().to_string(),
            Some(KeySource::Environment { name, .. }) => (*name).to_owned(),
        }
    }

    /// Whether keys can be added and removed by this process.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.source, Some(KeySource::File(_)))
    }

    fn keys(&self) -> Arc<Vec<Owned>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ids of all keys, the sealing one first.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.keys().iter().map(|key| key.sealing.id.clone()).collect()
    }

    pub(super) fn seal(&self, key: &Key, object: &Value) -> Result<Value, EnvelopeError> {
        envelope::seal(&self.keys()[0].sealing, key, object)
    }

    pub(super) fn open(&self, key: &Key, body: &Bytes) -> Result<Bytes, EnvelopeError> {
        let opened = open_with(&self.keys(), key, body);
        if let Err(EnvelopeError::UnknownKey { .. }) = opened
            && self.reload()
        {
            // Another server of this platform has a newer file.
            return open_with(&self.keys(), key, body);
        }
        opened
    }

    /// Reads the file again; whether there are other keys than before.
    fn reload(&self) -> bool {
        let Some(KeySource::File(path)) = &self.source else { return false };
        let read = read_file(path).and_then(|text| text.map(|text| parse_file(path, &text)).transpose());
        match read {
            Ok(Some(keys)) => {
                let changed = keys.iter().map(|key| &key.sealing.id).ne(self.ids().iter());
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                changed
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the keys of Secrets could not be read again");
                false
            }
        }
    }

    /// Makes a new key and lets it seal from now on. It is on disk before it is used.
    pub(crate) fn add(&self) -> Result<String, KeyringError> {
        let added = Owned::random()?;
        let id = added.sealing.id.clone();
        let mut keys = vec![added];
        keys.extend(self.keys().iter().map(|key| Owned::new(key.bytes)));
        self.replace(keys)?;
        Ok(id)
    }

    /// Forgets every key but the one that seals.
    pub(crate) fn drop_old(&self) -> Result<(), KeyringError> {
        let keys = vec![Owned::new(self.keys()[0].bytes)];
        self.replace(keys)
    }

    fn replace(&self, keys: Vec<Owned>) -> Result<(), KeyringError> {
        if keys.len() > KEYS_MAX {
            return Err(KeyringError::Count { place: self.place(), count: keys.len() });
        }
        if let Some(KeySource::File(path)) = &self.source {
            write_file(path, &keys)?;
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }
}

fn open_with(keys: &[Owned], key: &Key, body: &Bytes) -> Result<Bytes, EnvelopeError> {
    envelope::open(|id| keys.iter().map(|key| &key.sealing).find(|sealing| sealing.id == id), key, body)
}

/// The name of a Secret that is sealed, if there is one.
async fn any_sealed(store: &Store) -> Result<Option<String>, KeyringError> {
    let mut secrets = Secrets::of(store);
    while let Some(stored) = secrets.next().await.map_err(KeyringError::Store)? {
        if !matches!(envelope::key_of(&stored.body), Ok(None)) {
            return Ok(Some(format!("{}/{}", stored.key.namespace, stored.key.name)));
        }
    }
    Ok(None)
}

fn parse_file(path: &Path, text: &str) -> Result<Vec<Owned>, KeyringError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    parse(&path.display().to_string(), lines)
}

fn parse<'a>(place: &str, texts: impl Iterator<Item = &'a str>) -> Result<Vec<Owned>, KeyringError> {
    let mut keys = Vec::new();
    for (index, text) in texts.enumerate() {
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        keys.push(Owned::new(bytes.ok_or_else(|| KeyringError::Malformed { place: place.to_owned(), number: index + 1 })?));
    }
    if keys.is_empty() || keys.len() > KEYS_MAX {
        return Err(KeyringError::Count { place: place.to_owned(), count: keys.len() });
    }
    Ok(keys)
}

/// The text of the file; none if there is no file.
fn read_file(path: &Path) -> Result<Option<String>, KeyringError> {
    let failed = |source| KeyringError::File { attempted: "read", path: path.to_owned(), source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyringError::Exposed { path: path.to_owned(), mode });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(failed(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes"))));
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}

/// Writes the file, whole or not at all, and flushes it and its name.
fn write_file(path: &Path, keys: &[Owned]) -> Result<(), KeyringError> {
    let mut text = "# Keys of this platform's Secrets. The first one encrypts, the others only decrypt.\n\
                    # Without this file no Secret can be read: keep a copy, apart from those of the database.\n"
        .to_owned();
    for key in keys {
        text.push_str(&STANDARD.encode(key.bytes));
        text.push('\n');
    }
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // Left over from an attempt that was cut short.
        if let Err(error) = fs::remove_file(&fresh)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| KeyringError::File { attempted: "write", path: path.to_owned(), source })
}
