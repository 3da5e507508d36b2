//! Who had how much of what is theirs: dominant-resource shares over time, account by account.
//!
//! An account's share is the largest part of the pool, over all resources, that it *has and has
//! had*: what it uses now, plus the average of what it used, in which what was used one half-life
//! ago counts half. That is divided by the account's weight. So one who starts much falls behind
//! at once, and one who used much is forgiven with time.
//!
//! Accounts are compared level by level from the top: a tenant that had more goes behind one
//! that had less, whatever its users did; within a tenant organisations, projects and users
//! likewise. Then more users or projects do not make more of a tenant's share.
//!
//! Sources: dominant resources from Ghodsi et al., *Dominant Resource Fairness*, NSDI 2011; the
//! half-life from Slurm's `PriorityDecayHalfLife`; levels from Slurm's Fair Tree.
//!
//! The average `a` of a use `u` over time `t` moves as `a' = u + (a - u) * 2^(-t / half-life)`.
//! It is taken up to date only where it is looked at, with one power for all resources of the
//! account, so a start or end costs the depth of the tree.

use std::cmp::Ordering;

use crate::account::{AccountId, Accounts};
use crate::limits::Limits;
use crate::resource::{Demand, ResourceId, Vector};

/// A share, ordered. Smaller goes first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share(f64);

impl Share {
    pub fn value(self) -> f64 {
        self.0
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Share {}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Shares are told apart to this part of the pool.
const SHARE_STEPS: f64 = 1e6;

#[derive(Clone, Debug)]
pub(crate) struct Usage {
    weight: u32,
    running: Vector,
    /// By resource, as of `settled_at`.
    average: Vec<f64>,
    settled_at: i64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { weight: 1, running: Vector::default(), average: Vec::new(), settled_at: i64::MIN }
    }
}

/// Shares of all accounts at one moment, which [`FairShare::advance`] moves on.
#[derive(Clone, Debug)]
pub struct FairShare {
    now: i64,
    half_life_ms: Option<i64>,
    capacity: Limits,
    /// By account; those behind the end had nothing.
    usages: Vec<Usage>,
}

impl FairShare {
    /// Without a half-life only what is used now counts. One that is not positive is none.
    pub fn new(now: i64, half_life_ms: Option<i64>) -> Self {
        Self { now, half_life_ms: half_life_ms.filter(|ms| *ms > 0), capacity: Limits::default(), usages: Vec::new() }
    }

    /// What the pool has. A resource that is not named makes no share.
    pub fn set_capacity(&mut self, capacity: Limits) {
        self.capacity = capacity;
    }

    /// How much an account should have beside others under the same parent; at least 1.
    pub fn set_weight(&mut self, id: AccountId, weight: u32) {
        self.at(id).weight = weight.max(1);
    }

    /// Moves time on; it never goes back.
    pub fn advance(&mut self, now: i64) {
        self.now = self.now.max(now);
    }

    pub fn now(&self) -> i64 {
        self.now
    }

    /// The account and all above it use this from now on.
    pub fn start(&mut self, accounts: &Accounts, id: AccountId, demand: &Demand) {
        for account in accounts.path(id) {
            self.settle(account);
            self.at(account).running.add(demand);
        }
    }

    /// They do so no more.
    pub fn end(&mut self, accounts: &Accounts, id: AccountId, demand: &Demand) {
        for account in accounts.path(id) {
            self.settle(account);
            self.at(account).running.subtract(demand);
        }
    }

    /// What an account used on average, for keeping over a restart.
    pub fn average(&self, id: AccountId, resource: ResourceId) -> f64 {
        self.usages.get(id.place()).map_or(0.0, |usage| self.average_of(usage, resource, self.fade(usage)))
    }

    /// Takes back an average that was kept, as of an earlier moment during which nothing ran.
    pub fn restore_average(&mut self, id: AccountId, averages: &[(ResourceId, f64)], as_of: i64) {
        let now = self.now;
        let usage = self.at(id);
        usage.settled_at = as_of.min(now);
        usage.average.clear();
        for (resource, average) in averages.iter().filter(|(_, average)| average.is_finite() && *average >= 0.0) {
            let place = usize::from(resource.0);
            if usage.average.len() <= place {
                usage.average.resize(place + 1, 0.0);
            }
            usage.average[place] = *average;
        }
    }

