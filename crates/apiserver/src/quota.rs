//! ResourceQuota: how much a namespace may hold, counted in the transaction of each write.
//!
//! What a quota counts stands in its status. A write that changes what is counted changes the status
//! of every quota it matters to in the same commit, each expected at the revision it was read at. So
//! of two writes that count the same room one is refused by the store and counts again: however many
//! come at once, and on however many servers, a quota is never exceeded.
//!
//! Within one server such writes take turns, namespace by namespace, so that they do not refuse one
//! another. Namespaces without a quota pay nothing for this.
//!
//! A quota counts what there is when it is made or changed. Writes that were under way just then, and
//! removals that do not come through the API, are put right by [`Api::recount_quotas`], now and then.
//!
//! What an object uses is worked out in [`usage`].

pub(crate) mod kind;
mod usage;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use fermion_store::{Commit, Error, Expect, Key, ListQuery, Scope, Stored, Write};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::Api;
use crate::error::{About, ApiError, Result};
use crate::follow::Followed;
use crate::write::parse_stored;

use usage::{Amounts, Quota};

/// Where quotas are stored.
pub(crate) const QUOTAS: &str = "resourcequotas";
/// How often a write counts again because another server changed a quota meanwhile.
const COUNTS_MAX: usize = 16;
/// Locks that namespaces with quotas share. Two that share one only wait for each other.
const TURNS: usize = 64;
/// Objects looked at in one step of a count.
const PAGE: usize = 500;

/// The quotas of all namespaces.
pub(crate) struct Quotas {
    /// Only which there are: what they say is read for each write.
    names: Followed<()>,
    turns: [Mutex<()>; TURNS],
}

impl Quotas {
    pub(crate) fn new() -> Self {
        Self { names: Followed::new(QUOTAS, |_| Ok(())), turns: std::array::from_fn(|_| Mutex::new(())) }
    }

    fn turn(&self, namespace: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % TURNS as u64).expect("less than their number");
        &self.turns[index]
    }
}

/// A quota as it is stored, and what a write makes of what it counts.
struct Charged {
    stored: Stored,
    object: Value,
    used: Amounts,
}

impl Api {
    /// Commits a write, the last one, with those that belong to it, within the quotas of its namespace.
    /// Gives back what the store made of them all, and of the quotas before them.
    pub(crate) async fn commit_within_quota(&self, about: About<'_>, mut commit: Commit) -> Result<Vec<Stored>> {
        let failed = |error: Error| ApiError::from_store(&error, about);
        let Some(write) = commit.writes.last_mut() else {
            return Err(ApiError::internal("a commit of the API has a write"));
        };
        let key = write.key().clone();
        if &*key.resource == QUOTAS
            && let Write::Put { object, .. } = write
        {
            self.count_changed_quota(&key, object).await?;
            return self.store.commit(commit).await.map_err(failed);
        }
        let mut names: Vec<Key> = Vec::new();
        if !key.namespace.is_empty() {
            let quotas = self.quotas.names.all(&self.store).await.map_err(failed)?;
            names.extend(quotas.keys().filter(|quota| quota.namespace == key.namespace).cloned());
        }
        if names.is_empty() {
            return self.store.commit(commit).await.map_err(failed);
        }
        let _turn = self.quotas.turn(&key.namespace).lock().await;
        for _ in 0..COUNTS_MAX {
            let charged = match commit.writes.last() {
                Some(write) => self.charge(about, &names, write).await?,
                None => Vec::new(),
            };
            let mut together = commit.clone();
            together.writes = charged.into_iter().map(write_of).chain(commit.writes.clone()).collect();
            match self.store.commit(together).await {
                Err(Error::Conflict { key: of, .. } | Error::NotFound { key: of }) if of != key && &*of.resource == QUOTAS => {}
                other => return other.map_err(failed),
            }
        }
        Err(ApiError::conflict(about, "the quotas of its namespace change all the time; please try again"))
    }

