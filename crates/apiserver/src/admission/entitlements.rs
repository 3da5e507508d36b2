//! What policies and tickets let a person ask for: how important, how long, how large, and how much
//! may wait. What may run at once is not asked here; the scheduler lets the rest wait.
//!
//! What counts is who sends the request, and only what is new in it: an administrator who changes
//! somebody's work is held to what administrators have, and work that was taken before a policy came
//! stays as it is. How much waits is counted in what there is when a request comes: requests that
//! come together do not see each other.

use std::collections::BTreeMap;
use std::time::Duration;

use fermion_api::ai::{DevEnvironment, InferenceService, Submission, TrainingJob, Workload};
use fermion_api::compute::entitlement::Entitlement;
use fermion_api::compute::resource_policy::policy_of;
use fermion_api::compute::{ResourcePolicy, ResourceTicket};
use fermion_api::quantity::{self, Milli};
use fermion_api::{duration, labels, pod};
use fermion_store::Stored;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::queues::{Limit, by_the_platform, field, refused, set, submitted};
use super::{Operation, Request};
use crate::Api;
use crate::error::{ApiError, Result};
use crate::follow::{Followed, Items};

/// Where development environments say how long they may be unused.
const IDLE: &[&str] = &["idleStopAfter"];

/// What is asked when work is submitted.
pub(crate) struct Entitlements {
    policies: Followed<ResourcePolicy>,
    tickets: Followed<ResourceTicket>,
    /// What waits, by kind. Read only for people whose policy limits it.
    waiting: [Followed<Option<Waits>>; 4],
}

/// Whose work waits and what it asks for.
pub(crate) struct Waits {
    creator: String,
    requests: pod::Resources,
}

impl Entitlements {
    pub(crate) fn new() -> Self {
        Self {
            policies: Followed::new("resourcepolicies.compute.fermion.dev", read),
            tickets: Followed::new("resourcetickets.compute.fermion.dev", read),
            waiting: [
                Followed::new("trainingjobs.ai.fermion.dev", waits::<TrainingJob>),
                Followed::new("devenvironments.ai.fermion.dev", waits::<DevEnvironment>),
                Followed::new("inferenceservices.ai.fermion.dev", waits::<InferenceService>),
                Followed::new("workloads.ai.fermion.dev", waits::<Workload>),
            ],
        }
    }
}

fn read<T: DeserializeOwned>(stored: &Stored) -> Result<T, String> {
    serde_json::from_slice(&stored.body).map_err(|error| error.to_string())
}

fn waits<T: Submission>(stored: &Stored) -> Result<Option<Waits>, String> {
    let object: T = read(stored)?;
    let creator = object.meta().annotations.as_ref().and_then(|annotations| annotations.get(labels::CREATED_BY));
    let waits = object.waits().then(|| Waits { creator: creator.cloned().unwrap_or_default(), requests: object.requests() });
    Ok(waits)
}

/// The policy that holds for who asks, with their tickets.
pub(super) struct Held {
    policy: String,
    entitlement: Entitlement,
}

/// What the person of a request may have, if that is limited and the request submits something.
pub(super) async fn held(api: &Api, request: &Request<'_>) -> Result<Option<Held>> {
    if submitted(request).is_none() || by_the_platform(request) {
        return Ok(None);
    }
    let failed = |error: fermion_store::Error| ApiError::from_store(&error, request.resource.about(request.name));
    let policies: Items<ResourcePolicy> = api.entitlements.policies.all(&api.store).await.map_err(failed)?;
    let (caller, now) = (request.origin.caller, api.clock.now());
    let Some(policy) = policy_of(policies.values().map(AsRef::as_ref), &caller.name, &caller.groups, now) else { return Ok(None) };
    let tickets: Items<ResourceTicket> = api.entitlements.tickets.all(&api.store).await.map_err(failed)?;
    let here = tickets.iter().filter(|(key, _)| &*key.namespace == request.namespace);
    let mine = here.filter(|(_, ticket)| ticket.is_for(&caller.name, &caller.groups) && ticket.holds(now));
    let entitlement = mine.fold(policy.spec.entitlement.clone(), |sum, (_, ticket)| sum.with(&ticket.spec.asked));
    Ok(Some(Held { policy: policy.metadata.name.clone().unwrap_or_default(), entitlement }))
}

