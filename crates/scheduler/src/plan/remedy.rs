//! What would let a gang start, by names.

use crate::admission::{self, Whose};
use crate::engine::WorkId;
use crate::environment::Environment;
use crate::explain;
use crate::queue::State;
use crate::resource::ResourceId;
use crate::rules::Subject;
use crate::snapshot::Milli;
use crate::table::Table;
use crate::titles::Titles;

/// A change by which a gang would start now, or at the moment it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The queue is set to this state.
    SetState {
        queue: String,
        state: State,
    },
    /// The user is let into the queue.
    Allow {
        queue: String,
    },
    /// A workload of somebody ends, one of this kind if any is said.
    EndOne {
        subject: Subject,
        environment: Option<Environment>,
    },
    /// So many workloads of somebody may run.
    RaiseRunning {
        subject: Subject,
        to: i64,
    },
    /// The gang asks for so much less in all.
    AskLess {
        resource: String,
        by: Milli,
    },
    /// Nothing is done until then.
    WaitUntil {
        at: i64,
    },
    /// The rule of hours is given a span that holds now.
    OpenWindow {
        rule: String,
    },
    RaiseCeiling {
        subject: Subject,
        resource: String,
        by: Milli,
    },
    RaiseLimit {
        queue: String,
        resource: String,
        by: Milli,
    },
    /// Work of somebody that holds so much ends.
    EndUseOf {
        subject: Subject,
        resource: String,
        amount: Milli,
    },
    /// Work in the queue that holds so much ends.
    EndUseIn {
        queue: String,
        resource: String,
        amount: Milli,
    },
    /// It has this many pods at most.
    FewerPods {
        pods: u32,
    },
    /// Each pod asks for this much at most.
    LessEach {
        resource: String,
        amount: Milli,
    },
    /// Each pod asks for this many cards at most.
    FewerCards {
        cards: u8,
    },
    /// It may be in several domains.
    AnyDomain,
    /// Its selector, affinity and tolerations let it onto any node.
    AnyNode,
    /// The node is open to pods again.
    OpenNode {
        node: String,
    },
    /// These gangs end.
    End {
        gangs: Vec<String>,
    },
}

/// The names of the numbers in changes.
pub(super) struct Names<'n> {
    pub table: &'n Table,
    pub titles: &'n Titles,
    pub gang_of: &'n dyn Fn(WorkId) -> Option<String>,
    pub node_of: &'n dyn Fn(crate::cluster::NodeId) -> String,
}

impl Names<'_> {
    fn amount(&self, resource: ResourceId, amount: i64) -> (String, Milli) {
        (self.table.name(resource).to_owned(), self.table.milli(resource, amount))
    }

    fn queue(&self, id: crate::queue::QueueId) -> String {
        self.titles.queue_tree().config(id).name.clone()
    }

    /// What a change of the rules is called; `None` for such as nobody can make here.
    pub(super) fn of_rule(&self, change: admission::Change) -> Option<Remedy> {
        use admission::Change;
        Some(match change {
            Change::SetState { queue, state } => Remedy::SetState { queue: self.queue(queue), state },
            Change::Allow { queue } => Remedy::Allow { queue: self.queue(queue) },
            Change::EndOne { account, environment } => Remedy::EndOne { subject: self.titles.subject(account)?.clone(), environment },
            Change::RaisePolicy { account, to, .. } => Remedy::RaiseRunning { subject: self.titles.subject(account)?.clone(), to },
            Change::AskLess { resource, by } => {
                let (resource, by) = self.amount(resource, by);
                Remedy::AskLess { resource, by }
            }
            Change::WaitUntil { at } => Remedy::WaitUntil { at },
            Change::OpenWindow { rule } => Remedy::OpenWindow { rule },
            Change::RaiseCeiling { account, resource, by } => {
                let (resource, by) = self.amount(resource, by);
                Remedy::RaiseCeiling { subject: self.titles.subject(account)?.clone(), resource, by }
            }
            Change::RaiseLimit { queue, resource, by } => {
                let (resource, by) = self.amount(resource, by);
                Remedy::RaiseLimit { queue: self.queue(queue), resource, by }
            }
            Change::EndUse { whose, resource, amount } => {
                let (resource, amount) = self.amount(resource, amount);
                match whose {
                    Whose::Account(account) => Remedy::EndUseOf { subject: self.titles.subject(account)?.clone(), resource, amount },
                    Whose::Queue(queue) | Whose::JustQueue(queue) => Remedy::EndUseIn { queue: self.queue(queue), resource, amount },
                }
            }
            // Said by rules of submission, or not by snapshots.
            Change::RaiseTimeLimit { .. }
            | Change::WithdrawOne { .. }
            | Change::AskRunTime { .. }
            | Change::AskPriority { .. }
            | Change::AskMembers { .. }
            | Change::RaiseEntitlement { .. }
            | Change::AllowBorrowing { .. }
            | Change::AddCapacity { .. }
            | Change::Reclaim { .. } => return None,
        })
    }

    /// What a change of places is called. One that gangs would have to end for is told only
    /// where all of them are known.
    pub(super) fn of_place(&self, change: explain::Change) -> Option<Remedy> {
        use explain::Change;
        Some(match change {
            Change::Fewer { members } => Remedy::FewerPods { pods: members },
            Change::Less { resource, amount, .. } => {
                let (resource, amount) = self.amount(resource, amount);
                // A card is asked for as such.
                (!resource.starts_with(crate::table::CARDS)).then_some(Remedy::LessEach { resource, amount })?
            }
            // Cards are counted as amounts beside, so that fewer of them is found apart.
            Change::FewerCards { .. } | Change::SmallerShare { .. } | Change::AnyPerNode => return None,
            Change::AnyDomain => Remedy::AnyDomain,
            Change::AnyNode => Remedy::AnyNode,
            Change::Open(node) => Remedy::OpenNode { node: (self.node_of)(node) },
            Change::End(works) => {
                let mut gangs: Vec<String> = works.into_iter().map(self.gang_of).collect::<Option<_>>()?;
                gangs.dedup();
                Remedy::End { gangs }
            }
        })
    }
}
