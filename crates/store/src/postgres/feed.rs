//! Publishing to the hub, in order, what any server wrote.
//!
//! Both the writer and the follower publish, one at a time, and only what comes next: the writer, when
//! another server wrote before its own transaction, first reads that from the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::pool::{Pauses, Pool};
use super::session::Session;
use super::{Shared, log, schema};
use crate::error::Error;
use crate::event::Event;
use crate::hub::Hub;
use crate::options::Options;

/// Where servers tell each other that there is something new.
pub(super) const CHANNEL: &str = "fermion_log";
/// How long to wait for a notice before looking anyway.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// Events read at once.
const EVENTS_MAX: usize = 512;
/// How long after the last look the database still counts as reached: longer than a look may hang on a
/// connection that was cut without a word, and than a quick failover takes.
const REACHED_FOR: Duration = Duration::from_secs(10);
/// How long the writer tries to read what others wrote before its own; then the follower does both.
const CATCH_UP_FOR: Duration = Duration::from_secs(5);

pub(super) struct Feed {
    hub: Arc<Hub>,
    pool: Arc<Pool>,
    /// Who this store is in notices.
    pub(super) writer: Uuid,
    /// Held by whoever publishes.
    publishing: Mutex<()>,
    hurry: Notify,
    began: Instant,
    /// When a look last found an answer, in milliseconds since `began`.
    reached_at_ms: AtomicU64,
    /// When that look began.
    looked_at_ms: AtomicU64,
    /// Set once the database was found behind what was published: (published, found).
    went_back: OnceLock<(u64, u64)>,
    out_of_order: bool,
}

impl Feed {
    pub(super) fn new(hub: Arc<Hub>, pool: Arc<Pool>, options: &Options) -> Self {
        Self {
            hub,
            pool,
            writer: Uuid::new_v4(),
            publishing: Mutex::default(),
            hurry: Notify::new(),
            began: Instant::now(),
            reached_at_ms: AtomicU64::new(0),
            looked_at_ms: AtomicU64::new(0),
            went_back: OnceLock::new(),
            out_of_order: options.out_of_order,
        }
    }

    /// Makes the follower look now.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Whether the database answered a moment ago, and still holds what it acknowledged.
    pub(super) fn is_reached(&self) -> bool {
        let reached_at = self.began + Duration::from_millis(self.reached_at_ms.load(Ordering::Relaxed));
        self.went_back.get().is_none() && reached_at.elapsed() <= REACHED_FOR
    }

    /// Whether a look that began after that moment found that the database still holds what it
    /// acknowledged.
    pub(super) fn has_looked_since(&self, moment: Instant) -> bool {
        let looked_at = self.began + Duration::from_millis(self.looked_at_ms.load(Ordering::Acquire));
        self.went_back.get().is_none() && looked_at > moment
    }

    /// The error of every write after the database was found to have lost something.
    pub(super) fn went_back(&self) -> Option<Error> {
        self.went_back.get().map(|(seen, found)| Error::WentBack { seen: *seen, found: *found })
    }

    /// Publishes what this store just committed.
    pub(super) async fn publish_own(&self, events: Vec<Arc<Event>>) {
        let _publishing = self.publishing.lock().await;
        let Some(first) = events.first().map(|event| event.revision) else { return };
        if !self.out_of_order {
            let caught_up = timeout(CATCH_UP_FOR, async {
                let mut pauses = Pauses::default();
                while self.hub.extent().newest + 1 < first {
                    if let Err(error) = self.pool.read_once(|session| async move { self.read_more(&session).await }).await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "cannot read what others wrote yet");
                        pauses.pause().await;
                    }
                }
            });
            if caught_up.await.is_err() {
                // They are committed and answered for; the follower publishes them from the log.
                tracing::warn!("the log cannot be read now; what was written will be seen later");
                return;
            }
        }
        let newest = self.hub.extent().newest;
        let new: Vec<_> = events.into_iter().filter(|event| event.revision > newest).collect();
        self.hub.publish(&new);
    }

    /// Publishes everything there is.
    async fn look(&self, session: &Session) -> Result<(), Error> {
        let _publishing = self.publishing.lock().await;
        // Rounded down: it only ever seems earlier than it was.
        let began_ms = self.began.elapsed().as_millis() as u64;
        let extent = schema::extent(session).await?;
        let published = self.hub.extent();
        if extent.newest < published.newest {
            self.went_back.get_or_init(|| (published.newest, extent.newest));
            self.hub.close();
            return Err(Error::WentBack { seen: published.newest, found: extent.newest });
        }
        if extent.compacted > published.compacted {
            self.hub.set_compacted(extent.compacted);
        }
        while self.hub.extent().newest < extent.newest {
            self.read_more(session).await?;
        }
        self.looked_at_ms.store(began_ms, Ordering::Release);
        self.reached_at_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Reads and publishes the events that come next. Whoever calls it holds `publishing`.
    async fn read_more(&self, session: &Session) -> Result<(), Error> {
        let newest = self.hub.extent().newest;
        let (extent, events) = log::after(session, newest, EVENTS_MAX).await?;
        if extent.compacted > newest {
            // This store was away for so long that others compacted what it missed. Watchers who missed it
            // too are told when they look into the log.
            self.hub.skip_to(extent.compacted);
            self.hub.set_compacted(extent.compacted);
            return Ok(());
        }
        let gap = events.iter().zip(newest + 1..).find(|(event, expected)| event.revision != *expected);
        if let Some((event, expected)) = gap {
            let what = format!("revision {} follows {} in the log", event.revision, expected - 1);
            return Err(Error::Bug { what, source: None });
        }
        self.hub.publish(&events.into_iter().map(Arc::new).collect::<Vec<_>>());
        Ok(())
    }
}

/// Publishes what other servers write, for as long as the store is open.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut pauses = Pauses::default();
    loop {
        let began = Instant::now();
        match follow_on(&shared).await {
            Err(error @ Error::WentBack { .. }) => {
                tracing::error!(%error, "this store serves no more");
                return;
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot follow the log; trying again"),
            Ok(()) => {}
        }
        if began.elapsed() > LOOK_TIMEOUT {
            pauses = Pauses::default();
        }
        pauses.pause().await;
    }
}

/// Follows on one connection until it fails.
async fn follow_on(shared: &Shared) -> Result<(), Error> {
    let feed = &shared.feed;
    let session = Session::open(&shared.address).await?;
    session.run(&format!("LISTEN {CHANNEL}")).await.map_err(|source| Error::postgres("listen", source))?;
    let own = feed.writer.to_string();
    loop {
        match timeout(LOOK_TIMEOUT, feed.look(&session)).await {
            Ok(looked) => looked?,
            Err(late) => return Err(Error::Unavailable { attempted: "follow its log", source: late.into() }),
        }
        let next = tokio::time::sleep(LOOK_EVERY);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                () = feed.hurry.notified() => break,
                notice = session.notice() => match notice {
                    // The writer publishes its own. Deaf to others', a server that also publishes its own
                    // too early is sure to show a wrong order.
                    Some(notice) if notice.starts_with(&own) || feed.out_of_order => {}
                    Some(_) => break,
                    None => return Err(Error::Unavailable { attempted: "listen", source: "the connection was closed".into() }),
                },
            }
        }
    }
}