/// Refuses a second default policy.
pub(super) async fn check_policy(api: &Api, request: &Request<'_>, object: &Value) -> Result<()> {
    let is_policy = request.resource.group == "compute.fermion.dev" && request.resource.plural == "resourcepolicies";
    if !is_policy || !request.origin.subresource.is_empty() || object["spec"]["default"] != true {
        return Ok(());
    }
    let failed = |error: fermion_store::Error| ApiError::from_store(&error, request.resource.about(request.name));
    let policies: Items<ResourcePolicy> = api.entitlements.policies.all(&api.store).await.map_err(failed)?;
    match policies.iter().find(|(key, policy)| policy.spec.default && *key.name != *request.name) {
        Some((other, _)) => {
            let other = &other.name;
            Err(refused(request, &format!("resource policy \"{other}\" is the default policy; set its spec.default to false first")))
        }
        None => Ok(()),
    }
}

impl Held {
    /// The longest that work of the person may run, as the policy writes it.
    pub(super) fn max_duration(&self) -> Option<&str> {
        self.entitlement.max_duration.as_deref()
    }

    /// Gives new work that has no priority the person's, and a development environment that says nothing
    /// of it the longest that the person may leave one unused. One that came when there was no limit
    /// keeps that.
    pub(super) fn complete(&self, request: &Request<'_>, object: &mut Value) {
        if let Some(priority) = self.entitlement.priority
            && request.operation == Operation::Create
            && object["spec"].is_object()
            && object["spec"]["priority"].as_i64().unwrap_or(0) == 0
        {
            object["spec"]["priority"] = priority.into();
        }
        let without = request.old.is_some_and(|old| field(old, IDLE).is_null());
        if request.resource.plural != "devenvironments" || without || !object["spec"].is_object() || !field(object, IDLE).is_null() {
            return;
        }
        if let Some(text) = &self.entitlement.idle_timeout {
            set(object, IDLE, text);
        }
    }

    /// Refuses what goes beyond.
    pub(super) async fn check(&self, api: &Api, request: &Request<'_>, object: &Value) -> Result<()> {
        match request.resource.plural.as_str() {
            "trainingjobs" => self.check_work::<TrainingJob>(request, object)?,
            "devenvironments" => self.check_work::<DevEnvironment>(request, object)?,
            "inferenceservices" => self.check_work::<InferenceService>(request, object)?,
            _ => self.check_work::<Workload>(request, object)?,
        }
        self.check_times(request, object)?;
        if request.operation == Operation::Create { self.check_waiting(api, request, object).await } else { Ok(()) }
    }

    fn check_work<T: Submission>(&self, request: &Request<'_>, object: &Value) -> Result<()> {
        let typed = |value: &Value| -> Result<T> { T::deserialize(value).map_err(|error| ApiError::internal(error.to_string())) };
        let (new, old) = (typed(object)?, request.old.map(typed).transpose()?);
        let most = &self.entitlement;
        let raised = old.as_ref().is_none_or(|old| new.priority() > old.priority());
        if let Some(max) = most.max_priority.filter(|max| raised && new.priority() > *max) {
            let asked = new.priority();
            return Err(self.beyond(request, &format!("you can give work a priority of {max} at most, and spec.priority is {asked}")));
        }
        let called = new.scheduling().urgent && old.as_ref().is_none_or(|old| !old.scheduling().urgent);
        if called && most.urgent == Some(false) {
            return Err(self.beyond(request, "you cannot call work urgent; leave out spec.scheduling.urgent"));
        }
        let (count, before) = (new.pod_count(), old.map_or(0, |old| old.pod_count()));
        if let Some(max) = most.pods_per_workload.filter(|max| count > i64::from(*max) && count > before) {
            return Err(self.beyond(request, &format!("a workload of yours can have {max} pods at most, and this one has {count}")));
        }
        Ok(())
    }

