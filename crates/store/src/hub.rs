//! The newest events in memory, and who waits for the next ones.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::Notify;

use crate::event::Event;
use crate::extent::Extent;
use crate::object::{Key, Scope, Stored};
use crate::options::Options;

/// Events a watcher takes at once, so that one far behind does not hold the lock for long.
const TAKEN_EVENTS_MAX: usize = 128;

/// Where the writer publishes committed events and watchers take them.
///
/// There is no queue for each watcher: a watcher is a position in the log. It takes what is newer from
/// the events kept here and, when those do not reach back far enough, from disk. So a slow watcher costs
/// nothing and loses nothing.
///
/// Invariants: events are published in the order of their revisions, after they are durable, and before
/// the caller who wrote them is answered. For each resource, `recent` holds every event after
/// `dropped_through`.
pub(crate) struct Hub {
    state: Mutex<State>,
    newest: AtomicU64,
    compacted: AtomicU64,
    published: Notify,
    events_max: usize,
    bytes_max: usize,
}

struct State {
    /// Every event in memory, oldest first. Revisions have no gaps.
    order: VecDeque<Arc<Event>>,
    bytes: usize,
    resources: HashMap<Arc<str>, Resource>,
    /// What `dropped_through` of a resource not heard of yet starts from.
    opened_at: u64,
    closed: bool,
    watchers: u64,
}

struct Resource {
    recent: VecDeque<Arc<Event>>,
    /// Of each object that `recent` tells of, the newest event.
    newest: HashMap<Key, Arc<Event>>,
    dropped_through: u64,
    wakers: HashMap<u64, Waker>,
}

/// What a watcher found.
pub(crate) enum Taken {
    /// Nothing is left up to this revision. The watcher will be woken.
    Waiting(u64),
    /// Events were taken; everything up to this revision has been looked at.
    Through(u64),
    /// Events after the watcher's position have left memory. They are on disk up to this revision.
    OnDisk(u64),
    /// There will be no more events.
    Closed,
}

