//! What is submitted to a queue: which queue it is, whether that takes it, and for how long it may
//! run there. And queues themselves: one default, parents that exist only once above a queue,
//! guarantees that the parent can keep.
//!
//! Only what is new is held against a queue. Work that a queue has already stays in it whatever its
//! state becomes, and what the platform's own parts make of that work (Workloads, Pods) is not new.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fermion_api::compute::Queue;
use fermion_api::compute::queue;
use fermion_api::{duration, quantity};
use fermion_store::{Key, Stored};
use serde_json::Value;

use super::{Operation, Request};
use crate::Api;
use crate::error::{ApiError, Result};
use crate::identity::COMPONENTS;

/// Where queues are stored.
pub(crate) const QUEUES: &str = "queues.compute.fermion.dev";
/// The most queues above one another.
const DEPTH_MAX: usize = 16;

/// Reads a stored queue.
pub(crate) fn read(stored: &Stored) -> Result<Queue, String> {
    serde_json::from_slice(&stored.body).map_err(|error| error.to_string())
}

/// The queues there are, by name.
pub(super) struct Queues(BTreeMap<String, Arc<Queue>>);

/// How a kind that is submitted to queues says how long it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// In this field of its spec.
    Field(&'static [&'static str]),
    /// It has no end.
    Endless,
}

/// How the kind of a request is submitted to queues; `None` if it is not.
pub(super) fn submitted(request: &Request<'_>) -> Option<Limit> {
    if request.resource.group != "ai.fermion.dev" || !request.origin.subresource.is_empty() || request.operation == Operation::Delete {
        return None;
    }
    match request.resource.plural.as_str() {
        "trainingjobs" => Some(Limit::Field(&["runPolicy", "maxDuration"])),
        "devenvironments" | "workloads" => Some(Limit::Field(&["maxDuration"])),
        "inferenceservices" => Some(Limit::Endless),
        _ => None,
    }
}

/// Whether it is a pod that belongs to no Workload, which waits in the default queue.
fn is_bare_pod(request: &Request<'_>) -> bool {
    request.resource.is_core("pods") && request.origin.subresource.is_empty() && request.operation == Operation::Create
}

fn is_queue(request: &Request<'_>) -> bool {
    request.resource.group == "compute.fermion.dev" && request.resource.plural == "queues" && request.origin.subresource.is_empty()
}

/// Whether a part of the platform asks, for somebody whose work was taken before.
pub(super) fn by_the_platform(request: &Request<'_>) -> bool {
    request.origin.caller.groups.iter().any(|group| group == COMPONENTS)
}

/// The queues, if the request is about them or something submitted to them.
pub(super) async fn queues(api: &Api, request: &Request<'_>) -> Result<Option<Queues>> {
    let concerned = submitted(request).is_some() || is_queue(request) || (is_bare_pod(request) && !by_the_platform(request));
    if !concerned {
        return Ok(None);
    }
    let all = api.queues.all(&api.store).await.map_err(|error| ApiError::from_store(&error, request.resource.about(request.name)))?;
    Ok(Some(Queues(all.iter().map(|(key, queue): (&Key, &Arc<Queue>)| (key.name.to_string(), queue.clone())).collect())))
}

/// A field somewhere below `spec`.
pub(super) fn field<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(&object["spec"], |value, name| &value[*name])
}

/// Sets a field somewhere below `spec`, unless something else than an object is in the way, which the
/// schema refuses.
pub(super) fn set(object: &mut Value, path: &[&str], text: &str) {
    let mut place = &mut object["spec"];
    for name in path {
        if !matches!(place, Value::Object(_) | Value::Null) {
            return;
        }
        place = &mut place[*name];
    }
    *place = text.into();
}

impl Queues {
    fn default_name(&self) -> String {
        queue::default_of(self.0.values().map(AsRef::as_ref))
    }