    /// Counts what runs since the moment as of which averages were taken, and before.
    pub(crate) fn hold(&mut self, accounts: &Accounts, id: AccountId, demand: &Demand) {
        for account in accounts.path(id) {
            self.at(account).running.add(demand);
        }
    }

    /// Takes back what was counted by [`FairShare::hold`].
    pub(crate) fn let_go(&mut self, accounts: &Accounts, id: AccountId, demand: &Demand) {
        for account in accounts.path(id) {
            self.at(account).running.subtract(demand);
        }
    }

    /// Goes on to a moment; what is used was used all the time since the last one. Averages below
    /// `least` are forgotten, but not of what is used now: however short the time since the last
    /// moment, it has to add up. Costs the accounts.
    pub(crate) fn resume(&mut self, now: i64, least: f64) {
        self.now = now;
        for place in 0..self.usages.len() {
            let usage = &self.usages[place];
            let fade = self.fade(usage);
            let used = usage.running.iter().map(|(resource, _)| usize::from(resource.0) + 1).max().unwrap_or(0);
            let resources = usage.average.len().max(used);
            let average = (0..resources).map(|place| {
                let resource = ResourceId(place as u16);
                let average = self.average_of(usage, resource, fade);
                if average >= least || usage.running.get(resource) > 0 { average } else { 0.0 }
            });
            let average = average.collect();
            let usage = &mut self.usages[place];
            (usage.average, usage.settled_at) = (average, self.now);
        }
    }

    /// Averages of an account as they were last taken, by resource.
    pub(crate) fn averages(&self, id: AccountId) -> impl Iterator<Item = (ResourceId, f64)> + '_ {
        let averages = self.usages.get(id.place()).map_or(&[][..], |usage| &usage.average);
        averages.iter().enumerate().map(|(place, average)| (ResourceId(place as u16), *average))
    }

    /// What is known of an account, to be put back.
    pub(crate) fn usage(&mut self, id: AccountId) -> Usage {
        self.at(id).clone()
    }

    pub(crate) fn put_back(&mut self, id: AccountId, usage: Usage) {
        *self.at(id) = usage;
    }

    /// As of when averages of all accounts were taken, of those that have none as well.
    pub(crate) fn begin_at(&mut self, at: i64) {
        for usage in &mut self.usages {
            usage.settled_at = at;
        }
    }

    /// The account's share now, among those under the same parent.
    pub fn share(&self, id: AccountId) -> Share {
        let Some(usage) = self.usages.get(id.place()) else { return Share::default() };
        let fade = self.fade(usage);
        let parts = self.capacity.iter().filter(|(_, capacity)| *capacity > 0).map(|(resource, capacity)| {
            (usage.running.get(resource).max(0) as f64 + self.average_of(usage, resource, fade)) / capacity as f64
        });
        let share = parts.fold(0.0, f64::max) / f64::from(usage.weight);
        // What is left of long ago does not decide for ever.
        Share((share * SHARE_STEPS).round() / SHARE_STEPS)
    }

