//! What a user may hold: the default everyone has, a special spec for some, and tickets that
//! were approved.
//!
//! The tiers, resource by resource: a special spec that names the user takes the place of the
//! default; else one that names a group of the user, the most generous if there are several;
//! else the default holds. Tickets in force come on top. What no tier says of a resource is not
//! limited, and a ticket does not limit it. A spec or ticket for a group gives each of its users
//! that much, not all of them together.
//!
//! A span is in force from its first millisecond to before its last.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::limits::Limits;
use crate::resource::{Demand, ResourceId};

/// When something is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Validity {
    pub from_at: i64,
    /// `None` is without end.
    pub until_at: Option<i64>,
}

impl Validity {
    pub fn holds(&self, now: i64) -> bool {
        self.from_at <= now && self.until_at.is_none_or(|until| now < until)
    }

    fn edges(&self) -> impl Iterator<Item = i64> + use<> {
        [Some(self.from_at), self.until_at].into_iter().flatten()
    }
}

/// Different resources for some users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialSpec {
    pub users: BTreeSet<String>,
    pub groups: BTreeSet<String>,
    pub amounts: Limits,
    pub validity: Validity,
    pub enabled: bool,
}

/// Who asked for a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    User(String),
    Group(String),
}

/// What a user or group asked for, and was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub subject: Subject,
    pub requested: Demand,
    /// `None` while it is undecided, or was refused.
    pub approved: Option<Approval>,
    pub enabled: bool,
}

/// What was given, and for when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub amounts: Demand,
    pub validity: Validity,
}

/// How much of a resource a user may hold, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// `None` is without limit.
    pub amount: Option<i64>,
    pub base: Base,
    /// Names of tickets in force, with what each adds.
    pub tickets: Vec<(String, i64)>,
}

/// Which tier the base comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// No tier says anything of the resource.
    Unlimited,
    Default,
    /// The special spec of this name.
    Special(String),
}

/// What stands in the way of a demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub resource: ResourceId,
    /// How much more the user would have to be entitled to.
    pub missing: i64,
    pub entitlement: Entitlement,
}

/// The three tiers.
#[derive(Clone, Debug, Default)]
pub struct Entitlements {
    default: Limits,
    specials: BTreeMap<String, SpecialSpec>,
    tickets: BTreeMap<String, Ticket>,
    specials_of: HashMap<Subject, BTreeSet<String>>,
    tickets_of: HashMap<Subject, BTreeSet<String>>,
}

impl Entitlements {
    /// What everyone has.
    pub fn set_default(&mut self, amounts: Limits) {
        self.default = amounts;
    }

    /// Adds a special spec, in place of the one of that name.
    pub fn set_special(&mut self, name: &str, spec: SpecialSpec) {
        self.remove_special(name);
        for subject in subjects(&spec) {
            self.specials_of.entry(subject).or_default().insert(name.to_owned());
        }
        self.specials.insert(name.to_owned(), spec);
    }

    /// Forgets a special spec; answers whether there was one.
    pub fn remove_special(&mut self, name: &str) -> bool {
        let Some(spec) = self.specials.remove(name) else { return false };
        for subject in subjects(&spec) {
            forget(&mut self.specials_of, &subject, name);
        }
        true
    }

    /// Adds a ticket, in place of the one of that name.
    pub fn set_ticket(&mut self, name: &str, ticket: Ticket) {
        self.remove_ticket(name);
        self.tickets_of.entry(ticket.subject.clone()).or_default().insert(name.to_owned());
        self.tickets.insert(name.to_owned(), ticket);
    }

    /// Forgets a ticket; answers whether there was one.
    pub fn remove_ticket(&mut self, name: &str) -> bool {
        let Some(ticket) = self.tickets.remove(name) else { return false };
        forget(&mut self.tickets_of, &ticket.subject, name);
        true
    }

    pub fn special(&self, name: &str) -> Option<&SpecialSpec> {
        self.specials.get(name)
    }

    pub fn ticket(&self, name: &str) -> Option<&Ticket> {
        self.tickets.get(name)
    }

