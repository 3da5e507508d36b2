//! How many workloads an account may have, how important they may be, and how long they may
//! live.
//!
//! A policy holds for an account and everything below it together. An account without one of its
//! own has that of its level, if there is one: so "every user may run three notebooks" is one
//! policy.

use std::collections::HashMap;

use crate::account::{AccountId, Accounts, Level, Owner};
use crate::environment::Environment;
use crate::limits::Limits;
use crate::resource::{Demand, ResourceId, Vector};

/// Rules for an account; what is not said is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Workloads that run at once.
    pub running_max: Option<u32>,
    /// Workloads of one kind that run at once, in the order of [`Environment::ALL`].
    pub running_max_of: [Option<u32>; 4],
    /// Workloads that wait at once.
    pub pending_max: Option<u32>,
    /// What waiting workloads ask for together.
    pub pending_demand_max: Limits,
    /// The highest priority that may be asked for.
    pub priority_max: Option<i32>,
    /// Pods of one workload.
    pub members_max: Option<u32>,
    /// The longest that a workload may run.
    pub run_ms_max: Option<i64>,
    /// The longest that it may be idle before it is ended.
    pub idle_ms_max: Option<i64>,
}

/// What policies look at in a workload.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub environment: Environment,
    pub demand: &'a Demand,
    pub members: u32,
    pub priority: i32,
    /// How long it says that it will run at most.
    pub run_ms: Option<i64>,
}

/// A rule that a workload would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Whose policy it is.
    pub account: AccountId,
    pub rule: Rule,
}

/// Which rule, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// So many run, of this kind or of any, and no more than `max` may.
    Running {
        environment: Option<Environment>,
        running: u32,
        max: u32,
    },
    Pending {
        pending: u32,
        max: u32,
    },
    PendingDemand {
        resource: ResourceId,
        missing: i64,
    },
    Priority {
        max: i32,
    },
    Members {
        max: u32,
    },
    RunTime {
        max_ms: i64,
    },
}

/// How long a workload may live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    pub run_ms_max: Option<i64>,
    pub idle_ms_max: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    policy: Option<Policy>,
    running: [u32; 4],
    pending: u32,
    pending_demand: Vector,
}

/// Policies and counts of all accounts. Every method costs the depth of the account.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// By account; those behind the end have nothing.
    counts: Vec<Counts>,
    of_level: HashMap<Level, Policy>,
}

impl Policies {
    /// Gives an account a policy of its own; with `None` it has its level's again.
    pub fn set(&mut self, id: AccountId, policy: Option<Policy>) {
        self.at(id).policy = policy;
    }

    /// The policy of accounts of this level that have none of their own.
    pub fn set_default(&mut self, level: Level, policy: Option<Policy>) {
        match policy {
            Some(policy) => self.of_level.insert(level, policy),
            None => self.of_level.remove(&level),
        };
    }

    /// The policy that holds for an account.
    pub fn policy(&self, accounts: &Accounts, id: AccountId) -> Option<&Policy> {
        let own = self.counts.get(id.place()).and_then(|counts| counts.policy.as_ref());
        own.or_else(|| self.of_level.get(&accounts.level(id)))
    }

    /// Rules that are in the way of submitting this.
    pub fn on_submit(&self, accounts: &Accounts, owner: Owner, facts: Facts<'_>) -> Vec<Breach> {
        self.breaches(accounts, owner, |policy, counts, found| {
            if let Some(max) = policy.pending_max.filter(|max| counts.pending >= *max) {
                found(Rule::Pending { pending: counts.pending, max });
            }
            for (resource, max) in policy.pending_demand_max.iter() {
                let missing = counts.pending_demand.get(resource).saturating_add(facts.demand.get(resource)) - max;
                if missing > 0 && facts.demand.get(resource) > 0 {
                    found(Rule::PendingDemand { resource, missing });
                }
            }
            if let Some(max) = policy.priority_max.filter(|max| facts.priority > *max) {
                found(Rule::Priority { max });
            }
            if let Some(max) = policy.members_max.filter(|max| facts.members > *max) {
                found(Rule::Members { max });
            }
            if let Some(max_ms) = policy.run_ms_max.filter(|max_ms| facts.run_ms.is_some_and(|run_ms| run_ms > *max_ms)) {
                found(Rule::RunTime { max_ms });
            }
        })
    }

