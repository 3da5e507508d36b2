//! Admission: the one way from a request to what will be stored.
//!
//! In this order, for create, update, patch, apply and their subresources:
//! 1. the schema's defaults;
//! 2. mutating hooks, which may change the object: those inside the process, then webhooks;
//! 3. the schema, then the defaults and rules of the kind;
//! 4. validating hooks, which may only refuse.
//!
//! A deletion passes the validating hooks, and webhooks of both sorts. What is counted (quota) is
//! counted later, in the transaction of the write itself, so that no two writes can count the same
//! room.
//!
//! A hook inside the process is a variant of [`Hook`], with a file of its own that holds a pure
//! function over the object and what had to be read for it. Hooks outside are in [`webhook`].

pub(crate) mod cards;
mod connection;
pub(crate) mod entitlements;
pub(crate) mod lifecycle;
pub(crate) mod limits;
pub(crate) mod partitions;
pub(crate) mod queues;
mod service_account;
pub(crate) mod webhook;

use fermion_api::Invalid;
use fermion_store::Key;
use serde_json::Value;

use crate::Api;
use crate::catalog::Resource;
use crate::error::{ApiError, Cause, Result};
use crate::iam::IAM;
use crate::identity::Identity;
use crate::objects::{self, Part};
use crate::write::{check_metadata, check_rules, check_schema};

/// Where a write comes from: who asks, and at which subresource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) caller: &'a Identity,
    /// `status`, `scale`, …; empty for the object itself.
    pub(crate) subresource: &'a str,
}

impl<'a> Origin<'a> {
    /// A write of the object itself.
    pub(crate) fn of(caller: &'a Identity) -> Self {
        Self { caller, subresource: "" }
    }

    /// The part of the object that such a write may change.
    pub(crate) fn part(self) -> Part {
        if self.subresource == "status" { Part::Status } else { Part::Main }
    }
}

/// What is done, in the words of AdmissionReview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A stream into a container.
    Connect,
}

/// One request, as hooks see it.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) origin: Origin<'a>,
    pub(crate) resource: &'a Resource,
    pub(crate) operation: Operation,
    /// Empty for objects outside of namespaces.
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// The stored object, except for a create.
    pub(crate) old: Option<&'a Value>,
    /// Nothing will be stored; hooks must do nothing either.
    pub(crate) dry_run: bool,
}

impl<'a> Request<'a> {
    /// What is asked of a subresource that has a kind of its own.
    pub(crate) fn of_action(origin: Origin<'a>, resource: &'a Resource, operation: Operation, key: &'a Key, dry_run: bool) -> Self {
        Self { origin, resource, operation, namespace: &key.namespace, name: &key.name, old: None, dry_run }
    }

    /// Whether the object in the request is one of the resource's kind, not of a kind of the
    /// subresource's own such as Scale or Eviction. Those are shown to webhooks as they are, by
    /// [`Api::admit_action`], before the resource's object is changed on their behalf.
    fn is_about_the_object(&self) -> bool {
        matches!(self.origin.subresource, "" | "status" | "finalize")
    }
}

/// The object that will be stored, with warnings for whoever sent it.
pub(crate) struct Admitted {
    pub(crate) object: Value,
    pub(crate) warnings: Vec<String>,
}

/// The hooks inside the process.
#[derive(Clone, Copy)]
enum Hook {
    NamespaceLifecycle,
    ServiceAccount,
    LimitRanges,
    Queues,
    Entitlements,
    Cards,
    Partitions,
}

/// In the order they run. A namespace that does not take objects is told before anything else.
const HOOKS: [Hook; 7] =
    [Hook::NamespaceLifecycle, Hook::ServiceAccount, Hook::LimitRanges, Hook::Queues, Hook::Entitlements, Hook::Cards, Hook::Partitions];

impl Hook {
    /// Changes an object, or refuses it.
    async fn mutate(self, api: &Api, request: &Request<'_>, object: &mut Value) -> Result<()> {
        match self {
            Self::NamespaceLifecycle => lifecycle::check_namespace(api, request).await,
            Self::ServiceAccount => {
                service_account::set_default(request, object);
                Ok(())
            }
            Self::LimitRanges => {
                limits::set_defaults(&limits::ranges(api, request).await?, object);
                Ok(())
            }
            Self::Queues => {
                if let Some(queues) = queues::queues(api, request).await? {
                    let held = entitlements::held(api, request).await?;
                    queues.complete(request, object, held.as_ref().and_then(entitlements::Held::max_duration));
                }
                Ok(())
            }
            Self::Entitlements => {
                if let Some(held) = entitlements::held(api, request).await? {
                    held.complete(request, object);
                }
                Ok(())
            }
            Self::Cards => {
                cards::set_default(request, object);
                Ok(())
            }
            Self::Partitions => Ok(()),
        }
    }

