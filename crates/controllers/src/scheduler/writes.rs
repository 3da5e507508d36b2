//! What the scheduler writes while it goes on planning.
//!
//! A write takes as long as the disk does. What it says is remembered where plans are made, so the next
//! one need not wait for it.

use std::collections::VecDeque;
use std::sync::Arc;

use fermion_api::ai::Workload;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;

use crate::error::Error;

/// How many requests are under way at the same time: they share transactions of the store.
pub(super) const REQUESTS_AT_ONCE: usize = 128;

/// What was written, or could not be.
pub(super) enum Done {
    /// Somebody was told to stop for others, but for these pods.
    Evicted {
        number: u64,
        kept: Vec<Arc<Pod>>,
    },
    Bound {
        pod: Arc<Pod>,
        answer: Result<(), kube::Error>,
    },
    ToldWorkload {
        workload: Arc<Workload>,
        answer: Result<(), Error>,
    },
    ToldPod {
        answer: Result<(), Error>,
    },
    /// What everybody used was kept.
    Kept {
        answer: Result<(), Error>,
    },
    Summed,
}

/// Writes that are under way, and those that wait for their turn. Dropped, they break off.
#[derive(Default)]
pub(super) struct Writes {
    under_way: JoinSet<Done>,
    next: VecDeque<BoxFuture<'static, Done>>,
    summing: bool,
}

impl Writes {
    /// Begins a write, or has it wait for its turn.
    pub(super) fn add(&mut self, write: impl Future<Output = Done> + Send + 'static) {
        if self.under_way.len() < REQUESTS_AT_ONCE {
            self.under_way.spawn(write);
        } else {
            self.next.push_back(write.boxed());
        }
    }

    /// Begins to write sums.
    pub(super) fn add_sums(&mut self, write: impl Future<Output = Done> + Send + 'static) {
        self.summing = true;
        self.add(write);
    }

    /// Whether sums are being written.
    pub(super) fn is_summing(&self) -> bool {
        self.summing
    }

    /// The next one that comes to its end; never where none is under way.
    pub(super) async fn next(&mut self) -> Done {
        loop {
            match self.under_way.join_next().await {
                Some(Ok(done)) => return self.ended(done),
                Some(Err(_)) => self.broke_off(),
                None => std::future::pending().await,
            }
        }
    }

    /// One that came to its end.
    pub(super) fn done(&mut self) -> Option<Done> {
        loop {
            match self.under_way.try_join_next()? {
                Ok(done) => return Some(self.ended(done)),
                Err(_) => self.broke_off(),
            }
        }
    }

    fn ended(&mut self, done: Done) -> Done {
        self.begin_next();
        self.summing &= !matches!(done, Done::Summed);
        done
    }

    /// One panicked, and told so itself; what it wrote is seen or it is not.
    fn broke_off(&mut self) {
        self.begin_next();
        self.summing &= !self.under_way.is_empty();
    }

    fn begin_next(&mut self) {
        if let Some(next) = self.next.pop_front() {
            self.under_way.spawn(next);
        }
    }
}
