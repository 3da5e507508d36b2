//! Ceilings of tenants, organisations, projects, users in projects, and users over all projects:
//! what an account and all below it use together never exceeds its ceiling.
//!
//! A workload counts for its user in the project and everything above, and for its person. It is
//! charged at all of them or at none.

use crate::account::{AccountId, Accounts, Owner};
use crate::limits::Limits;
use crate::resource::{Demand, ResourceId, Vector};

/// What stands in the way of a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Whose ceiling it is.
    pub account: AccountId,
    pub resource: ResourceId,
    /// How much higher the ceiling would have to be.
    pub missing: i64,
}

/// How an account stands in one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The ceiling; `None` is without.
    pub total: Option<i64>,
    /// What was handed on as ceilings of those below.
    pub allocated: i64,
    /// What could still be handed on without promising more than there is.
    pub allocatable: Option<i64>,
    /// What workloads were charged.
    pub used: i64,
    /// What applications hold that are being decided; it is as good as used until they are.
    pub in_process: i64,
}

#[derive(Clone, Debug, Default)]
struct Sums {
    ceiling: Limits,
    allocated: Vector,
    used: Vector,
    in_process: Vector,
}

impl Sums {
    /// What its parent handed on by it.
    fn handed(&self, resource: ResourceId) -> i64 {
        self.ceiling.get(resource).unwrap_or_else(|| self.allocated.get(resource))
    }
}

/// Ceilings and sums of all accounts. Every method costs the depth of the account times the
/// resources asked for.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    /// By account; those behind the end have nothing.
    sums: Vec<Sums>,
}

impl Quotas {
    /// Puts a ceiling on an account. What is used stays charged, even where it is above.
    pub fn set_ceiling(&mut self, accounts: &Accounts, id: AccountId, ceiling: Limits) {
        let before = std::mem::replace(&mut self.at(id).ceiling, ceiling.clone());
        let changed: Limits = before.iter().chain(ceiling.iter()).collect();
        for (resource, _) in changed.iter() {
            let sums = self.at(id);
            let handed_before = before.get(resource).unwrap_or_else(|| sums.allocated.get(resource));
            let change = sums.handed(resource) - handed_before;
            for above in accounts.path(id).skip(1) {
                let sums = self.at(above);
                sums.allocated[resource] += change;
                // One with a ceiling of its own was handed that, whatever it hands on.
                if sums.ceiling.get(resource).is_some() {
                    break;
                }
            }
        }
    }

    /// Whether everything the owner counts for has room for this, or the first that has not.
    pub fn fits(&self, accounts: &Accounts, owner: Owner, demand: &Demand) -> Result<(), Shortage> {
        self.each_shortage(accounts, owner, demand).next().map_or(Ok(()), Err)
    }

    /// Everything that is in the way: the user in the project first, then upwards, then the
    /// person.
    pub fn shortages(&self, accounts: &Accounts, owner: Owner, demand: &Demand) -> Vec<Shortage> {
        self.each_shortage(accounts, owner, demand).collect()
    }

    /// Counts what a workload uses from now on, at every account it counts for.
    pub fn charge(&mut self, accounts: &Accounts, owner: Owner, demand: &Demand) {
        for account in owner.accounts(accounts) {
            self.at(account).used.add(demand);
        }
    }

    /// Takes back what was charged.
    pub fn release(&mut self, accounts: &Accounts, owner: Owner, demand: &Demand) {
        for account in owner.accounts(accounts) {
            self.at(account).used.subtract(demand);
        }
    }

    /// Keeps this much for an application until it is decided.
    pub fn hold(&mut self, accounts: &Accounts, owner: Owner, demand: &Demand) {
        for account in owner.accounts(accounts) {
            self.at(account).in_process.add(demand);
        }
    }

    /// Lets go of what was held, whatever was decided. What was granted is charged apart.
    pub fn let_go(&mut self, accounts: &Accounts, owner: Owner, demand: &Demand) {
        for account in owner.accounts(accounts) {
            self.at(account).in_process.subtract(demand);
        }
    }

    pub fn ceiling(&self, id: AccountId) -> Option<&Limits> {
        self.sums.get(id.place()).map(|sums| &sums.ceiling)
    }

    pub fn used(&self, id: AccountId, resource: ResourceId) -> i64 {
        self.sums.get(id.place()).map_or(0, |sums| sums.used.get(resource))
    }

