//! Writes of many streams that leave as one.
//!
//! An event wakes all watches of a kind, and on an HTTP/2 connection a hundred of them have something
//! to send at once. The protocol's machinery writes and flushes one frame after the other; sent so,
//! each would be a TLS record and a system call of its own. Here they wait for each other while the
//! machinery is at work, and are sent when it has nothing more to do.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::port::Connection;

/// Bytes that wait for each other: four of the largest TLS records (RFC 8446 section 5.1). More are
/// sent before they are taken.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// A connection as the protocol's machinery sees it. Clones are the same connection: one is written to,
/// and whoever holds the other sends what was written, after each time the machinery did something.
#[derive(Clone)]
pub(super) struct Gathered(Arc<Mutex<Outgoing>>);

struct Outgoing {
    connection: Connection,
    waiting: Vec<u8>,
    /// Bytes at the beginning of `waiting` that were sent.
    sent: usize,
}

impl Gathered {
    pub(super) fn new(connection: Connection) -> Self {
        Self(Arc::new(Mutex::new(Outgoing { connection, waiting: Vec::new(), sent: 0 })))
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        // One task holds all clones; nothing that can panic leaves it half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing();
        ready!(outgoing.poll_send(context))?;
        Pin::new(&mut outgoing.connection).poll_flush(context)
    }
}

impl Outgoing {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.waiting.len() {
            let count = ready!(Pin::new(&mut self.connection).poll_write(context, &self.waiting[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        // Most connections are quiet most of the time, and should hold no memory then.
        self.waiting = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing().connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut outgoing = self.outgoing();
        if outgoing.waiting.len() >= WAITING_BYTES_MAX {
            ready!(outgoing.poll_send(context))?;
        }
        let taken = bytes.len().min(WAITING_BYTES_MAX - outgoing.waiting.len());
        outgoing.waiting.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    /// Nothing: see [`Gathered::poll_send`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.outgoing().connection).poll_shutdown(context)
    }
}
