//! The order in which waiting workloads are served.
//!
//! Queues of higher priority go first. Among queues of equal priority, those go first whose next
//! workload is of a better class, then those of better [`Standing`], then those whose next
//! workload is older. Within a queue the classes are:
//!
//! 1. *starved*: waited longer than [`Settings::patience_ms`]. These go before everything, in
//!    all queues, the oldest first;
//! 2. *overdue*: waited longer than the queue's own patience, the oldest first;
//! 3. *urgent*, by the queue's policy (by creation where that is fair share);
//! 4. *pressing*: must start within [`Settings::pressing_ms`] to meet its deadline, the one with
//!    least slack first. One that cannot meet it any more is ordinary again, so that it does not
//!    make others miss theirs;
//! 5. all others, by the queue's policy.
//!
//! Ties go to the older, then to the first by name, then to the smaller number. Nothing starves: what has waited for the
//! patience is passed only by older work, of which there is no more to come.
//!
//! Inserting, removing and finding the next cost the logarithm of what waits. Classes change
//! with time alone, at moments that are known when a workload comes; [`Order::advance`] costs
//! those that passed. A start or end moves the accounts above it ([`Order::touch`]), not their
//! workloads.
//!
//! What was tried and is blocked may be *parked*: it keeps its place but is not offered until
//! it is unparked.

mod line;
mod pass;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use crate::account::{AccountId, Accounts};
use crate::engine::WorkId;
use crate::fair_share::FairShare;
use crate::queue::{JobOrder, QueueId, Standing};

use line::{Class, Line, Place};
pub(crate) use pass::Pass;

/// What the order looks at in a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: WorkId,
    /// Of what is equal in all else the first by name goes first.
    pub name: Arc<str>,
    pub queue: QueueId,
    /// The user in the project.
    pub member: AccountId,
    pub created_at: i64,
    /// Higher goes first where the queue orders by priority.
    pub priority: i32,
    /// Lower goes first where the queue serves the shortest first.
    pub cost: Option<i64>,
    pub urgent: bool,
    /// The last moment at which it may start to meet its deadline.
    pub latest_start_at: Option<i64>,
}

/// What the order looks at in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    pub priority: u32,
    pub job_order: JobOrder,
    pub patience_ms: Option<i64>,
}

/// What holds for all queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What waited this long goes before all others in all queues. `None` leaves it to the
    /// queues: then one of low priority may wait for as long as there is work in another.
    pub patience_ms: Option<i64>,
    /// How long before its last moment a deadline begins to press.
    pub pressing_ms: i64,
}

impl Default for Settings {
    /// No patience over queues, and an hour for deadlines.
    fn default() -> Self {
        Self { patience_ms: None, pressing_ms: 3_600_000 }
    }
}

/// Where the shares of accounts are read.
#[derive(Clone, Copy)]
pub struct Shares<'a> {
    pub accounts: &'a Accounts,
    pub fair: &'a FairShare,
}

/// Where a queue stands by its next workload; smaller goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    /// Nothing but age counts among the starved.
    ordinary: bool,
    priority: Reverse<u32>,
    class: Class,
    standing: Standing,
    created_at: i64,
    name: Arc<str>,
    id: WorkId,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    settings: QueueSettings,
    standing: Standing,
    active: Line,
    parked: Line,
    /// As it is in [`Order::heads`].
    head: Option<Head>,
}

#[derive(Clone, Debug)]
struct Waiting {
    entry: Entry,
    place: Place,
    parked: bool,
    /// As it is in [`Order::due`].
    due_at: Option<i64>,
}

/// All waiting workloads, in order.
#[derive(Clone, Debug, Default)]
pub struct Order {
    settings: Settings,
    now: i64,
    waiting: HashMap<WorkId, Waiting>,
    queues: BTreeMap<QueueId, Queue>,
    heads: BTreeSet<(Head, QueueId)>,
    /// When classes change.
    due: BTreeSet<(i64, WorkId)>,
    /// By account: the queues in which its shares order something, and how many workloads.
    shared: HashMap<AccountId, BTreeMap<QueueId, usize>>,
}

impl Order {
    pub fn new(settings: Settings, now: i64) -> Self {
        Self { settings, now, ..Self::default() }
    }