    pub fn figures(&self, id: AccountId, resource: ResourceId) -> Figures {
        let Some(sums) = self.sums.get(id.place()) else { return Figures::default() };
        let (total, allocated) = (sums.ceiling.get(resource), sums.allocated.get(resource));
        Figures {
            total,
            allocated,
            allocatable: total.map(|total| (total - allocated).max(0)),
            used: sums.used.get(resource),
            in_process: sums.in_process.get(resource),
        }
    }

    fn each_shortage<'a>(&'a self, accounts: &'a Accounts, owner: Owner, demand: &'a Demand) -> impl Iterator<Item = Shortage> + 'a {
        let limited = owner.accounts(accounts).filter_map(|account| Some((account, self.sums.get(account.place())?)));
        limited.flat_map(move |(account, sums)| {
            demand.iter().filter_map(move |(resource, amount)| {
                let taken = sums.used.get(resource).saturating_add(sums.in_process.get(resource));
                let missing = taken.saturating_add(amount) - sums.ceiling.get(resource)?;
                (missing > 0).then_some(Shortage { account, resource, missing })
            })
        })
    }

    fn at(&mut self, id: AccountId) -> &mut Sums {
        if self.sums.len() <= id.place() {
            self.sums.resize_with(id.place() + 1, Sums::default);
        }
        &mut self.sums[id.place()]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::account::Level;

    const GPU: ResourceId = ResourceId(4);

    fn gpus(amount: i64) -> Demand {
        [(GPU, amount)].into_iter().collect()
    }

    fn limit(amount: i64) -> Limits {
        [(GPU, amount)].into_iter().collect()
    }

    /// A tenant with two projects, the second under an organisation; Ada is in both, Bob in the
    /// second.
    fn acme() -> (Accounts, [AccountId; 4], [Owner; 3]) {
        let mut accounts = Accounts::default();
        let tenant = accounts.intern(None, Level::Tenant, "acme").unwrap();
        let research = accounts.intern(Some(tenant), Level::Organization, "research").unwrap();
        let vision = accounts.intern(Some(tenant), Level::Project, "vision").unwrap();
        let speech = accounts.intern(Some(research), Level::Project, "speech").unwrap();
        let mut owner = |project, name| Owner {
            member: accounts.intern(Some(project), Level::Member, name).unwrap(),
            person: accounts.intern(None, Level::Person, name).unwrap(),
        };
        let owners = [owner(vision, "ada"), owner(speech, "ada"), owner(speech, "bob")];
        (accounts, [tenant, research, vision, speech], owners)
    }

    #[test]
    fn each_level_says_what_is_missing() {
        let (accounts, [tenant, research, vision, speech], [ada_vision, ada_speech, bob]) = acme();
        // (ceilings, who asks, for how many, whose ceilings are in the way)
        type Row<'a> = (&'a [(AccountId, i64)], Owner, i64, &'a [(AccountId, i64)]);
        let table: [Row<'_>; 7] = [
            (&[], bob, 1_000, &[]),
            (&[(tenant, 10)], bob, 9, &[(tenant, 1)]),
            (&[(research, 5), (tenant, 10)], bob, 9, &[(research, 4), (tenant, 1)]),
            (&[(vision, 5)], bob, 9, &[]),
            (&[(speech, 8)], bob, 9, &[(speech, 1)]),
            (&[(bob.member, 2)], bob, 3, &[(bob.member, 1)]),
            (&[(bob.member, 2)], ada_speech, 3, &[]),
        ];
        for (ceilings, owner, amount, expected) in table {
            let mut quotas = Quotas::default();
            for (account, ceiling) in ceilings {
                quotas.set_ceiling(&accounts, *account, limit(*ceiling));
            }
            quotas.charge(&accounts, ada_vision, &gpus(2));
            let found = quotas.shortages(&accounts, owner, &gpus(amount));
            let shortage = |(account, missing): &(AccountId, i64)| Shortage { account: *account, resource: GPU, missing: *missing };
            let expected: Vec<_> = expected.iter().map(shortage).collect();
            assert_eq!(found, expected, "ceilings {ceilings:?}, {amount} asked");
            assert_eq!(quotas.fits(&accounts, owner, &gpus(amount)).is_ok(), found.is_empty());
        }
    }

    #[test]
    fn a_person_is_held_to_one_ceiling_over_all_projects() {
        let (accounts, _, [ada_vision, ada_speech, bob]) = acme();
        let mut quotas = Quotas::default();
        quotas.set_ceiling(&accounts, ada_vision.person, limit(4));
        quotas.charge(&accounts, ada_vision, &gpus(3));
        let shortage = Shortage { account: ada_vision.person, resource: GPU, missing: 1 };
        assert_eq!(quotas.fits(&accounts, ada_speech, &gpus(2)), Err(shortage));
        assert_eq!(quotas.fits(&accounts, bob, &gpus(2)), Ok(()));
    }

    #[test]
    fn figures_add_up_from_below() {
        let (accounts, [tenant, research, vision, speech], [ada, _, bob]) = acme();
        let mut quotas = Quotas::default();
        quotas.set_ceiling(&accounts, tenant, limit(20));
        quotas.set_ceiling(&accounts, vision, limit(6));
        quotas.set_ceiling(&accounts, speech, limit(4));
        quotas.charge(&accounts, ada, &gpus(1));
        quotas.hold(&accounts, bob, &gpus(3));
        let figures = Figures { total: Some(20), allocated: 10, allocatable: Some(10), used: 1, in_process: 3 };
        assert_eq!(quotas.figures(tenant, GPU), figures);
        // An organisation without a ceiling hands on what those below it have.
        let figures = Figures { total: None, allocated: 4, allocatable: None, used: 0, in_process: 3 };
        assert_eq!(quotas.figures(research, GPU), figures);
        quotas.set_ceiling(&accounts, research, limit(9));
        assert_eq!(quotas.figures(tenant, GPU).allocated, 15);
        quotas.set_ceiling(&accounts, speech, limit(30));
        assert_eq!((quotas.figures(research, GPU).allocatable, quotas.figures(tenant, GPU).allocated), (Some(0), 15));
        quotas.let_go(&accounts, bob, &gpus(3));
        assert_eq!(quotas.figures(tenant, GPU).in_process, 0);
    }

    #[test]
    fn what_is_in_process_is_as_good_as_used() {
        let (accounts, [tenant, ..], [ada, _, bob]) = acme();
        let mut quotas = Quotas::default();
        quotas.set_ceiling(&accounts, tenant, limit(5));
        quotas.hold(&accounts, bob, &gpus(3));
        assert_eq!(quotas.fits(&accounts, ada, &gpus(3)).unwrap_err().missing, 1);
    }

    proptest! {
        /// Steps: (what, who or whose, how many).
        #[test]
        fn sums_are_those_taken_anew_and_no_ceiling_is_passed(steps in proptest::collection::vec((0..5_u8, 0..16_usize, 0..6_i64), 1..60)) {
            let (accounts, levels, owners) = acme();
            let everyone: Vec<AccountId> = (0..accounts.len()).map(|place| AccountId(place as u32)).collect();
            let mut quotas = Quotas::default();
            let (mut running, mut ceilings) = (Vec::new(), std::collections::BTreeMap::new());
            for (what, which, amount) in steps {
                let owner = owners[which % owners.len()];
                match what {
                    0..=2 if quotas.fits(&accounts, owner, &gpus(amount)).is_ok() => {
                        let before: Vec<i64> = everyone.iter().map(|id| quotas.used(*id, GPU)).collect();
                        quotas.charge(&accounts, owner, &gpus(amount));
                        for (id, before) in everyone.iter().zip(before) {
                            let figures = quotas.figures(*id, GPU);
                            prop_assert!(figures.used == before || figures.used <= figures.total.unwrap_or(i64::MAX));
                        }
                        running.push((owner, amount));
                    }
                    3 if !running.is_empty() => {
                        let (owner, amount) = running.swap_remove(which % running.len());
                        quotas.release(&accounts, owner, &gpus(amount));
                    }
                    4 => {
                        let account = levels[which % levels.len()];
                        let ceiling = (amount > 0).then_some(amount * 2);
                        ceilings.insert(account, ceiling);
                        quotas.set_ceiling(&accounts, account, ceiling.map(limit).unwrap_or_default());
                    }
                    _ => {}
                }
                let mut anew = Quotas::default();
                for (account, ceiling) in ceilings.iter().rev() {
                    anew.set_ceiling(&accounts, *account, ceiling.map(limit).unwrap_or_default());
                }
                for (owner, amount) in &running {
                    anew.charge(&accounts, *owner, &gpus(*amount));
                }
                for id in &everyone {
                    prop_assert_eq!(quotas.figures(*id, GPU), anew.figures(*id, GPU));
                }
            }
        }
    }
}