    /// Rules that are in the way of starting this.
    pub fn on_start(&self, accounts: &Accounts, owner: Owner, environment: Environment) -> Vec<Breach> {
        self.breaches(accounts, owner, |policy, counts, found| {
            let running = counts.running.iter().sum();
            if let Some(max) = policy.running_max.filter(|max| running >= *max) {
                found(Rule::Running { environment: None, running, max });
            }
            let running = counts.running[environment.place()];
            if let Some(max) = policy.running_max_of[environment.place()].filter(|max| running >= *max) {
                found(Rule::Running { environment: Some(environment), running, max });
            }
        })
    }

    /// The tightest lifetime that holds for a workload. One that says no run time ends by it too.
    pub fn lifetime(&self, accounts: &Accounts, owner: Owner) -> Lifetime {
        let policies = owner.accounts(accounts).filter_map(|account| self.policy(accounts, account));
        policies.fold(Lifetime::default(), |lifetime, policy| Lifetime {
            run_ms_max: tighter(lifetime.run_ms_max, policy.run_ms_max),
            idle_ms_max: tighter(lifetime.idle_ms_max, policy.idle_ms_max),
        })
    }

    /// It waits from now on.
    pub fn submitted(&mut self, accounts: &Accounts, owner: Owner, demand: &Demand) {
        for account in owner.accounts(accounts) {
            let counts = self.at(account);
            counts.pending += 1;
            counts.pending_demand.add(demand);
        }
    }

    /// It waits no more: it starts, or was withdrawn.
    pub fn left(&mut self, accounts: &Accounts, owner: Owner, demand: &Demand) {
        for account in owner.accounts(accounts) {
            let counts = self.at(account);
            debug_assert!(counts.pending > 0, "what leaves had been submitted");
            counts.pending = counts.pending.saturating_sub(1);
            counts.pending_demand.subtract(demand);
        }
    }

    pub fn started(&mut self, accounts: &Accounts, owner: Owner, environment: Environment) {
        for account in owner.accounts(accounts) {
            self.at(account).running[environment.place()] += 1;
        }
    }

    pub fn ended(&mut self, accounts: &Accounts, owner: Owner, environment: Environment) {
        for account in owner.accounts(accounts) {
            let running = &mut self.at(account).running[environment.place()];
            debug_assert!(*running > 0, "what ends had started");
            *running = running.saturating_sub(1);
        }
    }

    fn breaches(&self, accounts: &Accounts, owner: Owner, check: impl Fn(&Policy, &Counts, &mut dyn FnMut(Rule))) -> Vec<Breach> {
        let none = Counts::default();
        let mut found = Vec::new();
        for account in owner.accounts(accounts) {
            if let Some(policy) = self.policy(accounts, account) {
                let counts = self.counts.get(account.place()).unwrap_or(&none);
                check(policy, counts, &mut |rule| found.push(Breach { account, rule }));
            }
        }
        found
    }

    fn at(&mut self, id: AccountId) -> &mut Counts {
        if self.counts.len() <= id.place() {
            self.counts.resize_with(id.place() + 1, Counts::default);
        }
        &mut self.counts[id.place()]
    }
}

