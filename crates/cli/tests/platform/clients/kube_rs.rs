//! kube-rs over HTTPS, as a user's program would use it: typed and dynamic objects, discovery,
//! server-side apply, reflectors, controllers, finalizers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fermion_testkit::{Database, Node, Platform};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams, WatchEvent};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{PartialObjectMeta, Status};
use kube::discovery::{self, Discovery, Scope};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Config, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::FERMION;

on_both!(
    objects_are_made_read_changed_listed_and_removed,
    kinds_are_discovered_in_both_ways,
    dynamic_objects_need_no_types,
    server_side_apply_keeps_managers_apart,
    a_reflector_follows_the_server_across_its_restart,
    watches_show_metadata_selections_and_bookmarks,
    a_controller_keeps_children_and_cleans_up_before_the_end,
    references_and_namespaced_types_reach_the_same_object,
);

/// How long something may take that should happen soon.
const SOON: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The namespace of every test here; each has a server of its own.
const NS: &str = "default";

/// Runs a test's future beside a server of its own.
fn with_platform<F: Future<Output = ()>>(database: Database, test: impl FnOnce(Client) -> F) {
    let platform = Platform::start_on(FERMION, Node::None, database);
    run(async { test(client(&platform).await).await });
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(SOON * 3, test).await.expect("the test ends in time") });
}

async fn client(platform: &Platform) -> Client {
    let file = Kubeconfig::read_from(platform.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

/// Waits until `look` finds something.
async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < SOON, "waited in vain for {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn config_map(name: &str, color: &str) -> ConfigMap {
    ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
        data: Some(BTreeMap::from([("color".to_owned(), color.to_owned())])),
        ..Default::default()
    }
}

fn refused(error: kube::Error) -> Status {
    match error {
        kube::Error::Api(status) => *status,
        other => panic!("not a refusal of the server: {other}"),
    }
}

fn objects_are_made_read_changed_listed_and_removed(database: Database) {
    with_platform(database, |client| async move {
        let api: Api<ConfigMap> = Api::namespaced(client, NS);
        let made = api.create(&PostParams::default(), &config_map("settings", "blue")).await.expect("it is made");
        assert!(made.uid().is_some() && made.resource_version().is_some());
        let again = refused(api.create(&PostParams::default(), &config_map("settings", "blue")).await.expect_err("it is there"));
        assert_eq!((again.code, again.reason.as_str()), (409, "AlreadyExists"));
        assert!(api.get_opt("nothing").await.expect("an answer").is_none());
        let mut changed = made.clone();
        changed.data = config_map("", "red").data;
        let replaced = api.replace("settings", &PostParams::default(), &changed).await.expect("it is replaced");
        assert_ne!(replaced.resource_version(), made.resource_version());
        let old = refused(api.replace("settings", &PostParams::default(), &changed).await.expect_err("the version is old"));
        assert_eq!((old.code, old.reason.as_str()), (409, "Conflict"));
        let merged = api.patch("settings", &PatchParams::default(), &Patch::Merge(json!({"data": {"size": "3"}}))).await.expect("merged");
        assert_eq!(merged.data.expect("data").len(), 2);
        for index in 0..5 {
            api.create(&PostParams::default(), &config_map(&format!("page-{index}"), "gray")).await.expect("it is made");
        }
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let mut parameters = ListParams::default().limit(2).fields("metadata.name!=settings");
            parameters.continue_token = token;
            let page = api.list(&parameters).await.expect("a page");
            assert!(page.items.len() <= 2);
            found.extend(page.iter().map(kube::ResourceExt::name_any));
            token = page.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        assert_eq!(found, ["page-0", "page-1", "page-2", "page-3", "page-4"]);
        let metadata: PartialObjectMeta<ConfigMap> = api.get_metadata("settings").await.expect("metadata");
        assert_eq!(metadata.name_any(), "settings");
        api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("they go");
        assert!(api.list(&ListParams::default()).await.expect("a list").items.is_empty());
    });
}

