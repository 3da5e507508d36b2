//! Create, update, patch and delete, for every kind.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use fermion_api::Invalid;
use fermion_store::{Commit, Expect, Fact, Key, Stored, Write};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Api;
use crate::admission::{self, Admitted, Operation, Origin};
use crate::catalog::Resource;
use crate::error::{About, ApiError, Cause, Result};
use crate::field_validation::{FieldValidation, Form};
use crate::identity::{COMPONENTS, Identity};
use crate::key_locks::KeyLock;
use crate::objects::{self, Deletion, Part, Propagation};
use crate::patch::{self, PatchErrorClass, PatchKind};
use crate::request::Query;
use crate::schema::{FieldError, Problem};
use crate::tracking::{self, FieldManager, Owners};
use crate::{names, usage};

/// How often a change is made anew when somebody else changes the object meanwhile.
pub(crate) const CHANGE_TRIES_MAX: usize = 8;

/// Options of a write, from its query and headers.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
    /// Who changes fields.
    pub(crate) manager: FieldManager,
    /// Whether an apply takes fields from others; for applies only.
    pub(crate) force: Option<bool>,
    /// Paths of fields that the body gives twice; what is done about them is as for unknown ones.
    pub(crate) duplicates: Vec<String>,
}

impl WriteOptions {
    pub(crate) fn parse(query: &Query, headers: &HeaderMap) -> Result<Self> {
        let force = query.get("force").map(|_| query.flag("force")).transpose()?;
        Ok(Self {
            dry_run: dry_run(query)?,
            field_validation: FieldValidation::parse(query)?,
            manager: FieldManager::parse(query, headers)?,
            force,
            duplicates: Vec::new(),
        })
    }

    /// For what follows from a body whose fields were looked at already.
    pub(crate) fn without_duplicates(&self) -> Self {
        Self { duplicates: Vec::new(), ..self.clone() }
    }

    /// Of a write of the server itself.
    pub(crate) fn of_server() -> Self {
        Self {
            dry_run: false,
            field_validation: FieldValidation::Strict,
            manager: FieldManager::server(),
            force: None,
            duplicates: Vec::new(),
        }
    }
}

fn dry_run(query: &Query) -> Result<bool> {
    match query.get("dryRun") {
        None => Ok(false),
        Some("All") => Ok(true),
        Some(other) => Err(ApiError::bad_request(format!("dryRun={other}: must be All"))),
    }
}

/// The object after a write, with warnings for the person who sent it.
pub(crate) struct Written {
    pub(crate) code: StatusCode,
    pub(crate) object: Stored,
    pub(crate) warnings: Vec<String>,
}

/// An update that was tried on the last version that the server saw.
struct Tried {
    /// That version.
    revision: u64,
    /// Whether the outcome stands, whatever the newest version is.
    decided: bool,
    outcome: Result<(Stored, Vec<String>)>,
}

impl Api {
    /// Makes an object.
    pub(crate) async fn create(
        &self,
        caller: &Identity,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        self.create_owned(caller, resource, namespace, object, Owners::Changed, options).await
    }

    /// Makes an object whose fields belong to these.
    pub(crate) async fn create_owned(
        &self,
        caller: &Identity,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        mut object: Value,
        owners: Owners,
        options: &WriteOptions,
    ) -> Result<Written> {
        check_type(resource, &object)?;
        resource.refuse_new_while_terminating()?;
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let mut warnings = Vec::new();
        Form::of(resource).settle(&mut object, options, &mut warnings)?;
        settle_namespace(resource, &mut object, namespace)?;
        settle_name(resource, &mut object)?;
        let now = self.now();
        let component = caller.groups.iter().any(|group| group == COMPONENTS);
        objects::begin(resource, &mut object, &uuid::Uuid::new_v4().to_string(), now, &caller.name, component);
        let key = resource.key(namespace, objects::text(&object, "name"));
        let request = admission::Request {
            origin: Origin::of(caller),
            resource,
            operation: Operation::Create,
            namespace: &key.namespace,
            name: &key.name,
            old: None,
            dry_run: options.dry_run,
        };
        let Admitted { mut object, warnings: from_hooks } = self.admit(&request, object).await?;
        let writer = options.manager.writer(resource, owners.operation(), "");
        tracking::created(resource, &mut object, owners, &writer, now);
        warnings.extend(from_hooks);
        let (object, _turn) = self.prepare_definition(resource, Part::Main, object, None).await?;
        let stored = self.put(resource, key.clone(), Expect::Absent, object, Vec::new(), options.dry_run).await?;
        Ok(Written { code: StatusCode::CREATED, object: stored, warnings })
    }

