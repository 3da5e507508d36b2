//! Whether a workload may be submitted, and whether it may start, by everything that is ruled
//! apart from nodes: its queue, its owner's policies, windows, entitlement and quotas, and what
//! the queue may use.
//!
//! A rule that is in the way is a [`Blocker`], and for each there are [`Change`]s: each one alone
//! is just enough to take that blocker away.

mod change;

use std::ops::ControlFlow;

use crate::account::{Accounts, Owner};
use crate::entitlement::{self, Entitlements};
use crate::environment::Environment;
use crate::policy::{Breach, Facts, Policies};
use crate::queue::{self, QueueId, Queues, State};
use crate::quota::{self, Quotas};
use crate::resource::{Demand, ResourceId};
use crate::window::{Opening, Windows};

pub use change::{Change, Whose};

/// Everything that is ruled, with what is used.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    pub queues: Queues,
    pub accounts: Accounts,
    pub quotas: Quotas,
    pub policies: Policies,
    pub entitlements: Entitlements,
    pub windows: Windows,
}

/// What a workload asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub queue: QueueId,
    pub owner: Owner,
    /// Groups of its person.
    pub groups: &'a [String],
    pub environment: Environment,
    /// Of all members that must start together.
    pub demand: &'a Demand,
    /// Pods.
    pub members: u32,
    pub priority: i32,
    /// How long it says that it will run at most.
    pub run_ms: Option<i64>,
}

/// What a workload wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Submit,
    Start,
}

/// It may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// What of its demand is above its queue's guarantee, and may be claimed back.
    pub borrowed: Demand,
    /// It is ended when it has run this long.
    pub run_ms_max: Option<i64>,
    /// It is ended when it has been idle this long.
    pub idle_ms_max: Option<i64>,
}

/// A rule that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// The queue does not exist, or not any more.
    QueueNotFound,
    /// The queue takes or starts nothing in this state.
    QueueState(State),
    /// The queue is for others.
    NotAllowed,
    /// It says that it runs longer than the queue lets workloads run.
    TimeLimit { limit_ms: i64, asked_ms: i64 },
    /// A policy of an account.
    Policy(Breach),
    /// The user's hours.
    Window { opens_at: Option<i64> },
    /// What the user may hold.
    Entitlement(entitlement::Shortage),
    /// A ceiling.
    Quota(quota::Shortage),
    /// A limit of the queue or one above it, or nothing left to borrow.
    Queue(queue::Shortage),
}

impl Blocker {
    /// The resource that is short, where it is one.
    pub fn resource(&self) -> Option<ResourceId> {
        match self {
            Self::Entitlement(shortage) => Some(shortage.resource),
            Self::Quota(shortage) => Some(shortage.resource),
            Self::Queue(shortage) => Some(shortage.resource),
            Self::Policy(Breach { rule: crate::policy::Rule::PendingDemand { resource, .. }, .. }) => Some(*resource),
            Self::QueueNotFound
            | Self::QueueState(_)
            | Self::NotAllowed
            | Self::TimeLimit { .. }
            | Self::Policy(_)
            | Self::Window { .. } => None,
        }
    }
}

impl Admission {
    /// Whether it may, or the first thing in the way.
    pub fn check(&self, step: Step, request: Request<'_>, now: i64) -> Result<Admitted, Blocker> {
        let first = self.each_blocker(step, request, now, &mut ControlFlow::Break);
        if let ControlFlow::Break(blocker) = first {
            return Err(blocker);
        }
        let lifetime = self.policies.lifetime(&self.accounts, request.owner);
        let limits = [request.run_ms, lifetime.run_ms_max, self.queues.config(request.queue).time_limit_ms];
        Ok(Admitted {
            borrowed: self.queues.borrowed(request.queue, request.demand),
            run_ms_max: limits.into_iter().flatten().min(),
            idle_ms_max: lifetime.idle_ms_max,
        })
    }