    /// Who goes first: level by level from the top, the smaller share, or else the smaller
    /// number.
    pub fn compare(&self, accounts: &Accounts, one: AccountId, other: AccountId) -> Ordering {
        let (one, other) = (accounts.path_down(one), accounts.path_down(other));
        let levels = one.iter().zip(&other).map(|(one, other)| {
            let shares = if one == other { Ordering::Equal } else { self.share(*one).cmp(&self.share(*other)) };
            shares.then_with(|| one.cmp(other))
        });
        levels.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| one.len().cmp(&other.len()))
    }

    /// How much of an average as of the last look is left.
    fn fade(&self, usage: &Usage) -> f64 {
        let Some(half_life_ms) = self.half_life_ms else { return 0.0 };
        let passed = self.now.saturating_sub(usage.settled_at).max(0) as f64;
        (-passed / half_life_ms as f64).exp2()
    }

    fn average_of(&self, usage: &Usage, resource: ResourceId, fade: f64) -> f64 {
        if self.half_life_ms.is_none() {
            return 0.0;
        }
        let before = usage.average.get(usize::from(resource.0)).copied().unwrap_or(0.0);
        let running = usage.running.get(resource).max(0) as f64;
        running + (before - running) * fade
    }

    /// Brings an account's average up to now.
    fn settle(&mut self, id: AccountId) {
        let now = self.now;
        let usage = self.at(id).clone();
        let fade = self.fade(&usage);
        let used = usage.running.iter().map(|(resource, _)| usize::from(resource.0) + 1).max().unwrap_or(0);
        let resources = usage.average.len().max(used);
        let average = (0..resources).map(|place| self.average_of(&usage, ResourceId(place as u16), fade)).collect();
        let usage = self.at(id);
        (usage.average, usage.settled_at) = (average, now);
    }

    fn at(&mut self, id: AccountId) -> &mut Usage {
        if self.usages.len() <= id.place() {
            self.usages.resize_with(id.place() + 1, Usage::default);
        }
        &mut self.usages[id.place()]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::account::Level;

    const GPU: ResourceId = ResourceId(4);
    const HALF_LIFE: i64 = 1000;

    fn demand(cpu: i64, gpu: i64) -> Demand {
        [(ResourceId::CPU, cpu), (GPU, gpu)].into_iter().collect()
    }

    /// Two tenants; the first with two projects, of two users and one; the second with one of one.
    fn tenants() -> (Accounts, [AccountId; 4]) {
        let mut accounts = Accounts::default();
        let mut member = |tenant: &str, project: &str, user: &str| {
            let tenant = accounts.intern(None, Level::Tenant, tenant).unwrap();
            let project = accounts.intern(Some(tenant), Level::Project, project).unwrap();
            accounts.intern(Some(project), Level::Member, user).unwrap()
        };
        let members = [member("a", "p", "ada"), member("a", "p", "bob"), member("a", "q", "cyd"), member("b", "r", "dee")];
        (accounts, members)
    }

    fn shares(half_life_ms: Option<i64>) -> FairShare {
        let mut shares = FairShare::new(0, half_life_ms);
        shares.set_capacity([(ResourceId::CPU, 1000), (GPU, 10)].into_iter().collect());
        shares
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
    }

    #[test]
    fn the_dominant_resource_is_the_share() {
        let (accounts, [ada, bob, ..]) = tenants();
        let mut shares = shares(None);
        shares.start(&accounts, ada, &demand(300, 1));
        shares.start(&accounts, bob, &demand(100, 2));
        assert!(close(shares.share(ada).value(), 0.3) && close(shares.share(bob).value(), 0.2));
        assert_eq!(shares.compare(&accounts, ada, bob), Ordering::Greater);
        shares.set_weight(ada, 2);
        assert_eq!(shares.compare(&accounts, ada, bob), Ordering::Less);
    }

    #[test]
    fn a_tenant_that_had_more_goes_behind_whatever_its_users_did() {
        let (accounts, [ada, bob, cyd, dee]) = tenants();
        let mut shares = shares(Some(HALF_LIFE));
        shares.start(&accounts, ada, &demand(0, 3));
        shares.start(&accounts, dee, &demand(0, 2));
        // Bob and Cyd have nothing, but their tenant has more than Dee's; Bob's project too.
        let mut order = [ada, bob, cyd, dee];
        order.sort_by(|one, other| shares.compare(&accounts, *one, *other));
        assert_eq!(order, [dee, cyd, bob, ada]);
    }

    #[test]
    fn what_is_used_adds_up_however_often_it_is_looked_at() {
        let (accounts, [ada, bob, ..]) = tenants();
        let week = 7 * 86_400_000;
        let mut shares = shares(Some(week));
        shares.start(&accounts, ada, &demand(1000, 0));
        for second in 1..=3600 {
            shares.resume(second * 1000, 1e-4);
        }
        let expected = 1000.0 * (1.0 - (-3600.0 / 604_800.0_f64).exp2());
        assert!((shares.average(ada, ResourceId::CPU) / expected - 1.0).abs() < 1e-6, "{}", shares.average(ada, ResourceId::CPU));
        shares.end(&accounts, ada, &demand(1000, 0));
        assert_eq!(shares.compare(&accounts, ada, bob), Ordering::Greater);
        // Forgotten in the end.
        shares.resume(40 * week, 1e-4);
        assert!(shares.average(ada, ResourceId::CPU) == 0.0);
    }

    #[test]
    fn what_was_used_counts_half_after_a_half_life() {
        let (accounts, [ada, ..]) = tenants();
        let mut shares = shares(Some(HALF_LIFE));
        shares.start(&accounts, ada, &demand(0, 4));
        shares.advance(HALF_LIFE);
        // Half of the time that counts it used four.
        assert!(close(shares.average(ada, GPU), 2.0));
        assert!(close(shares.share(ada).value(), 0.6));
        shares.end(&accounts, ada, &demand(0, 4));
        assert!(close(shares.share(ada).value(), 0.2));
        shares.advance(3 * HALF_LIFE);
        assert!(close(shares.share(ada).value(), 0.05));
        shares.advance(0);
        assert_eq!(shares.now(), 3 * HALF_LIFE);
    }

    #[test]
    fn averages_survive_a_restart() {
        let (accounts, [ada, ..]) = tenants();
        let mut before = shares(Some(HALF_LIFE));
        before.start(&accounts, ada, &demand(50, 4));
        before.advance(700);
        before.end(&accounts, ada, &demand(50, 4));
        let kept = [ResourceId::CPU, GPU].map(|resource| (resource, before.average(ada, resource)));
        before.advance(1500);
        let mut after = shares(Some(HALF_LIFE));
        after.advance(1500);
        after.restore_average(ada, &kept, 700);
        assert!(close(after.share(ada).value(), before.share(ada).value()));
    }

    proptest! {
        /// Against an average taken millisecond by millisecond, over all users of a tenant.
        #[test]
        fn averages_are_those_taken_step_by_step(steps in proptest::collection::vec((0..4_usize, 0..5_i64, any::<bool>(), 0..300_i64), 1..20)) {
            let (accounts, members) = tenants();
            let mut shares = shares(Some(HALF_LIFE));
            let mut running: Vec<(usize, i64)> = Vec::new();
            let mut average = vec![0.0_f64; accounts.len()];
            for (who, amount, ends, passes) in steps {
                if ends && !running.is_empty() {
                    let (who, amount) = running.swap_remove(who % running.len());
                    shares.end(&accounts, members[who], &demand(0, amount));
                } else {
                    shares.start(&accounts, members[who], &demand(0, amount));
                    running.push((who, amount));
                }
                let mut used = vec![0_i64; accounts.len()];
                for (who, amount) in &running {
                    for account in accounts.path(members[*who]) {
                        used[account.0 as usize] += amount;
                    }
                }
                for _ in 0..passes {
                    for (average, used) in average.iter_mut().zip(&used) {
                        let used = *used as f64;
                        *average = used + (*average - used) * (-1.0 / HALF_LIFE as f64).exp2();
                    }
                }
                shares.advance(shares.now() + passes);
                for (place, (average, used)) in average.iter().zip(&used).enumerate() {
                    let id = AccountId(place as u32);
                    prop_assert!(close(shares.average(id, GPU), *average));
                    let share = (average + *used as f64) / 10.0;
                    prop_assert!((shares.share(id).value() - share).abs() <= 1.0 / SHARE_STEPS);
                }
            }
        }

        #[test]
        fn shares_order_users_totally(amounts in proptest::array::uniform4(0..4_i64)) {
            let (accounts, members) = tenants();
            let mut shares = shares(None);
            for (member, amount) in members.iter().zip(amounts) {
                shares.start(&accounts, *member, &demand(0, amount));
            }
            for places in 0..members.len().pow(3) {
                let [one, other, third] = [places % 4, places / 4 % 4, places / 16].map(|place| members[place]);
                let compare = |one, other| shares.compare(&accounts, one, other);
                prop_assert_eq!(compare(one, other), compare(other, one).reverse());
                prop_assert_eq!(compare(one, other).is_eq(), one == other);
                if compare(one, other).is_lt() && compare(other, third).is_lt() {
                    prop_assert!(compare(one, third).is_lt());
                }
            }
        }
    }
}
