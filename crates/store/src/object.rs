//! Names of objects and what the store keeps under them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// The full name of one object. Keys order by resource, then namespace, then name, byte by byte: the
/// order in which lists return them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Plural and group, such as `pods` or `trainingjobs.ai.fermion.dev`.
    pub resource: Arc<str>,
    /// Empty for a cluster-scoped object.
    pub namespace: Arc<str>,
    /// The object's name, unique within resource and namespace.
    pub name: Arc<str>,
}

impl Key {
    /// A key from its three parts; `namespace` is empty for a cluster-scoped object.
    pub fn new(resource: impl Into<Arc<str>>, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { resource: resource.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.resource, self.name)
        } else {
            write!(f, "{}/{}/{}", self.resource, self.namespace, self.name)
        }
    }
}

/// One version of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The object's name.
    pub key: Key,
    /// The revision of the write that made this version.
    pub revision: u64,
    /// JSON text of the whole object. Its `metadata.resourceVersion` is `revision` as a string.
    pub body: Bytes,
}

/// The objects a list or a watch is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// One resource; there is no list over several.
    pub resource: Arc<str>,
    /// `None`: every namespace. `Some("")`: cluster-scoped objects only.
    pub namespace: Option<Arc<str>>,
    /// `None`: every name.
    pub name: Option<Arc<str>>,
}

impl Scope {
    /// Every object of a resource, in every namespace.
    pub fn all(resource: impl Into<Arc<str>>) -> Self {
        Self { resource: resource.into(), namespace: None, name: None }
    }

    /// Whether the object called `key` belongs to this scope.
    pub fn contains(&self, key: &Key) -> bool {
        self.resource == key.resource
            && self.namespace.as_ref().is_none_or(|n| *n == key.namespace)
            && self.name.as_ref().is_none_or(|n| *n == key.name)
    }
}
