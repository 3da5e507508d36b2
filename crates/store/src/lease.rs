//! Leadership: who may act for a name at present, and how a write proves it.
//!
//! A lease alone does not keep two leaders apart: one that was paused may wake after its lease ran out
//! and write before it looks at the clock. So each time a lease changes hands its token grows, and a
//! [`Commit`](crate::Commit) that carries a [`Fence`] is refused once the token is no longer the newest.
//! (M. Kleppmann, "How to do distributed locking", 2016, calls this a fencing token.)

use std::time::Duration;

use jiff::Timestamp;

use crate::error::Error;

/// The longest a lease may run without being renewed.
const TTL_MAX: Duration = Duration::from_hours(1);

/// Proof of leadership that a commit carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The name the lease is for, such as `controllers`.
    pub name: String,
    /// The token the lease was given with.
    pub token: u64,
}

tokio::task_local! {
    static FENCE: Fence;
}

impl Fence {
    /// Makes every commit carry this that `work` makes in its own task and that carries none itself. So
    /// what lies between a leader and the store need not know of leaders.
    pub async fn over<F: Future>(self, work: F) -> F::Output {
        FENCE.scope(self, work).await
    }

    /// What the present task's commits carry.
    pub(crate) fn present() -> Option<Self> {
        FENCE.try_with(Clone::clone).ok()
    }

    /// Refuses a token that is not the newest one given.
    pub(crate) fn check(&self, newest: Option<u64>) -> Result<(), Error> {
        if newest == Some(self.token) {
            return Ok(());
        }
        Err(Error::Fenced { name: self.name.clone(), token: self.token, newest })
    }
}

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The name it is for.
    pub name: String,
    /// Who holds it. Each life of a process needs its own, so that it never renews its predecessor's.
    pub holder: String,
    /// Grows each time the lease changes hands.
    pub token: u64,
    /// When it runs out, by the database's clock, unless it is renewed before.
    pub expires_at: Timestamp,
}

impl Leadership {
    /// What commits carry, to be refused once somebody else leads.
    pub fn fence(&self) -> Fence {
        Fence { name: self.name.clone(), token: self.token }
    }
}

/// What is to become of a lease.
#[derive(Clone, Debug)]
pub(crate) enum LeaseChange {
    /// Take it if it is free or has run out, renew it if it is ours.
    Take { name: String, holder: String, ttl_us: i64 },
    /// Make it run out now, if it is still the one with this token.
    Release(Fence),
}

impl LeaseChange {
    pub(crate) fn take(name: &str, holder: &str, ttl: Duration) -> Result<Self, Error> {
        let refused = |reason: &str| Err(Error::Invalid { what: format!("lease {name:?}"), reason: reason.to_owned() });
        if name.is_empty() || holder.is_empty() || name.contains('\0') || holder.contains('\0') {
            return refused("its name and its holder must not be empty, nor hold the character NUL");
        }
        if ttl.is_zero() || ttl > TTL_MAX {
            return refused("it must run for more than nothing and at most an hour");
        }
        let ttl_us = i64::try_from(ttl.as_micros()).expect("an hour of microseconds fits");
        Ok(Self::Take { name: name.to_owned(), holder: holder.to_owned(), ttl_us })
    }
}