    /// Replaces an object, or only its status.
    pub(crate) async fn update(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: Key,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        check_type(resource, &object)?;
        let mut warnings = Vec::new();
        Form::of(resource).settle(&mut object, options, &mut warnings)?;
        // What is outdated already need not wait to be refused.
        self.last_seen(resource, &key, &object, options)?;
        let _lock = self.lock(&key, options).await;
        let tried = self.update_last_seen(origin, resource, &key, &object, options).await?;
        if let Some(Tried { decided: true, outcome, .. }) = tried {
            let (stored, from_hooks) = outcome?;
            warnings.extend(from_hooks);
            return Ok(Written { code: StatusCode::OK, object: stored, warnings });
        }
        let old = self.read(resource, &key).await?;
        let old_value = parse_stored(&old)?;
        check_identity(resource, &key, &object)?;
        let version = objects::text(&object, "resourceVersion").to_owned();
        if version.is_empty() && resource.custom {
            let cause = Cause {
                field: "metadata.resourceVersion".to_owned(),
                reason: "FieldValueInvalid",
                message: "must be specified for an update".to_owned(),
            };
            return Err(ApiError::invalid(resource.about(&key.name), vec![cause]));
        }
        let outcome = match tried {
            Some(tried) if tried.revision == old.revision => tried.outcome,
            _ => self.replace(origin, resource, &old, &old_value, object, Owners::Changed, options).await,
        };
        let (stored, from_hooks) = outcome?;
        warnings.extend(from_hooks);
        Ok(Written { code: StatusCode::OK, object: stored, warnings })
    }

    /// Replaces an object without reading it first: when the version that the client wants to replace is
    /// the last one that this server saw, the write itself tells whether it still is the newest. A
    /// version that was replaced before needs no look either: it never comes back.
    ///
    /// When nothing is written, or the object may not be changed so, that holds only for the newest
    /// version: then the object has to be read, and the outcome stands if it is the version that was
    /// tried. Nothing, if there was none to try.
    async fn update_last_seen(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: &Key,
        object: &Value,
        options: &WriteOptions,
    ) -> Result<Option<Tried>> {
        let Some(seen) = self.last_seen(resource, key, object, options)? else { return Ok(None) };
        let old = resource.as_served(seen)?;
        let old_value = parse_stored(&old)?;
        let outcome = self.replace(origin, resource, &old, &old_value, object.clone(), Owners::Changed, options).await;
        let decided = match &outcome {
            Ok((stored, _)) => stored.revision != old.revision,
            Err(error) => !error.code.is_client_error() || error.reason == "Conflict",
        };
        Ok(Some(Tried { revision: old.revision, decided, outcome }))
    }

    /// The version that an update wants to replace, if it is the last one that this server saw. Refuses
    /// the update if it was replaced before.
    fn last_seen(&self, resource: &Resource, key: &Key, object: &Value, options: &WriteOptions) -> Result<Option<Stored>> {
        let about = resource.about(&key.name);
        let Ok(version) = objects::text(object, "resourceVersion").parse::<u64>() else { return Ok(None) };
        if options.dry_run || resource.is_definition() || check_identity(resource, key, object).is_err() {
            return Ok(None);
        }
        let seen = self.store.last_seen(key).map_err(|error| ApiError::from_store(&error, about))?;
        let Some(seen) = seen.filter(|seen| seen.revision >= version) else { return Ok(None) };
        if seen.revision > version { Err(was_modified(about)) } else { Ok(Some(seen)) }
    }

