//! Requests that last: watches, followed logs, streams into containers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Requests that last, all together.
const LASTING_MAX: usize = 16_384;
/// Requests of one user that last.
const LASTING_PER_USER_MAX: usize = 4_096;

/// Why a request that lasts was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("too many requests: user \"{user}\" has {LASTING_PER_USER_MAX} watches and streams open already; close some")]
    User { user: String },
    #[error("too many requests: {LASTING_MAX} watches and streams are open already; try again later")]
    All,
}

#[derive(Default)]
pub(super) struct LongRunning {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    by_user: HashMap<Arc<str>, usize>,
    in_all: usize,
}

/// One request that lasts; it is over when this is dropped.
pub(crate) struct Lasting {
    counted_in: Arc<LongRunning>,
    user: Arc<str>,
}

impl LongRunning {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing that can panic runs between changes that belong together.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(self: &Arc<Self>, user: &str) -> Result<Lasting, Refused> {
        let mut open = self.open();
        if open.in_all >= LASTING_MAX {
            return Err(Refused::All);
        }
        if open.by_user.get(user).is_some_and(|count| *count >= LASTING_PER_USER_MAX) {
            return Err(Refused::User { user: user.to_owned() });
        }
        let user: Arc<str> = user.into();
        *open.by_user.entry(user.clone()).or_default() += 1;
        open.in_all += 1;
        Ok(Lasting { counted_in: self.clone(), user })
    }

    pub(super) fn count(&self) -> usize {
        self.open().in_all
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        let mut open = self.counted_in.open();
        open.in_all -= 1;
        if let Some(count) = open.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_every_place() {
        let counted: Arc<LongRunning> = Arc::default();
        let mut held: Vec<Lasting> = (0..LASTING_PER_USER_MAX).map(|_| counted.begin("storm").ok().unwrap()).collect();
        assert_eq!(counted.begin("storm").err(), Some(Refused::User { user: "storm".to_owned() }));
        assert!(counted.begin("ann").is_ok());
        drop(held.pop());
        assert!(counted.begin("storm").is_ok());
        drop(held);
        assert_eq!(counted.count(), 0);
    }
}
