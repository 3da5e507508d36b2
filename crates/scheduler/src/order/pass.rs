//! One pass over all that wait, which leaves the order as it is: each is taken once, while
//! starts move queues and accounts.

use std::collections::btree_set::Iter;
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use super::line::{Line, Place};
use super::{Head, Order, QueueSettings, Shares};
use crate::account::AccountId;
use crate::engine::WorkId;
use crate::queue::{QueueId, Standing};

/// What is left of the order. Taking the next costs the logarithm of the queues, and where
/// shares decide that of the accounts.
pub(crate) struct Pass<'a> {
    lanes: BTreeMap<QueueId, Lane<'a>>,
    heads: BTreeSet<(Head, QueueId)>,
}

struct Lane<'a> {
    settings: QueueSettings,
    standing: Standing,
    plain: Peekable<Iter<'a, Place>>,
    shared: Line,
    /// As it is in [`Pass::heads`].
    head: Option<Head>,
}

impl Order {
    /// Begins a pass. What is parked is left out.
    pub(crate) fn pass(&self) -> Pass<'_> {
        let mut pass = Pass { lanes: BTreeMap::new(), heads: BTreeSet::new() };
        for (id, queue) in self.queues.iter().filter(|(_, queue)| queue.head.is_some()) {
            let lane = Lane {
                settings: queue.settings,
                standing: queue.standing.clone(),
                plain: queue.active.plain().peekable(),
                shared: queue.active.shared(),
                head: queue.head.clone(),
            };
            pass.heads.extend(lane.head.clone().map(|head| (head, *id)));
            pass.lanes.insert(*id, lane);
        }
        pass
    }
}

impl Pass<'_> {
    /// Takes who is served next.
    pub(crate) fn next(&mut self, shares: Shares<'_>) -> Option<WorkId> {
        let (head, queue) = self.heads.first()?.clone();
        let lane = self.lanes.get_mut(&queue).expect("a head is that of a lane");
        if lane.plain.next().is_none()
            && let Some(place) = lane.shared.first().cloned()
        {
            lane.shared.remove(&place, shares.accounts);
        }
        self.seat(queue);
        Some(head.id)
    }

    /// Takes notice that the shares of an account and those above it have changed.
    pub(crate) fn touch(&mut self, member: AccountId, shares: Shares<'_>) {
        let queues: Vec<QueueId> = self.lanes.iter().filter(|(_, lane)| lane.shared.len() > 0).map(|(id, _)| *id).collect();
        for queue in queues {
            let lane = self.lanes.get_mut(&queue).expect("listed above");
            for account in shares.accounts.path(member) {
                lane.shared.reorder(account, shares);
            }
            self.seat(queue);
        }
    }

    pub(crate) fn set_standing(&mut self, queue: QueueId, standing: Standing) {
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        if lane.standing != standing {
            lane.standing = standing;
            self.seat(queue);
        }
    }

    /// Puts a queue where its next workload belongs.
    fn seat(&mut self, queue: QueueId) {
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        let first = lane.plain.peek().copied().or_else(|| lane.shared.first());
        let head = first.map(|place| Head::of(place, lane.settings, &lane.standing));
        if head != lane.head {
            if let Some(before) = std::mem::replace(&mut lane.head, head.clone()) {
                self.heads.remove(&(before, queue));
            }
            self.heads.extend(head.map(|head| (head, queue)));
        }
    }
}
