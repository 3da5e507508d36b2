//! Namespace controller: makes the first namespaces, gives each its service account, and
//! empties those that are deleted before it lets them go.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use fermion_api::labels;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::error::{Error, chain, describe};
use crate::kinds::{self, Kind};
use crate::{Options, Shutdown, reconciling};

/// The namespaces that are always there.
const FIRST: [&str; 2] = ["default", labels::SYSTEM_NAMESPACE];
/// The service account that every namespace has.
const SERVICE_ACCOUNT: &str = "default";
/// The finalizer in `spec.finalizers` that the content of a namespace stands for.
const FINALIZER: &str = "kubernetes";
/// The condition that says what is still in a namespace.
const CONTENT_REMAINING: &str = "NamespaceContentRemaining";
/// How often a namespace that is being emptied is looked at.
const EMPTYING_INTERVAL: Duration = Duration::from_secs(1);
/// Wait before the first namespaces are made again when the API is not ready.
const SEED_RETRY: Duration = Duration::from_secs(1);
/// Objects per page when a namespace is emptied.
const PAGE_SIZE: u32 = 500;

struct Context {
    client: Client,
    sweep: Duration,
}

/// Runs the controller until shutdown.
pub(crate) async fn run(client: Client, options: Options, shutdown: Shutdown) {
    tokio::select! {
        () = shutdown.requested() => return,
        () = seed(&client) => {}
    }
    let context = Context { client: client.clone(), sweep: options.sweep };
    reconciling::run("namespace", client, Vec::new(), Arc::new(context), reconcile, shutdown).await;
}

/// Makes the namespaces that everything else takes for granted.
async fn seed(client: &Client) {
    let api: Api<Namespace> = Api::all(client.clone());
    for name in FIRST {
        let namespace = Namespace { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..Namespace::default() };
        loop {
            match api.create(&PostParams::default(), &namespace).await {
                Ok(_) => break,
                Err(kube::Error::Api(status)) if status.is_already_exists() => break,
                Err(error) => tracing::warn!(namespace = name, error = chain(&error), "cannot make a namespace; trying again"),
            }
            tokio::time::sleep(SEED_RETRY).await;
        }
    }
}

async fn reconcile(namespace: Arc<Namespace>, context: Arc<Context>) -> Result<Action, Error> {
    if namespace.metadata.deletion_timestamp.is_none() {
        keep_service_account(&context.client, &namespace.name_any()).await?;
        return Ok(Action::requeue(context.sweep));
    }
    let waits =
        namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref()).is_some_and(|list| list.iter().any(|name| name == FINALIZER));
    if !waits {
        return Ok(Action::await_change());
    }
    let left = empty(&context, &namespace.name_any()).await?;
    if left.is_empty() {
        finalize(&context.client, &namespace).await?;
        return Ok(Action::await_change());
    }
    tell(&context.client, &namespace, &left).await?;
    Ok(Action::requeue(EMPTYING_INTERVAL))
}

async fn keep_service_account(client: &Client, namespace: &str) -> Result<(), Error> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let object = || format!("ServiceAccount {namespace}/{SERVICE_ACCOUNT}");
    if api.get_metadata_opt(SERVICE_ACCOUNT).await.map_err(Error::api("read", object()))?.is_some() {
        return Ok(());
    }
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some(SERVICE_ACCOUNT.to_owned()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    match api.create(&PostParams::default(), &account).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_not_found() => Ok(()),
        other => other.map(drop).map_err(Error::api("create", object())),
    }
}

/// Deletes what is in the namespace; answers how much of each kind is left.
async fn empty(context: &Context, namespace: &str) -> Result<Vec<(String, usize)>, Error> {
    let mut left = Vec::new();
    // People make kinds while the platform runs: what there is now is asked each time.
    let kinds: Vec<Kind> = kinds::served(&context.client).await?.into_iter().filter(|kind| kind.namespaced).collect();
    for kind in &kinds {
        let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind.resource);
        let object = || format!("{} in namespace {namespace}", kind.resource.plural);
        let mut parameters = ListParams::default().limit(PAGE_SIZE);
        let mut count = 0;
        loop {
            let page = api.list_metadata(&parameters).await.map_err(Error::api("list", object()))?;
            for item in &page.items {
                count += 1;
                if item.metadata.deletion_timestamp.is_some() {
                    continue;
                }
                let preconditions = Preconditions { uid: item.metadata.uid.clone(), resource_version: None };
                let options = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
                match api.delete(&item.name_any(), &options).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                    other => other.map(drop).map_err(Error::api("delete", object()))?,
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = ListParams::default().limit(PAGE_SIZE).continue_token(&token),
                None => break,
            }
        }
        if count > 0 {
            left.push((kind.resource.plural.clone(), count));
        }
    }
    Ok(left)
}

/// Gives up the finalizer: the API server then removes the namespace.
async fn finalize(client: &Client, namespace: &Namespace) -> Result<(), Error> {
    let mut wanted = namespace.clone();
    if let Some(finalizers) = wanted.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|name| name != FINALIZER);
    }
    let api: Api<Namespace> = Api::all(client.clone());
    match api.replace_subresource("finalize", &namespace.name_any(), &PostParams::default(), &wanted).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop).map_err(Error::api("finalize", describe(namespace))),
    }
}

/// Says in the status what is left.
async fn tell(client: &Client, namespace: &Namespace, left: &[(String, usize)]) -> Result<(), Error> {
    let message = remaining(left);
    let mut conditions = namespace.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    if conditions.iter().any(|condition| condition.type_ == CONTENT_REMAINING && condition.message.as_deref() == Some(&message)) {
        return Ok(());
    }
    conditions.retain(|condition| condition.type_ != CONTENT_REMAINING);
    conditions.push(NamespaceCondition {
        type_: CONTENT_REMAINING.to_owned(),
        status: "True".to_owned(),
        reason: Some("SomeResourcesRemain".to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(Timestamp::now())),
    });
    let body = json!({"metadata": {"resourceVersion": namespace.resource_version()}, "status": {"conditions": conditions}});
    let api: Api<Namespace> = Api::all(client.clone());
    match api.patch_status(&namespace.name_any(), &PatchParams::default(), &Patch::Merge(body)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop).map_err(Error::api("write the status of", describe(namespace))),
    }
}

fn remaining(left: &[(String, usize)]) -> String {
    let mut message = "still there: ".to_owned();
    for (place, (plural, count)) in left.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(message, "{comma}{count} {plural}");
    }
    if left.iter().any(|(plural, _)| plural == Pod::plural(&()).as_ref()) {
        message.push_str(" (pods have their grace period to end)");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named() {
        let left = [("pods".to_owned(), 2), ("secrets".to_owned(), 1)];
        assert_eq!(remaining(&left), "still there: 2 pods, 1 secrets (pods have their grace period to end)");
    }
}
