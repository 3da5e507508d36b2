//! The two databases behind one store.

use std::sync::Arc;

use crate::error::Error;
use crate::fact::{FactPage, FactQuery};
use crate::list::{ListQuery, Page};
use crate::object::{Key, Scope, Stored};
use crate::watch::Chunk;
use crate::{postgres, sqlite};

/// What is read from. Writes go through the channel of [`crate::request::Message`].
pub(crate) enum Backend {
    Sqlite(sqlite::Database),
    Postgres(postgres::Database),
}

/// What works for a store beside its callers, and ends with it.
pub(crate) enum Running {
    Thread { _thread: sqlite::WriterThread },
    Tasks { _tasks: postgres::Tasks },
}

impl Backend {
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        match self {
            Self::Sqlite(database) => database.get(key).await,
            Self::Postgres(database) => database.get(key).await,
        }
    }

    pub(crate) async fn list(&self, query: ListQuery) -> Result<Page, Error> {
        match self {
            Self::Sqlite(database) => database.list(query).await,
            Self::Postgres(database) => database.list(&query).await,
        }
    }

    /// Events of a scope after one revision and up to another.
    pub(crate) async fn chunk(&self, scope: Arc<Scope>, after: u64, newest: u64) -> Result<Chunk, Error> {
        match self {
            Self::Sqlite(database) => database.chunk(scope, after, newest).await,
            Self::Postgres(database) => database.chunk(&scope, after, newest).await,
        }
    }

    pub(crate) async fn facts(&self, query: FactQuery) -> Result<FactPage, Error> {
        match self {
            Self::Sqlite(database) => database.facts(query).await,
            Self::Postgres(database) => database.facts(&query).await,
        }
    }

    /// The newest revision any server wrote; `None` if no other server can write.
    pub(crate) async fn newest(&self) -> Result<Option<u64>, Error> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(database) => database.newest().await.map(Some),
        }
    }

    /// Whether the database answered a moment ago.
    pub(crate) fn is_reached(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::Postgres(database) => database.is_reached(),
        }
    }

    /// Asks for what other servers wrote to be published now.
    pub(crate) fn hurry(&self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(database) => database.hurry(),
        }
    }

    /// Waits for running reads and refuses further ones.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(database) => database.close().await,
            Self::Postgres(database) => database.close().await,
        }
    }
}
