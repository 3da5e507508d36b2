//! Changes as watchers see them.

use std::sync::Arc;

use crate::object::Stored;

/// What a change did to an object's existence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The object did not exist before.
    Added,
    /// The object existed and was replaced.
    Modified,
    /// The object was removed.
    Deleted,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision this change took.
    pub revision: u64,
    /// What the change did.
    pub kind: EventKind,
    /// The object after the change; for [`EventKind::Deleted`] its last body, with
    /// `metadata.resourceVersion` set to the revision of the deletion.
    pub object: Arc<Stored>,
    /// The object before the change, unless it was added. A watcher with a selector needs it to tell
    /// an object that came into its view from one that left it.
    pub previous: Option<Arc<Stored>>,
}
