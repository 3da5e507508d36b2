//! The Node object and the Lease that says that the node is alive.

use std::sync::Arc;
use std::time::Duration;

use fermion_api::labels::{POOL, SYSTEM_NAMESPACE};
use fermion_api::quantity;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ContainerImage, Namespace, Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::watch;

use crate::cri::v1;
use crate::shared::{Shared, stopped};

/// A lease older than this says that the node is gone, in seconds.
const LEASE_DURATION_S: i32 = 40;
/// The status is written this often even if nothing changed.
const STATUS_REPEAT: Duration = Duration::from_mins(5);
/// Images listed in the status.
const IMAGES_MAX: usize = 50;
/// Memory that must stay free for the machine to be at ease, as a divisor of the whole.
const MEMORY_RESERVE_DIVISOR: i128 = 20;
/// How soon a failed registration is tried again.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);

/// Registers the node and keeps its status true, until told to stop.
pub(crate) async fn keep_status(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut written: Option<(NodeStatus, tokio::time::Instant)> = None;
    loop {
        let pause = match report(&shared, &mut written).await {
            Ok(()) => shared.limits.housekeeping,
            Err(error) => {
                tracing::warn!(%error, "cannot write the node's status; trying again");
                REGISTER_AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(&mut stop) => return,
        }
    }
}

async fn report(shared: &Shared, written: &mut Option<(NodeStatus, tokio::time::Instant)>) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(shared.client.clone());
    let status = status(shared, written.as_ref().map(|(status, _)| status)).await;
    let fresh = written.as_ref().is_some_and(|(last, at)| *last == status && at.elapsed() < STATUS_REPEAT);
    if fresh {
        return Ok(());
    }
    if written.is_none() {
        register(&api, &shared.name, &shared.pool).await?;
    }
    let mut stored = status.clone();
    let now = Some(Time(Timestamp::now()));
    for condition in stored.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time.clone_from(&now);
    }
    let patch = serde_json::json!({ "status": stored });
    match api.patch_status(&shared.name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(refusal)) if refusal.code == 404 => {
            // Somebody deleted the object: it is made anew next time.
            *written = None;
        }
        other => {
            other?;
            *written = Some((status, tokio::time::Instant::now()));
        }
    }
    Ok(())
}

async fn register(api: &Api<Node>, name: &str, pool: &str) -> Result<(), kube::Error> {
    let labels = [(POOL, pool), ("kubernetes.io/hostname", name), ("kubernetes.io/os", "linux"), ("kubernetes.io/arch", architecture())];
    let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if api.get_opt(name).await?.is_none() {
        let node = Node {
            metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
            spec: Some(Default::default()),
            status: None,
        };
        api.create(&PostParams::default(), &node).await?;
        return Ok(());
    }
    let patch = serde_json::json!({ "metadata": { "labels": labels } });
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn status(shared: &Shared, before: Option<&NodeStatus>) -> NodeStatus {
    let amounts = |resources: &fermion_api::pod::Resources| {
        let write = |(name, amount): (&String, &i128)| {
            let text = match name.as_str() {
                // As the kubelet writes memory, exact to the KiB below.
                "memory" => format!("{}Ki", amount / 1000 / 1024),
                "ephemeral-storage" => (amount / 1000).to_string(),
                _ => quantity::format(name, *amount),
            };
            (name.clone(), Quantity(text))
        };
        resources.iter().map(write).collect()
    };
    let runtime = shared.cri.version(v1::VersionRequest::default()).await.ok();
    let version = runtime
        .map(|reply| format!("{}://{}", reply.runtime_name, reply.runtime_version.trim_start_matches('v')))
        .or_else(|| Some(before?.node_info.as_ref()?.container_runtime_version.clone()));
    let machine = &shared.machine;
    let own_version = format!("v{}-fermion", env!("CARGO_PKG_VERSION"));
    NodeStatus {
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".to_owned(), address: shared.address.clone() },
            NodeAddress { type_: "Hostname".to_owned(), address: shared.name.clone() },
        ]),
        capacity: Some(amounts(&machine.capacity)),
        allocatable: Some(amounts(&machine.allocatable)),
        conditions: Some(conditions(shared, before.and_then(|before| before.conditions.as_ref())).await),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: version.unwrap_or_default(),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: own_version,
            machine_id: machine.host_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.host_id.clone(),
            ..NodeSystemInfo::default()
        }),
        images: images(shared).await.or_else(|| before?.images.clone()),
        ..NodeStatus::default()
    }
}

async fn images(shared: &Shared) -> Option<Vec<ContainerImage>> {
    let mut images = shared.cri.list_images(v1::ListImagesRequest::default()).await.ok()?.images;
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let named = images.into_iter().take(IMAGES_MAX).map(|image| ContainerImage {
        names: Some(image.repo_tags.into_iter().chain(image.repo_digests).collect()),
        size_bytes: i64::try_from(image.size).ok(),
    });
    Some(named.collect())
}

