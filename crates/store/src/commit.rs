//! What a caller may ask to be written.

use serde_json::Value;

use crate::fact::Fact;
use crate::lease::Fence;
use crate::object::Key;

/// What must be true of an object before a write to it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist. Only a [`Write::Put`] may expect this.
    Absent,
    /// It exists and its newest revision is this one.
    Revision(u64),
    /// Nothing: a put creates or replaces. A delete still needs something to delete.
    Any,
}

/// One change to one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Creates or replaces an object.
    Put {
        /// The object's name.
        key: Key,
        /// What must hold beforehand.
        expect: Expect,
        /// The whole object. It must have a `metadata` object, whose `resourceVersion` the store sets.
        object: Value,
    },
    /// Removes an object.
    Delete {
        /// The object's name.
        key: Key,
        /// What must hold beforehand.
        expect: Expect,
    },
}

impl Write {
    /// The object this write is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

/// Writes and facts that happen together or not at all. Later writes see earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Changes to objects, applied in order; each takes the next revision.
    pub writes: Vec<Write>,
    /// Facts recorded in the same transaction.
    pub facts: Vec<Fact>,
    /// Proof that the writer leads; the commit is refused once somebody else does.
    pub fence: Option<Fence>,
}

impl Commit {
    /// A commit of one write and no facts.
    pub fn of(write: Write) -> Self {
        Self { writes: vec![write], ..Self::default() }
    }
}
