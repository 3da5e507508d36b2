//! Gets that wait are asked for together.
//!
//! A get alone is a round trip to another process for two rows. Under load many come at once; whatever
//! waits when a reader is free is one query, as the writer makes one transaction of what waits for it.
//! A query begins after all its gets came, so each sees every write that was acknowledged before it.
//!
//! Of objects that were written a moment ago the database only says which version is the newest: the
//! hub has its text. Revisions name the same texts in both, unless the database lost what it had
//! acknowledged. A connection made after that could tell of other texts; so the hub is not asked on one
//! until the feed, which notices, has looked at the database since.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::Shared;
use super::error::same;
use super::objects::{body, database};
use super::session::Session;
use crate::error::Error;
use crate::object::{Key, Stored};

/// Queries at once. One is made while the other's answer is handed out; more would only be smaller.
pub(super) const READERS: usize = 2;
/// Gets in one query.
const GETS_MAX: usize = 64;
/// Gets that wait for a reader; further ones wait for room.
const WAITING_MAX: usize = 4096;

/// Revisions of objects, and the bodies of those outside a range of revisions, which may be empty.
const VERSIONS: &str = "\
    SELECT wanted.n, objects.revision, log.body \
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (resource, namespace, name, n) \
    JOIN objects USING (resource, namespace, name) \
    LEFT JOIN log ON log.revision = objects.revision AND (objects.revision < $4 OR objects.revision > $5)";

/// A get that waits.
pub(super) struct Asked {
    key: Key,
    reply: oneshot::Sender<Result<Option<Stored>, Error>>,
}

pub(super) type Waiting = Arc<Mutex<mpsc::Receiver<Asked>>>;

/// Where gets wait: the end they come in at, and the one they are taken from.
pub(super) fn queue() -> (mpsc::Sender<Asked>, Waiting) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (sender, Arc::new(Mutex::new(receiver)))
}

/// Reads the newest version of one object, with others.
pub(super) async fn get(queue: &mpsc::Sender<Asked>, key: &Key) -> Result<Option<Stored>, Error> {
    let (reply, answer) = oneshot::channel();
    queue.send(Asked { key: key.clone(), reply }).await.map_err(|_| Error::Closed)?;
    answer.await.map_err(|_| Error::Closed)?
}

/// Answers gets for as long as some may come.
pub(super) async fn answer_all(shared: Arc<Shared>, waiting: Waiting) {
    let mut asked = Vec::with_capacity(GETS_MAX);
    while waiting.lock().await.recv_many(&mut asked, GETS_MAX).await > 0 {
        // Whoever does not wait any more needs no answer.
        asked.retain(|get| !get.reply.is_closed());
        answer(&shared, &mut asked).await;
    }
}

async fn answer(shared: &Shared, asked: &mut Vec<Asked>) {
    let keys: Vec<&Key> = asked.iter().map(|get| &get.key).collect();
    let answers = match ask(shared, &keys).await {
        Ok(found) => found.into_iter().map(Ok).collect(),
        Err(error) if keys.len() == 1 => vec![Err(error)],
        // It would be the same for each alone.
        Err(error @ (Error::Unavailable { .. } | Error::WentBack { .. } | Error::Closed)) => {
            keys.iter().map(|_| Err(same("read", &error))).collect()
        }
        // One of them has a name that the database cannot take.
        Err(error) => {
            tracing::debug!(%error, gets = keys.len(), "gets failed together; trying each alone");
            let mut answers = Vec::with_capacity(keys.len());
            for key in keys {
                answers.push(ask(shared, &[key]).await.map(|mut found| found.pop().flatten()));
            }
            answers
        }
    };
    for (get, answer) in asked.drain(..).zip(answers) {
        // Whoever asked may have stopped waiting.
        let _ = get.reply.send(answer);
    }
}

async fn ask(shared: &Shared, keys: &[&Key]) -> Result<Vec<Option<Stored>>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    shared.points.read(|session| async move { read(shared, &session, keys).await }).await
}

/// The newest versions of objects, in the order of their keys.
async fn read(shared: &Shared, session: &Session, keys: &[&Key]) -> Result<Vec<Option<Stored>>, Error> {
    let statement = session.prepare(VERSIONS).await.map_err(database)?;
    let mut found = vec![None; keys.len()];
    let mut wanted: Vec<usize> = (0..keys.len()).collect();
    let mut in_memory = if shared.feed.has_looked_since(session.opened()) { shared.hub.span() } else { None };
    loop {
        let column = |part: fn(&Key) -> &str| wanted.iter().map(|place| part(keys[*place])).collect::<Vec<_>>();
        let (resources, namespaces, names) = (column(|key| &key.resource), column(|key| &key.namespace), column(|key| &key.name));
        let (oldest, newest) = in_memory.map_or((0, -1), |(oldest, newest)| (oldest as i64, newest as i64));
        let rows = session.query(&statement, &[&resources, &namespaces, &names, &oldest, &newest]).await.map_err(database)?;
        let mut missing = Vec::new();
        for row in &rows {
            let place = wanted[row.get::<_, i64>(0) as usize - 1];
            let (key, revision) = (keys[place], row.get::<_, i64>(1) as u64);
            found[place] = match in_memory {
                Some((oldest, newest)) if (oldest..=newest).contains(&revision) => match shared.hub.recent(revision) {
                    Some(stored) => Some(Stored::clone(&stored)),
                    // It left memory meanwhile.
                    None => {
                        missing.push(place);
                        None
                    }
                },
                _ if row.get::<_, Option<&[u8]>>(2).is_none() => {
                    return Err(Error::Corrupt { what: format!("revision {revision} is not in the log"), source: None });
                }
                _ => Some(Stored { key: key.clone(), revision, body: body(row, 2) }),
            };
        }
        if missing.is_empty() {
            return Ok(found);
        }
        (wanted, in_memory) = (missing, None);
    }
}
