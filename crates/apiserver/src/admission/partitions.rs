//! Which nodes are in which partition and resource group: a node is in one of each at most, and what
//! is in use cannot be taken away.
//!
//! A node leaves its partition only when it is in no resource group and not authorised for HPC, and
//! leaves the platform only when it is in no partition.

use std::collections::BTreeSet;
use std::sync::Arc;

use fermion_api::compute::partition::PartitionType;
use fermion_api::compute::{Partition, ResourceGroup};
use fermion_store::{Key, Stored};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Operation, Request};
use crate::Api;
use crate::error::{ApiError, Result};
use crate::follow::Items;
use crate::identity::COMPONENTS;

/// Where partitions and resource groups are stored.
pub(crate) const PARTITIONS: &str = "partitions.compute.fermion.dev";
pub(crate) const RESOURCE_GROUPS: &str = "resourcegroups.compute.fermion.dev";

/// Reads a stored partition or group.
pub(crate) fn read<T: DeserializeOwned>(stored: &Stored) -> Result<T, String> {
    serde_json::from_slice(&stored.body).map_err(|error| error.to_string())
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Partition,
    Group,
    Node,
}

fn subject(request: &Request<'_>) -> Option<Subject> {
    if !request.origin.subresource.is_empty() {
        return None;
    }
    let resource = request.resource;
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("compute.fermion.dev", "partitions") => Some(Subject::Partition),
        ("compute.fermion.dev", "resourcegroups") => Some(Subject::Group),
        // The platform's own parts take away nodes that they made.
        ("", "nodes") if request.operation == Operation::Delete => {
            let component = request.origin.caller.groups.iter().any(|group| group == COMPONENTS);
            (!component).then_some(Subject::Node)
        }
        _ => None,
    }
}

/// Every partition and group there is.
struct Members {
    partitions: Items<Partition>,
    groups: Items<ResourceGroup>,
}

/// Refuses what would put a node in two places or take away one that is in use.
pub(super) async fn check(api: &Api, request: &Request<'_>, object: Option<&Value>) -> Result<()> {
    let Some(subject) = subject(request) else { return Ok(()) };
    let failed = |error| ApiError::from_store(&error, request.resource.about(request.name));
    let members = Members {
        partitions: api.partitions.all(&api.store).await.map_err(failed)?,
        groups: api.resource_groups.all(&api.store).await.map_err(failed)?,
    };
    let why = match (subject, object) {
        (Subject::Partition, Some(object)) => members.check_partition(request, &typed(object)?, typed_old(request)?.as_ref()),
        (Subject::Partition, None) => match typed_old::<Partition>(request)? {
            Some(old) => members.check_removed(&old, None),
            None => Ok(()),
        },
        (Subject::Group, Some(object)) => members.check_group(request, &typed(object)?, typed_old(request)?.as_ref()),
        (Subject::Node, _) => members.check_node(request.name),
        // What a group had goes back to its partition.
        (Subject::Group, None) => Ok(()),
    };
    why.map_err(|why| ApiError::forbidden_to(request.resource.about(request.name), &why))
}

fn typed<T: DeserializeOwned>(object: &Value) -> Result<T> {
    serde_json::from_value(object.clone()).map_err(|error| ApiError::internal(error.to_string()))
}

/// The stored object. One that an older version wrote and that cannot be read bounds nothing.
fn typed_old<T: DeserializeOwned>(request: &Request<'_>) -> Result<Option<T>> {
    Ok(request.old.and_then(|old| T::deserialize(old).ok()))
}

type Verdict = std::result::Result<(), String>;

impl Members {
    fn partition_of(&self, node: &str, except: &str) -> Option<&str> {
        let has = |(key, partition): &(&Key, &Arc<Partition>)| &*key.name != except && partition.spec.node(node).is_some();
        self.partitions.iter().find(has).map(|(key, _)| &*key.name)
    }

    fn group_of(&self, node: &str, except: &str) -> Option<&str> {
        let has = |(key, group): &(&Key, &Arc<ResourceGroup>)| &*key.name != except && group.spec.nodes.iter().any(|name| name == node);
        self.groups.iter().find(has).map(|(key, _)| &*key.name)
    }

    fn check_partition(&self, request: &Request<'_>, new: &Partition, old: Option<&Partition>) -> Verdict {
        let known: BTreeSet<&str> = old.iter().flat_map(|old| &old.spec.nodes).map(|node| node.name.as_str()).collect();
        let added = new.spec.nodes.iter().filter(|node| !known.contains(node.name.as_str()));
        // Who is in other partitions is looked up once, not for every node.
        let elsewhere: std::collections::BTreeMap<&str, &str> = self
            .partitions
            .iter()
            .filter(|(key, _)| &*key.name != request.name)
            .flat_map(|(key, partition)| partition.spec.nodes.iter().map(move |node| (node.name.as_str(), &*key.name)))
            .collect();
        for node in added {
            if let Some(other) = elsewhere.get(node.name.as_str()) {
                return Err(format!("node \"{}\" is in partition \"{other}\"; take it out there first", node.name));
            }
        }
        old.map_or(Ok(()), |old| self.check_removed(old, Some(new)))
    }

    /// Whether every node that a partition loses is free.
    fn check_removed(&self, old: &Partition, new: Option<&Partition>) -> Verdict {
        let kept: BTreeSet<&str> = new.iter().flat_map(|new| &new.spec.nodes).map(|node| node.name.as_str()).collect();
        let stays_authorized: BTreeSet<&str> =
            new.iter().flat_map(|new| &new.spec.nodes).filter(|node| node.authorized).map(|node| node.name.as_str()).collect();
        for node in &old.spec.nodes {
            let name = node.name.as_str();
            let leaves = !kept.contains(name);
            let loses_right = node.authorized && !stays_authorized.contains(name);
            if (leaves || loses_right)
                && let Some(group) = self.group_of(name, "")
            {
                return Err(format!("node \"{name}\" is in resource group \"{group}\", whose queues use it; take it out there first"));
            }
            if leaves && node.authorized {
                return Err(format!("node \"{name}\" is authorised for HPC; set its `authorized` to false first"));
            }
        }
        Ok(())
    }

    fn check_group(&self, request: &Request<'_>, new: &ResourceGroup, old: Option<&ResourceGroup>) -> Verdict {
        let known: BTreeSet<&str> = old.iter().flat_map(|old| &old.spec.nodes).map(String::as_str).collect();
        let added = new.spec.nodes.iter().map(String::as_str).filter(|node| !known.contains(node));
        let name = &new.spec.partition;
        let partition = self.partitions.iter().find(|(key, _)| *key.name == **name).map(|(_, partition)| partition);
        for node in added {
            let Some(partition) = partition else {
                return Err(format!("partition \"{name}\" does not exist; make it first, with node \"{node}\" in it"));
            };
            let Some(member) = partition.spec.node(node) else {
                return Err(format!("node \"{node}\" is not in partition \"{name}\"; put it there first"));
            };
            if partition.spec.r#type == PartitionType::HPC && !member.authorized {
                return Err(format!("node \"{node}\" is not authorised in partition \"{name}\"; set its `authorized` to true there first"));
            }
            if let Some(other) = self.group_of(node, request.name) {
                return Err(format!("node \"{node}\" is in resource group \"{other}\"; take it out there first"));
            }
        }
        Ok(())
    }

    fn check_node(&self, name: &str) -> Verdict {
        match self.partition_of(name, "") {
            Some(partition) => Err(format!("it is in partition \"{partition}\"; take it out there first")),
            None => Ok(()),
        }
    }
}
