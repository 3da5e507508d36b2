//! Every role and binding, indexed by whom it is about.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use serde_json::Value;

use super::coverage;
use super::rule::PolicyRule;
use super::scope::Scope;
use super::{Attributes, RBAC};
use crate::identity::{ADMINISTRATORS, COMPONENTS, Identity, service_account_name};

/// Things by namespace, empty for the whole cluster, and name.
#[derive(Debug)]
struct Placed<T>(HashMap<String, HashMap<String, T>>);

impl<T> Default for Placed<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Placed<T> {
    fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.0.get(namespace)?.get(name)
    }

    fn insert(&mut self, namespace: &str, name: &str, thing: T) {
        self.0.entry(namespace.to_owned()).or_default().insert(name.to_owned(), thing);
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<T> {
        let of_namespace = self.0.get_mut(namespace)?;
        let removed = of_namespace.remove(name);
        if of_namespace.is_empty() {
            self.0.remove(namespace);
        }
        removed
    }
}

/// The role a binding gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl RoleRef {
    /// The `roleRef` of a binding.
    pub(crate) fn of(binding: &Value) -> Self {
        let text = |field: &str| binding["roleRef"][field].as_str().unwrap_or_default().to_owned();
        Self { kind: text("kind"), name: text("name") }
    }

    /// The namespace of the role, for a binding in `namespace`.
    fn namespace<'a>(&self, namespace: &'a str) -> &'a str {
        if self.kind == "Role" { namespace } else { "" }
    }
}

/// Whom a binding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
}

impl Subject {
    /// Reads a subject of a binding in `namespace`; `None` for one that means nobody.
    fn of(subject: &Value, namespace: &str) -> Option<Self> {
        let name = subject["name"].as_str().filter(|name| !name.is_empty())?;
        Some(match subject["kind"].as_str()? {
            "User" => Self::User(name.to_owned()),
            "Group" => Self::Group(name.to_owned()),
            "ServiceAccount" => {
                let own = subject["namespace"].as_str().filter(|own| !own.is_empty()).unwrap_or(namespace);
                Self::User(service_account_name(own, name))
            }
            _ => return None,
        })
    }
}

#[derive(Debug)]
struct Binding {
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// Names of the bindings of one namespace, by whom they are about.
#[derive(Debug, Default)]
struct BySubject {
    users: HashMap<String, BTreeSet<String>>,
    groups: HashMap<String, BTreeSet<String>>,
}

impl BySubject {
    fn map(&mut self, subject: &Subject) -> (&mut HashMap<String, BTreeSet<String>>, String) {
        match subject {
            Subject::User(name) => (&mut self.users, name.clone()),
            Subject::Group(name) => (&mut self.groups, name.clone()),
        }
    }

    fn add(&mut self, subject: &Subject, binding: &str) {
        let (map, name) = self.map(subject);
        map.entry(name).or_default().insert(binding.to_owned());
    }

    fn remove(&mut self, subject: &Subject, binding: &str) {
        let (map, name) = self.map(subject);
        if let Some(bindings) = map.get_mut(&name) {
            bindings.remove(binding);
            if bindings.is_empty() {
                map.remove(&name);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}

/// Everything that decides what somebody may do.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    roles: Placed<Vec<PolicyRule>>,
    bindings: Placed<Binding>,
    by_subject: HashMap<String, BySubject>,
    /// What each API key is meant for, by the key's name.
    keys: HashMap<String, Scope>,
}

/// One binding that is about somebody.
pub(crate) struct Grant<'a> {
    namespace: &'a str,
    binding: &'a str,
    subject: String,
    pub(crate) role: &'a RoleRef,
    /// What the role allows; `None` when there is no such role.
    pub(crate) rules: Option<&'a [PolicyRule]>,
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, binding, subject, role, .. } = self;
        if namespace.is_empty() {
            write!(formatter, "RBAC: allowed by ClusterRoleBinding {binding:?} of {} {:?} to {subject}", role.kind, role.name)
        } else {
            let place = format!("{binding}/{namespace}");
            write!(formatter, "RBAC: allowed by RoleBinding {place:?} of {} {:?} to {subject}", role.kind, role.name)
        }
    }
}

impl Rules {
    /// Takes in a Role, or with an empty namespace a ClusterRole, as it is stored.
    pub(crate) fn put_role(&mut self, namespace: &str, name: &str, role: &Value) {
        self.roles.insert(namespace, name, PolicyRule::list(&role["rules"]));
    }

    pub(crate) fn remove_role(&mut self, namespace: &str, name: &str) {
        self.roles.remove(namespace, name);
    }

    /// Takes in a RoleBinding, or with an empty namespace a ClusterRoleBinding, as it is stored.
    pub(crate) fn put_binding(&mut self, namespace: &str, name: &str, binding: &Value) {
        self.remove_binding(namespace, name);
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let subjects: Vec<Subject> = subjects.filter_map(|subject| Subject::of(subject, namespace)).collect();
        let index = self.by_subject.entry(namespace.to_owned()).or_default();
        for subject in &subjects {
            index.add(subject, name);
        }
        self.bindings.insert(namespace, name, Binding { role: RoleRef::of(binding), subjects });
    }

