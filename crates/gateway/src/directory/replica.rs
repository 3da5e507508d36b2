//! One pod as the gateway sees it, and what it counts about it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use jiff::Timestamp;

use crate::forward::Upload;

/// A pod that could not be connected to is tried after the others for this long.
const QUARANTINE: Duration = Duration::from_secs(5);
/// The most idle connections kept to one pod.
const IDLE_CONNECTIONS_MAX: usize = 32;
/// An idle connection is used again for this long. Shorter than what common servers allow
/// (5 s in uvicorn, node and llama.cpp), so that the server is rarely the one that closes,
/// just as a request is sent.
const IDLE_LIFETIME: Duration = Duration::from_secs(3);

/// A pod at one moment. A change makes a new one; `load` goes along.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// From the pod's status, the only addresses the gateway ever connects to.
    pub(crate) address: Option<IpAddr>,
    /// The Ready condition is True and the pod is not going away.
    pub(crate) ready: bool,
    /// Its deletion was asked for.
    pub(crate) going: bool,
    pub(crate) running: bool,
    /// Its first container.
    pub(crate) container: Option<String>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) load: Arc<Load>,
}

/// What goes on between the gateway and one pod.
#[derive(Default)]
pub(crate) struct Load {
    in_flight: AtomicUsize,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    idle: VecDeque<Idle>,
    failed_at: Option<Instant>,
}

struct Idle {
    sender: SendRequest<Upload>,
    port: u16,
    since: Instant,
}

impl Connections {
    fn sweep(&mut self, now: Instant) {
        self.idle.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < IDLE_LIFETIME);
    }
}

impl std::fmt::Debug for Load {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Load").field("in_flight", &self.outstanding()).finish_non_exhaustive()
    }
}

impl Load {
    /// Requests sent and not answered to the end.
    pub(crate) fn outstanding(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(crate) fn is_quarantined(&self, now: Instant) -> bool {
        self.connections().failed_at.is_some_and(|failed_at| now.duration_since(failed_at) < QUARANTINE)
    }

    /// Notes that the pod could not be connected to.
    pub(crate) fn failed(&self, now: Instant) {
        self.connections().failed_at = Some(now);
    }

    /// Notes that it could.
    pub(crate) fn succeeded(&self) {
        self.connections().failed_at = None;
    }

    /// An idle connection that is still open, the one used last.
    pub(crate) fn take_idle(self: &Arc<Self>, port: u16, now: Instant) -> Option<Lease> {
        let mut connections = self.connections();
        connections.sweep(now);
        let position = connections.idle.iter().rposition(|idle| idle.port == port && idle.sender.is_ready())?;
        let sender = connections.idle.remove(position)?.sender;
        Some(Lease { sender, port, load: Arc::clone(self) })
    }

    /// Lets go of connections that were idle for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        self.connections().sweep(now);
    }

    /// Lets go of idle connections; those in use go on.
    pub(crate) fn close_idle(&self) {
        self.connections().idle.clear();
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one request at a pod while it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Load>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection in use. Dropping it closes the connection.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<Upload>,
    pub(crate) port: u16,
    pub(crate) load: Arc<Load>,
}

impl Lease {
    /// Keeps the connection for a next request: for use after an answer was read to its end.
    pub(crate) fn give_back(self, now: Instant) {
        if self.sender.is_closed() {
            return;
        }
        let mut connections = self.load.connections();
        if connections.idle.len() >= IDLE_CONNECTIONS_MAX {
            connections.idle.pop_front();
        }
        connections.idle.push_back(Idle { sender: self.sender, port: self.port, since: now });
    }
}
