//! Connections for reads, opened when first needed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::address::Address;
use super::session::{Session, answered};
use crate::error::Error;

/// How long a read is tried again while the database cannot be reached: a standby is promoted within it.
const RETRY_FOR: Duration = Duration::from_secs(20);
/// The first pause before a read is tried again; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A bounded set of connections.
pub(super) struct Pool {
    address: Address,
    idle: Mutex<Vec<Arc<Session>>>,
    permits: Arc<Semaphore>,
    sessions_max: usize,
    /// Run once on each connection, if there are any.
    settings: &'static str,
}

/// A connection on loan. It goes back only when whoever has it says that nothing is left open on it.
struct Lease<'a> {
    pool: &'a Pool,
    session: Option<Arc<Session>>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(address: Address, sessions_max: usize, settings: &'static str) -> Self {
        Self { address, idle: Mutex::default(), permits: Arc::new(Semaphore::new(sessions_max)), sessions_max, settings }
    }

    /// Runs a read, again on another connection when one was lost on the way: a read changes nothing.
    pub(super) async fn read<T, F>(&self, read: impl Fn(Arc<Session>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let until = Instant::now() + RETRY_FOR;
        let mut pauses = Pauses::default();
        loop {
            let error = match self.read_once(&read).await {
                Ok(value) => return Ok(value),
                Err(error @ Error::Unavailable { .. }) => error,
                Err(error) => return Err(error),
            };
            if Instant::now() >= until {
                return Err(error);
            }
            tracing::debug!(error = &error as &dyn std::error::Error, "a read is tried again");
            pauses.pause().await;
        }
    }

    /// Runs a read, or anything that may not be repeated, once.
    pub(super) async fn read_once<T, F>(&self, read: impl Fn(Arc<Session>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut lease = self.lease().await?;
        let session = match lease.session.take() {
            Some(session) => session,
            None => {
                let session = Session::open(&self.address).await?;
                if !self.settings.is_empty() {
                    answered("prepare to read", async {
                        session.run(self.settings).await.map_err(|source| Error::postgres("prepare to read", source))
                    })
                    .await?;
                }
                Arc::new(session)
            }
        };
        // Dropped with the session in it, the read leaves no open transaction to the next.
        let value = answered("read", read(session.clone())).await?;
        lease.session = Some(session);
        Ok(value)
    }

    async fn lease(&self) -> Result<Lease<'_>, Error> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| !session.is_closed());
        let session = idle.pop();
        drop(idle);
        Ok(Lease { pool: self, session, _permit: permit })
    }

    /// Waits for running reads, closes the connections and refuses further reads.
    pub(super) async fn close(&self) {
        // Fails only if the pool is closed already.
        if let Ok(all) = self.permits.acquire_many(self.sessions_max as u32).await {
            self.permits.close();
            drop(all);
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

/// Pauses that grow.
#[derive(Default)]
pub(super) struct Pauses(u32);

impl Pauses {
    /// How many there were.
    pub(super) fn made(&self) -> u32 {
        self.0
    }

    pub(super) async fn pause(&mut self) {
        let pause = PAUSE_MIN.saturating_mul(1 << self.0.min(10)).min(PAUSE_MAX);
        self.0 += 1;
        tokio::time::sleep(pause).await;
    }
}