    /// What a write does to the quotas it matters to; refused when one would be exceeded.
    async fn charge(&self, about: About<'_>, names: &[Key], write: &Write) -> Result<Vec<Charged>> {
        let failed = |error: Error| ApiError::from_store(&error, about);
        let key = write.key();
        let old = match self.store.get(key).await.map_err(failed)? {
            Some(stored) => Some(parse_stored(&stored)?),
            None => None,
        };
        let new = match write {
            Write::Put { object, .. } => Some(object),
            Write::Delete { .. } => None,
        };
        let mut charged = Vec::new();
        for name in names {
            let Some(stored) = self.store.get(name).await.map_err(failed)? else { continue };
            let mut object = parse_stored(&stored)?;
            let quota = Quota::of(&object);
            let before = old.as_ref().map(|old| quota.usage(&key.resource, old)).unwrap_or_default();
            let after = new.map(|new| quota.usage(&key.resource, new)).unwrap_or_default();
            if let Some(new) = new.filter(|_| old.is_none())
                && let Some(missing) = quota.missing(&key.resource, new)
            {
                return Err(forbidden(about, &format!("failed quota: {}: must specify {missing}", name.name)));
            }
            if before == after {
                continue;
            }
            let used = match usage::used(&object) {
                Some(used) => used,
                None => {
                    let counted = self.count(&quota, &name.namespace).await?;
                    object["status"] = json!({"hard": object["spec"]["hard"]});
                    counted
                }
            };
            let change = usage::Change { before, after, used };
            if let Some(exceeded) = change.exceeds(&quota) {
                return Err(forbidden(about, &format!("exceeded quota: {}, {exceeded}", name.name)));
            }
            charged.push(Charged { used: change.result(&quota), stored, object });
        }
        Ok(charged)
    }

    /// Counts anew for a quota that is made, or asks for something else than before.
    async fn count_changed_quota(&self, key: &Key, object: &mut Value) -> Result<()> {
        let counted_for = &object["status"]["hard"];
        if counted_for == &object["spec"]["hard"] && !counted_for.is_null() {
            return Ok(());
        }
        let used = self.count(&Quota::of(object), &key.namespace).await?;
        object["status"] = json!({"hard": object["spec"]["hard"], "used": usage::texts(&used)});
        Ok(())
    }

    /// What a namespace holds of what a quota counts.
    async fn count(&self, quota: &Quota, namespace: &str) -> Result<Amounts> {
        let mut total: Amounts = quota.names().map(|name| (name.to_owned(), 0)).collect();
        for resource in quota.resources() {
            let about = About { group: "", plural: &resource, kind: "", name: "" };
            let mut start_after = None;
            let mut at_revision = None;
            loop {
                let scope = Scope { resource: resource.as_str().into(), namespace: Some(namespace.into()), name: None };
                let query = ListQuery { limit: Some(PAGE), start_after, at_revision, ..ListQuery::all(scope) };
                let page = self.store.list(query).await.map_err(|error| ApiError::from_store(&error, about))?;
                at_revision = Some(page.revision);
                for stored in &page.items {
                    for (name, amount) in quota.usage(&resource, &parse_stored(stored)?) {
                        *total.entry(name).or_default() += amount;
                    }
                }
                start_after = page.next;
                if start_after.is_none() {
                    break;
                }
            }
        }
        Ok(total)
    }

    /// Counts every quota anew and puts right what differs.
    pub(crate) async fn recount_quotas(&self) -> Result<()> {
        let about = About { group: "", plural: QUOTAS, kind: "ResourceQuota", name: "" };
        let failed = |error: Error| ApiError::from_store(&error, about);
        let names: Vec<Key> = self.quotas.names.all(&self.store).await.map_err(failed)?.keys().cloned().collect();
        for name in names {
            // The quota first: a write that is counted in between changes it, and is not lost.
            let Some(stored) = self.store.get(&name).await.map_err(failed)? else { continue };
            let object = parse_stored(&stored)?;
            let used = self.count(&Quota::of(&object), &name.namespace).await?;
            if usage::used(&object).as_ref() == Some(&used) {
                continue;
            }
            match self.store.commit(Commit::of(write_of(Charged { stored, object, used }))).await {
                Ok(_) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

fn write_of(charged: Charged) -> Write {
    let Charged { stored, mut object, used } = charged;
    object["status"]["hard"] = object["spec"]["hard"].clone();
    object["status"]["used"] = usage::texts(&used);
    Write::Put { key: stored.key, expect: Expect::Revision(stored.revision), object }
}

fn forbidden(about: About<'_>, why: &str) -> ApiError {
    ApiError::forbidden(format!("{} \"{}\" is forbidden: {why}", about.resource(), about.name))
}
