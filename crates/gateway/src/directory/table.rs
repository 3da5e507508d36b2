//! Objects by key.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::key_of;
use crate::address::Key;

/// Something a watch fills.
pub(super) trait Feed<K>: Send + Sync + 'static {
    fn apply(&self, object: K);
    fn delete(&self, object: &K);
    /// Everything there is; what is not among it is gone.
    fn replace(&self, objects: Vec<K>);
}

/// What is kept of each object of a kind.
pub(crate) struct Table<V> {
    rows: RwLock<HashMap<Key, Arc<V>>>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { rows: RwLock::default() }
    }
}

impl<V> Table<V> {
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

impl<K, V> Feed<K> for Table<V>
where
    K: kube::Resource + Into<V> + 'static,
    V: Send + Sync + 'static,
{
    fn apply(&self, object: K) {
        if let Some(key) = key_of(&object) {
            self.rows.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::new(object.into()));
        }
    }

    fn delete(&self, object: &K) {
        if let Some(key) = key_of(object) {
            self.rows.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
    }

    fn replace(&self, objects: Vec<K>) {
        let rows = objects.into_iter().filter_map(|object| Some((key_of(&object)?, Arc::new(object.into())))).collect();
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}
