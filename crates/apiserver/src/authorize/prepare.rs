//! What happens before the first request: the default roles and bindings are there and whole;
//! and what happens as long as the server runs: aggregated roles have the rules they should.

use std::sync::Arc;
use std::time::Duration;

use fermion_store::{ListQuery, Scope};
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::RBAC;
use super::default_roles::{aggregate, cluster_role_bindings, cluster_roles, repaired};
use super::follow::CLUSTER_ROLES;
use crate::Api;
use crate::admission::Origin;
use crate::catalog::Resource;
use crate::error::Result;
use crate::identity::Identity;
use crate::patch::PatchKind;
use crate::write::{WriteOptions, parse_stored};

/// Time between two looks at all aggregated roles when nothing seems to change.
const SWEEP_INTERVAL: Duration = Duration::from_secs(300);
/// The most rounds until aggregated roles that aggregate each other are settled at the start.
const ROUNDS_MAX: usize = 8;

impl Api {
    /// Makes the default roles and bindings, and holds all rules in memory from now on. Nobody
    /// but administrators and the platform's own parts may do anything before.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn prepare_access(self: &Arc<Self>) -> anyhow::Result<()> {
        let failed = |what: &'static str| move |error: crate::error::ApiError| anyhow::anyhow!("cannot make {what}: {}", error.message);
        self.repair("clusterroles", cluster_roles()).await.map_err(failed("the default roles"))?;
        self.repair("clusterrolebindings", cluster_role_bindings()).await.map_err(failed("the default role bindings"))?;
        for _ in 0..ROUNDS_MAX {
            if self.aggregate_roles().await.map_err(failed("the aggregated roles"))? == 0 {
                break;
            }
        }
        self.follow_rules().await?;
        let api = self.clone();
        tokio::spawn(async move { api.keep_aggregating().await });
        Ok(())
    }

    /// All at the same time, so that the store commits them together.
    async fn repair(&self, plural: &str, defaults: Vec<Value>) -> Result<()> {
        let resource = self.catalog().find(RBAC, "v1", plural).expect("roles and bindings are served").clone();
        try_join_all(defaults.into_iter().map(|default| self.repair_one(&resource, default))).await.map(drop)
    }

    async fn repair_one(&self, resource: &Arc<Resource>, default: Value) -> Result<()> {
        let caller = Identity::component("apiserver");
        let key = resource.key(None, default["metadata"]["name"].as_str().unwrap_or_default());
        let stored = match self.read(resource, &key).await {
            Ok(stored) => parse_stored(&stored)?,
            Err(error) if error.reason == "NotFound" => {
                return match self.create(&caller, resource, None, default, &WriteOptions::of_server()).await {
                    // Another server was quicker.
                    Err(error) if error.reason != "AlreadyExists" => Err(error),
                    _ => Ok(()),
                };
            }
            Err(error) => return Err(error),
        };
        let Some(new) = repaired(&stored, &default) else { return Ok(()) };
        match self.update(Origin::of(&caller), resource, key, new, &WriteOptions::of_server()).await {
            // Somebody changed it meanwhile; the next start looks again.
            Err(error) if error.reason != "Conflict" => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives every ClusterRole with an `aggregationRule` the rules of those it selects; answers
    /// how many were changed.
    async fn aggregate_roles(&self) -> Result<usize> {
        let caller = Identity::component("apiserver");
        let resource = self.catalog().find(RBAC, "v1", "clusterroles").expect("roles are served").clone();
        let listed = self.store.list(ListQuery::all(Scope::all(CLUSTER_ROLES))).await;
        let page = listed.map_err(|error| crate::error::ApiError::from_store(&error, resource.about("")))?;
        let roles = page.items.iter().map(parse_stored).collect::<Result<Vec<Value>>>()?;
        let changes = roles.iter().filter(|role| !role["aggregationRule"].is_null()).filter_map(|role| {
            let rules = aggregate(role, &roles);
            if role["rules"].as_array().map_or(&[][..], Vec::as_slice) == rules {
                return None;
            }
            let key = resource.key(None, role["metadata"]["name"].as_str().unwrap_or_default());
            let patch = json!({"rules": rules});
            let (caller, resource) = (&caller, &resource);
            Some(async move {
                match self.patch(Origin::of(caller), resource, key, PatchKind::Merge, &patch, &WriteOptions::of_server()).await {
                    Err(error) if error.reason != "NotFound" => Err(error),
                    _ => Ok(()),
                }
            })
        });
        // The store commits those together that come together.
        Ok(try_join_all(changes).await?.len())
    }

    async fn keep_aggregating(&self) {
        let mut shutdown = self.shutdown.clone();
        let mut progress = self.access.progress();
        loop {
            let seen = progress.borrow_and_update().get(CLUSTER_ROLES).copied();
            if let Err(error) = self.aggregate_roles().await {
                tracing::warn!(
                    error = error.message,
                    "aggregated roles could not be brought up to date; the next change or sweep tries again"
                );
            }
            tokio::select! {
                changed = progress.wait_for(|progress| progress.get(CLUSTER_ROLES).copied() != seen) => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }
}