    /// Everything that is in the way.
    pub fn blockers(&self, step: Step, request: Request<'_>, now: i64) -> Vec<Blocker> {
        let mut found = Vec::new();
        let all: ControlFlow<()> = self.each_blocker(step, request, now, &mut |blocker| {
            found.push(blocker);
            ControlFlow::Continue(())
        });
        debug_assert!(all.is_continue(), "nothing above breaks off");
        found
    }

    /// It waits from now on.
    pub fn submit(&mut self, request: Request<'_>) {
        self.policies.submitted(&self.accounts, request.owner, request.demand);
    }

    /// It waits no more, without having started.
    pub fn withdraw(&mut self, request: Request<'_>) {
        self.policies.left(&self.accounts, request.owner, request.demand);
    }

    /// It runs from now on, having waited: charged at all levels at once.
    pub fn start(&mut self, request: Request<'_>) {
        self.withdraw(request);
        self.restore(request);
    }

    /// It runs already, as is found at a start of the scheduler.
    pub fn restore(&mut self, request: Request<'_>) {
        self.policies.started(&self.accounts, request.owner, request.environment);
        self.quotas.charge(&self.accounts, request.owner, request.demand);
        self.queues.charge(request.queue, request.demand);
    }

    /// It runs no more.
    pub fn end(&mut self, request: Request<'_>) {
        self.policies.ended(&self.accounts, request.owner, request.environment);
        self.quotas.release(&self.accounts, request.owner, request.demand);
        self.queues.release(request.queue, request.demand);
    }

    /// The name by which queues, windows and entitlements know the owner.
    fn user(&self, owner: Owner) -> &str {
        self.accounts.name(owner.person)
    }

    fn each_blocker<B>(
        &self,
        step: Step,
        request: Request<'_>,
        now: i64,
        found: &mut dyn FnMut(Blocker) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Request { queue, owner, groups, environment, demand, members, priority, run_ms } = request;
        if !self.queues.contains(queue) {
            return found(Blocker::QueueNotFound);
        }
        let config = self.queues.config(queue);
        let open = match step {
            Step::Submit => config.state.accepts(),
            Step::Start => config.state.starts(),
        };
        if !open {
            found(Blocker::QueueState(config.state))?;
        }
        let user = self.user(owner);
        if !config.access.allows(user, groups) {
            found(Blocker::NotAllowed)?;
        }
        if let (Some(limit_ms), Some(asked_ms)) = (config.time_limit_ms, run_ms)
            && asked_ms > limit_ms
        {
            found(Blocker::TimeLimit { limit_ms, asked_ms })?;
        }
        let facts = Facts { environment, demand, members, priority, run_ms };
        let breaches = match step {
            Step::Submit => self.policies.on_submit(&self.accounts, owner, facts),
            Step::Start => self.policies.on_start(&self.accounts, owner, environment),
        };
        breaches.into_iter().map(Blocker::Policy).try_for_each(&mut *found)?;
        if step == Step::Submit {
            return ControlFlow::Continue(());
        }
        if !self.windows.allowed(user, groups, environment, now) {
            let opens_at = match self.windows.opening(user, groups, environment, now) {
                Opening::Closed { opens_at } => opens_at,
                Opening::Unrestricted | Opening::Open { .. } => None,
            };
            found(Blocker::Window { opens_at })?;
        }
        let used = |resource| self.quotas.used(owner.person, resource);
        let shortages = self.entitlements.shortages(user, groups, used, demand, now);
        shortages.into_iter().map(Blocker::Entitlement).try_for_each(&mut *found)?;
        let shortages = self.quotas.shortages(&self.accounts, owner, demand);
        shortages.into_iter().map(Blocker::Quota).try_for_each(&mut *found)?;
        let shortages = self.queues.shortages(queue, demand);
        shortages.into_iter().map(Blocker::Queue).try_for_each(&mut *found)
    }
}

#[cfg(test)]
mod tests;
