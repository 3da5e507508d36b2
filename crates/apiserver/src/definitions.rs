//! CustomResourceDefinitions: kinds that users define while the server runs.
//!
//! A definition is an object like any other. What it means is worked out before it is stored: its
//! schema is checked ([`check`], [`structural`]), its names are accepted or not ([`status`]), and
//! both stand in the object that the client gets back. The write then makes a new
//! [`Catalog`](crate::catalog::Catalog), before it is answered: whoever made a definition can use
//! it at once. Other servers on the same database follow the store.
//!
//! A definition that is deleted stays, by its finalizer, until its objects are gone.
//!
//! Invariants
//! - What is served is built from stored definitions alone; one that cannot be built is left out
//!   and told in the log, and the others are served.
//! - No definition has a group that the platform serves kinds of.
//! - Names are decided one definition at a time on a server, by what is stored.

mod check;
mod serving;
mod status;
mod structural;
mod tending;
pub(crate) mod trial;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fermion_api::Invalid;
use fermion_store::{Commit, Expect, ListQuery, Scope, Stored, Write};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::Api;
use crate::catalog::Resource;
use crate::error::{About, ApiError, Cause, Result};
use crate::objects::{self, Part};

pub(crate) use serving::{CustomForm, Definition};
use status::Taken;

const GROUP: &str = "apiextensions.k8s.io";
pub(crate) const PLURAL: &str = "customresourcedefinitions";
const KIND: &str = "CustomResourceDefinition";
/// The name of definitions in keys of the store.
const STORED_AS: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// The finalizer that holds a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Groups under this name are the platform's own, now or later.
const OWN_DOMAIN: &str = "fermion.dev";
/// The most definitions.
const DEFINITIONS_MAX: usize = 1_000;
/// The largest definition, in bytes of JSON; what etcd takes.
const DEFINITION_BYTES_MAX: usize = 1_536 * 1024;
/// Objects looked at in one step.
const PAGE: usize = 500;

/// What the server knows of the stored definitions.
#[derive(Default)]
pub(crate) struct Definitions {
    /// Whoever decides names holds this until the decision is stored.
    turn: Mutex<()>,
    known: Mutex<HashMap<String, Known>>,
}

/// One definition, or that it is gone.
struct Known {
    revision: u64,
    summary: Option<Summary>,
}

/// What others need to know of a definition.
#[derive(Clone)]
struct Summary {
    group: String,
    accepted: Value,
    names_accepted: bool,
    is_terminating: bool,
}

impl Summary {
    fn of(object: &Value) -> Self {
        Self {
            group: object["spec"]["group"].as_str().unwrap_or_default().to_owned(),
            accepted: object["status"]["acceptedNames"].clone(),
            names_accepted: status::holds(object, "NamesAccepted"),
            is_terminating: objects::is_being_deleted(object),
        }
    }
}

impl Resource {
    /// Whether this is the kind of definitions.
    pub(crate) fn is_definition(&self) -> bool {
        self.group == GROUP && self.plural == PLURAL
    }

    /// Refuses new objects of a kind that is going away.
    pub(crate) fn refuse_new_while_terminating(&self) -> Result<()> {
        match &self.form {
            Some(form) if form.is_terminating => {
                Err(ApiError::method_not_allowed("create not allowed while custom resource definition is terminating"))
            }
            _ => Ok(()),
        }
    }
}

/// Fills in what a definition leaves out.
pub(crate) fn with_defaults(mut definition: Value) -> std::result::Result<Value, Vec<Invalid>> {
    check::set_defaults(&mut definition);
    Ok(definition)
}

fn about(name: &str) -> About<'_> {
    About { group: GROUP, plural: PLURAL, kind: KIND, name }
}

impl Api {
    /// Works out what a definition means before it is stored. Objects of other kinds pass as they
    /// are. The guard is held until the definition is stored.
    pub(crate) async fn prepare_definition(
        &self,
        resource: &Resource,
        part: Part,
        object: Value,
        old: Option<&Value>,
    ) -> Result<(Value, Option<MutexGuard<'_, ()>>)> {
        if !resource.is_definition() {
            return Ok((object, None));
        }
        // Apart, so that every other write need not carry the room for this.
        Box::pin(self.prepare(part, object, old)).await
    }

