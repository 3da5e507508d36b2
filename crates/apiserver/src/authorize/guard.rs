//! Nobody gives away more than they have: checks on writes of roles, bindings, users and keys.
//!
//! For roles and bindings these are kube-apiserver's (`pkg/registry/rbac`): whoever writes a role
//! must hold its rules already or the verb `escalate` on it, whoever binds one must hold its rules
//! or the verb `bind`. Putting somebody into a group, or making credentials for somebody else, is
//! becoming them: it needs the verb `impersonate`.

use serde_json::Value;

use super::rule::PolicyRule;
use super::rules::RoleRef;
use super::{Attributes, RBAC, Rules, authorize, coverage};
use crate::Api;
use crate::admission::Request;
use crate::catalog::Resource;
use crate::error::{About, ApiError, Result};
use crate::iam::{self, IAM};
use crate::identity::Identity;
use crate::objects::{self, Part};

impl Api {
    /// Fails when `caller` may not do that.
    pub(crate) fn authorize(&self, caller: &Identity, asked: &Attributes) -> Result<()> {
        let decision = authorize(&self.access.rules(), caller, asked);
        if decision.allowed { Ok(()) } else { Err(asked.refusal(caller, &decision)) }
    }

    fn may(&self, caller: &Identity, asked: &Attributes) -> bool {
        authorize(&self.access.rules(), caller, asked).allowed
    }

    /// Checks what a write would give away. `new` has passed schema and rules of its kind.
    pub(crate) async fn guard(&self, request: &Request<'_>, new: &Value) -> Result<()> {
        let Request { resource, old, .. } = *request;
        let caller = request.origin.caller;
        match (resource.group.as_str(), resource.plural.as_str()) {
            _ if request.origin.part() == Part::Status => Ok(()),
            (RBAC, "roles" | "clusterroles") => self.guard_role(caller, resource, old, new),
            (RBAC, "rolebindings" | "clusterrolebindings") => self.guard_binding(caller, resource, old, new),
            (IAM, "users") => self.guard_user(caller, resource, old, new),
            (IAM, "apikeys") => self.guard_key(caller, resource, old, new).await,
            _ => Ok(()),
        }
    }

    fn guard_role(&self, caller: &Identity, resource: &Resource, old: Option<&Value>, new: &Value) -> Result<()> {
        if old.is_some_and(|old| old["rules"] == new["rules"] && old["aggregationRule"] == new["aggregationRule"]) {
            return Ok(());
        }
        let namespace = objects::text(new, "namespace");
        let name = objects::text(new, "name");
        let escalate = Attributes {
            verb: "escalate".to_owned(),
            group: RBAC.to_owned(),
            resource: resource.plural.clone(),
            namespace: namespace.to_owned(),
            name: if old.is_some() { name.to_owned() } else { String::new() },
            ..Attributes::default()
        };
        if self.may(caller, &escalate) {
            return Ok(());
        }
        let about = resource.about(name);
        self.confirm_held(caller, namespace, &PolicyRule::list(&new["rules"])).map_err(|why| ApiError::forbidden_to(about, &why))?;
        let aggregates = |role: &Value| !role["aggregationRule"].is_null();
        if (aggregates(new) || old.is_some_and(aggregates)) && self.confirm_held(caller, "", &PolicyRule::everything()).is_err() {
            return Err(ApiError::forbidden_to(about, "must have cluster-admin privileges to use an aggregationRule"));
        }
        Ok(())
    }

    fn guard_binding(&self, caller: &Identity, resource: &Resource, old: Option<&Value>, new: &Value) -> Result<()> {
        if old.is_some_and(|old| old["roleRef"] == new["roleRef"] && old["subjects"] == new["subjects"]) {
            return Ok(());
        }
        let namespace = objects::text(new, "namespace");
        let role = RoleRef::of(new);
        let bind = Attributes {
            verb: "bind".to_owned(),
            group: RBAC.to_owned(),
            resource: if role.kind == "Role" { "roles" } else { "clusterroles" }.to_owned(),
            namespace: namespace.to_owned(),
            name: role.name.clone(),
            ..Attributes::default()
        };
        if self.may(caller, &bind) {
            return Ok(());
        }
        let granted = self.access.rules().role(&role, namespace).map(<[_]>::to_vec);
        let Some(granted) = granted else {
            let mut error = ApiError::not_found(About { group: RBAC, plural: &bind.resource, kind: &role.kind, name: &role.name });
            error.message = Rules::role_not_found(&role);
            return Err(error);
        };
        let about = resource.about(objects::text(new, "name"));
        self.confirm_held(caller, namespace, &granted).map_err(|why| ApiError::forbidden_to(about, &why))
    }

    /// Whether `caller` holds all of `granted`; the error is worded as kube-apiserver's.
    fn confirm_held(&self, caller: &Identity, namespace: &str, granted: &[PolicyRule]) -> Result<(), String> {
        let missing = self.access.rules().missing(caller, namespace, granted);
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            caller.name,
            coverage::quoted(&caller.groups),
            coverage::describe(&missing)
        ))
    }

    fn guard_user(&self, caller: &Identity, resource: &Resource, old: Option<&Value>, new: &Value) -> Result<()> {
        let before: Vec<&str> = old.map(|old| iam::groups(old).collect()).unwrap_or_default();
        for group in iam::groups(new).filter(|group| !before.contains(group)) {
            if !self.may(caller, &impersonate("groups", group)) {
                let why =
                    format!("user {:?} cannot put anybody into group {group:?}: that needs the verb \"impersonate\" on it", caller.name);
                return Err(ApiError::forbidden_to(resource.about(objects::text(new, "name")), &why));
            }
        }
        Ok(())
    }

    async fn guard_key(&self, caller: &Identity, resource: &Resource, old: Option<&Value>, new: &Value) -> Result<()> {
        if old.is_some() {
            return Ok(());
        }
        let owner = new["spec"]["user"].as_str().unwrap_or_default();
        self.may_act_for(caller, resource.about(objects::text(new, "name")), owner).await
    }

    /// Fails unless `caller` is that User or may become them.
    pub(crate) async fn may_act_for(&self, caller: &Identity, about: About<'_>, user: &str) -> Result<()> {
        let found = self.user(user).await?;
        if caller.name == user && found.is_some() {
            return Ok(());
        }
        let Some((_, found)) = found else {
            return Err(ApiError::forbidden_to(about, &format!("there is no User {user:?}")));
        };
        let needed = std::iter::once(impersonate("users", user)).chain(iam::groups(&found).map(|group| impersonate("groups", group)));
        for asked in needed {
            if !self.may(caller, &asked) {
                let why = format!(
                    "user {:?} cannot make credentials for User {user:?}: that needs the verb \"impersonate\" on {} {:?}",
                    caller.name, asked.resource, asked.name
                );
                return Err(ApiError::forbidden_to(about, &why));
            }
        }
        Ok(())
    }
}

/// Becoming a user or a member of a group.
fn impersonate(resource: &str, name: &str) -> Attributes {
    Attributes { verb: "impersonate".to_owned(), resource: resource.to_owned(), name: name.to_owned(), ..Attributes::default() }
}
