//! What goes on beside requests: changes of definitions by other servers, names that became free,
//! and the objects of definitions that are deleted.

use std::sync::Arc;
use std::time::Duration;

use fermion_store::{EventKind, Expect, Key, ListQuery, Scope};
use futures::StreamExt as _;
use serde_json::json;

use super::{CLEANUP, GROUP, PAGE, PLURAL, STORED_AS, about, status, taken};
use crate::Api;
use crate::admission::Origin;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::field_validation::FieldValidation;
use crate::identity::Identity;
use crate::objects;
use crate::patch::PatchKind;
use crate::write::{DeleteOptions, WriteOptions, parse_stored};

/// Time between two looks while definitions are being deleted.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks when nothing is expected.
const IDLE_INTERVAL: Duration = Duration::from_secs(30);
/// Wait before definitions are read again after the store failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Waits until the server stops, or is gone.
async fn stopped(shutdown: &mut tokio::sync::watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

impl Api {
    /// Keeps what is served in step with the stored definitions until the server stops.
    pub async fn follow_definitions_until_shutdown(self: Arc<Self>) {
        let mut shutdown = self.shutdown.clone();
        loop {
            if let Err(error) = self.follow_definitions(shutdown.clone()).await {
                tracing::warn!(%error, "definitions could not be followed; reading them again");
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_DELAY) => {}
                () = stopped(&mut shutdown) => return,
            }
        }
    }

    async fn follow_definitions(&self, mut shutdown: tokio::sync::watch::Receiver<bool>) -> anyhow::Result<()> {
        let revision = self.load_definitions().await?;
        let mut events = self.store.watch(Scope::all(STORED_AS), revision).await?;
        loop {
            let is_busy = self.tend_definitions().await;
            let pause = if is_busy { CLEANUP_INTERVAL } else { IDLE_INTERVAL };
            tokio::select! {
                () = stopped(&mut shutdown) => return Ok(()),
                () = tokio::time::sleep(pause) => {}
                event = events.next() => match event {
                    None => return Ok(()),
                    Some(event) => {
                        let event = event?;
                        match event.kind {
                            EventKind::Deleted => self.drop_definition(&event.object).await,
                            EventKind::Added | EventKind::Modified => self.apply_definition(&event.object).await,
                        }
                        self.forget_dropped(event.revision).await;
                    }
                },
            }
        }
    }

    /// Nothing older than `revision` will be told any more.
    async fn forget_dropped(&self, revision: u64) {
        self.definitions.known.lock().await.retain(|_, known| known.summary.is_some() || known.revision > revision);
    }

    /// Looks at every definition that waits for something; true if some go on waiting.
    async fn tend_definitions(&self) -> bool {
        let (mut unaccepted, mut terminating) = (Vec::new(), Vec::new());
        for (name, known) in &*self.definitions.known.lock().await {
            match &known.summary {
                Some(summary) if summary.is_terminating => terminating.push(name.clone()),
                Some(summary) if !summary.names_accepted => unaccepted.push(name.clone()),
                _ => {}
            }
        }
        for name in unaccepted {
            if let Err(error) = self.settle_again(&name).await {
                tracing::debug!(error = error.message, definition = name, "names are looked at again later");
            }
        }
        let mut is_busy = false;
        for name in terminating {
            match self.clean_up(&name).await {
                Ok(is_done) => is_busy |= !is_done,
                Err(error) => {
                    is_busy = true;
                    tracing::debug!(error = error.message, definition = name, "its objects are deleted later");
                }
            }
        }
        is_busy
    }

    fn definition_resource(&self) -> Arc<Resource> {
        self.catalog().find(GROUP, "v1", PLURAL).expect("definitions are served").clone()
    }

    /// Gives a definition names that became free.
    async fn settle_again(&self, name: &str) -> Result<()> {
        let _turn = self.definitions.turn.lock().await;
        let resource = self.definition_resource();
        let key = resource.key(None, name);
        let stored = self.read(&resource, &key).await?;
        let mut object = parse_stored(&stored)?;
        let group = object["spec"]["group"].as_str().unwrap_or_default();
        let taken = taken(&*self.definitions.known.lock().await, group, name);
        let settled = status::settled(&object, &taken, self.now());
        if object["status"] != settled {
            object["status"] = settled;
            self.put(&resource, key, Expect::Revision(stored.revision), object, Vec::new(), false).await?;
        }
        Ok(())
    }

    /// Deletes the objects of a definition that is being deleted; lets it go when there are none.
    async fn clean_up(&self, name: &str) -> Result<bool> {
        let resource = self.definition_resource();
        let key = resource.key(None, name);
        let stored = match self.read(&resource, &key).await {
            Err(error) if error.reason == "NotFound" => return Ok(true),
            other => other?,
        };
        let mut object = parse_stored(&stored)?;
        if !objects::is_being_deleted(&object) || !objects::finalizers(&object).any(|finalizer| finalizer == CLEANUP) {
            return Ok(true);
        }
        if !status::holds(&object, "Terminating") {
            status::set_terminating(&mut object, "CustomResource deletion is in progress", self.now());
            self.put(&resource, key.clone(), Expect::Revision(stored.revision), object, Vec::new(), false).await?;
            return Ok(false);
        }
        if self.delete_objects(name).await? > 0 {
            return Ok(false);
        }
        let kept: Vec<&str> = objects::finalizers(&object).filter(|finalizer| *finalizer != CLEANUP).collect();
        let change = json!({"metadata": {"finalizers": kept, "resourceVersion": objects::text(&object, "resourceVersion")}});
        let options = WriteOptions { field_validation: FieldValidation::Ignore, ..WriteOptions::of_server() };
        let caller = Identity::component("apiserver");
        self.patch(Origin::of(&caller), &resource, key, PatchKind::Merge, &change, &options).await?;
        Ok(true)
    }

    /// Deletes all objects of a custom kind; answers how many were still there.
    async fn delete_objects(&self, definition: &str) -> Result<usize> {
        let failed = |error: fermion_store::Error| ApiError::from_store(&error, about(definition));
        let served = self.catalog().definitions().get(definition).and_then(|definition| definition.resources.first().cloned());
        let caller = Identity::component("apiserver");
        let mut start_after = None;
        let mut count = 0;
        loop {
            let query = ListQuery { limit: Some(PAGE), start_after, ..ListQuery::all(Scope::all(definition)) };
            let page = self.store.list(query).await.map_err(failed)?;
            for stored in page.items {
                let Some(resource) = &served else {
                    // No version is served, so nobody can be waiting to finish anything.
                    self.remove_leftovers(definition).await?;
                    return Ok(0);
                };
                count += 1;
                if objects::is_being_deleted(&parse_stored(&stored)?) {
                    continue;
                }
                let key = Key::new(definition, &*stored.key.namespace, &*stored.key.name);
                match self.delete(Origin::of(&caller), resource, key, &DeleteOptions::default()).await {
                    Err(error) if error.reason != "NotFound" => return Err(error),
                    _ => {}
                }
            }
            start_after = page.next;
            if start_after.is_none() {
                return Ok(count);
            }
        }
    }
}
