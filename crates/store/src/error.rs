//! Why the store refused or could not answer, and how a caller should react.

use std::io;
use std::path::PathBuf;

use crate::object::Key;

/// The classes of errors a caller may react to without knowing each one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request itself is wrong and will be wrong again.
    Invalid,
    /// What was asked for is not there, or not there any more.
    Missing,
    /// Someone else changed the object: read again and decide again.
    Conflict,
    /// A resource of the machine ran out: it works again once there is more of it.
    Exhausted,
    /// The store cannot serve now: a later try, or a restart, may work.
    Unavailable,
    /// The data or the program is wrong: an operator must look.
    Bug,
}

/// What a database reported.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object has another revision than the write expected.
    #[error("{key} is at revision {actual}, not {expected}: read it again and apply the change to that")]
    Conflict {
        /// The object.
        key: Key,
        /// The revision the write expected.
        expected: u64,
        /// The revision it has.
        actual: u64,
    },
    /// The write expected no such object.
    #[error("{key} already exists")]
    AlreadyExists {
        /// The object.
        key: Key,
    },
    /// There is no such object.
    #[error("{key} does not exist")]
    NotFound {
        /// The object.
        key: Key,
    },
    /// The writer no longer leads.
    #[error(
        "token {token} no longer leads {name:?}{}: nothing was written; stop, and lead again before trying again",
        match newest { Some(newest) => format!(", token {newest} does"), None => ", nobody does".to_owned() }
    )]
    Fenced {
        /// What the lease is for.
        name: String,
        /// The token the writer showed.
        token: u64,
        /// The newest token, if the lease was ever given.
        newest: Option<u64>,
    },
    /// The revision asked for has been compacted away.
    #[error("the log before revision {oldest} is gone: list again and watch from there")]
    Compacted {
        /// The oldest revision that can still be asked for.
        oldest: u64,
    },
    /// The revision asked for has not been written yet.
    #[error("revision {requested} is in the future: the newest is {newest}")]
    Future {
        /// The revision asked for.
        requested: u64,
        /// The newest revision there is.
        newest: u64,
    },
    /// The caller passed something the store cannot keep.
    #[error("{what} cannot be stored: {reason}")]
    Invalid {
        /// What was refused.
        what: String,
        /// Why.
        reason: String,
    },
    /// The disk is full. Nothing was written; reads go on.
    #[error(
        "the disk of the database is full, so nothing was written: free some space there, \
         then try again (reads go on, and no restart is needed)"
    )]
    Exhausted {
        /// What the database reported.
        #[source]
        source: Cause,
    },
    /// Another process has the directory open.
    #[error(
        "{} is in use by {}: stop that process, or choose another data directory",
        directory.display(),
        match pid { Some(pid) => format!("process {pid}"), None => "another process".to_owned() }
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The process that holds it, where it wrote its number down.
        pid: Option<u32>,
    },
    /// The store was closed, or its writer ended.
    #[error("the database is closed")]
    Closed,
    /// A file operation failed.
    #[error("cannot {attempted} {}", path.display())]
    File {
        /// What was attempted, as a verb phrase.
        attempted: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The database could not do something now. A write may or may not have happened.
    #[error("the database could not {attempted}")]
    Unavailable {
        /// What was attempted, as a verb phrase.
        attempted: &'static str,
        /// What the database reported.
        #[source]
        source: Cause,
    },
    /// What was said about where the database is cannot be used.
    #[error("cannot use the database's address: {reason}")]
    Address {
        /// Why not. It never holds the address itself, which may hold a password.
        reason: String,
    },
    /// The database no longer holds what it acknowledged: a standby that had not received everything was
    /// promoted, or a backup was put in its place while servers ran.
    #[error(
        "the database is at revision {found}, but was at {seen} before: it lost what was written in between; \
         restart the servers to go on from {found}, and let PostgreSQL commit synchronously to its standby"
    )]
    WentBack {
        /// The newest revision this store has seen.
        seen: u64,
        /// The newest revision the database has now.
        found: u64,
    },
    /// The database was written by a newer program.
    #[error(
        "the database has schema version {found}, this program knows versions up to {known}: \
         run the program that wrote it, or a newer one"
    )]
    SchemaTooNew {
        /// The version in the database.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The database is damaged: restore it from a backup.
    #[error("the database is damaged ({what}): restore it from a backup")]
    Corrupt {
        /// Where the damage shows.
        what: String,
        /// What reported it, where something did.
        #[source]
        source: Option<Cause>,
    },
    /// An invariant of the store does not hold.
    #[error("internal error of the store: {what}")]
    Bug {
        /// Which one.
        what: String,
        /// What reported it, where something did.
        #[source]
        source: Option<Cause>,
    },
}

impl Error {
    /// How a caller should react.
    pub fn class(&self) -> Class {
        match self {
            Self::Conflict { .. } | Self::AlreadyExists { .. } | Self::Fenced { .. } => Class::Conflict,
            Self::NotFound { .. } | Self::Compacted { .. } => Class::Missing,
            Self::Future { .. } | Self::Invalid { .. } | Self::Address { .. } => Class::Invalid,
            Self::Exhausted { .. } => Class::Exhausted,
            Self::Locked { .. } | Self::Closed | Self::File { .. } | Self::Unavailable { .. } | Self::SchemaTooNew { .. } => {
                Class::Unavailable
            }
            Self::Corrupt { .. } | Self::WentBack { .. } | Self::Bug { .. } => Class::Bug,
        }
    }
}