    /// What this user may hold of a resource now. Costs the user's specs and tickets.
    pub fn entitlement(&self, user: &str, groups: &[String], resource: ResourceId, now: i64) -> Entitlement {
        let special = |subject: Subject| {
            let names = self.specials_of.get(&subject).into_iter().flatten();
            names.filter_map(|name| {
                let spec = &self.specials[name];
                let holds = spec.enabled && spec.validity.holds(now);
                Some((spec.amounts.get(resource).filter(|_| holds)?, Reverse(name.clone())))
            })
        };
        let of_user = special(Subject::User(user.to_owned())).max();
        let of_group = || groups.iter().flat_map(|group| special(Subject::Group(group.clone()))).max();
        let (amount, base) = match (of_user.or_else(of_group), self.default.get(resource)) {
            (Some((amount, Reverse(name))), _) => (amount, Base::Special(name)),
            (None, Some(amount)) => (amount, Base::Default),
            (None, None) => return Entitlement { amount: None, base: Base::Unlimited, tickets: Vec::new() },
        };
        let in_force = self.tickets_for(user, groups).filter_map(|name| {
            let ticket = &self.tickets[name];
            let approval = ticket.approved.as_ref().filter(|approval| ticket.enabled && approval.validity.holds(now))?;
            Some((name.to_owned(), approval.amounts.get(resource))).filter(|(_, amount)| *amount > 0)
        });
        let tickets: Vec<(String, i64)> = in_force.collect();
        let amount = tickets.iter().fold(amount, |sum, (_, more)| sum.saturating_add(*more));
        Entitlement { amount: Some(amount), base, tickets }
    }

    /// What is in the way of a user, who uses so much already, using this too.
    pub fn shortages(&self, user: &str, groups: &[String], used: impl Fn(ResourceId) -> i64, demand: &Demand, now: i64) -> Vec<Shortage> {
        let shortages = demand.iter().filter_map(|(resource, amount)| {
            if self.default.is_empty() && self.specials.is_empty() {
                return None;
            }
            let entitlement = self.entitlement(user, groups, resource, now);
            let missing = used(resource).saturating_add(amount) - entitlement.amount?;
            (missing > 0).then_some(Shortage { resource, missing, entitlement })
        });
        shortages.collect()
    }

    /// When a spec or ticket of this user next begins or ends.
    pub fn next_change(&self, user: &str, groups: &[String], now: i64) -> Option<i64> {
        let subjects = subjects_of(user, groups);
        let names = subjects.filter_map(|subject| self.specials_of.get(&subject)).flatten();
        let specials = names.map(|name| &self.specials[name]).filter(|spec| spec.enabled).map(|spec| spec.validity);
        let tickets = self.tickets_for(user, groups).map(|name| &self.tickets[name]).filter(|ticket| ticket.enabled);
        let approvals = tickets.filter_map(|ticket| Some(ticket.approved.as_ref()?.validity));
        specials.chain(approvals).flat_map(|validity| validity.edges()).filter(|at| *at > now).min()
    }

    /// When, with what is used now, this much of a resource will be within the entitlement;
    /// `None` when no spec or ticket that is there will make it so.
    pub fn fits_at(&self, user: &str, groups: &[String], resource: ResourceId, amount: i64, now: i64) -> Option<i64> {
        let mut at = now;
        loop {
            if self.entitlement(user, groups, resource, at).amount.is_none_or(|entitled| amount <= entitled) {
                return Some(at);
            }
            at = self.next_change(user, groups, at)?;
        }
    }

    fn tickets_for<'a>(&'a self, user: &str, groups: &[String]) -> impl Iterator<Item = &'a str> + use<'a> {
        let names = subjects_of(user, groups).filter_map(|subject| self.tickets_of.get(&subject)).flatten();
        names.map(String::as_str).collect::<BTreeSet<_>>().into_iter()
    }
}

fn subjects(spec: &SpecialSpec) -> impl Iterator<Item = Subject> + '_ {
    spec.users.iter().cloned().map(Subject::User).chain(spec.groups.iter().cloned().map(Subject::Group))
}

fn subjects_of<'a>(user: &str, groups: &'a [String]) -> impl Iterator<Item = Subject> + use<'a> {
    [Subject::User(user.to_owned())].into_iter().chain(groups.iter().cloned().map(Subject::Group))
}