fn tighter(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> (Accounts, Owner, AccountId) {
        let mut accounts = Accounts::default();
        let tenant = accounts.intern(None, Level::Tenant, "acme").unwrap();
        let project = accounts.intern(Some(tenant), Level::Project, "vision").unwrap();
        let member = accounts.intern(Some(project), Level::Member, "ada").unwrap();
        let person = accounts.intern(None, Level::Person, "ada").unwrap();
        (accounts, Owner { member, person }, project)
    }

    fn cores(amount: i64) -> Demand {
        [(ResourceId::CPU, amount)].into_iter().collect()
    }

    #[test]
    fn each_rule_holds_at_its_bound() {
        let (accounts, owner, project) = ada();
        let mut policies = Policies::default();
        let none = Policy::default();
        let cpu: Limits = [(ResourceId::CPU, 10)].into_iter().collect();
        let missing = Rule::PendingDemand { resource: ResourceId::CPU, missing: 1 };
        // (policy, priority, members, run time, broken); one waits already and asks for 5.
        let table = [
            (none.clone(), 100, 100, None, None),
            (Policy { pending_max: Some(2), ..none.clone() }, 0, 1, None, None),
            (Policy { pending_max: Some(1), ..none.clone() }, 0, 1, None, Some(Rule::Pending { pending: 1, max: 1 })),
            (Policy { pending_demand_max: cpu, ..none.clone() }, 0, 1, None, Some(missing)),
            (Policy { priority_max: Some(5), ..none.clone() }, 5, 1, None, None),
            (Policy { priority_max: Some(5), ..none.clone() }, 6, 1, None, Some(Rule::Priority { max: 5 })),
            (Policy { members_max: Some(8), ..none.clone() }, 0, 8, None, None),
            (Policy { members_max: Some(8), ..none.clone() }, 0, 9, None, Some(Rule::Members { max: 8 })),
            (Policy { run_ms_max: Some(10), ..none.clone() }, 0, 1, None, None),
            (Policy { run_ms_max: Some(10), ..none.clone() }, 0, 1, Some(10), None),
            (Policy { run_ms_max: Some(10), ..none.clone() }, 0, 1, Some(11), Some(Rule::RunTime { max_ms: 10 })),
        ];
        policies.submitted(&accounts, owner, &cores(5));
        for (policy, priority, members, run_ms, rule) in table {
            policies.set(project, Some(policy.clone()));
            let facts = Facts { environment: Environment::Training, demand: &cores(6), members, priority, run_ms };
            let expected: Vec<Breach> = rule.into_iter().map(|rule| Breach { account: project, rule }).collect();
            assert_eq!(policies.on_submit(&accounts, owner, facts), expected, "{policy:?}");
        }
        policies.left(&accounts, owner, &cores(5));
        policies.set(project, Some(Policy { pending_max: Some(1), ..none }));
        let facts = Facts { environment: Environment::Training, demand: &cores(6), members: 1, priority: 0, run_ms: None };
        assert_eq!(policies.on_submit(&accounts, owner, facts), []);
    }

    #[test]
    fn what_runs_is_counted_by_kind_and_in_all() {
        let (accounts, owner, project) = ada();
        let mut policies = Policies::default();
        policies.set(project, Some(Policy { running_max: Some(2), running_max_of: [Some(1), None, None, None], ..Policy::default() }));
        let running = |environment, running, max| Breach { account: project, rule: Rule::Running { environment, running, max } };
        policies.started(&accounts, owner, Environment::Development);
        let notebook = running(Some(Environment::Development), 1, 1);
        assert_eq!(policies.on_start(&accounts, owner, Environment::Development), [notebook]);
        assert_eq!(policies.on_start(&accounts, owner, Environment::Training), []);
        policies.started(&accounts, owner, Environment::Training);
        assert_eq!(policies.on_start(&accounts, owner, Environment::Training), [running(None, 2, 2)]);
        policies.ended(&accounts, owner, Environment::Development);
        assert_eq!(policies.on_start(&accounts, owner, Environment::Development), []);
    }

    #[test]
    fn an_account_without_a_policy_has_that_of_its_level() {
        let (accounts, owner, _) = ada();
        let mut policies = Policies::default();
        let of = |run_ms_max, idle_ms_max| Some(Policy { run_ms_max, idle_ms_max, ..Policy::default() });
        policies.set_default(Level::Person, of(Some(100), None));
        policies.set_default(Level::Tenant, of(Some(50), Some(7)));
        assert_eq!(policies.lifetime(&accounts, owner), Lifetime { run_ms_max: Some(50), idle_ms_max: Some(7) });
        policies.set(owner.person, of(Some(20), None));
        assert_eq!(policies.lifetime(&accounts, owner), Lifetime { run_ms_max: Some(20), idle_ms_max: Some(7) });
        policies.set(owner.person, None);
        policies.set_default(Level::Tenant, None);
        assert_eq!(policies.lifetime(&accounts, owner), Lifetime { run_ms_max: Some(100), idle_ms_max: None });
    }
}