    /// Waits for others who change the same object on this server. See [`crate::key_locks`].
    pub(crate) async fn lock(&self, key: &Key, options: &WriteOptions) -> Option<KeyLock> {
        if options.dry_run { None } else { Some(self.key_locks.lock(key).await) }
    }

    /// Changes an object by a patch, or only its status.
    pub(crate) async fn patch(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: Key,
        kind: PatchKind,
        patch: &Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        if options.force.is_some() {
            return Err(tracking::refused("force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch"));
        }
        let _lock = self.lock(&key, options).await;
        let mut tries = 0;
        loop {
            tries += 1;
            let old = self.read(resource, &key).await?;
            let old_value = parse_stored(&old)?;
            let mut object = patch::apply(kind, &old_value, patch, &resource.strategy).map_err(|error| {
                let message = error.to_string();
                match error.class() {
                    PatchErrorClass::BadRequest => ApiError::bad_request(message),
                    PatchErrorClass::TooLarge => ApiError::too_large(message),
                    PatchErrorClass::UnsupportedMediaType => ApiError::unsupported_media_type(message),
                    // Of the request, as in Kubernetes: no field of the object is wrong.
                    PatchErrorClass::Unprocessable => {
                        ApiError { details: Some(json!({})), ..ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
                    }
                }
            })?;
            let mut warnings = Vec::new();
            check_type(resource, &object)?;
            Form::of(resource).settle(&mut object, options, &mut warnings)?;
            check_identity(resource, &key, &object)?;
            check_uid(resource, &old_value, &object)?;
            // Who names a version in the patch wants exactly that one changed.
            let pinned = objects::text(&object, "resourceVersion") != objects::text(&old_value, "resourceVersion");
            match self.replace(origin, resource, &old, &old_value, object, Owners::Changed, options).await {
                Err(error) if error.reason == "Conflict" && !pinned && tries < CHANGE_TRIES_MAX => {}
                other => {
                    let (stored, from_hooks) = other?;
                    warnings.extend(from_hooks);
                    return Ok(Written { code: StatusCode::OK, object: stored, warnings });
                }
            }
        }
    }

    /// Writes `object` over `old`; everything a client may not change stays as it was. Gives back
    /// what hooks warn of, too.
    #[allow(clippy::too_many_arguments, reason = "one write's parts, each of its own type")]
    pub(crate) async fn replace(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        old: &Stored,
        old_value: &Value,
        mut object: Value,
        owners: Owners,
        options: &WriteOptions,
    ) -> Result<(Stored, Vec<String>)> {
        let about = resource.about(&old.key.name);
        let version = objects::text(&object, "resourceVersion");
        if !version.is_empty() && version != old.revision.to_string() {
            return Err(was_modified(about));
        }
        let uid = objects::text(&object, "uid");
        if !uid.is_empty() && uid != objects::text(old_value, "uid") {
            return Err(ApiError::conflict(about, "the UID in the request is not that of the stored object"));
        }
        let part = origin.part();
        // Subresources do not decide who owns what.
        let requested = tracking::take_requested(&mut object).filter(|_| part == Part::Main);
        let new = objects::merge(resource, part, old_value, object);
        // Controllers write the status they see again and again: when it is what is stored, there is
        // nothing to admit.
        if part == Part::Status && matches!(owners, Owners::Changed) && objects::same(old_value, &new) {
            return Ok((old.clone(), Vec::new()));
        }
        let request = admission::Request {
            origin,
            resource,
            operation: Operation::Update,
            namespace: &old.key.namespace,
            name: &old.key.name,
            old: Some(old_value),
            dry_run: options.dry_run,
        };
        let Admitted { object: new, warnings } = self.admit(&request, new).await?;
        let (mut new, _turn) = self.prepare_definition(resource, part, new, Some(old_value)).await?;
        if part == Part::Main {
            objects::count_generation(resource, old_value, &mut new);
        }
        let writer = options.manager.writer(resource, owners.operation(), origin.subresource);
        tracking::updated(resource, old_value, &mut new, owners, requested.as_ref(), &writer, self.now());
        if objects::same(old_value, &new) {
            return Ok((old.clone(), warnings));
        }
        if objects::deletion_is_done(resource, &new) {
            return Ok((self.remove(resource, old, &new, options.dry_run).await?, warnings));
        }
        let mut facts = Vec::new();
        if resource.is_core("pods") {
            facts.extend(usage::fact(&new, self.now(), None));
        }
        let stored = self.put(resource, old.key.clone(), Expect::Revision(old.revision), new, facts, options.dry_run).await?;
        Ok((stored, warnings))
    }

    /// Sets the node of a pod: what the scheduler decides. A pod is bound once.
    pub(crate) async fn bind(&self, resource: &Arc<Resource>, key: Key, binding: &Value) -> Result<()> {
        let node = binding["target"]["name"].as_str().unwrap_or_default();
        if node.is_empty() {
            return Err(ApiError::bad_request("a binding needs target.name, the node"));
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let old = self.read(resource, &key).await?;
            let pod = self.bound(resource, &old, node, binding)?;
            match self.put(resource, key.clone(), Expect::Revision(old.revision), pod, Vec::new(), false).await {
                // Somebody wrote the pod's status meanwhile; whether it can still be bound is looked at anew.
                Err(error) if error.reason == "Conflict" && tries < CHANGE_TRIES_MAX => {}
                other => return other.map(drop),
            }
        }
    }

    /// A pod with its node, if it may be given one.
    fn bound(&self, resource: &Resource, old: &Stored, node: &str, binding: &Value) -> Result<Value> {
        let about = resource.about(&old.key.name);
        let mut pod = parse_stored(old)?;
        let uid = objects::text(binding, "uid");
        if !uid.is_empty() && uid != objects::text(&pod, "uid") {
            return Err(ApiError::conflict(about, "the pod is another one than the binding was made for"));
        }
        if objects::is_being_deleted(&pod) {
            return Err(ApiError::conflict(about, "the pod is being deleted"));
        }
        let bound = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if !bound.is_empty() {
            return Err(ApiError::conflict(about, &format!("the pod is already assigned to node \"{bound}\"")));
        }
        pod["spec"]["nodeName"] = node.into();
        if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
            for (name, value) in annotations {
                pod["metadata"]["annotations"][name] = value.clone();
            }
        }
        let condition = json!({
            "type": "PodScheduled",
            "status": "True",
            "lastTransitionTime": objects::time_text(self.now()),
        });
        let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|found| found["type"] != "PodScheduled");
        conditions.push(condition);
        pod["status"]["conditions"] = conditions.into();
        check_schema(resource, &pod)?;
        Ok(pod)
    }

    /// Deletes one object, or marks it; gives back what to answer.
    pub(crate) async fn delete(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: Key,
        options: &DeleteOptions,
    ) -> Result<(Deleted, Vec<String>)> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.delete_once(origin, resource, &key, options).await {
                Err(error) if error.reason == "Conflict" && !options.has_preconditions() && tries < CHANGE_TRIES_MAX => {}
                other => return other,
            }
        }
    }

    async fn delete_once(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: &Key,
        options: &DeleteOptions,
    ) -> Result<(Deleted, Vec<String>)> {
        let about = resource.about(&key.name);
        let old = self.read(resource, key).await?;
        let value = parse_stored(&old)?;
        let uid = objects::text(&value, "uid").to_owned();
        if options.uid.as_ref().is_some_and(|wanted| *wanted != uid) {
            return Err(ApiError::conflict(about, "the UID in the precondition is not that of the stored object"));
        }
        if options.resource_version.as_ref().is_some_and(|wanted| *wanted != old.revision.to_string()) {
            return Err(ApiError::conflict(about, "the resourceVersion in the precondition is not that of the stored object"));
        }
        let request = admission::Request {
            origin,
            resource,
            operation: Operation::Delete,
            namespace: &key.namespace,
            name: &key.name,
            old: Some(&value),
            dry_run: options.dry_run,
        };
        let warnings = self.admit_deletion(&request).await?;
        let deleted = match objects::delete(resource, &value, options.propagation, options.grace_s, self.now()) {
            Deletion::Remove => {
                self.remove(resource, &old, &value, options.dry_run).await?;
                Deleted::Gone { uid }
            }
            Deletion::Unchanged => Deleted::Marked(old),
            Deletion::Mark(marked) => {
                let stored = self.put(resource, key.clone(), Expect::Revision(old.revision), *marked, Vec::new(), options.dry_run).await?;
                Deleted::Marked(stored)
            }
        };
        Ok((deleted, warnings))
    }

    /// Takes an object out of the store, with the facts its end causes.
    async fn remove(&self, resource: &Arc<Resource>, old: &Stored, last: &Value, dry_run: bool) -> Result<Stored> {
        if dry_run {
            return Ok(old.clone());
        }
        let now = self.now();
        let facts = if resource.is_core("pods") { usage::fact(last, now, Some(now)).into_iter().collect() } else { Vec::new() };
        let mut writes = self.secrets_of(&old.key).await?;
        writes.push(Write::Delete { key: old.key.clone(), expect: Expect::Revision(old.revision) });
        let stored = self.commit(resource.about(&old.key.name), Commit { writes, facts, ..Commit::default() }).await?;
        if resource.is_definition() {
            Box::pin(self.drop_definition(&stored)).await;
        }
        resource.as_served(stored)
    }

    /// The stored object.
    pub(crate) async fn read(&self, resource: &Resource, key: &Key) -> Result<Stored> {
        let about = resource.about(&key.name);
        let stored = self.store.get(key).await.map_err(|error| ApiError::from_store(&error, about))?;
        resource.as_served(stored.ok_or_else(|| ApiError::not_found(about))?)
    }

    pub(crate) async fn put(
        &self,
        resource: &Resource,
        key: Key,
        expect: Expect,
        object: Value,
        facts: Vec<Fact>,
        dry_run: bool,
    ) -> Result<Stored> {
        if dry_run {
            if expect == Expect::Absent {
                let about = resource.about(&key.name);
                if self.store.get(&key).await.map_err(|error| ApiError::from_store(&error, about))?.is_some() {
                    return Err(ApiError::already_exists(about));
                }
            }
            let body = serde_json::to_vec(&object).map_err(|error| ApiError::internal(error.to_string()))?;
            return Ok(Stored { key, revision: 0, body: body.into() });
        }
        let name = key.name.clone();
        let object = resource.as_stored(object);
        if resource.is_definition() && expect == Expect::Absent {
            Box::pin(self.remove_leftovers(&name)).await?;
        }
        let stored = self
            .commit(resource.about(&name), Commit { writes: vec![Write::Put { key, expect, object }], facts, ..Commit::default() })
            .await?;
        if resource.is_definition() {
            Box::pin(self.apply_definition(&stored)).await;
        }
        resource.as_served(stored)
    }

    async fn commit(&self, about: About<'_>, commit: Commit) -> Result<Stored> {
        let mut stored = self.commit_within_quota(about, commit).await?;
        self.in_force(&stored).await;
        stored.pop().ok_or_else(|| ApiError::internal("the store answered nothing to a write"))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// What a deletion did.
pub(crate) enum Deleted {
    Gone { uid: String },
    Marked(Stored),
}

/// Options of a deletion, from its body and query.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_s: Option<u64>,
    /// What becomes of dependents; as the object's finalizers say when nothing is asked.
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    pub(crate) fn parse(query: &Query, body: Option<&Value>) -> Result<Self> {
        let empty = Value::Null;
        let body = body.unwrap_or(&empty);
        let wrong = |field: &str, rule: &str| ApiError::bad_request(format!("DeleteOptions.{field}: must be {rule}"));
        let grace_s = match &body["gracePeriodSeconds"] {
            Value::Null => query.number("gracePeriodSeconds")?,
            value => Some(value.as_u64().ok_or_else(|| wrong("gracePeriodSeconds", "a whole number, zero or more"))?),
        };
        let propagation = match &body["propagationPolicy"] {
            Value::Null => query.get("propagationPolicy").map(str::to_owned),
            value => Some(value.as_str().ok_or_else(|| wrong("propagationPolicy", "a text"))?.to_owned()),
        };
        let propagation = match propagation.as_deref() {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(_) => return Err(wrong("propagationPolicy", "Background, Foreground or Orphan")),
        };
        let propagation = match &body["orphanDependents"] {
            Value::Null => propagation,
            _ if propagation.is_some() => return Err(wrong("orphanDependents", "left out when propagationPolicy is set")),
            Value::Bool(true) => Some(Propagation::Orphan),
            _ => Some(Propagation::Background),
        };
        let precondition = |field: &str| match &body["preconditions"][field] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(wrong("preconditions", "an object of texts")),
        };
        let dry_run = dry_run(query)? || body["dryRun"].as_array().is_some_and(|list| !list.is_empty());
        Ok(Self { grace_s, propagation, uid: precondition("uid")?, resource_version: precondition("resourceVersion")?, dry_run })
    }

    fn has_preconditions(&self) -> bool {
        self.uid.is_some() || self.resource_version.is_some()
    }
}