    /// Refuses, or does not. `object` is what will be stored; none for a deletion.
    async fn validate(self, api: &Api, request: &Request<'_>, object: Option<&Value>) -> Result<()> {
        match (self, object) {
            (Self::NamespaceLifecycle, _) => lifecycle::check_deletion(request),
            (Self::LimitRanges, Some(object)) => limits::check(&limits::ranges(api, request).await?, request, object),
            (Self::LimitRanges, None) | (Self::ServiceAccount, _) => Ok(()),
            (Self::Queues, _) => match (queues::queues(api, request).await?, object) {
                (Some(queues), Some(object)) => queues.check(request, object),
                (Some(queues), None) => queues.check_deletion(request),
                (None, _) => Ok(()),
            },
            (Self::Entitlements, Some(object)) => match entitlements::held(api, request).await? {
                Some(held) => held.check(api, request, object).await,
                None => entitlements::check_policy(api, request, object).await,
            },
            (Self::Cards, Some(object)) => cards::check(api, request, object).await,
            (Self::Entitlements | Self::Cards, None) => Ok(()),
            (Self::Partitions, object) => partitions::check(api, request, object).await,
        }
    }
}

impl Api {
    /// Takes the object of a create or update through the chain.
    pub(crate) async fn admit(&self, request: &Request<'_>, mut object: Value) -> Result<Admitted> {
        let resource = request.resource;
        resource.validator.default(&mut object);
        if request.operation == Operation::Create && resource.group == IAM && resource.plural == "apikeys" {
            self.complete_key(request.origin.caller, &mut object);
        }
        for hook in HOOKS {
            hook.mutate(self, request, &mut object).await?;
        }
        let mut warnings = Vec::new();
        if request.is_about_the_object() && self.has_mutating_webhooks(request).await? {
            // Webhooks see the object as it would be stored, and what is no such object not at all.
            check_schema(resource, &object)?;
            if request.origin.part() == Part::Main {
                object = (resource.set_defaults)(object).map_err(|problems| invalid(request, problems))?;
            }
            (object, warnings) = self.ask_mutating(request, object).await?;
        }
        check_schema(resource, &object)?;
        if request.origin.part() == Part::Main {
            object = apply_rules(request, object)?;
        } else {
            refuse(request, check_rules(resource, &object, request.old))?;
        }
        for hook in HOOKS {
            hook.validate(self, request, Some(&object)).await?;
        }
        // What would be given away is judged by what will be stored.
        self.guard(request, &object).await?;
        if request.is_about_the_object() {
            warnings.extend(self.ask_validating(request, Some(&object)).await?);
        }
        Ok(Admitted { object, warnings })
    }

    /// Takes a deletion through the chain; gives back warnings.
    pub(crate) async fn admit_deletion(&self, request: &Request<'_>) -> Result<Vec<String>> {
        for hook in HOOKS {
            hook.validate(self, request, None).await?;
        }
        if !request.is_about_the_object() {
            return Ok(Vec::new());
        }
        let (_, mut warnings) = self.ask_mutating(request, Value::Null).await?;
        warnings.extend(self.ask_validating(request, None).await?);
        Ok(warnings)
    }

    /// Shows webhooks what is asked of a subresource that has a kind of its own: a Scale, a Binding,
    /// an Eviction, the options of an exec. Gives back what they made of it.
    pub(crate) async fn admit_action(&self, request: &Request<'_>, action: Value) -> Result<Admitted> {
        let (object, mut warnings) = self.ask_mutating(request, action).await?;
        warnings.extend(self.ask_validating(request, Some(&object)).await?);
        Ok(Admitted { object, warnings })
    }
}

/// The defaults and rules of the kind.
fn apply_rules(request: &Request<'_>, object: Value) -> Result<Value> {
    let resource = request.resource;
    let object = (resource.set_defaults)(object).map_err(|problems| invalid(request, problems))?;
    let mut problems = check_metadata(&object);
    problems.extend(request.old.map(|old| objects::check_change(old, &object)).unwrap_or_default());
    problems.extend((resource.check)(&object, request.old));
    let mut causes = check_rules(resource, &object, request.old);
    causes.extend(problems.into_iter().map(of_invalid));
    refuse(request, causes)?;
    Ok(object)
}

fn of_invalid(problem: Invalid) -> Cause {
    Cause { field: problem.field, reason: "FieldValueInvalid", message: problem.message }
}

fn invalid(request: &Request<'_>, problems: Vec<Invalid>) -> ApiError {
    ApiError::invalid(request.resource.about(request.name), problems.into_iter().map(of_invalid).collect())
}

fn refuse(request: &Request<'_>, causes: Vec<Cause>) -> Result<()> {
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(request.resource.about(request.name), causes)) }
}
