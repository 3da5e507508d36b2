//! Connections that only read, beside the writer and beside each other.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::plan_once;
use crate::error::Error;

/// Connections for reads of one row. Apart from the others, so that long lists never hold up a get.
const POINT_CONNECTIONS_MAX: usize = 2;
/// Connections for lists, facts and watchers that read the log.
const SCAN_CONNECTIONS_MAX: usize = 4;
/// How long a reader waits for the locks it shares with recovery after a crash.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept by each connection: more than there are shapes of queries.
const STATEMENTS_MAX: usize = 64;

/// Two pools of read connections, opened when first needed.
pub(crate) struct Readers {
    points: Arc<Pool>,
    scans: Arc<Pool>,
}

impl Readers {
    pub(crate) fn new(database: PathBuf) -> Self {
        Self {
            points: Arc::new(Pool::new(database.clone(), POINT_CONNECTIONS_MAX)),
            scans: Arc::new(Pool::new(database, SCAN_CONNECTIONS_MAX)),
        }
    }

    /// Runs a read of one row on the caller's own thread. It takes microseconds, as the database is
    /// mostly in the page cache; handing it to another thread would cost several times that.
    pub(crate) async fn point<T>(&self, read: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        let mut lease = Pool::lease(&self.points).await?;
        read(lease.connection()?)
    }

    /// Runs a longer read on a thread that may block.
    pub(crate) async fn scan<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut lease = Pool::lease(&self.scans).await?;
        let done = tokio::task::spawn_blocking(move || read(lease.connection()?)).await;
        done.unwrap_or_else(|ended| {
            Err(match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Error::Closed,
            })
        })
    }

    /// Waits for running reads, closes the connections and refuses further reads.
    pub(crate) async fn close(&self) {
        self.points.close(POINT_CONNECTIONS_MAX).await;
        self.scans.close(SCAN_CONNECTIONS_MAX).await;
    }
}

struct Pool {
    database: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    fn new(database: PathBuf, connections_max: usize) -> Self {
        Self { database, idle: Mutex::new(Vec::new()), permits: Arc::new(Semaphore::new(connections_max)) }
    }

    async fn lease(pool: &Arc<Self>) -> Result<Lease, Error> {
        let permit = pool.permits.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let connection = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Lease { pool: pool.clone(), connection, _permit: permit })
    }

    async fn close(&self, connections_max: usize) {
        // Fails only if the pool is closed already.
        if let Ok(all) = self.permits.acquire_many(connections_max as u32).await {
            self.permits.close();
            drop(all);
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection on loan; it goes back when dropped, before the permit is given up.
struct Lease {
    pool: Arc<Pool>,
    connection: Option<Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    fn connection(&mut self) -> Result<&mut Connection, Error> {
        if self.connection.is_none() {
            self.connection = Some(open(&self.pool.database)?);
        }
        Ok(self.connection.as_mut().expect("it was opened above if it was missing"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

fn open(database: &PathBuf) -> Result<Connection, Error> {
    let failed = |source| Error::sqlite("open it for reading", source);
    // Not SQLITE_OPEN_READ_ONLY: a reader too has to be able to map the write-ahead log's index.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.pragma_update(None, "query_only", true).map_err(failed)?;
    plan_once(&connection).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}