    async fn prepare(&self, part: Part, object: Value, old: Option<&Value>) -> Result<(Value, Option<MutexGuard<'_, ()>>)> {
        let turn = self.definitions.turn.lock().await;
        let name = objects::text(&object, "name").to_owned();
        let refuse = |causes: Vec<Cause>| if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(about(&name), causes)) };
        if part == Part::Status {
            refuse(check::stored_versions(&object))?;
            return Ok((object, Some(turn)));
        }
        // What goes away needs to be valid no more.
        if objects::is_being_deleted(&object) {
            return Ok((object, Some(turn)));
        }
        let bytes = object.to_string().len();
        if bytes > DEFINITION_BYTES_MAX {
            return Err(ApiError::too_large(format!("the definition has {bytes} bytes; at most {DEFINITION_BYTES_MAX} are accepted")));
        }
        refuse(self.refuse_shadow(&object))?;
        let mut object = self.check_definition(object, old, &name).await?;
        let known = self.definitions.known.lock().await;
        if old.is_none() && known.values().filter(|known| known.summary.is_some()).count() >= DEFINITIONS_MAX {
            return Err(ApiError::forbidden(format!("there are {DEFINITIONS_MAX} definitions, which is the most; delete one first")));
        }
        let taken = taken(&known, object["spec"]["group"].as_str().unwrap_or_default(), &name);
        drop(known);
        object["status"] = status::settled(&object, &taken, self.now());
        if !objects::finalizers(&object).any(|finalizer| finalizer == CLEANUP) {
            match object["metadata"]["finalizers"].as_array_mut() {
                Some(finalizers) => finalizers.push(CLEANUP.into()),
                None => object["metadata"]["finalizers"] = json!([CLEANUP]),
            }
        }
        Ok((object, Some(turn)))
    }

    /// The platform's kinds cannot be taken over.
    fn refuse_shadow(&self, object: &Value) -> Vec<Cause> {
        let group = object["spec"]["group"].as_str().unwrap_or_default();
        let is_own = group == OWN_DOMAIN || group.ends_with(&format!(".{OWN_DOMAIN}"));
        if !is_own && !self.catalog().is_built_in_group(group) {
            return Vec::new();
        }
        vec![Cause {
            field: "spec.group".to_owned(),
            reason: "FieldValueForbidden",
            message: format!(
                "Forbidden: group \"{group}\" belongs to the platform, whose kinds cannot be redefined or added to; use a domain of your own"
            ),
        }]
    }

    /// Checks a definition beside the threads that serve requests: a large schema takes a while.
    async fn check_definition(&self, object: Value, old: Option<&Value>, name: &str) -> Result<Value> {
        if old.is_some_and(|old| old["spec"] == object["spec"] && old["metadata"]["annotations"] == object["metadata"]["annotations"]) {
            return Ok(object);
        }
        let old = old.cloned();
        let checked = tokio::task::spawn_blocking(move || {
            let causes = check::check(&object, old.as_ref());
            (object, causes)
        });
        let (object, causes) =
            checked.await.map_err(|error| ApiError::internal(format!("the definition could not be checked: {error}")))?;
        if causes.is_empty() { Ok(object) } else { Err(ApiError::invalid(about(name), causes)) }
    }

    /// Builds what the stored definitions define; answers the revision that this is true of.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn load_definitions(&self) -> anyhow::Result<u64> {
        let mut known = self.definitions.known.lock().await;
        let page = self.store.list(ListQuery::all(Scope::all(STORED_AS))).await?;
        let before = self.catalog();
        let mut definitions = BTreeMap::new();
        known.retain(|_, known| known.revision > page.revision);
        for stored in page.items {
            let name = stored.key.name.to_string();
            if known.contains_key(&name) {
                continue;
            }
            let object: Value = match serde_json::from_slice(&stored.body) {
                Ok(object) => object,
                Err(error) => {
                    tracing::error!(%error, definition = name, "a stored definition cannot be read and is not served");
                    continue;
                }
            };
            known.insert(name.clone(), Known { revision: stored.revision, summary: Some(Summary::of(&object)) });
            definitions.extend(build(&name, object, before.definitions().get(&name).cloned()).await.map(|built| (name, built)));
        }
        // Written while this was read: newer than the page.
        for (name, known) in known.iter().filter(|(_, known)| known.revision > page.revision) {
            if let (Some(_), Some(current)) = (&known.summary, before.definitions().get(name)) {
                definitions.insert(name.clone(), current.clone());
            }
        }
        self.serve_definitions(definitions);
        Ok(page.revision)
    }

    /// Serves what a definition says that was just stored, or that came from another server.
    pub(crate) async fn apply_definition(&self, stored: &Stored) {
        let name = stored.key.name.to_string();
        let mut known = self.definitions.known.lock().await;
        if known.get(&name).is_some_and(|known| known.revision >= stored.revision) {
            return;
        }
        let object: Value = match serde_json::from_slice(&stored.body) {
            Ok(object) => object,
            Err(error) => {
                tracing::error!(%error, definition = name, "a stored definition cannot be read and is not served");
                return;
            }
        };
        known.insert(name.clone(), Known { revision: stored.revision, summary: Some(Summary::of(&object)) });
        let catalog = self.catalog();
        let before = catalog.definitions().get(&name).cloned();
        if before.as_ref().is_some_and(|before| before.is_of(&object)) {
            return;
        }
        let mut definitions = catalog.definitions().clone();
        match build(&name, object, before).await {
            Some(built) => definitions.insert(name, built),
            None => definitions.remove(&name),
        };
        self.serve_definitions(definitions);
    }

    /// Serves a definition no more.
    pub(crate) async fn drop_definition(&self, stored: &Stored) {
        let name = stored.key.name.to_string();
        let mut known = self.definitions.known.lock().await;
        if known.get(&name).is_some_and(|known| known.revision >= stored.revision) {
            return;
        }
        // Kept, so that an older change that is told later does not bring it back.
        known.insert(name.clone(), Known { revision: stored.revision, summary: None });
        let mut definitions = self.catalog().definitions().clone();
        if definitions.remove(&name).is_some() {
            self.serve_definitions(definitions);
        }
    }

    fn serve_definitions(&self, definitions: BTreeMap<String, Arc<Definition>>) {
        let before = self.catalog();
        self.set_catalog(before.with(definitions));
        let now = self.catalog();
        for (name, definition) in before.definitions() {
            if now.definitions().get(name).is_none_or(|current| !Arc::ptr_eq(current, definition)) {
                definition.retire();
            }
        }
    }

    /// Removes objects that a definition of the same name left behind: a write that was under way
    /// while the last of them were deleted.
    pub(crate) async fn remove_leftovers(&self, definition: &str) -> Result<()> {
        let failed = |error: fermion_store::Error| ApiError::from_store(&error, about(definition));
        loop {
            let query = ListQuery { limit: Some(PAGE), ..ListQuery::all(Scope::all(definition)) };
            let page = self.store.list(query).await.map_err(failed)?;
            if page.items.is_empty() {
                return Ok(());
            }
            let writes = page.items.into_iter().map(|stored| Write::Delete { key: stored.key, expect: Expect::Any }).collect();
            self.store.commit(Commit { writes, ..Commit::default() }).await.map_err(failed)?;
        }
    }
}

/// Builds a definition beside the threads that serve requests.
async fn build(name: &str, object: Value, before: Option<Arc<Definition>>) -> Option<Arc<Definition>> {
    match tokio::task::spawn_blocking(move || Definition::build(&object, before.as_deref())).await {
        Ok(Ok(built)) => Some(Arc::new(built)),
        Ok(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, definition = name, "a stored definition cannot be served");
            None
        }
        Err(error) => {
            tracing::error!(%error, definition = name, "a stored definition could not be built");
            None
        }
    }
}

/// The names in a group that other definitions hold.
fn taken(known: &HashMap<String, Known>, group: &str, except: &str) -> Taken {
    let mut taken = Taken::default();
    for (name, known) in known {
        if let Some(summary) = known.summary.as_ref().filter(|summary| name != except && summary.group == group) {
            taken.add(&summary.accepted);
        }
    }
    taken
}