impl Hub {
    pub(crate) fn new(extent: Extent, options: &Options) -> Self {
        Self {
            state: Mutex::new(State {
                order: VecDeque::new(),
                bytes: 0,
                resources: HashMap::new(),
                opened_at: extent.newest,
                closed: false,
                watchers: 0,
            }),
            newest: AtomicU64::new(extent.newest),
            compacted: AtomicU64::new(extent.compacted),
            published: Notify::new(),
            events_max: options.recent_events_max,
            bytes_max: options.recent_bytes_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs between the changes that keep the invariants.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been published, as readers may ask for it.
    pub(crate) fn extent(&self) -> Extent {
        Extent { compacted: self.compacted.load(Ordering::Acquire), newest: self.newest.load(Ordering::Acquire) }
    }

    pub(crate) fn set_compacted(&self, revision: u64) {
        self.compacted.fetch_max(revision, Ordering::AcqRel);
    }

    /// A number that tells a watcher from every other.
    pub(crate) fn register(&self) -> u64 {
        let mut state = self.state();
        state.watchers += 1;
        state.watchers
    }

    pub(crate) fn unregister(&self, scope: &Scope, watcher: u64) {
        if let Some(resource) = self.state().resources.get_mut(&scope.resource) {
            resource.wakers.remove(&watcher);
        }
    }

    /// Makes committed events visible to watchers and wakes those who wait for them.
    pub(crate) fn publish(&self, events: &[Arc<Event>]) {
        let Some(last) = events.last() else { return };
        let mut wakers = Vec::new();
        {
            let mut state = self.state();
            for event in events {
                let resource = state.resource(&event.object.key.resource);
                resource.recent.push_back(event.clone());
                resource.newest.insert(event.object.key.clone(), event.clone());
                wakers.extend(resource.wakers.drain().map(|(_, waker)| waker));
                state.bytes += size(event);
                state.order.push_back(event.clone());
            }
            while state.order.len() > self.events_max || state.bytes > self.bytes_max {
                let Some(oldest) = state.order.pop_front() else { break };
                state.bytes -= size(&oldest);
                let resource = state.resource(&oldest.object.key.resource);
                // The oldest event of all is the oldest of its resource.
                resource.recent.pop_front();
                if resource.newest.get(&oldest.object.key).is_some_and(|newest| newest.revision == oldest.revision) {
                    resource.newest.remove(&oldest.object.key);
                }
                resource.dropped_through = oldest.revision;
            }
            self.newest.store(last.revision, Ordering::Release);
        }
        self.published.notify_waiters();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Goes on from a later revision without the events before it. Watchers who have not seen them look
    /// for them in the database.
    pub(crate) fn skip_to(&self, revision: u64) {
        let mut wakers = Vec::new();
        {
            let mut state = self.state();
            state.order.clear();
            state.bytes = 0;
            state.opened_at = revision;
            for resource in state.resources.values_mut() {
                resource.recent.clear();
                resource.newest.clear();
                resource.dropped_through = revision;
                wakers.extend(resource.wakers.drain().map(|(_, waker)| waker));
            }
            self.newest.store(revision, Ordering::Release);
        }
        self.published.notify_waiters();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Ends every watch: no more events will come.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let wakers: Vec<Waker> =
            state.resources.values_mut().flat_map(|resource| resource.wakers.drain().map(|(_, waker)| waker)).collect();
        drop(state);
        self.published.notify_waiters();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Waits until `revision` is published. A reader may see a transaction in the database a moment
    /// before its events are here; nobody may learn a revision that cannot be watched from yet.
    pub(crate) async fn visible(&self, revision: u64) {
        loop {
            let published = self.published.notified();
            if self.newest.load(Ordering::Acquire) >= revision || self.state().closed {
                return;
            }
            published.await;
        }
    }

    /// Moves events of `scope` after `position` into `into`, or registers `waker` if there are none.
    pub(crate) fn take(&self, scope: &Scope, position: u64, watcher: u64, waker: &Waker, into: &mut VecDeque<Arc<Event>>) -> Taken {
        let mut state = self.state();
        let newest = self.newest.load(Ordering::Acquire);
        let closed = state.closed;
        let resource = state.resource(&scope.resource);
        if position < resource.dropped_through {
            return Taken::OnDisk(newest);
        }
        let start = resource.recent.partition_point(|event| event.revision <= position);
        for event in resource.recent.range(start..) {
            if scope.contains(&event.object.key) {
                into.push_back(event.clone());
                if into.len() >= TAKEN_EVENTS_MAX {
                    return Taken::Through(event.revision);
                }
            }
        }
        if !into.is_empty() {
            return Taken::Through(newest);
        }
        if closed {
            return Taken::Closed;
        }
        match resource.wakers.get_mut(&watcher) {
            Some(registered) => registered.clone_from(waker),
            None => drop(resource.wakers.insert(watcher, waker.clone())),
        }
        Taken::Waiting(newest)
    }

    /// The newest revision, if nothing of the resource was written after `position`.
    pub(crate) fn newest_if_quiet_since(&self, scope: &Scope, position: u64) -> Option<u64> {
        let mut state = self.state();
        let newest = self.newest.load(Ordering::Acquire);
        let resource = state.resource(&scope.resource);
        let written = resource.recent.back().map_or(resource.dropped_through, |e| e.revision);
        (written <= position).then_some(newest)
    }

    /// What was last published of an object, if that is still in memory. Another server may have written
    /// it since.
    pub(crate) fn last_seen(&self, key: &Key) -> Option<Arc<Event>> {
        self.state().resources.get(&key.resource)?.newest.get(key).cloned()
    }

    /// The oldest and the newest revision in memory, and all between them; none when there are none.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let state = self.state();
        Some((state.order.front()?.revision, state.order.back()?.revision))
    }

    /// The version of an object made by the write at `revision`, if it is still in memory.
    pub(crate) fn recent(&self, revision: u64) -> Option<Arc<Stored>> {
        let state = self.state();
        let oldest = state.order.front()?.revision;
        let index = usize::try_from(revision.checked_sub(oldest)?).ok()?;
        state.order.get(index).map(|event| event.object.clone())
    }
}

impl State {
    fn resource(&mut self, name: &Arc<str>) -> &mut Resource {
        // Not the entry API, which would need an owned name on every call.
        if !self.resources.contains_key(name) {
            let resource =
                Resource { recent: VecDeque::new(), newest: HashMap::new(), dropped_through: self.opened_at, wakers: HashMap::new() };
            self.resources.insert(name.clone(), resource);
        }
        self.resources.get_mut(name).expect("it was inserted above if it was missing")
    }
}

/// What an event weighs in memory. The body before is mostly shared with an earlier event; counting it
/// in full keeps the bound safe when it is not.
fn size(event: &Event) -> usize {
    event.object.body.len() + event.previous.as_ref().map_or(0, |previous| previous.body.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::EventKind;

    fn event(revision: u64, bytes: usize) -> Arc<Event> {
        let key = Key::new(if revision.is_multiple_of(2) { "even" } else { "odd" }, "", "x");
        let object = Arc::new(Stored { key, revision, body: vec![0; bytes].into() });
        Arc::new(Event { revision, kind: EventKind::Added, object, previous: None })
    }

    fn hub(recent_events_max: usize, recent_bytes_max: usize) -> Hub {
        let extent = Extent { compacted: 0, newest: 0 };
        Hub::new(extent, &Options { recent_events_max, recent_bytes_max, ..Options::default() })
    }

    /// The revisions that are still in memory after events of these sizes.
    fn kept(hub: &Hub, sizes: &[usize]) -> Vec<u64> {
        let mut published = Vec::new();
        for (size, revision) in sizes.iter().zip(1..) {
            let event = event(revision, *size);
            published.push(Arc::downgrade(&event));
            hub.publish(&[event]);
        }
        published.iter().filter_map(|event| Some(event.upgrade()?.revision)).collect()
    }

    #[test]
    fn memory_holds_no_more_events_than_it_may() {
        let hub = hub(3, usize::MAX);
        assert_eq!(kept(&hub, &[1; 10]), [8, 9, 10]);
        assert_eq!(hub.recent(7), None);
        assert_eq!(hub.recent(8).unwrap().body, Bytes::from_static(&[0]));
        assert_eq!(hub.recent(11), None);
    }

    #[test]
    fn the_last_that_was_seen_of_an_object_is_forgotten_with_its_event() {
        let hub = hub(3, usize::MAX);
        let seen = |name: &str| hub.last_seen(&Key::new(name, "", "x")).map(|event| event.revision);
        hub.publish(&[event(1, 1), event(2, 1), event(4, 1)]);
        assert_eq!((seen("odd"), seen("even")), (Some(1), Some(4)));
        hub.publish(&[event(6, 1)]);
        assert_eq!((seen("odd"), seen("even")), (None, Some(6)));
        hub.skip_to(9);
        assert_eq!(seen("even"), None);
    }

    #[test]
    fn watcher_that_missed_what_was_skipped_is_sent_to_the_database() {
        let hub = hub(usize::MAX, usize::MAX);
        hub.publish(&[event(1, 1), event(2, 1)]);
        hub.skip_to(9);
        hub.publish(&[event(10, 1)]);
        let mut events = VecDeque::new();
        let mut take = |position| hub.take(&Scope::all("even"), position, 1, Waker::noop(), &mut events);
        assert!(matches!(take(2), Taken::OnDisk(10)));
        assert!(matches!(take(9), Taken::Through(10)));
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn memory_holds_no_more_bytes_than_it_may() {
        assert_eq!(kept(&hub(usize::MAX, 100), &[60, 30, 30, 30]), [2, 3, 4]);
        assert_eq!(kept(&hub(usize::MAX, 100), &[10, 200, 101]), Vec::<u64>::new());
    }
}
