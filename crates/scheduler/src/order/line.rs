//! A line of workloads of one queue: a sorted set, and where the queue is shared fairly a tree
//! of accounts whose siblings are sorted by share.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::Shares;
use crate::account::{AccountId, Accounts};
use crate::engine::WorkId;
use crate::fair_share::Share;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    Starved,
    Overdue,
    Urgent,
    Pressing,
    Ordinary,
}

/// Where a workload stands among others of the same account, or of the queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) class: Class,
    /// What the queue's policy goes by.
    pub(super) by: i64,
    pub(super) created_at: i64,
    pub(super) name: Arc<str>,
    pub(super) id: WorkId,
    /// Whose share decides before the place does.
    pub(super) member: Option<AccountId>,
}

/// What decides between two places of a line, also of two lines of the same queue: first the
/// class, then the shares from the top down, then the place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    class: Class,
    shares: SmallVec<[(Share, AccountId); 4]>,
    place: Place,
}

/// An account with something below it in the line.
#[derive(Clone, Debug, Default)]
struct Branch {
    /// As it is in its parent's `children`.
    share: Share,
    parent: Option<AccountId>,
    children: BTreeSet<(Share, AccountId)>,
    places: BTreeSet<Place>,
    /// Places here and below.
    count: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// What no share decides.
    plain: BTreeSet<Place>,
    branches: HashMap<AccountId, Branch>,
    tops: BTreeSet<(Share, AccountId)>,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.plain.len() + self.tops.iter().map(|(_, top)| self.branches[top].count).sum::<usize>()
    }

    pub(super) fn insert(&mut self, place: Place, shares: Shares<'_>) {
        let Some(member) = place.member else {
            self.plain.insert(place);
            return;
        };
        for account in shares.accounts.path(member) {
            let fresh = || Branch { share: shares.fair.share(account), parent: shares.accounts.parent(account), ..Branch::default() };
            self.branches.entry(account).or_insert_with(fresh).count += 1;
        }
        // Once all are there, so that each finds its parent.
        for account in shares.accounts.path(member) {
            let Branch { share, parent, .. } = *self.branch(account);
            self.siblings(parent).insert((share, account));
        }
        self.branch(member).places.insert(place);
    }

    pub(super) fn remove(&mut self, place: &Place, accounts: &Accounts) {
        let Some(member) = place.member else {
            self.plain.remove(place);
            return;
        };
        self.branch(member).places.remove(place);
        for account in accounts.path(member) {
            let branch = self.branch(account);
            branch.count -= 1;
            if branch.count == 0 {
                let Branch { share, parent, .. } = *branch;
                self.siblings(parent).remove(&(share, account));
                self.branches.remove(&account);
            }
        }
    }

    /// Moves an account, if something of it is here, to where its share belongs.
    pub(super) fn reorder(&mut self, account: AccountId, shares: Shares<'_>) {
        let Some(branch) = self.branches.get_mut(&account) else { return };
        let (before, parent) = (branch.share, branch.parent);
        let share = shares.fair.share(account);
        if share != before {
            branch.share = share;
            let siblings = self.siblings(parent);
            siblings.remove(&(before, account));
            siblings.insert((share, account));
        }
    }

    /// What no share decides, in order; it comes before all else.
    pub(super) fn plain(&self) -> std::collections::btree_set::Iter<'_, Place> {
        self.plain.iter()
    }

    /// The line without what no share decides.
    pub(super) fn shared(&self) -> Self {
        Self { plain: BTreeSet::new(), branches: self.branches.clone(), tops: self.tops.clone() }
    }

    pub(super) fn first(&self) -> Option<&Place> {
        self.plain.first().or_else(|| {
            let mut siblings = &self.tops;
            loop {
                let branch = &self.branches[&siblings.first()?.1];
                if let Some(place) = branch.places.first() {
                    return Some(place);
                }
                siblings = &branch.children;
            }
        })
    }

    /// What is shared is ordinary, so it comes after all that is not.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> + '_ {
        self.plain.iter().chain(self.below(&self.tops))
    }

    fn below<'a>(&'a self, siblings: &'a BTreeSet<(Share, AccountId)>) -> Box<dyn Iterator<Item = &'a Place> + 'a> {
        let branches = siblings.iter().map(|(_, account)| &self.branches[account]);
        Box::new(branches.flat_map(|branch| branch.places.iter().chain(self.below(&branch.children))))
    }

    /// The rank of a place in this line.
    pub(super) fn rank(&self, place: &Place) -> Rank {
        let mut shares = SmallVec::new();
        let mut next = place.member;
        while let Some(account) = next {
            let branch = &self.branches[&account];
            shares.push((branch.share, account));
            next = branch.parent;
        }
        shares.reverse();
        Rank { class: place.class, shares, place: place.clone() }
    }

    /// How many places of this line come before a rank. Costs their number, or that of the
    /// accounts before.
    pub(super) fn before(&self, rank: &Rank) -> usize {
        let shared = !rank.shares.is_empty();
        let mut count = if shared { self.plain.len() } else { self.plain.range(..&rank.place).count() };
        let mut siblings = &self.tops;
        for (depth, step) in rank.shares.iter().enumerate() {
            count += siblings.range(..step).map(|(_, account)| self.branches[account].count).sum::<usize>();
            let Some(branch) = self.branches.get(&step.1) else { return count };
            let last = depth + 1 == rank.shares.len();
            count += if last { branch.places.range(..&rank.place).count() } else { branch.places.len() };
            siblings = &branch.children;
        }
        count
    }

    fn branch(&mut self, account: AccountId) -> &mut Branch {
        self.branches.get_mut(&account).expect("accounts above a place in the line are in it")
    }

    fn siblings(&mut self, parent: Option<AccountId>) -> &mut BTreeSet<(Share, AccountId)> {
        match parent {
            Some(parent) => &mut self.branch(parent).children,
            None => &mut self.tops,
        }
    }
}
