//! Whole stores on their way: copies between databases, backups, and the check that all is sound.
//!
//! A store is read as a stream of rows that were all there at one moment, while servers go on writing.
//! What reads them does not know which database they come from, nor where they go. A backup is a store
//! in one SQLite file, so every tool for SQLite opens it.

mod postgres;
mod sqlite;
mod verify;

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

pub use self::verify::Verified;
use crate::error::Error;
use crate::extent::Extent;
use crate::object::Stored;

/// Rows that go together from reader to writer.
const CHUNK_ROWS_MAX: usize = 512;
/// Bytes of bodies after which a chunk is full.
const CHUNK_BYTES_MAX: usize = 4 << 20;
/// Chunks that wait between reader and writer.
const CHUNKS_MAX: usize = 4;

/// Where a store is kept.
#[derive(Clone)]
pub enum Place {
    /// In a directory, as [`crate::Store::open`] takes it.
    Directory(PathBuf),
    /// In a PostgreSQL database, as [`crate::Store::connect`] takes it.
    Postgres(String),
    /// In a file by itself: a backup.
    File(PathBuf),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            // It may hold a password.
            Self::Postgres(_) => f.write_str("Postgres"),
        }
    }
}

impl Place {
    /// A URL is a PostgreSQL database; anything else a directory if it is one, and a file if not.
    pub fn parse(text: &str) -> Self {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Self::Postgres(text.to_owned());
        }
        let path = Path::new(text);
        if path.is_dir() || text.ends_with('/') { Self::Directory(path.to_owned()) } else { Self::File(path.to_owned()) }
    }
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The newest revision.
    pub revision: u64,
    /// Versions in the log.
    pub versions: u64,
    /// Objects that exist.
    pub objects: u64,
    /// Facts.
    pub facts: u64,
}

/// Copies a store, at one moment, to a place where there is none: every revision, the log as far as it
/// reaches back, and all facts. Servers may go on working on `from`. The copy is there whole, or not at
/// all.
pub async fn copy(from: &Place, to: &Place) -> Result<Copied, Error> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let write = async {
        match to {
            Place::Directory(path) => sqlite::write_directory(path.clone(), receiver).await,
            Place::File(path) => sqlite::write_file(path.clone(), receiver).await,
            Place::Postgres(url) => postgres::write(url, receiver).await,
        }
    };
    let (read, written) = futures::join!(read(from, sender), write);
    told_first(read, written).map(|(_, copied)| copied)
}

/// Of two errors the one that is the cause: whoever loses the other end only knows that it is gone.
fn told_first<A, B>(read: Result<A, Error>, taken: Result<B, Error>) -> Result<(A, B), Error> {
    match (read, taken) {
        (Ok(read), Ok(taken)) => Ok((read, taken)),
        (Err(Error::Closed) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
    }
}

/// Reads a store and checks all that must hold in one.
pub async fn verify(place: &Place) -> Result<Verified, Error> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let (read, verified) = futures::join!(read(place, sender), verify::rows(receiver));
    let (damage, mut verified) = told_first(read, verified)?;
    verified.problems.splice(0..0, damage);
    Ok(verified)
}

/// Reads everything, and says what the database itself finds wrong with its files.
async fn read(place: &Place, sender: mpsc::Sender<Chunk>) -> Result<Vec<String>, Error> {
    match place {
        Place::Directory(path) => sqlite::read(path.join(crate::sqlite::DATABASE_FILE), sender).await,
        Place::File(path) => sqlite::read(path.clone(), sender).await,
        Place::Postgres(url) => postgres::read(url, sender).await.map(|()| Vec::new()),
    }
}

/// Some rows, in the order of [`Row`]'s variants.
type Chunk = Vec<Row>;

/// A row of a store. They come in this order, versions by revision.
enum Row {
    Extent(Extent),
    Version {
        stored: Stored,
        previous: Option<u64>,
        deleted: bool,
        at_us: i64,
    },
    /// The newest version of an object that exists.
    Object {
        resource: String,
        namespace: String,
        name: String,
        revision: u64,
    },
    Fact {
        id: i64,
        kind: String,
        idempotency_key: String,
        namespace: String,
        at_us: i64,
        body: Vec<u8>,
    },
    /// The newest token of a lease, so that tokens go on growing. Who held it does not hold the copy's.
    Lease {
        name: String,
        token: i64,
    },
    /// Nothing was left out.
    End,
}

impl Row {
    fn bytes(&self) -> usize {
        match self {
            Self::Version { stored, .. } => stored.body.len(),
            Self::Fact { body, .. } => body.len(),
            Self::Extent(_) | Self::Object { .. } | Self::Lease { .. } | Self::End => 0,
        }
    }
}

/// Gathers rows into chunks.
#[derive(Default)]
struct Chunks {
    rows: Chunk,
    bytes: usize,
}

impl Chunks {
    /// Takes a row, and gives the chunk that it fills.
    fn push(&mut self, row: Row) -> Option<Chunk> {
        self.bytes += row.bytes();
        self.rows.push(row);
        (self.rows.len() >= CHUNK_ROWS_MAX || self.bytes >= CHUNK_BYTES_MAX).then(|| self.take())
    }

    fn take(&mut self) -> Chunk {
        self.bytes = 0;
        std::mem::take(&mut self.rows)
    }
}

impl Copied {
    fn count(&mut self, row: &Row) {
        match row {
            Row::Extent(extent) => self.revision = extent.newest,
            Row::Version { .. } => self.versions += 1,
            Row::Object { .. } => self.objects += 1,
            Row::Fact { .. } => self.facts += 1,
            Row::Lease { .. } | Row::End => {}
        }
    }
}

/// The error of a writer whose reader stopped early; the reader's own says why.
fn cut_short() -> Error {
    Error::Unavailable { attempted: "read all of the store that is copied", source: "it ended early".into() }
}

/// The error of a place that is in use already.
fn not_empty() -> Error {
    Error::Invalid { what: "a copy".to_owned(), reason: "there is a store already where it was to go; choose an empty place".to_owned() }
}
