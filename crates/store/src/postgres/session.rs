//! One connection to the database.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Row, Statement};

use super::address::Address;
use crate::error::Error;
use crate::sql::{Param, Sql};

/// How long to wait for a connection to be made and prepared.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for one answer. A list of a million objects comes within it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Prepared statements kept by each connection; beyond, they are prepared anew.
const STATEMENTS_MAX: usize = 128;
/// Notices that wait to be heard. More say nothing that the next look does not find.
const NOTICES_MAX: usize = 64;

/// What holds for every session: our own tables, no wait without an end on the database's side, and no
/// answer before what it says is on disk. A session that took the lock of the newest revision and then
/// says nothing, because its server is paused, is ended so that others can go on. Whatever is usual in
/// the database, each statement sees what was committed before it began: whoever waited for that lock
/// must see what its last holder left.
const SETTINGS: &str = "\
    SET search_path TO fermion; \
    SET default_transaction_isolation TO 'read committed'; \
    SET default_transaction_deferrable TO off; \
    SET client_min_messages TO warning; \
    SET jit TO off; \
    SET lock_timeout TO '10s'; \
    SET idle_in_transaction_session_timeout TO '5s'; \
    SET tcp_keepalives_idle TO 10; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// A connection. Dropping it closes it, and with it ends a transaction that is open.
pub(crate) struct Session {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
    driver: JoinHandle<()>,
    notices: tokio::sync::Mutex<mpsc::Receiver<String>>,
    opened: Instant,
}

impl Drop for Session {
    fn drop(&mut self) {
        // A cut connection would otherwise be kept for an answer that nobody waits for.
        self.driver.abort();
    }
}

impl Session {
    pub(crate) async fn open(address: &Address) -> Result<Self, Error> {
        match tokio::time::timeout(OPEN_TIMEOUT, Self::connect(address)).await {
            Ok(connected) => connected.map_err(|source| Error::postgres("connect", source)),
            Err(late) => Err(Error::Unavailable { attempted: "connect", source: late.into() }),
        }
    }

    async fn connect(address: &Address) -> Result<Self, tokio_postgres::Error> {
        let opened = Instant::now();
        let (client, mut connection) = address.config.connect(address.tls.clone()).await?;
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        let driver = tokio::spawn(async move {
            while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(notification)) => drop(sender.try_send(notification.payload().to_owned())),
                    Ok(AsyncMessage::Notice(notice)) => tracing::debug!(message = notice.message(), "notice of the database"),
                    Ok(_) => {}
                    // Whoever waits for an answer learns of it.
                    Err(error) => {
                        tracing::debug!(%error, "a connection to the database ended");
                        return;
                    }
                }
            }
        });
        let session = Self { client, statements: Mutex::default(), driver, notices: tokio::sync::Mutex::new(notices), opened };
        session.client.batch_execute(SETTINGS).await?;
        Ok(session)
    }

    /// The next notice on a channel that is listened to; `None` once the connection has ended.
    pub(crate) async fn notice(&self) -> Option<String> {
        self.notices.lock().await.recv().await
    }

    /// When it began to be opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Whether it can no longer be used.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements without parameters and without an answer.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    /// Prepares a statement, or finds it prepared.
    pub(crate) async fn prepare(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a prepared statement when first polled; those polled one after another share a round trip.
    pub(crate) async fn query(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.client.query(statement, params).await
    }

    /// The same, for statements that answer no rows.
    pub(crate) async fn execute(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Result<u64, tokio_postgres::Error> {
        self.client.execute(statement, params).await
    }

    /// The same, unless there is nothing for it to do.
    pub(crate) async fn execute_unless(
        &self,
        idle: bool,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        if idle { Ok(0) } else { self.client.execute(statement, params).await }
    }

    /// Runs a statement with its parameters.
    pub(crate) async fn query_sql(&self, sql: &Sql) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = self.prepare(&sql.text).await?;
        let params: Vec<&(dyn ToSql + Sync)> = sql
            .params
            .iter()
            .map(|param| match param {
                Param::Text(text) => text as &(dyn ToSql + Sync),
                Param::Integer(integer) => integer,
            })
            .collect();
        self.client.query(&statement, &params).await
    }
}

/// Waits for an answer, but not for ever: a connection may be cut without a word.
pub(crate) async fn answered<T>(attempted: &'static str, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(late) => Err(Error::Unavailable { attempted, source: late.into() }),
    }
}
