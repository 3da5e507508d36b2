//! What watches have read of the newest objects.
//!
//! A write wakes every watch of its kind. Those with selectors, and those that want a table, have to
//! look into the object and into the one before it: it is parsed for the first of them, and kept for
//! the others, who come within milliseconds. Under load writes come hundreds at a time, and each watch
//! goes through all of them before the next one has its turn, so several such bursts are kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use fermion_store::Stored;
use serde_json::Value;

use crate::error::Result;
use crate::write::parse_stored;

/// Objects that are kept: what several full transactions of the store make while the watches of the
/// first one are served, and what stood there before.
const READINGS_MAX: usize = 1_024;
/// Bytes of all texts that were read for what is kept; read, they take several times as much.
const READINGS_BYTES_MAX: usize = 2 << 20;
/// A longer object is read by everybody for themselves, so that what is kept stays small.
const OBJECT_BYTES_MAX: usize = 64 * 1024;

/// The newest objects that were read.
#[derive(Default)]
pub(crate) struct Readings {
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Newest {
    /// By the revision of the write that made this version of the object: no other version of
    /// anything has it.
    by_revision: BTreeMap<u64, Reading>,
    /// Of all texts.
    bytes: usize,
}

struct Reading {
    object: Slot,
    bytes: usize,
}

/// Where the object will be, once somebody has read it.
type Slot = Arc<OnceLock<Arc<Value>>>;

impl Readings {
    fn newest(&self) -> MutexGuard<'_, Newest> {
        // Nothing that can panic runs between changes that belong together.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object as it stands in the store.
    pub(super) fn read(&self, stored: &Stored) -> Result<Arc<Value>> {
        if stored.body.len() > OBJECT_BYTES_MAX {
            return parse_stored(stored).map(Arc::new);
        }
        let object = self.slot(stored.revision, stored.body.len());
        if let Some(object) = object.get() {
            return Ok(object.clone());
        }
        // Not under the lock; two who come at once both parse it, and one of the two is kept.
        let parsed = Arc::new(parse_stored(stored)?);
        Ok(object.get_or_init(|| parsed).clone())
    }

    fn slot(&self, revision: u64, bytes: usize) -> Slot {
        let mut newest = self.newest();
        if let Some(reading) = newest.by_revision.get(&revision) {
            return reading.object.clone();
        }
        let object = Slot::default();
        newest.by_revision.insert(revision, Reading { object: object.clone(), bytes });
        newest.bytes += bytes;
        while newest.by_revision.len() > READINGS_MAX || newest.bytes > READINGS_BYTES_MAX {
            let Some((_, oldest)) = newest.by_revision.pop_first() else { break };
            newest.bytes -= oldest.bytes;
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use fermion_store::Key;

    use super::*;

    fn stored(revision: u64, filler: usize) -> Stored {
        let body = format!(r#"{{"metadata":{{"resourceVersion":"{revision}"}},"data":"{}"}}"#, "x".repeat(filler));
        Stored { key: Key::new("things", "", "a"), revision, body: body.into() }
    }

    #[test]
    fn an_object_is_parsed_once() {
        let readings = Readings::default();
        let (first, second) = (readings.read(&stored(1, 0)).unwrap(), readings.read(&stored(1, 0)).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        let other = readings.read(&stored(2, 0)).unwrap();
        assert_eq!(other["metadata"]["resourceVersion"], "2");
    }

    #[test]
    fn few_and_small_objects_are_kept() {
        let readings = Readings::default();
        for revision in 0..2_000 {
            readings.read(&stored(revision, 0)).unwrap();
        }
        assert_eq!(readings.newest().by_revision.len(), READINGS_MAX);
        let large = stored(3_000, OBJECT_BYTES_MAX);
        assert!(!Arc::ptr_eq(&readings.read(&large).unwrap(), &readings.read(&large).unwrap()));
        assert!(readings.newest().by_revision.keys().all(|revision| *revision < 2_000));
        for revision in 4_000..4_100 {
            readings.read(&stored(revision, OBJECT_BYTES_MAX - 100)).unwrap();
        }
        let newest = readings.newest();
        assert!(newest.bytes <= READINGS_BYTES_MAX, "{}", newest.bytes);
        assert_eq!(newest.bytes, newest.by_revision.values().map(|reading| reading.bytes).sum::<usize>());
        assert_eq!(newest.by_revision.keys().next_back(), Some(&4_099));
    }
}