fn kinds_are_discovered_in_both_ways(database: Database) {
    with_platform(database, |client| async move {
        let found = Discovery::new(client.clone()).run().await.expect("discovery, group by group");
        let aggregated = Discovery::new(client.clone()).run_aggregated().await.expect("discovery at once");
        for discovery in [&found, &aggregated] {
            let job = GroupVersionKind::gvk("ai.fermion.dev", "v1alpha1", "TrainingJob");
            let (resource, capabilities) = discovery.resolve_gvk(&job).expect("jobs are served");
            assert_eq!((resource.plural.as_str(), &capabilities.scope), ("trainingjobs", &Scope::Namespaced));
            assert!(capabilities.supports_operation(discovery::verbs::WATCH));
            let (_, pods) = discovery.resolve_gvk(&GroupVersionKind::gvk("", "v1", "Pod")).expect("pods are served");
            assert!(pods.subresources.iter().any(|(resource, _)| resource.plural == "status"), "{:?}", pods.subresources);
        }
        let names = |discovery: &Discovery| {
            let mut names: Vec<String> = discovery.groups().map(|group| group.name().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&found), names(&aggregated));
        let group = discovery::group(&client, "coordination.k8s.io").await.expect("the group of leases");
        assert_eq!(group.recommended_kind("Lease").expect("leases").0.plural, "leases");
        let version = client.apiserver_version().await.expect("a version");
        assert_eq!(version.major, "1");
    });
}

fn dynamic_objects_need_no_types(database: Database) {
    with_platform(database, |client| async move {
        let queues = GroupVersionKind::gvk("compute.fermion.dev", "v1alpha1", "Queue");
        let (resource, _) = discovery::pinned_kind(&client, &queues).await.expect("queues are served");
        let api: Api<DynamicObject> = Api::all_with(client, &resource);
        let queue = DynamicObject::new("night", &resource).data(json!({"spec": {"priority": 3}}));
        let made = api.create(&PostParams::default(), &queue).await.expect("it is made");
        assert_eq!(made.data["spec"]["priority"], 3);
        assert_eq!(made.data["spec"]["state"], "UP", "defaults are filled in");
        let wrong = api.patch("night", &PatchParams::default(), &Patch::Merge(json!({"spec": {"priority": -1}}))).await;
        let wrong = refused(wrong.expect_err("it is out of bounds"));
        assert_eq!((wrong.code, wrong.reason.as_str()), (422, "Invalid"));
        let status = json!({"status": {"pending": 2}});
        // What is answered is what was written; the queue's controller may change it at once.
        let seen = api.patch_status("night", &PatchParams::default(), &Patch::Merge(status)).await.expect("its status is written");
        assert_eq!(seen.data["status"]["pending"], 2);
        assert_eq!(api.get_status("night").await.expect("its status").data["spec"]["priority"], 3);
        let named = ListParams::default().fields("metadata.name=night");
        assert_eq!(api.list(&named).await.expect("a list").items.len(), 1);
        api.delete("night", &DeleteParams::default()).await.expect("it goes");
    });
}

fn server_side_apply_keeps_managers_apart(database: Database) {
    with_platform(database, |client| async move {
        let api: Api<ConfigMap> = Api::namespaced(client, NS);
        let apply = |manager: &str, data: serde_json::Value| {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": data});
            let (api, parameters) = (api.clone(), PatchParams::apply(manager));
            async move { api.patch("shared", &parameters, &Patch::Apply(body)).await }
        };
        apply("one", json!({"a": "1"})).await.expect("it is made");
        let both = apply("two", json!({"b": "1"})).await.expect("another field");
        assert_eq!(both.data.expect("data").len(), 2);
        let managers: Vec<_> = both.metadata.managed_fields.expect("managers").into_iter().filter_map(|entry| entry.manager).collect();
        assert_eq!(managers, ["one", "two"]);
        let conflict = refused(apply("two", json!({"a": "2", "b": "1"})).await.expect_err("the field is another's"));
        assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
        assert!(conflict.message.contains("\"one\"") && conflict.message.contains(".data.a"), "{}", conflict.message);
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"a": "2"}});
        let forced = api.patch("shared", &PatchParams::apply("two").force(), &Patch::Apply(body)).await.expect("it is forced");
        assert_eq!(forced.data, Some(BTreeMap::from([("a".to_owned(), "2".to_owned())])), "what it dropped is gone");
    });
}

/// A reflector's store, kept up to date in the background.
fn reflect(api: Api<ConfigMap>, config: watcher::Config) -> Store<ConfigMap> {
    let (store, writer) = reflector::store();
    let stream = reflector::reflector(writer, watcher(api, config).default_backoff());
    // Errors are part of a watch's life: the backoff starts it again.
    tokio::spawn(stream.for_each(|_| std::future::ready(())));
    store
}