fn forget(index: &mut HashMap<Subject, BTreeSet<String>>, subject: &Subject, name: &str) {
    if let Some(names) = index.get_mut(subject) {
        names.remove(name);
        if names.is_empty() {
            index.remove(subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: ResourceId = ResourceId(4);

    fn gpus(amount: i64) -> Demand {
        [(GPU, amount)].into_iter().collect()
    }

    fn special(users: &[&str], groups: &[&str], amount: i64, from_at: i64, until_at: i64) -> SpecialSpec {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        SpecialSpec {
            users: names(users),
            groups: names(groups),
            amounts: [(GPU, amount)].into_iter().collect(),
            validity: Validity { from_at, until_at: Some(until_at) },
            enabled: true,
        }
    }

    fn ticket(subject: Subject, amount: i64, span: Option<(i64, i64)>) -> Ticket {
        let validity = |(from_at, until_at)| Validity { from_at, until_at: Some(until_at) };
        let approved = span.map(|span| Approval { amounts: gpus(amount), validity: validity(span) });
        Ticket { subject, requested: gpus(amount), approved, enabled: true }
    }

    #[test]
    fn the_tiers_take_each_others_place_and_tickets_come_on_top() {
        let mut tiers = Entitlements::default();
        let groups = ["lab".to_owned(), "staff".to_owned()];
        let at = |tiers: &Entitlements, user: &str, groups: &[String], now| {
            let entitlement = tiers.entitlement(user, groups, GPU, now);
            (entitlement.amount, entitlement.base, entitlement.tickets.len())
        };
        assert_eq!(at(&tiers, "ada", &[], 0), (None, Base::Unlimited, 0));
        tiers.set_default([(GPU, 1)].into_iter().collect());
        assert_eq!(at(&tiers, "ada", &[], 0), (Some(1), Base::Default, 0));
        tiers.set_special("lab", special(&[], &["lab"], 4, 10, 20));
        tiers.set_special("staff", special(&[], &["staff"], 6, 15, 30));
        tiers.set_special("ada", special(&["ada"], &[], 2, 12, 18));
        tiers.set_ticket("mine", ticket(Subject::User("ada".into()), 8, Some((11, 16))));
        tiers.set_ticket("ours", ticket(Subject::Group("lab".into()), 16, Some((16, 17))));
        tiers.set_ticket("open", ticket(Subject::User("ada".into()), 100, None));
        let special = |name: &str| Base::Special(name.to_owned());
        let table = [
            (9, Some(1), Base::Default, 0),
            (10, Some(4), special("lab"), 0),
            (11, Some(12), special("lab"), 1),
            (12, Some(10), special("ada"), 1),
            (16, Some(18), special("ada"), 1),
            (17, Some(2), special("ada"), 0),
            (18, Some(6), special("staff"), 0),
            (29, Some(6), special("staff"), 0),
            (30, Some(1), Base::Default, 0),
        ];
        for (now, amount, base, tickets) in table {
            assert_eq!(at(&tiers, "ada", &groups, now), (amount, base, tickets), "at {now}");
        }
        assert_eq!(at(&tiers, "bob", &[], 12), (Some(1), Base::Default, 0));
    }

    #[test]
    fn what_is_disabled_or_gone_gives_nothing() {
        let mut tiers = Entitlements::default();
        tiers.set_default([(GPU, 1)].into_iter().collect());
        let amount = |tiers: &Entitlements| tiers.entitlement("ada", &[], GPU, 5).amount;
        let spec = special(&["ada"], &[], 4, 0, 10);
        let asked = ticket(Subject::User("ada".into()), 8, Some((0, 10)));
        tiers.set_special("s", spec.clone());
        tiers.set_ticket("t", asked.clone());
        assert_eq!(amount(&tiers), Some(12));
        tiers.set_special("s", SpecialSpec { enabled: false, ..spec });
        assert_eq!(amount(&tiers), Some(9));
        tiers.set_ticket("t", Ticket { enabled: false, ..asked });
        assert_eq!((amount(&tiers), tiers.next_change("ada", &[], 5)), (Some(1), None));
        assert!(tiers.remove_special("s") && tiers.remove_ticket("t") && !tiers.remove_ticket("t"));
        assert!(tiers.specials_of.is_empty() && tiers.tickets_of.is_empty());
    }

    #[test]
    fn the_moment_when_it_will_fit_is_found() {
        let mut tiers = Entitlements::default();
        tiers.set_default([(GPU, 1)].into_iter().collect());
        tiers.set_ticket("small", ticket(Subject::User("ada".into()), 2, Some((10, 20))));
        tiers.set_ticket("large", ticket(Subject::User("ada".into()), 5, Some((15, 20))));
        let fits_at = |amount| tiers.fits_at("ada", &[], GPU, amount, 3);
        assert_eq!([1, 3, 8, 9].map(fits_at), [Some(3), Some(10), Some(15), None]);
        let shortage = &tiers.shortages("ada", &[], |_| 1, &gpus(2), 3)[0];
        assert_eq!((shortage.missing, shortage.entitlement.amount), (2, Some(1)));
        assert_eq!(tiers.shortages("ada", &[], |_| 1, &gpus(2), 12), []);
    }
}