async fn conditions(shared: &Shared, before: Option<&Vec<NodeCondition>>) -> Vec<NodeCondition> {
    let (ready, reason, message) = readiness(shared).await;
    let available = crate::machine::memory_available().unwrap_or(i128::MAX);
    let short_of_memory = available < shared.machine.memory_bytes / MEMORY_RESERVE_DIVISOR;
    let fill = crate::usage::disk_fill(shared.layout.home()).map_or(0, |(percent, _)| percent);
    let short_of_disk = fill >= shared.limits.disk_pressure_percent;
    [
        ("Ready", ready, reason, message),
        ("MemoryPressure", short_of_memory, if short_of_memory { "LittleMemoryFree" } else { "EnoughMemoryFree" }, String::new()),
        (
            "DiskPressure",
            short_of_disk,
            if short_of_disk { "DiskAlmostFull" } else { "EnoughDiskFree" },
            if short_of_disk { format!("the disk of {} is {fill} % full", shared.layout.home().display()) } else { String::new() },
        ),
    ]
    .into_iter()
    .map(|(type_, holds, reason, message)| {
        let status = if holds { "True" } else { "False" };
        let same = before.into_iter().flatten().find(|known| known.type_ == type_ && known.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then_some(message),
            last_transition_time: same.and_then(|known| known.last_transition_time.clone()).or_else(|| Some(Time(Timestamp::now()))),
            last_heartbeat_time: None,
        }
    })
    .collect()
}

/// Whether pods can be run: containerd answers and has its network.
async fn readiness(shared: &Shared) -> (bool, &'static str, String) {
    match shared.cri.status(v1::StatusRequest::default()).await {
        Err(error) => (false, "ContainerRuntimeDown", error.to_string()),
        Ok(reply) => {
            let conditions = reply.status.map(|status| status.conditions).unwrap_or_default();
            match conditions.into_iter().find(|condition| !condition.status) {
                Some(bad) => (false, "ContainerRuntimeNotReady", format!("{}: {} {}", bad.r#type, bad.reason, bad.message)),
                None => (true, "NodeReady", "containerd runs and has its network".to_owned()),
            }
        }
    }
}

/// Renews the node's lease, until told to stop.
pub(crate) async fn keep_lease(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(shared.limits.lease_renewal);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut exists = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut stop) => return,
        }
        let renewed = if exists { renew(&shared).await } else { create_lease(&shared).await };
        match renewed {
            Ok(()) => exists = true,
            Err(error) => {
                exists = false;
                tracing::warn!(%error, "cannot renew the node's lease");
            }
        }
    }
}

fn lease_spec(shared: &Shared) -> serde_json::Value {
    serde_json::json!({
        "holderIdentity": shared.name,
        "leaseDurationSeconds": LEASE_DURATION_S,
        "renewTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(Timestamp::now()),
    })
}

async fn renew(shared: &Shared) -> Result<(), kube::Error> {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), SYSTEM_NAMESPACE);
    let patch = serde_json::json!({ "spec": lease_spec(shared) });
    api.patch(&shared.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

async fn create_lease(shared: &Shared) -> Result<(), kube::Error> {
    let is_there = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 409);
    let namespaces: Api<Namespace> = Api::all(shared.client.clone());
    if namespaces.get_opt(SYSTEM_NAMESPACE).await?.is_none() {
        let namespace =
            Namespace { metadata: ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() }, ..Namespace::default() };
        match namespaces.create(&PostParams::default(), &namespace).await {
            Err(error) if !is_there(&error) => return Err(error),
            _ => {}
        }
    }
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), SYSTEM_NAMESPACE);
    let lease = Lease {
        metadata: ObjectMeta { name: Some(shared.name.clone()), namespace: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() },
        spec: serde_json::from_value(lease_spec(shared)).ok(),
    };
    match api.create(&PostParams::default(), &lease).await {
        Err(error) if is_there(&error) => renew(shared).await,
        other => other.map(drop),
    }
}

/// Says in the Node object of this machine why it cannot run pods, where there is no [`crate::Node`]
/// that could: people see it in `kubectl describe node`, and those whose pods wait are told.
///
/// # Errors
/// When the API does not take it.
pub async fn report_trouble(client: kube::Client, name: &str, pool: &str, message: &str) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(client);
    register(&api, name, pool).await?;
    let now = Time(Timestamp::now());
    let condition = NodeCondition {
        type_: "Ready".to_owned(),
        status: "False".to_owned(),
        reason: Some("ContainerRuntimeDown".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(now.clone()),
        last_heartbeat_time: Some(now),
    };
    let patch = serde_json::json!({ "status": { "conditions": [condition] } });
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
}