    /// Says how a queue is served. Costs what waits in it.
    pub fn set_queue(&mut self, id: QueueId, settings: QueueSettings, shares: Shares<'_>) {
        if self.queues.get(&id).is_some_and(|queue| queue.settings == settings) {
            return;
        }
        let entries: Vec<(Entry, bool)> = self
            .waiting
            .values()
            .filter(|waiting| waiting.entry.queue == id)
            .map(|waiting| (waiting.entry.clone(), waiting.parked))
            .collect();
        for (entry, _) in &entries {
            self.remove(entry.id, shares.accounts);
        }
        self.queues.entry(id).or_default().settings = settings;
        for (entry, parked) in entries {
            let id = entry.id;
            self.insert(entry, shares);
            if parked {
                self.park(id, shares);
            }
        }
    }

    /// Forgets a queue; answers false and does nothing while something waits in it.
    pub fn remove_queue(&mut self, id: QueueId) -> bool {
        let empty = self.queues.get(&id).is_none_or(|queue| queue.active.len() + queue.parked.len() == 0);
        if empty {
            self.queues.remove(&id);
        }
        empty
    }

    /// Says how far a queue is beyond its share.
    pub fn set_standing(&mut self, id: QueueId, standing: Standing) {
        let queue = self.queues.entry(id).or_default();
        if queue.standing != standing {
            queue.standing = standing;
            self.seat(id);
        }
    }

    /// Adds a workload, in place of the one of that number. A queue that was not set is served
    /// by creation, at priority 0.
    pub fn insert(&mut self, entry: Entry, shares: Shares<'_>) {
        self.remove(entry.id, shares.accounts);
        let settings = self.queues.entry(entry.queue).or_default().settings;
        let place = self.place(&entry, settings);
        let id = entry.id;
        self.waiting.insert(id, Waiting { entry, place, parked: false, due_at: None });
        self.enter(id, shares);
    }

    /// Takes a workload out, because it starts or was withdrawn; answers whether it was there.
    pub fn remove(&mut self, id: WorkId, accounts: &Accounts) -> bool {
        let there = self.leave(id, accounts);
        self.waiting.remove(&id);
        there
    }

