//! Whose work it is: tenants, their organisations, projects, and users in projects, as one tree
//! of numbered accounts that quotas, counts and fair shares hang their sums on.
//!
//! A person is an account as well, apart from the tree's tenants: what one may hold over all
//! projects together is a matter of that account.

use std::collections::HashMap;

use smallvec::SmallVec;

/// The place of an account in [`Accounts`]. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u32);

impl AccountId {
    pub(crate) fn place(self) -> usize {
        self.0 as usize
    }
}

/// What kind of subject an account stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The top: a company or institution.
    Tenant,
    /// A part of a tenant or of another organisation.
    Organization,
    /// Where work is done; under an organisation or straight under a tenant.
    Project,
    /// A user within one project.
    Member,
    /// A user over all projects: has nothing above.
    Person,
}

impl Level {
    /// Whether an account of this level may hang under that one (`None`: under nothing).
    pub fn hangs_under(self, parent: Option<Self>) -> bool {
        match self {
            Self::Tenant | Self::Person => parent.is_none(),
            Self::Organization => matches!(parent, Some(Self::Tenant | Self::Organization)),
            Self::Project => matches!(parent, Some(Self::Tenant | Self::Organization)),
            Self::Member => matches!(parent, Some(Self::Project)),
        }
    }
}

/// Why an account is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("an account of level {level:?} cannot hang under one of level {parent:?}")]
    WrongLevel { level: Level, parent: Option<Level> },
    #[error("accounts are nested at most {} deep; move the organisation further up", Accounts::DEPTH_MAX)]
    TooDeep,
    #[error("there are {} accounts, the most that are kept; start the scheduler anew to forget deleted ones", Accounts::MAX)]
    TooMany,
}

#[derive(Clone, Debug)]
struct Account {
    level: Level,
    name: String,
    parent: Option<AccountId>,
    depth: usize,
}

/// The tree of accounts. A name keeps its number for as long as this lives.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    list: Vec<Account>,
    ids: HashMap<(Option<AccountId>, Level, String), AccountId>,
}

impl Accounts {
    /// The most accounts told apart: users in projects, mostly.
    pub const MAX: usize = 1 << 20;
    /// The most levels, which bounds the work of every charge.
    pub const DEPTH_MAX: usize = 12;

    /// The account of this name under that one, a new one if there is none yet.
    pub fn intern(&mut self, parent: Option<AccountId>, level: Level, name: &str) -> Result<AccountId, Refused> {
        if let Some(id) = self.id(parent, level, name) {
            return Ok(id);
        }
        let above = parent.map(|parent| &self.list[parent.place()]);
        if !level.hangs_under(above.map(|above| above.level)) {
            return Err(Refused::WrongLevel { level, parent: above.map(|above| above.level) });
        }
        let depth = above.map_or(1, |above| above.depth + 1);
        if depth > Self::DEPTH_MAX {
            return Err(Refused::TooDeep);
        }
        if self.list.len() >= Self::MAX {
            return Err(Refused::TooMany);
        }
        let id = AccountId(self.list.len() as u32);
        self.list.push(Account { level, name: name.to_owned(), parent, depth });
        self.ids.insert((parent, level, name.to_owned()), id);
        Ok(id)
    }

    pub fn id(&self, parent: Option<AccountId>, level: Level, name: &str) -> Option<AccountId> {
        self.ids.get(&(parent, level, name.to_owned())).copied()
    }

    pub fn name(&self, id: AccountId) -> &str {
        &self.list[id.place()].name
    }

    pub fn level(&self, id: AccountId) -> Level {
        self.list[id.place()].level
    }

    pub fn parent(&self, id: AccountId) -> Option<AccountId> {
        self.list[id.place()].parent
    }

    /// The account and all above it, from below.
    pub fn path(&self, id: AccountId) -> impl Iterator<Item = AccountId> + '_ {
        std::iter::successors(Some(id), |id| self.parent(*id))
    }

    /// The same path from the top.
    pub fn path_down(&self, id: AccountId) -> SmallVec<[AccountId; 4]> {
        let mut path: SmallVec<[AccountId; 4]> = self.path(id).collect();
        path.reverse();
        path
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// Who stands behind a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user in the project.
    pub member: AccountId,
    /// The same user over all projects.
    pub person: AccountId,
}

impl Owner {
    /// Every account that the workload counts for: the member and those above it, then the person.
    pub fn accounts(self, accounts: &Accounts) -> impl Iterator<Item = AccountId> + '_ {
        accounts.path(self.member).chain(accounts.path(self.person))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_hangs_only_where_it_belongs() {
        let levels = [Level::Tenant, Level::Organization, Level::Project, Level::Member, Level::Person];
        let allowed = |level: Level| {
            let above = [None].into_iter().chain(levels.map(Some)).filter(|parent| level.hangs_under(*parent));
            above.collect::<Vec<_>>()
        };
        assert_eq!(allowed(Level::Tenant), [None]);
        assert_eq!(allowed(Level::Organization), [Some(Level::Tenant), Some(Level::Organization)]);
        assert_eq!(allowed(Level::Project), [Some(Level::Tenant), Some(Level::Organization)]);
        assert_eq!(allowed(Level::Member), [Some(Level::Project)]);
        assert_eq!(allowed(Level::Person), [None]);
    }

    #[test]
    fn names_are_told_apart_by_what_they_hang_under() {
        let mut accounts = Accounts::default();
        let acme = accounts.intern(None, Level::Tenant, "acme").unwrap();
        let vision = accounts.intern(Some(acme), Level::Project, "vision").unwrap();
        let speech = accounts.intern(Some(acme), Level::Project, "speech").unwrap();
        let ada = accounts.intern(Some(vision), Level::Member, "ada").unwrap();
        assert_ne!(ada, accounts.intern(Some(speech), Level::Member, "ada").unwrap());
        assert_eq!(ada, accounts.intern(Some(vision), Level::Member, "ada").unwrap());
        assert_eq!(accounts.path(ada).collect::<Vec<_>>(), [ada, vision, acme]);
        assert_eq!(accounts.path_down(ada).to_vec(), [acme, vision, ada]);
        let refused = accounts.intern(Some(ada), Level::Project, "x").unwrap_err();
        assert_eq!(refused, Refused::WrongLevel { level: Level::Project, parent: Some(Level::Member) });
    }

    #[test]
    fn organisations_nest_to_a_bound() {
        let mut accounts = Accounts::default();
        let mut above = accounts.intern(None, Level::Tenant, "t").unwrap();
        for depth in 1..Accounts::DEPTH_MAX {
            above = accounts.intern(Some(above), Level::Organization, &depth.to_string()).unwrap();
        }
        assert_eq!(accounts.intern(Some(above), Level::Organization, "deeper"), Err(Refused::TooDeep));
    }
}
