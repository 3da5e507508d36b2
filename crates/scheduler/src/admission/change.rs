//! What would take a blocker away.

use super::{Admission, Blocker, Request, Step};
use crate::account::AccountId;
use crate::policy::{Breach, Rule};
use crate::queue::{QueueId, Reason, State, Taking};
use crate::resource::ResourceId;

/// A change that takes one blocker away, and is no larger than it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The queue is set to this state.
    SetState {
        queue: QueueId,
        state: State,
    },
    /// The queue is opened to the user.
    Allow {
        queue: QueueId,
    },
    RaiseTimeLimit {
        queue: QueueId,
        to_ms: i64,
    },
    /// The bound of this rule in the account's policy is raised: to a count, priority, number of
    /// pods, milliseconds, or amount.
    RaisePolicy {
        account: AccountId,
        rule: Rule,
        to: i64,
    },
    /// A workload of the account that runs is ended, one of this kind if any is said.
    EndOne {
        account: AccountId,
        environment: Option<crate::environment::Environment>,
    },
    /// A workload of the account that waits is withdrawn or starts.
    WithdrawOne {
        account: AccountId,
    },
    AskRunTime {
        at_most_ms: i64,
    },
    AskPriority {
        at_most: i32,
    },
    AskMembers {
        at_most: u32,
    },
    /// The workload asks for so much less.
    AskLess {
        resource: ResourceId,
        by: i64,
    },
    /// Nothing is done until then.
    WaitUntil {
        at: i64,
    },
    /// This rule of hours is given a span that holds now.
    OpenWindow {
        rule: String,
    },
    /// The user is given so much more: by a ticket, say.
    RaiseEntitlement {
        resource: ResourceId,
        by: i64,
    },
    RaiseCeiling {
        account: AccountId,
        resource: ResourceId,
        by: i64,
    },
    RaiseLimit {
        queue: QueueId,
        resource: ResourceId,
        by: i64,
    },
    /// The queue may use more than its guarantee.
    AllowBorrowing {
        queue: QueueId,
    },
    /// The pool gets so much more.
    AddCapacity {
        resource: ResourceId,
        by: i64,
    },
    /// Running workloads that hold so much of the resource end.
    EndUse {
        whose: Whose,
        resource: ResourceId,
        amount: i64,
    },
    /// The queue claims what it is promised.
    Reclaim {
        takings: Vec<Taking>,
    },
}

/// Of whose running workloads some must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Of this account or below it.
    Account(AccountId),
    /// Of this queue or below it.
    Queue(QueueId),
    /// Of this very queue.
    JustQueue(QueueId),
}