    /// Moves time on: classes change. It never goes back.
    pub fn advance(&mut self, now: i64, shares: Shares<'_>) {
        self.now = self.now.max(now);
        while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= self.now) {
            self.due.remove(&(at, id));
            self.replace(id, shares);
        }
    }

    /// Takes notice that the shares of an account and those above it have changed. Costs the
    /// queues in which they wait.
    pub fn touch(&mut self, member: AccountId, shares: Shares<'_>) {
        for account in shares.accounts.path(member) {
            self.reorder(account, shares);
        }
    }

    /// Takes notice that all shares have changed with time. Costs the accounts that wait.
    pub fn refresh(&mut self, shares: Shares<'_>) {
        let accounts: BTreeSet<AccountId> = self.shared.keys().copied().collect();
        for account in accounts {
            self.reorder(account, shares);
        }
    }

    /// Keeps a workload from being offered; it keeps its place.
    pub fn park(&mut self, id: WorkId, shares: Shares<'_>) {
        self.set_parked(id, true, shares);
    }

    /// Offers it again.
    pub fn unpark(&mut self, id: WorkId, shares: Shares<'_>) {
        self.set_parked(id, false, shares);
    }

    /// Who is served next, of those not parked.
    pub fn next(&self) -> Option<WorkId> {
        self.heads.first().map(|(head, _)| head.id)
    }

    /// All that are not parked, in order, as things stand. Each step costs the logarithm of the
    /// queues.
    pub fn iter(&self) -> impl Iterator<Item = WorkId> + '_ {
        Merge { order: self, heads: self.heads.iter().peekable(), begun: BinaryHeap::new(), lines: HashMap::new() }
    }

    /// All of a queue in its order, parked ones included.
    pub fn queue(&self, id: QueueId) -> impl Iterator<Item = WorkId> + '_ {
        let mut lines: Vec<(&Line, _)> = Vec::new();
        if let Some(queue) = self.queues.get(&id) {
            lines.extend([&queue.active, &queue.parked].map(|line| (line, line.iter().peekable())));
        }
        std::iter::from_fn(move || {
            let heads = lines.iter_mut().enumerate().filter_map(|(which, (line, rest))| Some((line.rank(rest.peek()?), which)));
            let (_, which) = heads.min()?;
            lines[which].1.next().map(|place| place.id)
        })
    }

    /// Its place in its queue, from 1. Costs the place.
    pub fn position(&self, id: WorkId) -> Option<usize> {
        let waiting = self.waiting.get(&id)?;
        let queue = &self.queues[&waiting.entry.queue];
        let (own, other) = if waiting.parked { (&queue.parked, &queue.active) } else { (&queue.active, &queue.parked) };
        let rank = own.rank(&waiting.place);
        Some(1 + own.before(&rank) + other.before(&rank))
    }

    pub fn entry(&self, id: WorkId) -> Option<&Entry> {
        self.waiting.get(&id).map(|waiting| &waiting.entry)
    }

    pub fn is_parked(&self, id: WorkId) -> bool {
        self.waiting.get(&id).is_some_and(|waiting| waiting.parked)
    }

    /// How many wait, parked ones included.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn class(&self, entry: &Entry, settings: QueueSettings) -> Class {
        let waited = |patience: Option<i64>| patience.is_some_and(|patience| self.now.saturating_sub(entry.created_at) >= patience);
        if waited(self.settings.patience_ms) {
            Class::Starved
        } else if waited(settings.patience_ms) {
            Class::Overdue
        } else if entry.urgent {
            Class::Urgent
        } else if entry.latest_start_at.is_some_and(|latest| self.presses_at(latest) <= self.now && self.now <= latest) {
            Class::Pressing
        } else {
            Class::Ordinary
        }
    }

    fn presses_at(&self, latest_start_at: i64) -> i64 {
        latest_start_at.saturating_sub(self.settings.pressing_ms.max(0))
    }

    /// When its class may change next.
    fn due_at(&self, entry: &Entry, settings: QueueSettings) -> Option<i64> {
        let patience = [self.settings.patience_ms, settings.patience_ms].into_iter().flatten();
        let patience = patience.map(|patience| entry.created_at.saturating_add(patience));
        let pressing = entry.latest_start_at.into_iter().flat_map(|latest| [self.presses_at(latest), latest.saturating_add(1)]);
        patience.chain(pressing).filter(|at| *at > self.now).min()
    }

    fn place(&self, entry: &Entry, settings: QueueSettings) -> Place {
        let class = self.class(entry, settings);
        let by = match (class, settings.job_order) {
            (Class::Starved | Class::Overdue, _) => entry.created_at,
            (Class::Pressing, _) => entry.latest_start_at.unwrap_or(i64::MAX),
            (_, JobOrder::Fifo | JobOrder::FairShare) => entry.created_at,
            (_, JobOrder::Priority) => -i64::from(entry.priority),
            (_, JobOrder::ShortestFirst) => entry.cost.unwrap_or(i64::MAX),
        };
        let fair = class == Class::Ordinary && settings.job_order == JobOrder::FairShare;
        Place { class, by, created_at: entry.created_at, name: Arc::clone(&entry.name), id: entry.id, member: fair.then_some(entry.member) }
    }

    /// Puts a workload that is in none into its line.
    fn enter(&mut self, id: WorkId, shares: Shares<'_>) {
        let waiting = &self.waiting[&id];
        let (entry, place, parked) = (waiting.entry.clone(), waiting.place.clone(), waiting.parked);
        let queue = self.queues.entry(entry.queue).or_default();
        let line = if parked { &mut queue.parked } else { &mut queue.active };
        line.insert(place.clone(), shares);
        // Both lines of a queue go by the same shares.
        for account in place.member.into_iter().flat_map(|member| shares.accounts.path(member)) {
            queue.active.reorder(account, shares);
            queue.parked.reorder(account, shares);
        }
        let due_at = self.due_at(&entry, self.queues[&entry.queue].settings);
        self.due.extend(due_at.map(|at| (at, id)));
        for account in place.member.into_iter().flat_map(|member| shares.accounts.path(member)) {
            *self.shared.entry(account).or_default().entry(entry.queue).or_default() += 1;
        }
        self.waiting.get_mut(&id).expect("it was read above").due_at = due_at;
        self.seat(entry.queue);
    }

    /// Takes a workload out of its line.
    fn leave(&mut self, id: WorkId, accounts: &Accounts) -> bool {
        let Some(waiting) = self.waiting.get(&id) else { return false };
        let (queue_id, place, parked) = (waiting.entry.queue, waiting.place.clone(), waiting.parked);
        if let Some(at) = waiting.due_at {
            self.due.remove(&(at, id));
        }
        let queue = self.queues.get_mut(&queue_id).expect("a queue is not forgotten while something waits in it");
        let line = if parked { &mut queue.parked } else { &mut queue.active };
        line.remove(&place, accounts);
        for account in place.member.into_iter().flat_map(|member| accounts.path(member)) {
            if let Some(queues) = self.shared.get_mut(&account) {
                let count = queues.entry(queue_id).or_insert(1);
                *count -= 1;
                if *count == 0 {
                    queues.remove(&queue_id);
                }
                if queues.is_empty() {
                    self.shared.remove(&account);
                }
            }
        }
        self.seat(queue_id);
        true
    }

    /// Gives a workload the place that it should have now.
    fn replace(&mut self, id: WorkId, shares: Shares<'_>) {
        if self.leave(id, shares.accounts) {
            let entry = self.waiting[&id].entry.clone();
            let place = self.place(&entry, self.queues[&entry.queue].settings);
            self.waiting.get_mut(&id).expect("it was read above").place = place;
            self.enter(id, shares);
        }
    }

    fn set_parked(&mut self, id: WorkId, parked: bool, shares: Shares<'_>) {
        if self.waiting.get(&id).is_some_and(|waiting| waiting.parked != parked) {
            self.leave(id, shares.accounts);
            self.waiting.get_mut(&id).expect("it was read above").parked = parked;
            self.enter(id, shares);
        }
    }

    fn reorder(&mut self, account: AccountId, shares: Shares<'_>) {
        let queues: Vec<QueueId> = self.shared.get(&account).into_iter().flat_map(BTreeMap::keys).copied().collect();
        for id in queues {
            let queue = self.queues.get_mut(&id).expect("a queue is not forgotten while something waits in it");
            queue.active.reorder(account, shares);
            queue.parked.reorder(account, shares);
            self.seat(id);
        }
    }

    /// Puts a queue where its next workload belongs.
    fn seat(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let head = queue.active.first().map(|place| queue.head_of(place));
        if head != queue.head {
            if let Some(before) = std::mem::replace(&mut queue.head, head.clone()) {
                self.heads.remove(&(before, id));
            }
            self.heads.extend(head.map(|head| (head, id)));
        }
    }
}