    /// Names the queue of something submitted that names none, and gives what has no time limit of
    /// its own that of the queue or `most`, what a policy lets the person have, whichever is shorter.
    pub(super) fn complete(&self, request: &Request<'_>, object: &mut Value, most: Option<&str>) {
        let Some(limit) = submitted(request) else { return };
        // What has no spec is refused by the schema.
        if !object["spec"].is_object() {
            return;
        }
        let old = request.old.map(|old| &old["spec"]);
        if object["spec"]["queue"].is_null() || object["spec"]["queue"] == "" {
            let kept = old.and_then(|spec| spec["queue"].as_str()).map(str::to_owned);
            object["spec"]["queue"] = kept.unwrap_or_else(|| self.default_name()).into();
        }
        let Limit::Field(path) = limit else { return };
        if by_the_platform(request) || !field(object, path).is_null() {
            return;
        }
        // Work that came when there was no limit keeps that.
        let without_limit = request.old.is_some_and(|old| field(old, path).is_null());
        let moved = request.old.is_none_or(|old| old["spec"]["queue"] != object["spec"]["queue"]);
        let queue = object["spec"]["queue"].as_str().and_then(|name| self.0.get(name)).filter(|_| moved || !without_limit);
        let of_queue = queue.and_then(|queue| queue.spec.max_run_time().map(|limit| (limit, queue.spec.max_time.as_str())));
        let of_person = most.filter(|_| !without_limit).and_then(|text| Some((duration::parse(text).ok()?, text)));
        let Some((_, text)) = of_queue.into_iter().chain(of_person).min() else { return };
        let text = text.to_owned();
        set(object, path, &text);
    }

    /// Refuses what the queue does not take, and queues that cannot be.
    pub(super) fn check(&self, request: &Request<'_>, object: &Value) -> Result<()> {
        if is_queue(request) {
            return self.check_queue(request, object);
        }
        if by_the_platform(request) {
            return Ok(());
        }
        if is_bare_pod(request) {
            return self.check_place(request, &self.default_name());
        }
        let Some(limit) = submitted(request) else { return Ok(()) };
        let name = object["spec"]["queue"].as_str().unwrap_or_default();
        let moved = request.old.is_none_or(|old| old["spec"]["queue"] != name);
        if moved {
            self.check_place(request, name)?;
        }
        let stays = |path| !moved && request.old.is_some_and(|old| field(old, path) == field(object, path));
        match limit {
            Limit::Field(path) if stays(path) => Ok(()),
            Limit::Endless if !moved => Ok(()),
            Limit::Field(path) => self.check_time(request, name, Some((path, field(object, path).as_str()))),
            Limit::Endless => self.check_time(request, name, None),
        }
    }

    /// Refuses new work where the queue takes none, or none of this person.
    fn check_place(&self, request: &Request<'_>, name: &str) -> Result<()> {
        // One that does not exist yet may come later; until then the work waits and says so.
        let Some(queue) = self.0.get(name) else { return Ok(()) };
        let caller = request.origin.caller;
        if !queue.spec.state.takes() {
            let state = queue.spec.state.as_str();
            return Err(refused(
                request,
                &format!(
                    "queue \"{name}\" takes no new work while its state is {state}; name another queue, or submit again when it is UP"
                ),
            ));
        }
        if !queue.spec.allowed.admits(&caller.name, &caller.groups) {
            let groups = &queue.spec.allowed.groups;
            let whom = if groups.is_empty() { "users that it names".to_owned() } else { format!("members of {}", groups.join(", ")) };
            let me = &caller.name;
            return Err(refused(
                request,
                &format!("queue \"{name}\" is for {whom}, and \"{me}\" is none of them; name another queue, or ask its administrator"),
            ));
        }
        Ok(())
    }

    /// Refuses what may run for longer than the queue lets it: `limit` is the field and what it says,
    /// nothing for what has no end.
    fn check_time(&self, request: &Request<'_>, name: &str, limit: Option<(&[&str], Option<&str>)>) -> Result<()> {
        let Some(most) = self.0.get(name).and_then(|queue| Some((queue.spec.max_run_time()?, &queue.spec.max_time))) else { return Ok(()) };
        let why = match limit {
            None => Some("this has no end".to_owned()),
            // Filled in before; it is missing only where it could not be filled in, which the schema refuses.
            Some((_, None)) => None,
            Some((path, Some(text))) => {
                let asked = duration::parse(text).unwrap_or(Duration::ZERO);
                (asked > most.0).then(|| format!("spec.{} is {text}", path.join(".")))
            }
        };
        let Some(why) = why else { return Ok(()) };
        Err(refused(request, &format!("queue \"{name}\" lets nothing run longer than {}, and {why}; name a queue with more time", most.1)))
    }