impl Admission {
    /// What would take this blocker away, each alone; those first that the owner can do, last
    /// those that take an administrator. Empty only for a queue that does not exist.
    pub fn changes(&self, step: Step, request: Request<'_>, now: i64, blocker: &Blocker) -> Vec<Change> {
        let queue = request.queue;
        match blocker {
            Blocker::QueueNotFound => Vec::new(),
            Blocker::QueueState(state) => vec![Change::SetState { queue, state: opened(*state, step) }],
            Blocker::NotAllowed => vec![Change::Allow { queue }],
            Blocker::TimeLimit { limit_ms, asked_ms } => {
                vec![Change::AskRunTime { at_most_ms: *limit_ms }, Change::RaiseTimeLimit { queue, to_ms: *asked_ms }]
            }
            Blocker::Policy(breach) => self.for_breach(request, *breach),
            Blocker::Window { opens_at } => {
                let rules = self.windows.rules_of(self.user(request.owner), request.groups, request.environment);
                let open = rules.first().map(|rule| Change::OpenWindow { rule: (*rule).to_owned() });
                opens_at.map(|at| Change::WaitUntil { at }).into_iter().chain(open).collect()
            }
            Blocker::Entitlement(shortage) => {
                let (resource, missing) = (shortage.resource, shortage.missing);
                let person = request.owner.person;
                let used = self.quotas.used(person, resource);
                let wanted = used.saturating_add(request.demand.get(resource));
                let fits_at = self.entitlements.fits_at(self.user(request.owner), request.groups, resource, wanted, now);
                let mut changes = ask_less(request, resource, missing);
                changes.extend(end_use(Whose::Account(person), used, resource, missing));
                changes.extend(fits_at.map(|at| Change::WaitUntil { at }));
                changes.push(Change::RaiseEntitlement { resource, by: missing });
                changes
            }
            Blocker::Quota(shortage) => {
                let (account, resource, missing) = (shortage.account, shortage.resource, shortage.missing);
                let mut changes = ask_less(request, resource, missing);
                changes.extend(end_use(Whose::Account(account), self.quotas.used(account, resource), resource, missing));
                changes.push(Change::RaiseCeiling { account, resource, by: missing });
                changes
            }
            Blocker::Queue(shortage) => {
                let (resource, missing) = (shortage.resource, shortage.missing);
                let asked = request.demand.get(resource);
                let mut changes = ask_less(request, resource, missing.min(shortage.added));
                changes.extend(match shortage.reason {
                    Reason::Limit(limited) => end_use(Whose::Queue(limited), self.queues.used(limited).get(resource), resource, missing),
                    // What others end may be kept by queues that do not lend.
                    Reason::MayNotBorrow(_) | Reason::NothingToBorrow => {
                        let amount = self.queues.to_end(queue, resource, asked, shortage.reason);
                        amount.map(|amount| Change::EndUse { whose: Whose::JustQueue(queue), resource, amount })
                    }
                });
                match shortage.reason {
                    Reason::Limit(limited) => changes.push(Change::RaiseLimit { queue: limited, resource, by: missing }),
                    Reason::MayNotBorrow(held) => changes.push(Change::AllowBorrowing { queue: held }),
                    Reason::NothingToBorrow => {
                        let only: crate::resource::Demand = [(resource, asked)].into_iter().collect();
                        let claim = self.queues.claim(queue, &only).ok();
                        changes.extend(claim.map(|claim| Change::Reclaim { takings: claim.takings }));
                        changes.push(Change::AddCapacity { resource, by: missing });
                    }
                }
                changes
            }
        }
    }

    fn for_breach(&self, request: Request<'_>, Breach { account, rule }: Breach) -> Vec<Change> {
        let raise = |to| Change::RaisePolicy { account, rule, to };
        match rule {
            // To end one is enough only where no more run than may.
            Rule::Running { environment, running, max } => {
                let end = (running == max && max > 0).then_some(Change::EndOne { account, environment });
                end.into_iter().chain([raise(i64::from(running) + 1)]).collect()
            }
            Rule::Pending { pending, max } => {
                let withdraw = (pending == max && max > 0).then_some(Change::WithdrawOne { account });
                withdraw.into_iter().chain([raise(i64::from(pending) + 1)]).collect()
            }
            Rule::PendingDemand { resource, missing } => {
                let max = self.policies.policy(&self.accounts, account).and_then(|policy| policy.pending_demand_max.get(resource));
                let mut changes = ask_less(request, resource, missing);
                changes.push(raise(max.unwrap_or(0).saturating_add(missing)));
                changes
            }
            Rule::Priority { max } => vec![Change::AskPriority { at_most: max }, raise(i64::from(request.priority))],
            Rule::Members { max } => vec![Change::AskMembers { at_most: max }, raise(i64::from(request.members))],
            Rule::RunTime { max_ms } => {
                vec![Change::AskRunTime { at_most_ms: max_ms }, raise(request.run_ms.unwrap_or(max_ms))]
            }
        }
    }
}

/// The nearest state that lets the step through and the other one as before.
fn opened(state: State, step: Step) -> State {
    match (state, step) {
        (State::Up | State::Down, Step::Start) | (State::Up | State::Drain, Step::Submit) => State::Up,
        (State::Drain | State::Inactive, Step::Start) => State::Drain,
        (State::Down | State::Inactive, Step::Submit) => State::Down,
    }
}

fn ask_less(request: Request<'_>, resource: ResourceId, by: i64) -> Vec<Change> {
    // Asking for nothing of it would be another workload.
    let less = (by < request.demand.get(resource)).then_some(Change::AskLess { resource, by });
    less.into_iter().collect()
}

fn end_use(whose: Whose, used: i64, resource: ResourceId, amount: i64) -> Option<Change> {
    (used >= amount).then_some(Change::EndUse { whose, resource, amount })
}