impl Queue {
    fn head_of(&self, place: &Place) -> Head {
        Head::of(place, self.settings, &self.standing)
    }
}

impl Head {
    fn of(place: &Place, settings: QueueSettings, standing: &Standing) -> Self {
        let ordinary = place.class != Class::Starved;
        Self {
            ordinary,
            priority: Reverse(if ordinary { settings.priority } else { 0 }),
            class: place.class,
            standing: if ordinary { standing.clone() } else { Standing::default() },
            created_at: place.created_at,
            name: Arc::clone(&place.name),
            id: place.id,
        }
    }
}

/// Merges the lines of queues. Those whose first was not taken yet are in `heads`, the others in
/// `begun`.
struct Merge<'a> {
    order: &'a Order,
    heads: std::iter::Peekable<std::collections::btree_set::Iter<'a, (Head, QueueId)>>,
    begun: BinaryHeap<Reverse<(Head, QueueId)>>,
    lines: HashMap<QueueId, Box<dyn Iterator<Item = &'a Place> + 'a>>,
}

impl Iterator for Merge<'_> {
    type Item = WorkId;

    fn next(&mut self) -> Option<WorkId> {
        let fresh = match (self.heads.peek(), self.begun.peek()) {
            (Some(fresh), Some(Reverse(begun))) => *fresh < begun,
            (fresh, _) => fresh.is_some(),
        };
        let (head, id) = if fresh { self.heads.next()?.clone() } else { self.begun.pop()?.0 };
        let queue = &self.order.queues[&id];
        let line = self.lines.entry(id).or_insert_with(|| Box::new(queue.active.iter().skip(1)));
        if let Some(place) = line.next() {
            self.begun.push(Reverse((queue.head_of(place), id)));
        }
        Some(head.id)
    }
}

#[cfg(test)]
mod tests;
