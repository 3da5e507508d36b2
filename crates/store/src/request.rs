//! Commits on their way to the writer: checked and serialised by the caller, and bounded.

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::commit::{Commit, Expect, Write};
use crate::draft::Draft;
use crate::error::Error;
use crate::lease::{Fence, Leadership, LeaseChange};
use crate::object::{Key, Stored};

/// Requests that wait for the writer; further callers wait to get in.
pub(crate) const QUEUE_REQUESTS_MAX: usize = 1_024;
/// Bytes of objects that wait for the writer; further callers wait to get in.
pub(crate) const QUEUE_BYTES_MAX: u32 = 64 << 20;
/// Requests in one transaction.
const BATCH_REQUESTS_MAX: usize = 256;
/// Bytes after which no further request joins a transaction.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Writes and facts in one commit.
const COMMIT_WRITES_MAX: usize = 10_000;
/// Bytes of one object or one fact.
const BODY_BYTES_MAX: usize = 8 << 20;
/// What a request costs beside its bodies, so that empty ones are bounded too.
const REQUEST_OVERHEAD_BYTES: usize = 256;

/// What the writer is asked for.
pub(crate) enum Message {
    /// Write.
    Commit(Request),
    /// Take, renew or give up a lease.
    Lease(LeaseChange, oneshot::Sender<Result<Option<Leadership>, Error>>),
    /// Compact, and answer when done.
    Compact(u64, oneshot::Sender<Result<(), Error>>),
    /// End, and answer when everything is closed.
    Stop(oneshot::Sender<()>),
}

/// A commit, serialised and waiting.
pub(crate) struct Request {
    pub(crate) steps: Vec<Step>,
    pub(crate) facts: Vec<FactRow>,
    pub(crate) fence: Option<Fence>,
    bytes: usize,
    reply: oneshot::Sender<Outcome>,
    /// Its share of [`QUEUE_BYTES_MAX`], given back when the request is answered.
    room: Option<OwnedSemaphorePermit>,
}

/// How a commit ended.
pub(crate) type Outcome = Result<Vec<Stored>, Error>;

/// A [`Write`], serialised.
pub(crate) enum Step {
    Put { key: Key, expect: Expect, draft: Draft },
    Delete { key: Key, expect: Expect },
}

impl Step {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

/// A [`crate::Fact`], serialised.
pub(crate) struct FactRow {
    pub(crate) kind: &'static str,
    pub(crate) idempotency_key: String,
    pub(crate) namespace: String,
    pub(crate) at_us: i64,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Checks and serialises a commit on the caller's side.
    pub(crate) fn prepare(commit: Commit) -> Result<(Self, oneshot::Receiver<Outcome>), Error> {
        let count = commit.writes.len() + commit.facts.len();
        if count > COMMIT_WRITES_MAX {
            return Err(Error::Invalid {
                what: format!("a commit of {count} writes and facts"),
                reason: format!("at most {COMMIT_WRITES_MAX} can happen together"),
            });
        }
        let mut bytes = 0;
        let mut measure = |what: &dyn std::fmt::Display, len: usize| {
            bytes += len + REQUEST_OVERHEAD_BYTES;
            if len <= BODY_BYTES_MAX {
                return Ok(());
            }
            Err(Error::Invalid { what: what.to_string(), reason: format!("it is {len} bytes, and {BODY_BYTES_MAX} is the most") })
        };

        let mut steps = Vec::with_capacity(commit.writes.len());
        for write in commit.writes {
            check_key(write.key())?;
            steps.push(match write {
                Write::Put { key, expect, object } => {
                    let draft = Draft::new(object).map_err(|reason| invalid(&key, reason))?;
                    measure(&key, draft.len())?;
                    Step::Put { key, expect, draft }
                }
                Write::Delete { key, expect: Expect::Absent } => {
                    return Err(invalid(&key, "a deletion cannot expect that there is no object"));
                }
                Write::Delete { key, expect } => {
                    measure(&key, 0)?;
                    Step::Delete { key, expect }
                }
            });
        }
        let mut facts = Vec::with_capacity(commit.facts.len());
        for fact in commit.facts {
            let what = format!("fact {}", fact.idempotency_key);
            if holds_nul(&fact.idempotency_key) || holds_nul(&fact.namespace) {
                return Err(Error::Invalid { what, reason: NUL.to_owned() });
            }
            let body = serde_json::to_vec(&fact.body).expect("a JSON value serialises into memory");
            measure(&what, body.len())?;
            facts.push(FactRow {
                kind: fact.kind,
                idempotency_key: fact.idempotency_key,
                namespace: fact.namespace,
                at_us: fact.at.as_microsecond(),
                body,
            });
        }
        let (reply, answer) = oneshot::channel();
        Ok((Self { steps, facts, fence: commit.fence, bytes, reply, room: None }, answer))
    }

    /// The request's share of the queue, in bytes.
    pub(crate) fn room_needed(&self) -> u32 {
        u32::try_from(self.bytes).unwrap_or(u32::MAX).min(QUEUE_BYTES_MAX)
    }

    pub(crate) fn take_room(&mut self, room: OwnedSemaphorePermit) {
        self.room = Some(room);
    }
}

/// Takes the requests that wait behind `first`, as many as may share a transaction with it, and the
/// message that ended the row, if one did.
pub(crate) fn gather(first: Request, receiver: &mut mpsc::Receiver<Message>) -> (Vec<Request>, Option<Message>) {
    let mut bytes = first.bytes;
    let mut requests = vec![first];
    while requests.len() < BATCH_REQUESTS_MAX && bytes < BATCH_BYTES_MAX {
        match receiver.try_recv() {
            Ok(Message::Commit(request)) => {
                bytes += request.bytes;
                requests.push(request);
            }
            Ok(other) => return (requests, Some(other)),
            Err(_) => break,
        }
    }
    (requests, None)
}

/// Tells each caller how its request ended.
pub(crate) fn answer(requests: Vec<Request>, outcomes: Vec<Outcome>) {
    debug_assert_eq!(requests.len(), outcomes.len(), "every request has one outcome");
    for (request, outcome) in requests.into_iter().zip(outcomes) {
        // The caller may have stopped waiting; what is written stays written.
        let _ = request.reply.send(outcome);
    }
}

fn invalid(key: &Key, reason: &str) -> Error {
    Error::Invalid { what: key.to_string(), reason: reason.to_owned() }
}

const NUL: &str = "a name must not hold the character NUL, which PostgreSQL cannot keep";

fn holds_nul(text: &str) -> bool {
    text.contains('\0')
}

fn check_key(key: &Key) -> Result<(), Error> {
    if key.resource.is_empty() || key.name.is_empty() {
        return Err(invalid(key, "its resource and its name must not be empty"));
    }
    if holds_nul(&key.resource) || holds_nul(&key.namespace) || holds_nul(&key.name) {
        return Err(invalid(key, NUL));
    }
    Ok(())
}
