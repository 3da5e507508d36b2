//! What watches have read of the newest objects.
//!
//! A write wakes every watch of its kind. Those with selectors, and those that want a table, have to
//! look into the object and into the one before it: it is parsed for the first of them, and kept for
//! the others, who come within milliseconds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use fermion_store::Stored;
use serde_json::Value;

use crate::error::Result;
use crate::write::parse_stored;

/// Objects that are kept: what a burst of writes makes while the watches of the first one are served.
const READINGS_MAX: usize = 32;
/// A longer object is read by everybody for themselves, so that what is kept stays small.
const OBJECT_BYTES_MAX: usize = 64 * 1024;

/// The newest objects that were read, the newest last.
#[derive(Default)]
pub(crate) struct Readings {
    newest: Mutex<VecDeque<Reading>>,
}

#[derive(Clone)]
struct Reading {
    /// Of the write that made this version of the object: no other version of anything has it.
    revision: u64,
    object: Arc<OnceLock<Arc<Value>>>,
}

impl Readings {
    fn newest(&self) -> MutexGuard<'_, VecDeque<Reading>> {
        // Nothing that can panic runs between changes that belong together.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object as it stands in the store.
    pub(super) fn read(&self, stored: &Stored) -> Result<Arc<Value>> {
        if stored.body.len() > OBJECT_BYTES_MAX {
            return parse_stored(stored).map(Arc::new);
        }
        let object = self.slot(stored.revision);
        if let Some(object) = object.get() {
            return Ok(object.clone());
        }
        // Not under the lock; two who come at once both parse it, and one of the two is kept.
        let parsed = Arc::new(parse_stored(stored)?);
        Ok(object.get_or_init(|| parsed).clone())
    }

    fn slot(&self, revision: u64) -> Arc<OnceLock<Arc<Value>>> {
        let mut newest = self.newest();
        if let Some(reading) = newest.iter().rev().find(|reading| reading.revision == revision) {
            return reading.object.clone();
        }
        if newest.len() >= READINGS_MAX {
            newest.pop_front();
        }
        let object = Arc::default();
        newest.push_back(Reading { revision, object: Arc::clone(&object) });
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
        for revision in 0..100 {
            readings.read(&stored(revision, 0)).unwrap();
        }
        assert_eq!(readings.newest().len(), READINGS_MAX);
        let large = stored(1000, OBJECT_BYTES_MAX);
        assert!(!Arc::ptr_eq(&readings.read(&large).unwrap(), &readings.read(&large).unwrap()));
        assert!(readings.newest().iter().all(|reading| reading.revision < 100));
    }
}