    pub(crate) fn remove_binding(&mut self, namespace: &str, name: &str) {
        let Some(old) = self.bindings.remove(namespace, name) else { return };
        let Some(index) = self.by_subject.get_mut(namespace) else { return };
        for subject in &old.subjects {
            index.remove(subject, name);
        }
        if index.is_empty() {
            self.by_subject.remove(namespace);
        }
    }

    /// Takes in an ApiKey as it is stored.
    pub(crate) fn put_key(&mut self, name: &str, key: &Value) {
        self.keys.insert(name.to_owned(), Scope::of(key));
    }

    pub(crate) fn remove_key(&mut self, name: &str) {
        self.keys.remove(name);
    }

    /// The bindings that are about somebody: those of the whole cluster, then those of
    /// `namespace` unless it is empty.
    pub(crate) fn grants<'a>(&'a self, identity: &'a Identity, namespace: &'a str) -> impl Iterator<Item = Grant<'a>> {
        let places = [Some(""), (!namespace.is_empty()).then_some(namespace)];
        places.into_iter().flatten().flat_map(move |place| self.grants_of(identity, place))
    }

    fn grants_of<'a>(&'a self, identity: &'a Identity, place: &'a str) -> impl Iterator<Item = Grant<'a>> {
        self.by_subject.get(place).into_iter().flat_map(move |index| {
            let mine = index.users.get_key_value(identity.name.as_str()).into_iter();
            let of_groups = identity.groups.iter().filter_map(|group| index.groups.get_key_value(group.as_str()));
            let mine = mine.map(|(name, bindings)| (format!("User {name:?}"), bindings));
            let of_groups = of_groups.map(|(name, bindings)| (format!("Group {name:?}"), bindings));
            mine.chain(of_groups).flat_map(move |(subject, bindings)| {
                bindings.iter().filter_map(move |binding| {
                    let role = &self.bindings.get(place, binding)?.role;
                    Some(Grant { namespace: place, binding, subject: subject.clone(), role, rules: self.role(role, place) })
                })
            })
        })
    }

    /// What a role allows that a binding in `namespace` gives; `None` when there is no such role.
    pub(crate) fn role(&self, role: &RoleRef, namespace: &str) -> Option<&[PolicyRule]> {
        self.roles.get(role.namespace(namespace), &role.name).map(Vec::as_slice)
    }

    /// Everything somebody may do in `namespace`, or with none in the whole cluster, before what
    /// an API key leaves of it.
    fn held(&self, identity: &Identity, namespace: &str) -> Vec<PolicyRule> {
        if identity.is_member_of(ADMINISTRATORS) || identity.is_member_of(COMPONENTS) {
            return PolicyRule::everything().to_vec();
        }
        self.grants(identity, namespace)
            .flat_map(|grant| {
                let rules = grant.rules.unwrap_or_default().iter().cloned();
                // Other addresses are in no namespace: a binding in one gives none of them.
                rules.filter(move |rule| grant.namespace.is_empty() || rule.non_resource_urls.is_empty())
            })
            .collect()
    }

    /// What of `granted` somebody does not hold in `namespace`.
    pub(crate) fn missing(&self, identity: &Identity, namespace: &str, granted: &[PolicyRule]) -> Vec<PolicyRule> {
        let mut missing = coverage::missing(&self.held(identity, namespace), granted);
        if let Some(key) = identity.api_key() {
            let within = self.keys.get(key).map(|scope| scope.rules_in(namespace)).unwrap_or_default();
            missing.extend(coverage::missing(&within, granted));
        }
        missing
    }

    /// What somebody may do in `namespace`, for a list that people read.
    pub(crate) fn effective(&self, identity: &Identity, namespace: &str) -> Vec<PolicyRule> {
        let held = self.held(identity, namespace);
        let Some(key) = identity.api_key() else { return held };
        let within = self.keys.get(key).map(|scope| scope.rules_in(namespace)).unwrap_or_default();
        // What both have: the permissions of each that are inside the other.
        let both = |one: &[PolicyRule], other: &[PolicyRule]| -> Vec<PolicyRule> {
            one.iter().filter(|rule| coverage::missing(other, std::slice::from_ref(*rule)).is_empty()).cloned().collect()
        };
        let mut effective = both(&within, &held);
        effective.extend(both(&held, &within));
        effective
    }

    /// Whether an API key is meant for that.
    pub(crate) fn within_key(&self, key: &str, asked: &Attributes) -> Result<(), String> {
        let scope = self.keys.get(key).ok_or_else(|| format!("there is no ApiKey {key:?}"))?;
        scope.check(asked).map_err(|why| format!("ApiKey {key:?} {why}"))
    }

    /// The error of a binding whose role does not exist.
    pub(crate) fn role_not_found(role: &RoleRef) -> String {
        format!("{}.{RBAC} {:?} not found", role.kind.to_lowercase(), role.name)
    }
}
