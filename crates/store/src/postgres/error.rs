//! What an error of PostgreSQL means.

use tokio_postgres::error::SqlState;

use crate::error::Error;

/// How an error of a statement is to be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// The connection is gone or useless: the same may work on another.
    Reconnect,
    /// The transaction lost against another: the same may work now.
    Repeat,
    /// It fails again if it is repeated.
    GiveUp,
}

/// How to meet an error.
pub(super) fn reaction(error: &tokio_postgres::Error) -> Reaction {
    let Some(state) = error.code() else {
        // Not from the database: the connection, or a value that does not fit its parameter.
        return if is_conversion(error) { Reaction::GiveUp } else { Reaction::Reconnect };
    };
    match *state {
        // Also a deadlock, and a lock that did not come in time.
        SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::LOCK_NOT_AVAILABLE => Reaction::Repeat,
        SqlState::ADMIN_SHUTDOWN
        | SqlState::CRASH_SHUTDOWN
        | SqlState::CANNOT_CONNECT_NOW
        | SqlState::DATABASE_DROPPED
        | SqlState::IDLE_SESSION_TIMEOUT
        | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        | SqlState::TOO_MANY_CONNECTIONS
        // A standby answered, or the primary became one.
        | SqlState::READ_ONLY_SQL_TRANSACTION => Reaction::Reconnect,
        _ if state.code().starts_with("08") => Reaction::Reconnect,
        _ => Reaction::GiveUp,
    }
}

/// Whether an error is of our own making: a column or parameter of another type than was meant.
fn is_conversion(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("error serializing") || text.starts_with("error deserializing") || text.starts_with("expected ")
}

/// Whether an error that answered COMMIT says for certain that nothing was committed. One that ended the
/// connection does not: the answer may have been lost, or a standby may not have been waited for.
pub(super) fn refutes_commit(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|state| matches!(&state.code()[..2], "22" | "23" | "25" | "40" | "42" | "53" | "55" | "P0"))
}

impl Error {
    /// Sorts what PostgreSQL reported while the store tried to do `attempted`.
    pub(crate) fn postgres(attempted: &'static str, source: tokio_postgres::Error) -> Self {
        let source = Box::new(source);
        let Some(state) = source.code() else {
            if reaction(&source) == Reaction::GiveUp {
                return Self::Bug { what: format!("could not {attempted}"), source: Some(source) };
            }
            return Self::Unavailable { attempted, source };
        };
        match &state.code()[..2] {
            _ if *state == SqlState::DISK_FULL => Self::Exhausted { source },
            _ if *state == SqlState::DATA_CORRUPTED || *state == SqlState::INDEX_CORRUPTED => {
                Self::Corrupt { what: format!("found when trying to {attempted}"), source: Some(source) }
            }
            // Values that do not fit, broken constraints, and statements that make no sense.
            "22" | "23" => Self::Bug { what: format!("could not {attempted}"), source: Some(source) },
            "42" if *state != SqlState::INSUFFICIENT_PRIVILEGE => {
                Self::Bug { what: format!("could not {attempted}"), source: Some(source) }
            }
            _ => Self::Unavailable { attempted, source },
        }
    }
}

/// An error for another of those it happened to.
pub(super) fn same(attempted: &'static str, error: &Error) -> Error {
    match error {
        Error::WentBack { seen, found } => Error::WentBack { seen: *seen, found: *found },
        Error::Closed => Error::Closed,
        other => {
            let cause = std::error::Error::source(other).map_or_else(|| other.to_string(), ToString::to_string);
            Error::Unavailable { attempted, source: cause.into() }
        }
    }
}