fn colors(store: &Store<ConfigMap>) -> Vec<(String, String)> {
    let color = |map: &Arc<ConfigMap>| map.data.clone().unwrap_or_default().remove("color").unwrap_or_default();
    let mut colors: Vec<_> = store.state().iter().map(|map| (map.name_any(), color(map))).collect();
    colors.sort();
    colors
}

fn a_reflector_follows_the_server_across_its_restart(database: Database) {
    let mut platform = Platform::start_on(FERMION, Node::None, database);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let pair = |name: &str, color: &str| (name.to_owned(), color.to_owned());
    let (api, listing, streaming) = runtime.block_on(async {
        let api: Api<ConfigMap> = Api::namespaced(client(&platform).await, NS);
        api.create(&PostParams::default(), &config_map("one", "blue")).await.expect("it is made");
        let listing = reflect(api.clone(), watcher::Config::default());
        let streaming = reflect(api.clone(), watcher::Config::default().streaming_lists());
        for store in [&listing, &streaming] {
            tokio::time::timeout(SOON, store.wait_until_ready()).await.expect("it is filled in time").expect("it is filled");
            assert_eq!(colors(store), [pair("one", "blue")]);
        }
        api.create(&PostParams::default(), &config_map("two", "red")).await.expect("it is made");
        api.replace("one", &PostParams::default(), &config_map("one", "green")).await.expect("it is changed");
        for store in [&listing, &streaming] {
            eventually("both changes", || (colors(store) == [pair("one", "green"), pair("two", "red")]).then_some(())).await;
        }
        (api, listing, streaming)
    });
    platform.kill();
    platform.restart();
    runtime.block_on(async {
        api.delete("one", &DeleteParams::default()).await.expect("it goes");
        api.create(&PostParams::default(), &config_map("three", "gray")).await.expect("it is made");
        for store in [&listing, &streaming] {
            eventually("what happened since", || (colors(store) == [pair("three", "gray"), pair("two", "red")]).then_some(())).await;
        }
    });
}

fn watches_show_metadata_selections_and_bookmarks(database: Database) {
    with_platform(database, |client| async move {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NS);
        let since = api.list(&ListParams::default()).await.expect("a list").metadata.resource_version.expect("a version");
        let mut labelled = config_map("labelled", "blue");
        labelled.labels_mut().insert("shown".to_owned(), "yes".to_owned());
        api.create(&PostParams::default(), &labelled).await.expect("it is made");
        api.create(&PostParams::default(), &config_map("other", "red")).await.expect("it is made");
        let parameters = kube::api::WatchParams::default().labels("shown=yes").timeout(2);
        let events: Vec<WatchEvent<ConfigMap>> =
            api.watch(&parameters, &since).await.expect("a watch").try_collect().await.expect("its events");
        let seen: Vec<String> = events
            .iter()
            .map(|event| match event {
                WatchEvent::Added(map) => format!("added {}", map.name_any()),
                WatchEvent::Bookmark(_) => "bookmark".to_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, ["added labelled", "bookmark"]);
        let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client, NS);
        let mut stream = std::pin::pin!(watcher(metadata, watcher::Config::default()).applied_objects());
        let first = tokio::time::timeout(SOON, stream.try_next()).await.expect("in time").expect("no error").expect("an object");
        assert_eq!(first.name_any(), "labelled");
    });
}

#[derive(Debug)]
struct Failure;

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it failed")
    }
}

impl std::error::Error for Failure {}

/// What the controller of the test works with, and what it has done.
struct World {
    api: Api<ConfigMap>,
    cleaned: Mutex<Vec<String>>,
}

/// Keeps a copy of every map that is labelled so, as its child.
async fn copy(original: Arc<ConfigMap>, world: Arc<World>) -> Result<Action, finalizer::Error<Failure>> {
    let api = world.api.clone();
    finalizer(&world.api, "example.org/copied", original, |event| async {
        match event {
            finalizer::Event::Apply(original) => {
                let owner = original.controller_owner_ref(&()).expect("it has a uid");
                let name = format!("{}-copy", original.name_any());
                let body = json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": name, "ownerReferences": [owner]},
                    "data": original.data,
                });
                let parameters = PatchParams::apply("copier").force();
                api.patch(&name, &parameters, &Patch::Apply(body)).await.map_err(|_| Failure)?;
                Ok(Action::await_change())
            }
            finalizer::Event::Cleanup(original) => {
                world.cleaned.lock().expect("no thread panics while it holds this lock").push(original.name_any());
                Ok(Action::await_change())
            }
        }
    })
    .await
}

