//! Who may do what: roles and bindings of rbac.authorization.k8s.io/v1, decided in memory.
//!
//! [`authorize`] is a pure function over [`Rules`], which [`follow`] keeps like the store by its
//! watch; no request reads the database for it. Deny is the answer unless a rule says otherwise.
//! [`guard`] keeps writers from giving away more than they have, [`default_roles`] are those that
//! every platform begins with.

pub(crate) mod coverage;
pub(crate) mod default_roles;
pub(crate) mod follow;
pub(crate) mod guard;
pub(crate) mod prepare;
pub(crate) mod rule;
pub(crate) mod rules;
pub(crate) mod scope;

use crate::catalog::Resource;
use crate::error::ApiError;
use crate::identity::{ADMINISTRATORS, COMPONENTS, Identity};

pub(crate) use rules::Rules;

/// The group of roles and bindings.
pub(crate) const RBAC: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do, in the words of authorization.k8s.io.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Set instead of the resource for other addresses: `/version`.
    pub(crate) path: Option<String>,
}

/// The answer to "may they?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// What decided; empty when nothing allows it.
    pub(crate) reason: String,
}

impl Decision {
    fn allow(reason: impl Into<String>) -> Self {
        Self { allowed: true, reason: reason.into() }
    }

    fn deny(reason: impl Into<String>) -> Self {
        Self { allowed: false, reason: reason.into() }
    }
}

/// Whether `identity` may do that, and why.
pub(crate) fn authorize(rules: &Rules, identity: &Identity, asked: &Attributes) -> Decision {
    if let Some(key) = identity.api_key()
        && let Err(reason) = rules.within_key(key, asked)
    {
        return Decision::deny(reason);
    }
    if identity.is_member_of(ADMINISTRATORS) {
        return Decision::allow(format!("members of {ADMINISTRATORS} may do everything"));
    }
    if identity.is_member_of(COMPONENTS) {
        return Decision::allow("a part of the platform");
    }
    let mut lost = Vec::new();
    for grant in rules.grants(identity, &asked.namespace) {
        match grant.rules {
            Some(granted) if granted.iter().any(|rule| rule.allows(asked)) => return Decision::allow(grant.to_string()),
            Some(_) => {}
            None => lost.push(Rules::role_not_found(grant.role)),
        }
    }
    match lost.as_slice() {
        [] => Decision::deny(""),
        [one] => Decision::deny(format!("RBAC: {one}")),
        several => Decision::deny(format!("RBAC: [{}]", several.join(", "))),
    }
}

impl Attributes {
    /// The permission to make an object.
    pub(crate) fn creation(resource: &Resource, namespace: Option<&str>) -> Self {
        Self {
            verb: "create".to_owned(),
            group: resource.group.clone(),
            resource: resource.plural.clone(),
            namespace: namespace.unwrap_or_default().to_owned(),
            ..Self::default()
        }
    }

    /// What `identity` cannot do, in kube-apiserver's words.
    fn sentence(&self, identity: &Identity) -> String {
        let Self { verb, group, resource, subresource, namespace, path, .. } = self;
        let name = &identity.name;
        if let Some(path) = path {
            return format!("User {name:?} cannot {verb} path {path:?}");
        }
        let resource = if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") };
        let place = if namespace.is_empty() { "at the cluster scope".to_owned() } else { format!("in the namespace {namespace:?}") };
        format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
    }

    /// The refusal, as kube-apiserver words it.
    pub(crate) fn refusal(&self, identity: &Identity, decision: &Decision) -> ApiError {
        let mut why = self.sentence(identity);
        if !decision.reason.is_empty() {
            why = format!("{why}: {}", decision.reason);
        }
        ApiError::forbidden_about(&self.group, &self.resource, &self.name, &why)
    }
}

#[cfg(test)]
mod tests;