    /// Refuses a queue that does not go with the others.
    fn check_queue(&self, request: &Request<'_>, object: &Value) -> Result<()> {
        let queue: Queue = serde_json::from_value(object.clone()).map_err(|error| ApiError::internal(error.to_string()))?;
        let others = || self.0.iter().filter(|(name, _)| *name != request.name);
        if queue.spec.default
            && let Some((other, _)) = others().find(|(_, other)| other.spec.default)
        {
            return Err(refused(request, &format!("queue \"{other}\" is the default queue; set its spec.default to false first")));
        }
        self.check_parents(request, &queue)?;
        // Above and below, what is guaranteed must be there to give.
        if let Some((name, parent)) = queue.spec.parent.as_ref().and_then(|name| Some((name, self.0.get(name)?))) {
            let siblings = others().filter(|(_, other)| other.spec.parent.as_ref() == Some(name)).map(|(_, other)| &**other);
            check_guarantees(request, name, parent, siblings.chain([&queue]))?;
        }
        let children = others().filter(|(_, other)| other.spec.parent.as_deref() == Some(request.name)).map(|(_, other)| &**other);
        check_guarantees(request, request.name, &queue, children)
    }

    /// Refuses a queue that is above itself, too far below, or below one of another pool.
    fn check_parents(&self, request: &Request<'_>, queue: &Queue) -> Result<()> {
        let mut above = queue.spec.parent.as_deref();
        let mut depth = 1;
        while let Some(name) = above {
            depth += 1;
            if name == request.name {
                return Err(refused(request, "it would be above itself by spec.parent"));
            }
            if depth > DEPTH_MAX {
                return Err(refused(request, &format!("there may be at most {DEPTH_MAX} queues above one another")));
            }
            let Some(parent) = self.0.get(name) else { break };
            if parent.spec.pool != queue.spec.pool {
                return Err(refused(
                    request,
                    &format!("its parent \"{name}\" gives out pool \"{}\", not \"{}\"", parent.spec.pool, queue.spec.pool),
                ));
            }
            above = parent.spec.parent.as_deref();
        }
        Ok(())
    }

    /// Refuses to delete a queue that others are below.
    pub(super) fn check_deletion(&self, request: &Request<'_>) -> Result<()> {
        if !is_queue(request) || request.operation != Operation::Delete {
            return Ok(());
        }
        match self.0.iter().find(|(_, queue)| queue.spec.parent.as_deref() == Some(request.name)) {
            Some((child, _)) => {
                Err(refused(request, &format!("queue \"{child}\" is below it; delete that first, or give it another parent")))
            }
            None => Ok(()),
        }
    }
}

/// Refuses children that are guaranteed more than their parent. A parent that guarantees nothing of
/// a resource leaves nothing of it to guarantee.
fn check_guarantees<'a>(request: &Request<'_>, name: &str, parent: &Queue, children: impl Iterator<Item = &'a Queue>) -> Result<()> {
    let mut sums: BTreeMap<String, quantity::Milli> = BTreeMap::new();
    for (resource, amount) in children.flat_map(|child| &child.spec.guaranteed) {
        let sum = sums.entry(resource.clone()).or_default();
        *sum = sum.saturating_add(quantity::milli(amount));
    }
    for (resource, sum) in sums {
        let has = parent.spec.guaranteed.get(&resource).map_or(0, quantity::milli);
        if sum > has {
            let (sum, has) = (quantity::format(&resource, sum), quantity::format(&resource, has));
            let why = format!("the queues below \"{name}\" would be guaranteed {sum} of {resource} together, and it is guaranteed {has}");
            return Err(refused(request, &why));
        }
    }
    Ok(())
}

pub(super) fn refused(request: &Request<'_>, why: &str) -> ApiError {
    ApiError::forbidden_to(request.resource.about(request.name), why)
}