fn a_controller_keeps_children_and_cleans_up_before_the_end(database: Database) {
    with_platform(database, |client| async move {
        let api: Api<ConfigMap> = Api::namespaced(client, NS);
        let world = Arc::new(World { api: api.clone(), cleaned: Mutex::default() });
        let originals = watcher::Config::default().labels("copy=yes");
        let controller = Controller::new(api.clone(), originals).owns(api.clone(), watcher::Config::default()).run(
            copy,
            |_, _, _| Action::requeue(Duration::from_millis(100)),
            Arc::clone(&world),
        );
        let running = tokio::spawn(controller.for_each(|_| std::future::ready(())));
        let mut original = config_map("original", "blue");
        original.labels_mut().insert("copy".to_owned(), "yes".to_owned());
        api.create(&PostParams::default(), &original).await.expect("it is made");
        let has = |color: &'static str| {
            move |map: Option<&ConfigMap>| map.is_some_and(|map| map.data.as_ref().is_some_and(|data| data["color"] == color))
        };
        let copied = await_condition(api.clone(), "original-copy", has("blue"));
        tokio::time::timeout(SOON, copied).await.expect("in time").expect("a copy");
        // A change of the owner, and one of the child, are both put right.
        let change = Patch::Merge(json!({"data": {"color": "red"}}));
        api.patch("original", &PatchParams::default(), &change).await.expect("it is changed");
        tokio::time::timeout(SOON, await_condition(api.clone(), "original-copy", has("red"))).await.expect("in time").expect("a copy");
        api.delete("original-copy", &DeleteParams::default()).await.expect("it goes");
        tokio::time::timeout(SOON, await_condition(api.clone(), "original-copy", has("red"))).await.expect("in time").expect("a copy");
        // The finalizer holds the owner until it is cleaned up; the child goes with it.
        let uid = api.get("original").await.expect("the original").uid().expect("a uid");
        api.delete("original", &DeleteParams::default()).await.expect("it is marked");
        let gone = await_condition(api.clone(), "original", conditions::is_deleted(&uid));
        tokio::time::timeout(SOON, gone).await.expect("in time").expect("it is gone");
        assert_eq!(*world.cleaned.lock().expect("no thread panics while it holds this lock"), ["original"]);
        let child_gone = await_condition(api.clone(), "original-copy", |map: Option<&ConfigMap>| map.is_none());
        tokio::time::timeout(SOON, child_gone).await.expect("in time").expect("it is gone");
        running.abort();
    });
}

fn references_and_namespaced_types_reach_the_same_object(database: Database) {
    with_platform(database, |client| async move {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let lab: Namespace = serde_json::from_value(json!({"metadata": {"name": "lab"}})).expect("a namespace");
        namespaces.create(&PostParams::default(), &lab).await.expect("it is made");
        let pods: Api<Pod> = Api::namespaced(client.clone(), "lab");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "sleeper"},
            "spec": {"containers": [{"name": "main", "image": "x"}], "nodeSelector": {"example.org/none": "true"}},
        }))
        .expect("a pod");
        let made = pods.create(&PostParams::default(), &pod).await.expect("it is made");
        let reference = ObjectRef::from_obj(&made);
        assert_eq!((reference.name.as_str(), reference.namespace.as_deref()), ("sleeper", Some("lab")));
        let resource = ApiResource::erase::<Pod>(&());
        let everywhere: Api<DynamicObject> = Api::all_with(client, &resource);
        let found = everywhere.list(&ListParams::default().fields("metadata.name=sleeper")).await.expect("a list");
        assert_eq!(found.items.len(), 1);
        let eviction = pods.evict("sleeper", &kube::api::EvictParams::default()).await.expect("it is evicted");
        assert!(eviction.is_success());
        let uid = made.uid().expect("a uid");
        let gone = await_condition(pods, "sleeper", conditions::is_deleted(&uid));
        tokio::time::timeout(SOON, gone).await.expect("in time").expect("it is gone");
    });
}
