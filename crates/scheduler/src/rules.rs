//! What is ruled beside queues, by names: plain data that a snapshot carries.

use std::collections::BTreeMap;

use crate::account::Level;
use crate::policy::Policy;
use crate::snapshot::Amounts;
use crate::window;

/// Ceilings, policies and hours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// How much somebody's work may have at once, over all pools.
    pub ceilings: Vec<(Subject, Amounts)>,
    /// How many workloads of somebody may run at once.
    pub policies: Vec<(Subject, Policy)>,
    /// When work may start, by name of the rule.
    pub windows: BTreeMap<String, window::Rule>,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Tenant(String),
    Organization(String),
    Project(String),
    /// A user in one project.
    Member {
        project: String,
        user: String,
    },
    /// A user over all projects.
    Person(String),
}

/// Whose work it is. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Whom {
    pub tenant: String,
    pub organization: Option<String>,
    pub project: String,
    pub user: String,
    /// Groups of the user.
    pub groups: Vec<String>,
}

impl Whom {
    /// The path of accounts down to the user in the project.
    pub(crate) fn path(&self) -> Vec<(Level, String)> {
        let organization = self.organization.iter().map(|name| (Level::Organization, name.clone()));
        let above = [(Level::Tenant, self.tenant.clone())].into_iter().chain(organization);
        above.chain([(Level::Project, self.project.clone()), (Level::Member, self.user.clone())]).collect()
    }
}
