//! The task that writes.
//!
//! It takes as many requests as are waiting, commits them in one transaction, and answers them all when
//! it is on disk. What fails in passing is tried again: a lost connection, a primary that was replaced,
//! a deadlock. A commit whose answer was lost is looked up by its name, which is in the same
//! transaction, and never guessed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::error::{Reaction, same};
use super::pool::Pauses;
use super::session::Session;
use super::transaction::{Done, Failed, Statements, WriterSession};
use super::{Shared, compaction, leases};
use crate::error::Error;
use crate::request::{Message, Outcome, Request, answer, gather};

/// How long a batch is tried again while the database cannot be reached: a standby is promoted within it.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// How long a commit whose answer was lost is looked for before its callers are told that nobody knows.
const FIND_FOR: Duration = Duration::from_secs(60);
/// How long one attempt may take: longer than the lock of the newest revision may be waited for.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Writer {
    shared: Arc<Shared>,
    receiver: mpsc::Receiver<Message>,
    /// Tells this store's notices from others'.
    id: Uuid,
    session: Option<WriterSession>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, receiver: mpsc::Receiver<Message>) -> Self {
        let id = shared.feed.writer;
        Self { shared, receiver, id, session: None }
    }

    pub(super) async fn run(mut self) {
        let mut stopped = None;
        let mut deferred = None;
        loop {
            let message = match deferred.take() {
                Some(message) => Some(message),
                None => self.receiver.recv().await,
            };
            match message {
                Some(Message::Commit(first)) => {
                    let (requests, next) = gather(first, &mut self.receiver);
                    deferred = next;
                    self.commit_all(requests).await;
                }
                // These do not need the writer, so they do not hold it up.
                Some(Message::Lease(change, reply)) => {
                    let shared = self.shared.clone();
                    tokio::spawn(async move {
                        let change = &change;
                        let changed = shared.scans.read(|session| async move { leases::change(&session, change).await }).await;
                        // Here and below: whoever asked may have stopped waiting.
                        let _ = reply.send(changed);
                    });
                }
                Some(Message::Compact(keep_after, reply)) => {
                    let shared = self.shared.clone();
                    tokio::spawn(async move {
                        let _ = reply.send(compaction::through(&shared, keep_after).await);
                    });
                }
                Some(Message::Stop(reply)) => {
                    stopped = Some(reply);
                    break;
                }
                None => break,
            }
        }
        // Requests that came after the stop are answered by the end of their channel.
        drop(self.receiver);
        self.shared.hub.close();
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    async fn commit_all(&mut self, requests: Vec<Request>) {
        match self.commit(&requests).await {
            Ok(outcomes) => answer(requests, outcomes),
            Err(error) if requests.len() == 1 => answer(requests, vec![Err(error)]),
            // It would be the same for each alone.
            Err(error @ (Error::Unavailable { .. } | Error::WentBack { .. } | Error::Closed)) => {
                let outcomes = requests.iter().map(|_| Err(same("write", &error))).collect();
                answer(requests, outcomes);
            }
            // One of them may be too large for a disk that has room for the others.
            Err(error) => {
                tracing::warn!(%error, requests = requests.len(), "a batch failed; trying each alone");
                for request in requests {
                    let outcomes = self.commit(std::slice::from_ref(&request)).await.unwrap_or_else(|e| vec![Err(e)]);
                    answer(vec![request], outcomes);
                }
            }
        }
    }

    /// Commits requests in one transaction, however often it has to be tried, and publishes what they did.
    /// On an error nothing of any of them has happened, unless the error says that nobody knows.
    async fn commit(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, Error> {
        let until = Instant::now() + RETRY_FOR;
        let mut pauses = Pauses::default();
        loop {
            if let Some(error) = self.shared.feed.went_back() {
                return Err(error);
            }
            let (error, reaction) = match self.attempt(requests).await {
                Ok(done) => return Ok(self.publish(done).await),
                Err(Failed::Certainly(error, reaction)) => (error, reaction),
                // It was looked for in vain.
                Err(Failed::Unanswered(_, error)) => return Err(error),
            };
            // The transaction, if one is open, ends with its connection.
            self.session = None;
            if reaction == Reaction::GiveUp || Instant::now() >= until {
                return Err(error);
            }
            tracing::debug!(error = &error as &dyn std::error::Error, "a transaction is tried again");
            pauses.pause().await;
        }
    }

    /// One attempt, and the search for it if its answer was lost.
    async fn attempt(&mut self, requests: &[Request]) -> Result<Done, Failed> {
        let lost = |error| Failed::Certainly(error, Reaction::Reconnect);
        if self.session.is_none() {
            self.session = Some(self.connect().await.map_err(lost)?);
        }
        let Some(session) = &self.session else { return Err(lost(Error::Closed)) };
        let id = Uuid::new_v4();
        let now_us = (self.shared.options.now)().as_microsecond();
        match session.attempt(&self.shared.hub, requests, (id, self.id), now_us, ATTEMPT_TIMEOUT).await {
            Err(Failed::Unanswered(done, error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the answer to a commit was lost; looking whether it happened");
                match self.find(id).await {
                    Some(true) => Ok(done),
                    Some(false) => Err(lost(error)),
                    None => Err(Failed::Unanswered(done, error)),
                }
            }
            other => other,
        }
    }

    async fn connect(&self) -> Result<WriterSession, Error> {
        let session = Session::open(&self.shared.address).await?;
        let statements = timeout(ATTEMPT_TIMEOUT, Statements::prepare(&session))
            .await
            .map_err(|late| Error::Unavailable { attempted: "prepare to write", source: late.into() })?
            .map_err(|source| Error::postgres("prepare to write", source))?;
        Ok(WriterSession { session, statements })
    }

    /// Whether a commit happened; `None` if that could not be found out in time.
    async fn find(&mut self, id: Uuid) -> Option<bool> {
        let until = Instant::now() + FIND_FOR;
        let mut pauses = Pauses::default();
        self.session = None;
        while Instant::now() < until {
            match self.connect().await {
                Ok(session) => match timeout(ATTEMPT_TIMEOUT, session.find(id)).await {
                    Ok(Ok(found)) => {
                        self.session = Some(session);
                        return Some(found);
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "cannot look for a commit yet"),
                    Err(late) => tracing::debug!(%late, "cannot look for a commit yet"),
                },
                Err(error) => tracing::debug!(%error, "cannot look for a commit yet"),
            }
            pauses.pause().await;
        }
        None
    }

    async fn publish(&self, done: Done) -> Vec<Outcome> {
        if !done.events.is_empty() {
            self.shared.feed.publish_own(done.events).await;
        }
        done.outcomes
    }
}