pub(crate) fn parse_stored(stored: &Stored) -> Result<Value> {
    serde_json::from_slice(&stored.body).map_err(|error| {
        tracing::error!(%error, key = %stored.key, "a stored object cannot be read");
        ApiError::internal("a stored object cannot be read; the server's log says which")
    })
}

fn was_modified(about: About<'_>) -> ApiError {
    ApiError::conflict(about, "the object has been modified; please apply your changes to the latest version and try again")
}

/// The object must say that it is what it is sent as.
pub(crate) fn check_type(resource: &Resource, object: &Value) -> Result<()> {
    if !object.is_object() {
        return Err(ApiError::bad_request("the body must be a JSON object"));
    }
    if !matches!(object["metadata"], Value::Null | Value::Object(_)) {
        return Err(ApiError::bad_request("metadata must be a JSON object"));
    }
    let expected = (resource.api_version(), resource.kind.as_str());
    let given = (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    if given != (expected.0.as_str(), expected.1) {
        let said = |text: &str| if text.is_empty() { "nothing".to_owned() } else { format!("\"{}\"", text.escape_default()) };
        return Err(ApiError::bad_request(format!(
            "this address takes apiVersion \"{}\", kind \"{}\"; the object says {} and {}",
            expected.0,
            expected.1,
            said(given.0),
            said(given.1)
        )));
    }
    Ok(())
}

pub(crate) fn check_schema(resource: &Resource, object: &Value) -> Result<()> {
    let errors = resource.validator.validate(object);
    if errors.is_empty() {
        return Ok(());
    }
    let causes = errors.iter().map(cause).collect();
    Err(ApiError::invalid(resource.about(objects::text(object, "name")), causes))
}

/// The rules of the kind's schema that the object breaks.
pub(crate) fn check_rules(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    resource.validator.check_rules(object, old).iter().map(cause).collect()
}

fn cause(error: &FieldError) -> Cause {
    let reason = match error.problem {
        Problem::Required => "FieldValueRequired",
        Problem::Type { .. } => "FieldValueTypeInvalid",
        Problem::Enum => "FieldValueNotSupported",
        Problem::Rule(reason) => reason,
        _ => "FieldValueInvalid",
    };
    Cause { field: error.path.clone(), reason, message: error.detail.clone() }
}

/// Labels, annotations and references that every kind has.
pub(crate) fn check_metadata(object: &Value) -> Vec<Invalid> {
    let mut problems = Vec::new();
    let metadata = &object["metadata"];
    for (name, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified_name(name) {
            problems.push(Invalid::new(
                "metadata.labels",
                format!("`{}` is not a label name: [prefix/]name, 63 characters", name.escape_default()),
            ));
        }
        let value = value.as_str().unwrap_or_default();
        if !value.is_empty() && !is_label_value(value) {
            problems.push(Invalid::new(
                format!("metadata.labels.{name}"),
                format!(
                    "`{}` is not a label value: 63 letters, digits, '-', '_' or '.', starting and ending with a letter or digit",
                    value.escape_default()
                ),
            ));
        }
    }
    let size: usize = metadata["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > ANNOTATIONS_BYTES_MAX {
        problems.push(Invalid::new("metadata.annotations", format!("hold {size} bytes, more than {ANNOTATIONS_BYTES_MAX}")));
    }
    for name in metadata["annotations"].as_object().into_iter().flatten().map(|(name, _)| name) {
        if !is_qualified_name(&name.to_lowercase()) {
            problems.push(Invalid::new("metadata.annotations", format!("`{}` is not an annotation name", name.escape_default())));
        }
    }
    problems.extend(objects::check_owners(object));
    for finalizer in objects::finalizers(object) {
        if !is_qualified_name(finalizer) {
            problems.push(Invalid::new("metadata.finalizers", format!("`{}` is not a finalizer name", finalizer.escape_default())));
        }
    }
    problems
}

/// The most bytes of all annotations of an object, as in Kubernetes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

fn is_qualified_name(name: &str) -> bool {
    let (prefix, name) = name.split_once('/').map_or((None, name), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(names::is_dns_name) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(value: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    value.len() <= 63
        && edge(value.bytes().next())
        && edge(value.bytes().next_back())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn settle_namespace(resource: &Resource, object: &mut Value, namespace: Option<&str>) -> Result<()> {
    let given = objects::text(object, "namespace").to_owned();
    match namespace {
        Some(namespace) => {
            if !given.is_empty() && given != namespace {
                return Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
            }
            object["metadata"]["namespace"] = namespace.into();
        }
        None if !given.is_empty() => {
            return Err(ApiError::bad_request(format!("{} are not namespaced; leave metadata.namespace out", resource.plural)));
        }
        None => {}
    }
    Ok(())
}

fn settle_name(resource: &Resource, object: &mut Value) -> Result<()> {
    if objects::text(object, "name").is_empty() {
        let prefix = objects::text(object, "generateName").to_owned();
        if prefix.is_empty() {
            let cause = Cause {
                field: "metadata.name".to_owned(),
                reason: "FieldValueRequired",
                message: "Required value: name or generateName is required".to_owned(),
            };
            return Err(ApiError::invalid(resource.about(""), vec![cause]));
        }
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(|error| ApiError::internal(format!("no random numbers: {error}")))?;
        object["metadata"]["name"] = names::generate(&prefix, &random).into();
    }
    let name = objects::text(object, "name");
    match names::check(&resource.plural, &resource.group, name) {
        Some(cause) => Err(ApiError::invalid(resource.about(name), vec![cause])),
        None => Ok(()),
    }
}

/// A patch cannot make an object another one. (Whoever sends a whole object with another uid means
/// another object: a conflict.)
fn check_uid(resource: &Resource, old: &Value, new: &Value) -> Result<()> {
    let uid = objects::text(new, "uid");
    if uid.is_empty() || uid == objects::text(old, "uid") {
        return Ok(());
    }
    let message = format!("Invalid value: \"{}\": field is immutable", uid.escape_default());
    let cause = Cause { field: "metadata.uid".to_owned(), reason: "FieldValueInvalid", message };
    Err(ApiError::invalid(resource.about(objects::text(old, "name")), vec![cause]))
}

/// The name and namespace in the body must be those of the address.
pub(crate) fn check_identity(resource: &Resource, key: &Key, object: &Value) -> Result<()> {
    let name = objects::text(object, "name");
    let namespace = objects::text(object, "namespace");
    // Built-in kinds may leave the name to the address.
    if name != &*key.name && (!name.is_empty() || resource.custom) {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            name.escape_default(),
            key.name
        )));
    }
    if !namespace.is_empty() && namespace != &*key.namespace {
        return Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    Ok(())
}
