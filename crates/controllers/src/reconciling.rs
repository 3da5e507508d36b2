//! The frame every controller runs in: what wakes it, how often it sweeps, what happens when
//! a reconciliation fails.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::Shutdown;
use crate::cache::{Cache, Cached};
use crate::error::{Error, chain};

/// How many objects of a kind are reconciled at the same time. Each waits for the disk most of the
/// time, together with the others.
const CONCURRENCY: u16 = 64;
/// Wait after a failure; doubles with every failure of the same object in a row.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(500);
const RETRY_DELAY_MAX: Duration = Duration::from_mins(1);
/// Wait after a conflict: the newer object is on its way through the watch already.
const CONFLICT_DELAY: Duration = Duration::from_millis(50);

/// Failures in a row, by object.
struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    fn forget(&self, object: &str) {
        self.0.lock().expect("no thread panics while it holds this lock").remove(object);
    }

    fn delay(&self, object: &str) -> Duration {
        let mut counts = self.0.lock().expect("no thread panics while it holds this lock");
        let count = counts.entry(object.to_owned()).or_default();
        let delay = doubled(RETRY_DELAY_MIN, *count, RETRY_DELAY_MAX);
        *count = count.saturating_add(1);
        delay
    }
}

/// `base`, doubled `times` times, at most `cap`.
pub(crate) fn doubled(base: Duration, times: u32, cap: Duration) -> Duration {
    // 2^20 times any sensible base is past any cap.
    base.checked_mul(1 << times.min(20)).map_or(cap, |delay| delay.min(cap))
}

/// A stream of objects to look at again.
pub(crate) type Wakes<K> = BoxStream<'static, ObjectRef<K>>;

/// Runs a controller until shutdown: `reconcile` is called for every object of the kind that
/// changed, that one of the `wakes` names, or whose last answer asked for it.
pub(crate) async fn run<K, C, R, F>(
    name: &'static str,
    client: Client,
    wakes: Vec<Wakes<K>>,
    context: Arc<C>,
    reconcile: R,
    shutdown: Shutdown,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    C: Send + Sync + 'static,
    R: Fn(Arc<K>, Arc<C>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let failures = Arc::new(Failures(Mutex::new(HashMap::new())));
    let config = controller::Config::default().concurrency(CONCURRENCY);
    let mut controller =
        Controller::new(Api::<K>::all(client), watcher::Config::default()).with_config(config).graceful_shutdown_on(shutdown.requested());
    for wake in wakes {
        controller = controller.reconcile_on(wake);
    }
    let reconcile = {
        let failures = Arc::clone(&failures);
        move |object: Arc<K>, context: Arc<C>| {
            let key = key(object.as_ref());
            let failures = Arc::clone(&failures);
            let work = reconcile(object, context);
            async move {
                let answer = work.await;
                if answer.is_ok() {
                    failures.forget(&key);
                }
                answer
            }
        }
    };
    let gone_failures = Arc::clone(&failures);
    let on_error = move |object: Arc<K>, error: &Error, _: Arc<C>| {
        let object = key(object.as_ref());
        if let Error::Conflict { .. } = error {
            tracing::debug!(controller = name, object, "changed meanwhile; deciding again");
            return Action::requeue(CONFLICT_DELAY);
        }
        let delay = failures.delay(&object);
        tracing::warn!(controller = name, object, error = chain(error), retry_in_ms = delay.as_millis(), "reconciliation failed");
        Action::requeue(delay)
    };
    tracing::debug!(controller = name, "started");
    let store = controller.store();
    let mut answers = std::pin::pin!(controller.run(reconcile, on_error, context));
    // A kube-rs controller that is stopped before its first list came in never ends by itself.
    let cut_off = async {
        shutdown.requested().await;
        if store.wait_until_ready().now_or_never().is_some() {
            std::future::pending::<()>().await;
        }
    };
    let mut cut_off = std::pin::pin!(cut_off);
    loop {
        let answer = tokio::select! {
            answer = answers.next() => answer,
            () = &mut cut_off => None,
        };
        let Some(answer) = answer else { break };
        match answer {
            // A failure was told by `on_error`.
            Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {}
            Err(controller::Error::ObjectNotFound(gone)) => {
                gone_failures.forget(&format!("{}/{}", gone.namespace.as_deref().unwrap_or_default(), gone.name));
            }
            Err(error) => tracing::warn!(controller = name, error = chain(&error), "watch interrupted; watching again"),
        }
    }
    tracing::debug!(controller = name, "stopped");
}

fn key<K: Resource>(object: &K) -> String {
    format!("{}/{}", object.meta().namespace.as_deref().unwrap_or_default(), object.meta().name.as_deref().unwrap_or_default())
}

/// Wakes the owner of kind `K` whenever an object of the cache changes; `owner` names it.
pub(crate) fn owners<K, O>(cache: &Cache<O>, owner: fn(&O) -> Option<String>) -> Wakes<K>
where
    K: Resource<DynamicType = ()> + Send + 'static,
    K::DynamicType: Debug + Eq + Hash,
    O: Cached,
{
    refs(cache.changes().filter_map(move |change| async move {
        let namespace = change.object.meta().namespace.clone()?;
        Some((namespace, owner(&change.object)?))
    }))
}

fn refs<K>(names: impl Stream<Item = (String, String)> + Send + 'static) -> Wakes<K>
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    names.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_cap() {
        let seconds = |times| doubled(Duration::from_secs(1), times, Duration::from_mins(1)).as_secs();
        assert_eq!([0, 1, 2, 5, 6, 100].map(seconds), [1, 2, 4, 32, 60, 60]);
        let failures = Failures(Mutex::new(HashMap::new()));
        assert_eq!(failures.delay("a"), RETRY_DELAY_MIN);
        assert_eq!(failures.delay("a"), RETRY_DELAY_MIN * 2);
        failures.forget("a");
        assert_eq!(failures.delay("a"), RETRY_DELAY_MIN);
    }
}