    /// Refuses what may run or be unused for longer than the person may have it.
    fn check_times(&self, request: &Request<'_>, object: &Value) -> Result<()> {
        let most = &self.entitlement;
        if let (Some(max), Some(text)) = (most.max_duration(), &most.max_duration) {
            match submitted(request) {
                Some(Limit::Field(path)) => self.check_time(request, object, path, max, text)?,
                Some(Limit::Endless) if request.operation == Operation::Create => {
                    return Err(self.beyond(request, &format!("nothing of yours can run longer than {text}, and this has no end")));
                }
                Some(Limit::Endless) | None => {}
            }
        }
        if let (Some(max), Some(text), "devenvironments") = (most.idle_timeout(), &most.idle_timeout, request.resource.plural.as_str()) {
            self.check_time(request, object, IDLE, max, text)?;
        }
        Ok(())
    }

    fn check_time(&self, request: &Request<'_>, object: &Value, path: &[&str], max: Duration, text: &str) -> Result<()> {
        let asked = field(object, path);
        let unchanged = request.old.is_some_and(|old| field(old, path) == asked);
        // Filled in before; it is missing only where it could not be filled in, which the schema
        // refuses.
        let within = asked.as_str().and_then(|asked| duration::parse(asked).ok()).is_some_and(|asked| asked <= max);
        if unchanged || within {
            return Ok(());
        }
        let says = asked.as_str().map_or_else(|| "is left out".to_owned(), |asked| format!("is {asked}"));
        Err(self.beyond(request, &format!("{text} is the most you can have, and spec.{} {says}", path.join("."))))
    }

    /// Refuses more than may wait.
    async fn check_waiting(&self, api: &Api, request: &Request<'_>, object: &Value) -> Result<()> {
        let most = &self.entitlement;
        if most.pending.is_none() && most.pending_resources.is_empty() {
            return Ok(());
        }
        let failed = |error: fermion_store::Error| ApiError::from_store(&error, request.resource.about(request.name));
        let (mut count, mut asked) = (0_i64, asked(request, object)?);
        for kind in &api.entitlements.waiting {
            let all: Items<Option<Waits>> = kind.all(&api.store).await.map_err(failed)?;
            let waiting = all.values().filter_map(|waits| waits.as_ref().as_ref());
            for waits in waiting.filter(|waits| waits.creator == request.origin.caller.name) {
                count += 1;
                pod::add(&mut asked, &waits.requests);
            }
        }
        if let Some(max) = most.pending.filter(|max| count >= i64::from(*max)) {
            let why = format!("{count} workloads of yours wait already, and {max} can at once; submit again when one has started");
            return Err(self.beyond(request, &why));
        }
        let limits: BTreeMap<&String, Milli> = most.pending_resources.iter().map(|(name, most)| (name, quantity::milli(most))).collect();
        for (name, limit) in limits {
            let sum = asked.get(name).copied().unwrap_or(0);
            if sum > limit {
                let (sum, limit) = (quantity::format(name, sum), quantity::format(name, limit));
                let why = format!("what waits of yours would ask for {sum} of {name} together, and it can for {limit}");
                return Err(self.beyond(request, &why));
            }
        }
        Ok(())
    }

    fn beyond(&self, request: &Request<'_>, why: &str) -> ApiError {
        refused(request, &format!("by the resource policy \"{}\" {why}; a ResourceTicket asks for more", self.policy))
    }
}

/// What the pods of a submitted object ask for.
fn asked(request: &Request<'_>, object: &Value) -> Result<pod::Resources> {
    fn of<T: Submission>(object: &Value) -> Result<pod::Resources> {
        T::deserialize(object).map(|typed| typed.requests()).map_err(|error| ApiError::internal(error.to_string()))
    }
    match request.resource.plural.as_str() {
        "trainingjobs" => of::<TrainingJob>(object),
        "devenvironments" => of::<DevEnvironment>(object),
        "inferenceservices" => of::<InferenceService>(object),
        _ => of::<Workload>(object),
    }
}
